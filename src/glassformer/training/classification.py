"""Classification of texts and of images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from glassformer.contracts import Tokenizer
from glassformer.data.batches import Batch, BatchSampler, batched, random_numbers
from glassformer.data.images import Images, read_images, shift_and_rotate
from glassformer.data.splits import group_split
from glassformer.data.text_datasets import LabeledText, read_labeled_texts
from glassformer.eval_mode import eval_mode
from glassformer.tokenization.base import pad_sequences, padding_mask
from glassformer.training.config import DataConfig, TrainingConfig
from glassformer.training.cross_entropy import cross_entropy_sum
from glassformer.training.evaluation import baseline_accuracies
from glassformer.training.task import Evaluate, Objective, PreparedTask, Task, hash_rows
from glassformer.training.tokenizers import (
    TRAINABLE_TOKENIZERS,
    MakeTokenizer,
    TrainTokenizer,
    cached_tokenizer,
    make_tokenizer,
)


@dataclass(frozen=True)
class Classification(Objective):
    """-log p(label | input), in nats per example.

    Args:
        label_smoothing: probability mass spread evenly over all labels.
    """

    unit: ClassVar[str] = "examples"

    label_smoothing: float = 0.0

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """Loss of a batch with ``labels`` and the model's inputs."""
        return cross_entropy_sum(self.logits(model, batch), batch.tensors["labels"], self.label_smoothing)

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
            logits = objective.logits(model, batch.to(model.device)).cpu()
            loss += float(cross_entropy_sum(logits, batch.tensors["labels"]))
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
        self.sampler = BatchSampler(len(texts), batch_size, seed, [len(text.ids) for text in texts])

    def batch(self, step: int) -> Batch:
        """``input_ids`` and ``attention_mask`` ``(batch, seq)``, ``labels`` ``(batch,)``."""
        return text_batch([self.texts[index] for index in self.sampler.batch(step)])


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


class TextClassificationTask(Task):
    """Predict the label of a text."""

    family = "bert"

    def placeholder_keywords(self, config: TrainingConfig) -> dict[str, Any]:
        """The vocabulary of the byte tokenizer, with the default number of labels."""
        return super().placeholder_keywords(config) | {"head": "classification"}

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
            held_out_key=hash_rows(
                [split, text.ids, text.label] for split in ("validation", "test") for text in encoded[split]
            ),
        )


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
    texts = [text.text for text in training]

    def trained(train: TrainTokenizer) -> MakeTokenizer:
        size = config.vocab_size
        return lambda config: cached_tokenizer(config, [texts, size], lambda: train(texts, size))

    options = {kind: trained(train) for kind, train in TRAINABLE_TOKENIZERS.items()}
    return make_tokenizer(config, options, "tokenizer of labeled texts")


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


@dataclass(frozen=True)
class ImageClassification(Classification):
    """Classification of images with pixel values from 0 to 1, normalized as the model expects."""

    def logits(self, model: Any, batch: Batch) -> Tensor:
        """Logits ``(batch, labels)`` of ``images``."""
        logits: Tensor = model(model.normalize(batch.tensors["images"]))
        return logits


class ImageBatches:
    """Batches of randomly shifted and rotated images.

    Args:
        images: the training split.
        batch_size: images per batch.
        seed: seed of the order, the shifts and the rotations.
        max_shift: largest shift in each direction, in pixels.
        max_rotation: largest rotation in either direction, in degrees.
    """

    def __init__(
        self, images: Images, batch_size: int, seed: int, max_shift: float = 0.0, max_rotation: float = 0.0
    ) -> None:
        self.images, self.seed = images, seed
        self.max_shift, self.max_rotation = max_shift, max_rotation
        self.sampler = BatchSampler(len(images), batch_size, seed)

    def batch(self, step: int) -> Batch:
        """``images`` ``(batch, channel, height, width)`` from 0 to 1, and ``labels`` ``(batch,)``."""
        batch = image_batch(self.images.select(self.sampler.batch(step)))
        if not self.max_shift and not self.max_rotation:
            return batch
        pixels = batch.tensors["images"]
        draws = torch.from_numpy(random_numbers(3 * len(pixels), self.seed, step, 4)).view(-1, 3) * 2 - 1
        moved = shift_and_rotate(pixels, draws[:, :2] * self.max_shift, draws[:, 2] * self.max_rotation)
        return Batch({**batch.tensors, "images": moved})


def image_batch(images: Images) -> Batch:
    """A batch of images."""
    return Batch({"images": torch.from_numpy(images.pixels), "labels": torch.from_numpy(images.labels)})


class ImageClassificationTask(Task):
    """Predict the class of an image."""

    family = "vit"

    def placeholder_keywords(self, config: TrainingConfig) -> dict[str, Any]:
        """Images of a single patch."""
        patch_size = config.model.options.get("patch_size", 16)
        return {"image_size": patch_size, "num_channels": 1, "labels": 2, "head": "classification"}

    def prepare(
        self, config: TrainingConfig, tokenizer: Tokenizer | None, console: Console | None
    ) -> PreparedTask:
        """Read the images of all splits."""
        data, task = config.data, config.task
        images = read_images(data.source, data.folder, data.fractions, data.split_seed)
        training = images["train"]
        num_classes = 1 + max(int(split.labels.max()) for split in images.values() if len(split))
        height, width = training.pixels.shape[2:]
        if height != width:
            raise ValueError(f"{data.source}: images must be square, got {height} x {width}")

        def evaluation(split: Images) -> Evaluate | None:
            if not len(split):
                return None
            groups = batched(np.arange(len(split)), config.evaluation.batch_size)
            batches = [image_batch(split.select(group)) for group in groups]
            return lambda model: evaluate_classifier(model, batches, ImageClassification())

        return PreparedTask(
            ImageClassification(task.label_smoothing),
            ImageBatches(training, config.batch_size, config.seed, task.max_shift, task.max_rotation),
            _hash_images(training),
            {
                "image_size": height,
                "num_channels": training.pixels.shape[1],
                "labels": [str(number) for number in range(num_classes)],
                "head": "classification",
                "pixel_mean": 0.0,
                "pixel_std": 1.0,
            },
            evaluate=evaluation(images["validation"]),
            test=evaluation(images["test"]),
            held_out_key=hash_rows(_hash_images(images[split]) for split in ("validation", "test")),
        )


def _hash_images(images: Images) -> str:
    return hashlib.blake2b(images.pixels.tobytes() + images.labels.tobytes(), digest_size=16).hexdigest()
