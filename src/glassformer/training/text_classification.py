"""Text classification, with bag-of-words and majority-class baselines."""

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
from glassformer.data.batch_sampler import BatchSampler
from glassformer.data.batches import Batch, batched
from glassformer.data.classification import LabeledText, read_labeled_texts
from glassformer.data.splits import group_split
from glassformer.eval_mode import eval_mode
from glassformer.tokenization import ByteTokenizer
from glassformer.tokenization.base import pad_sequences, padding_mask
from glassformer.training.baselines import bag_of_words_accuracy, majority_class_accuracy
from glassformer.training.config import DataConfig, TrainingConfig
from glassformer.training.task import Evaluate, PreparedTask, hash_rows
from glassformer.training.tokenizers import (
    TRAINABLE_TOKENIZERS,
    cached_tokenizer,
    is_tokenizer_path,
    read_tokenizer,
)


@dataclass(frozen=True)
class Classification:
    """Mean of -log p(label | input), in nats per example.

    Args:
        label_smoothing: probability mass spread evenly over all labels.
    """

    unit: ClassVar[str] = "examples"

    label_smoothing: float = 0.0

    def __call__(self, model: Any, batch: Batch) -> Tensor:
        """Mean loss of a batch with ``labels`` and the model's inputs."""
        logits = self.logits(model, batch).float()
        return F.cross_entropy(logits, batch.tensors["labels"], label_smoothing=self.label_smoothing)

    def logits(self, model: Any, batch: Batch) -> Tensor:
        """Logits ``(batch, labels)`` of the inputs of a batch."""
        logits: Tensor = model(**{name: t for name, t in batch.tensors.items() if name != "labels"})
        return logits

    def count(self, batch: Batch) -> int:
        """Number of examples."""
        return len(batch.tensors["labels"])


@torch.no_grad()
def evaluate_classifier(
    model: Any, batches: Sequence[Batch], objective: Classification = Classification()
) -> dict[str, float]:
    """Loss, accuracy, and balanced accuracy (the mean recall of the labels) over all batches."""
    predictions, labels, loss = [], [], 0.0
    with eval_mode(model):
        for batch in batches:
            logits = objective.logits(model, batch.to(model.device)).float().cpu()
            loss += float(F.cross_entropy(logits, batch.tensors["labels"], reduction="sum"))
            predictions.append(logits.argmax(-1))
            labels.append(batch.tensors["labels"])
    predicted, true = torch.cat(predictions), torch.cat(labels)
    recalls = [
        float((predicted[true == label] == label).float().mean()) for label in sorted(set(true.tolist()))
    ]
    return {
        "loss": loss / len(true),
        "accuracy": float((predicted == true).float().mean()),
        "balanced_accuracy": sum(recalls) / len(recalls),
    }


@dataclass(frozen=True)
class EncodedText:
    """Ids of a text with special tokens, and the index of its label."""

    ids: list[int]
    label: int


class TextBatches:
    """Batches of texts of similar length."""

    def __init__(self, texts: Sequence[EncodedText], batch_size: int, seed: int) -> None:
        self.texts = texts
        self.epochs = BatchSampler(len(texts), batch_size, seed, [len(text.ids) for text in texts])

    def batch(self, step: int) -> Batch:
        """``input_ids`` and ``attention_mask`` ``(batch, seq)``, ``labels`` ``(batch,)``."""
        return text_batch([self.texts[index] for index in self.epochs.batch(step)])


def text_batch(texts: Sequence[EncodedText]) -> Batch:
    """A padded batch of texts."""
    rows = [text.ids for text in texts]
    return Batch(
        {
            "input_ids": pad_sequences(rows, 0),
            "attention_mask": padding_mask(rows),
            "labels": torch.tensor([text.label for text in texts]),
        }
    )


