"""Text classification: which label a text has, beside what counting words can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from glassformer.contracts import Tokenizer
from glassformer.data.dealing import deal
from glassformer.data.epochs import Epochs
from glassformer.data.examples import Batch, in_groups, padded, real_tokens
from glassformer.data.labelled import LabelledText, read_labelled
from glassformer.generation.streaming import evaluating
from glassformer.tokenization import ByteTokenizer
from glassformer.training.bag_of_words import bag_of_words_accuracy
from glassformer.training.config import DataConfig, TrainingConfig
from glassformer.training.task import Figures, Prepared, digest_of
from glassformer.training.tokenizers import TRAINABLE, kept_tokenizer, names_a_file, read_tokenizer


@dataclass(frozen=True)
class Classification:
    """mean of -log p(label | text or image), in nats.

    Args:
        label_smoothing: the part of each label's probability that is given to all alike.

    """

    unit: ClassVar[str] = "examples"

    label_smoothing: float = 0.0

    def __call__(self, model: Any, batch: Batch) -> Tensor:
        """The mean loss of a batch of ``labels`` and what the model reads."""
        logits = self.logits(model, batch).float()
        return F.cross_entropy(logits, batch.tensors["labels"], label_smoothing=self.label_smoothing)

    def logits(self, model: Any, batch: Batch) -> Tensor:
        """What a model makes of all but the labels of a batch, ``(batch, labels)``."""
        logits: Tensor = model(**{name: t for name, t in batch.tensors.items() if name != "labels"})
        return logits

    def count(self, batch: Batch) -> int:
        """Texts or images."""
        return len(batch.tensors["labels"])


@torch.no_grad()
def classification_figures(
    model: Any, batches: Sequence[Batch], objective: Classification = Classification()
) -> dict[str, float]:
    """Loss and accuracy over all batches, and the mean of the labels' own accuracies."""
    predicted, labels, loss = [], [], 0.0
    with evaluating(model):
        for batch in batches:
            logits = objective.logits(model, batch.to(model.device)).float().cpu()
            loss += float(F.cross_entropy(logits, batch.tensors["labels"], reduction="sum"))
            predicted.append(logits.argmax(-1))
            labels.append(batch.tensors["labels"])
    found, right = torch.cat(predicted), torch.cat(labels)
    recalls = [
        float((found[right == label] == label).float().mean()) for label in sorted(set(right.tolist()))
    ]
    return {
        "loss": loss / len(right),
        "accuracy": float((found == right).float().mean()),
        "balanced_accuracy": sum(recalls) / len(recalls),
    }


@dataclass(frozen=True)
class EncodedText:
    """A text as ids, marks included, and the number of its label."""

    ids: list[int]
    label: int


class TextBatches:
    """Batches of texts of similar length."""

    def __init__(self, texts: Sequence[EncodedText], batch_size: int, seed: int) -> None:
        self.texts = texts
        self.epochs = Epochs(len(texts), batch_size, seed, [len(text.ids) for text in texts])

    def batch(self, step: int) -> Batch:
        """``input_ids`` and ``attention_mask`` ``(batch, seq)``, ``labels`` ``(batch,)``."""
        return text_batch([self.texts[place] for place in self.epochs.batch(step)])


def text_batch(texts: Sequence[EncodedText]) -> Batch:
    """Texts as one batch."""
    rows = [text.ids for text in texts]
    return Batch(
        {
            "input_ids": padded(rows, 0),
            "attention_mask": real_tokens(rows),
            "labels": torch.tensor([text.label for text in texts]),
        }
    )


class TextClassificationTask:
    """Tell the label of a text."""

    family = "bert"

    def placeholders(self, config: TrainingConfig) -> dict[str, Any]:
        """A vocabulary of bytes and two labels."""
        return {"vocab_size": ByteTokenizer().vocab_size, "head": "classification"}

    def prepare(
        self, config: TrainingConfig, tokenizer: Tokenizer | None, console: Console | None
    ) -> Prepared:
        """Texts split by where they come from, so that no speech is in two parts."""
        data = config.data
        texts = deal(read_labelled(data.source), lambda text: text.group, data.fractions, data.split_seed)
        labels = sorted({text.label for text in texts["train"]})
        _check_labels(texts, labels, data)
        tokenizer = _make_tokenizer(data, texts["train"]) if tokenizer is None else tokenizer
        encoded = {split: _encode(part, labels, tokenizer, data.seq_len) for split, part in texts.items()}
        size = config.evaluation.batch_size
        test = None
        if texts["test"]:
            test = _beside_words(_figures(encoded["test"], size), texts["train"], texts["test"])
        return Prepared(
            Classification(config.task.label_smoothing),
            TextBatches(encoded["train"], config.batch_size, config.seed),
            digest_of([text.ids, text.label] for text in encoded["train"]),
            {"vocab_size": tokenizer.vocab_size, "head": "classification", "labels": labels},
            tokenizer,
            evaluate=_figures(encoded["validation"], size) if encoded["validation"] else None,
            test=test,
        )


def _check_labels(texts: dict[str, list[LabelledText]], labels: Sequence[str], data: DataConfig) -> None:
    if len(labels) < 2:
        raise ValueError(
            f"{data.source}: the training split has the label {labels[0]!r} only; two are needed"
        )
    for split in ("validation", "test"):
        for text in texts[split]:
            if text.label not in labels:
                raise ValueError(
                    f"{data.source}: the label {text.label!r} is in the {split} split and not in the "
                    "training split: choose another data.split_seed, or leave it out"
                )


def _make_tokenizer(config: DataConfig, training: Sequence[LabelledText]) -> Tokenizer:
    if names_a_file(config):
        return read_tokenizer(Path(config.tokenizer))
    if config.tokenizer not in TRAINABLE:
        raise ValueError(
            f"data.tokenizer of texts with labels must be {', '.join(TRAINABLE)}, or a tokenizer.json, "
            f"not {config.tokenizer!r}"
        )
    texts, size = [text.text for text in training], config.vocab_size
    return kept_tokenizer(config, [texts, size], lambda: TRAINABLE[config.tokenizer](texts, size))


def _encode(
    texts: Sequence[LabelledText], labels: Sequence[str], tokenizer: Tokenizer, longest: int
) -> list[EncodedText]:
    """Ids with their marks, the end of a text that is too long cut off."""
    room = longest - len(tokenizer.add_marks([]))
    if room < 1:
        raise ValueError(
            f"seq_len must leave room for a token beside the {longest - room} marks, not {longest}"
        )
    encoded = tokenizer.encode_batch([text.text for text in texts])
    return [
        EncodedText(tokenizer.add_marks(ids[:room]), labels.index(text.label))
        for ids, text in zip(encoded, texts, strict=True)
    ]


def _figures(texts: Sequence[EncodedText], batch_size: int) -> Figures:
    ordered = sorted(texts, key=lambda text: len(text.ids))
    batches = [text_batch(group) for group in in_groups(ordered, batch_size)]
    return lambda model: classification_figures(model, batches)


def _beside_words(
    figures: Figures, training: Sequence[LabelledText], test: Sequence[LabelledText]
) -> Figures:
    """The figures, and beside them those of counting words and of always guessing the commonest label."""

    def both(model: Any) -> dict[str, float]:
        seen, asked = [text.label for text in training], [text.label for text in test]
        commonest = max(sorted(set(seen)), key=seen.count)
        baseline = bag_of_words_accuracy([t.text for t in training], seen, [t.text for t in test], asked)
        return {
            **figures(model),
            "bag_of_words_accuracy": baseline,
            "commonest_label_accuracy": asked.count(commonest) / len(asked),
        }

    return both
