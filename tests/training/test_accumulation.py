"""Gradient accumulation over batches with different numbers of targets, and the mean of an evaluation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from glassformer.data.batches import Batch
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.training import LanguageModeling, RunFolder, Trainer, evaluate
from glassformer.training.classification import (
    Classification,
    EncodedText,
    ImageClassification,
    evaluate_classifier,
    text_batch,
)
from glassformer.training.evaluation import Unigram, mean_loss
from glassformer.training.masked_language_modeling import MaskedLanguageModeling, evaluate_masked
from glassformer.training.sequence_to_sequence import SequenceToSequence, pair_batch
from glassformer.training.task import IGNORE_INDEX

PAIRS = [
    ([3, 4], [5, 1]),
    ([3, 4, 5], [6, 7, 8, 9, 10, 6, 7, 8, 9, 1]),
    ([8, 1], [1]),
    ([5, 6, 7, 1], [9, 9, 3, 1]),
]
TEXTS = [[EncodedText([2, 3, 4], 0)], [EncodedText([5], 1), EncodedText([3, 6, 7, 8], 2)]]
TEXTS += [[EncodedText([9, 9], 1)] * 3, [EncodedText([4, 8, 8], 0), EncodedText([2], 2)]]


def tokens(*shape, seed=0):
    return torch.randint(2, 12, shape, generator=torch.Generator().manual_seed(seed))


def ignoring(rows, kept):
    """Rows of ids in which only the first ``kept`` targets count."""
    rows = rows.clone()
    rows[:, kept + 1 :] = IGNORE_INDEX
    return rows


class IgnoredRows(LanguageModeling):
    """Language modeling of rows whose last ids are ignored targets."""

    def loss_sum(self, model, batch):
        return self.loss(model, batch[:, :-1].clamp_min(0), batch[:, 1:], "sum")


def masked_rows(kept, seed):
    ids = tokens(2, 6, seed=seed)
    targets = torch.where(torch.arange(6) < kept, ids, IGNORE_INDEX)
    return Batch({"input_ids": ids.flip(1), "targets": targets})


def images(count, seed):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(count, 1, 4, 4, generator=generator, dtype=torch.float64)
    return Batch({"images": pixels, "labels": torch.randint(3, (count,), generator=generator)})


def joined(batches):
    """Batches of rows of the same length as one."""
    if isinstance(batches[0], torch.Tensor):
        return torch.cat(batches)
    return Batch({name: torch.cat([b.tensors[name] for b in batches]) for name in batches[0].tensors})


def logits_and_targets(model, batch):
    """All logits ``(rows, classes)`` and their targets, by the model's own forward pass."""
    if isinstance(batch, torch.Tensor):
        return model(batch[:, :-1].clamp_min(0)).flatten(0, 1), batch[:, 1:].flatten()
    tensors = batch.tensors
    if "target" in tensors:
        previous = F.pad(tensors["target"][:, :-1], (1, 0)).clamp_min(0)
        logits = model(tensors["source"], previous, attention_mask=tensors["source_mask"])
        return logits.flatten(0, 1), tensors["target"].flatten()
    if "targets" in tensors:
        return model(tensors["input_ids"]).flatten(0, 1), tensors["targets"].flatten()
    if "images" in tensors:
        return model(model.normalize(tensors["images"])), tensors["labels"]
    return model(tensors["input_ids"], attention_mask=tensors["attention_mask"]), tensors["labels"]


CASES = {
    "language-modeling": (
        lambda: GPTModel(12, 16, 1, 2, max_seq_len=8),
        LanguageModeling(),
        [tokens(rows, 7, seed=rows) for rows in (1, 4, 2, 3)],
        joined,
    ),
    "ignored targets": (
        lambda: GPTModel(12, 16, 1, 2, max_seq_len=8, tie_embeddings=False),
        IgnoredRows(),
        [ignoring(tokens(2, 7, seed=kept), kept) for kept in (6, 0, 1, 3)],
        joined,
    ),
    "masked-lm": (
        lambda: BERTModel(12, 16, 1, 2, max_seq_len=8, head="masked_lm"),
        MaskedLanguageModeling(),
        [masked_rows(kept, kept) for kept in (1, 6, 0, 4)],
        joined,
    ),
    "sequence-to-sequence": (
        lambda: T5Model(12, 16, 1, 2, max_seq_len=12),
        SequenceToSequence(start_token=0),
        PAIRS,
        pair_batch,
    ),
    "label smoothing": (
        lambda: T5Model(12, 16, 1, 2, max_seq_len=12),
        SequenceToSequence(start_token=0, label_smoothing=0.3),
        PAIRS,
        pair_batch,
    ),
    "text-classification": (
        lambda: BERTModel(12, 16, 1, 2, max_seq_len=8, head="classification", labels=3),
        Classification(label_smoothing=0.1),
        TEXTS,
        lambda groups: text_batch([text for group in groups for text in group]),
    ),
    "image-classification": (
        lambda: ViTModel(4, 2, 16, 1, 2, num_channels=1, labels=3, head="classification"),
        ImageClassification(),
        [images(count, count) for count in (1, 5, 2, 1)],
        joined,
    ),
}