class TextClassificationTask:
    """Predict the label of a text."""

    family = "bert"

    def placeholder_keywords(self, config: TrainingConfig) -> dict[str, Any]:
        """The vocabulary of the byte tokenizer, with the default number of labels."""
        return {"vocab_size": ByteTokenizer().vocab_size, "head": "classification"}

    def prepare(
        self, config: TrainingConfig, tokenizer: Tokenizer | None, console: Console | None
    ) -> PreparedTask:
        """Read the texts and split them by document, so that no document is in two splits."""
        data, batch_size = config.data, config.evaluation.batch_size
        texts = group_split(
            read_labeled_texts(data.source), lambda text: text.group, data.fractions, data.split_seed
        )
        labels = sorted({text.label for text in texts["train"]})
        _check_labels(texts, labels, data)
        tokenizer = _make_tokenizer(data, texts["train"]) if tokenizer is None else tokenizer
        encoded = {split: _encode(part, labels, tokenizer, data.seq_len) for split, part in texts.items()}

        def test(model: Any) -> dict[str, float]:
            baselines = baseline_accuracies(texts["train"], texts["test"], console or Console())
            return evaluate_classifier(model, _evaluation_batches(encoded["test"], batch_size)) | baselines

        return PreparedTask(
            Classification(config.task.label_smoothing),
            TextBatches(encoded["train"], config.batch_size, config.seed),
            hash_rows([text.ids, text.label] for text in encoded["train"]),
            {"vocab_size": tokenizer.vocab_size, "head": "classification", "labels": labels},
            tokenizer,
            evaluate=_evaluation(encoded["validation"], batch_size) if encoded["validation"] else None,
            test=test if encoded["test"] else None,
        )


def baseline_accuracies(
    training: Sequence[LabeledText], test: Sequence[LabeledText], console: Console
) -> dict[str, float]:
    """Test accuracies of the bag-of-words and majority-class baselines.

    A bag-of-words baseline that cannot be computed is left out, and the reason is printed.
    """
    labels, test_labels = [text.label for text in training], [text.label for text in test]
    accuracies = {"commonest_label_accuracy": majority_class_accuracy(labels, test_labels)}
    try:
        accuracies["bag_of_words_accuracy"] = bag_of_words_accuracy(
            [text.text for text in training], labels, [text.text for text in test], test_labels
        )
    except (ImportError, ValueError) as error:
        console.print(f"skipped the bag-of-words baseline: {error}", markup=False, highlight=False)
    return accuracies


def _check_labels(texts: dict[str, list[LabeledText]], labels: Sequence[str], data: DataConfig) -> None:
    if len(labels) < 2:
        raise ValueError(
            f"{data.source}: classification needs at least two labels, got only {labels[0]!r} in the"
            " training split"
        )
    for split in ("validation", "test"):
        for text in texts[split]:
            if text.label not in labels:
                raise ValueError(
                    f"{data.source}: label {text.label!r} occurs in the {split} split but not in the training"
                    " split: choose another data.split_seed, or remove its texts"
                )


def _make_tokenizer(config: DataConfig, training: Sequence[LabeledText]) -> Tokenizer:
    if is_tokenizer_path(config):
        return read_tokenizer(Path(config.tokenizer))
    if config.tokenizer not in TRAINABLE_TOKENIZERS:
        raise ValueError(
            f"data.tokenizer must be {', '.join(TRAINABLE_TOKENIZERS)} or the path of a tokenizer.json for"
            f" text-classification, got {config.tokenizer!r}"
        )
    train = TRAINABLE_TOKENIZERS[config.tokenizer]
    texts, vocab_size = [text.text for text in training], config.vocab_size
    return cached_tokenizer(config, [texts, vocab_size], lambda: train(texts, vocab_size))


def _encode(
    texts: Sequence[LabeledText], labels: Sequence[str], tokenizer: Tokenizer, max_tokens: int
) -> list[EncodedText]:
    """Ids with special tokens, truncated to ``max_tokens``."""
    num_special = len(tokenizer.add_special_tokens([]))
    if max_tokens <= num_special:
        raise ValueError(
            f"data.seq_len must be above {num_special}, the number of special tokens, got {max_tokens}"
        )
    encoded = tokenizer.encode_batch([text.text for text in texts])
    return [
        EncodedText(tokenizer.add_special_tokens(ids[: max_tokens - num_special]), labels.index(text.label))
        for ids, text in zip(encoded, texts, strict=True)
    ]


def _evaluation_batches(texts: Sequence[EncodedText], batch_size: int) -> list[Batch]:
    by_length = sorted(texts, key=lambda text: len(text.ids))
    return [text_batch(group) for group in batched(by_length, batch_size)]


def _evaluation(texts: Sequence[EncodedText], batch_size: int) -> Evaluate:
    batches = _evaluation_batches(texts, batch_size)
    return lambda model: evaluate_classifier(model, batches)