class Groups:
    """``number`` batches of equally many of the four parts."""

    def __init__(self, parts, number, join):
        size = len(parts) // number
        self.batches = [join(parts[start : start + size]) for start in range(0, len(parts), size)]

    def batch(self, step):
        return self.batches[step]


@pytest.mark.parametrize("case", CASES)
def test_the_number_of_batches_changes_neither_loss_nor_gradients(config, console, tmp_path, case):
    build, objective, parts, join = CASES[case]
    torch.manual_seed(0)
    state = build().double().state_dict()

    def update(accumulation):
        model = build().double()
        model.load_state_dict(state)
        changed = replace(config, run_folder=str(tmp_path / str(accumulation)), steps=1, clip_norm=0.0)
        changed = replace(changed, accumulation=accumulation)
        trainer = Trainer(
            model,
            objective,
            Groups(parts, accumulation, join),
            changed,
            RunFolder.open(changed),
            console=console,
        )
        gradients = {}
        named = [(name, p) for name, p in model.named_parameters()]
        trainer.optimizer.register_step_pre_hook(
            lambda *_: gradients.update({name: p.grad.clone() for name, p in named if p.grad is not None})
        )
        return trainer.run().metrics, gradients

    model = build().double()
    model.load_state_dict(state)
    smoothing = getattr(objective, "label_smoothing", 0.0)
    logits, targets = logits_and_targets(model, join(parts))
    expected = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    expected.backward()
    wanted = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for accumulation in (1, 2, 4):
        metrics, gradients = update(accumulation)
        assert metrics["loss"] == pytest.approx(expected.item(), rel=1e-12)
        assert metrics[objective.unit] == int((targets != IGNORE_INDEX).sum())
        assert gradients.keys() == wanted.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, wanted[name], rtol=1e-9, atol=1e-12)


def test_an_evaluation_is_the_mean_over_all_targets():
    """Not the mean of the means of the batches: the batches have different numbers of targets."""
    for case, (build, objective, parts, join) in CASES.items():
        torch.manual_seed(0)
        model = build().double()
        smoothing = getattr(objective, "label_smoothing", 0.0)
        logits, targets = logits_and_targets(model, join(parts))
        for number in (1, 2, 4):
            batches = Groups(parts, number, join).batches
            expected = F.cross_entropy(logits, targets, label_smoothing=smoothing).item()
            assert mean_loss(model, objective, batches) == pytest.approx(expected, rel=1e-12), case
            expected = F.cross_entropy(logits, targets).item()
            if isinstance(batches[0], torch.Tensor):
                pairs = [(batch[:, :-1].clamp_min(0), batch[:, 1:]) for batch in batches]
                assert evaluate(model, pairs).nats_per_token == pytest.approx(expected, rel=1e-12)
            elif isinstance(objective, MaskedLanguageModeling):
                metrics = evaluate_masked(model, batches, Unigram(tokens(50).numpy(), 12))
                assert metrics["loss"] == pytest.approx(expected, rel=1e-12)
            elif isinstance(objective, Classification):
                metrics = evaluate_classifier(model, batches, objective)
                assert metrics["loss"] == pytest.approx(expected, rel=1e-12)


def test_an_update_without_a_target_is_an_error(trainer):
    class Ignored:
        def batch(self, number):
            return torch.full((2, 5), 3).index_fill(1, torch.arange(1, 5), IGNORE_INDEX)

    with pytest.raises(ValueError, match="update 1 has no target"):
        trainer(batches=Ignored()).run()


def test_an_objective_with_a_mean_only_is_still_accepted(trainer, tiny_model):
    """Version 0.1 asked an objective for its mean and its count."""

    class OnlyMean:
        unit = "tokens"
        count = LanguageModeling().count

        def __call__(self, model, batch):
            return LanguageModeling()(model, batch)

    expected = trainer(model=tiny_model(), steps=2).run().metrics["loss"]
    built = trainer(model=tiny_model(), steps=2, objective=OnlyMean(), overwrite=True)
    with pytest.warns(DeprecationWarning, match="OnlyMean needs a method loss_sum"):
        assert built.run().metrics["loss"] == pytest.approx(expected, rel=1e-5)
