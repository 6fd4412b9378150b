"""Fine-tuning to classify passages: a linear layer on the mean of the last hidden states."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.data.batches import Batch, batched
from glassformer.data.text_datasets import read_labeled_texts
from glassformer.eval_mode import eval_mode
from glassformer.experiments.architectures.setup import END, Setup
from glassformer.tokenization.base import pad_sequences, padding_mask
from glassformer.training.task import Objective

Passage = tuple[list[int], int]
"""The bytes of a passage and the number of its label."""


def with_classifier(model: Any, d_model: int, num_classes: int) -> Any:
    """Give a pretrained model a layer ``classifier`` with random weights, and return it."""
    model.classifier = nn.Linear(d_model, num_classes)
    nn.init.normal_(model.classifier.weight, std=0.02)
    nn.init.zeros_(model.classifier.bias)
    return model


class Passages(Objective):
    """Cross-entropy of the label of a passage, in nats.

    Args:
        setup: of the model.
    """

    unit: ClassVar[str] = "examples"

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def logits(self, model: Any, batch: Batch) -> Tensor:
        """``(batch, class)`` of a batch with ``ids`` and ``mask``."""
        features = self.setup.features(model, batch.tensors["ids"], batch.tensors["mask"])
        found: Tensor = model.classifier(features)
        return found

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """Loss of ``ids``, ``mask`` and ``label``."""
        return F.cross_entropy(self.logits(model, batch), batch.tensors["label"], reduction="sum")

    def count(self, batch: Batch) -> int:
        """Number of passages."""
        return len(batch.tensors["label"])


def passages(settings: Mapping[str, Any]) -> tuple[list[Passage], list[Passage], int]:
    """Training and test passages with the numbers of their labels, and the number of labels.

    All passages of a speech are in the same split, which the seed decides.
    """
    texts = read_labeled_texts(settings["labels"])
    names = sorted({text.label for text in texts})
    groups = sorted({text.group for text in texts})
    random.Random(f"groups {settings['seed']}").shuffle(groups)
    test_groups = set(groups[: len(groups) // 5])
    split: dict[bool, list[Passage]] = {False: [], True: []}
    for text in texts:
        ids = list(text.text.encode()[: settings["max_seq_len"]])
        split[text.group in test_groups].append((ids, names.index(text.label)))
    draw = random.Random(f"passages {settings['seed']}")
    for rows in split.values():
        draw.shuffle(rows)
    return split[False], split[True][: settings["num_test_passages"]], len(names)


def passage_batch(rows: Sequence[Passage]) -> Batch:
    """Passages and their labels as a padded batch."""
    ids = [row for row, _ in rows]
    labels = torch.tensor([label for _, label in rows])
    return Batch({"ids": pad_sequences(ids, END), "mask": padding_mask(ids), "label": labels})


@torch.no_grad()
def accuracy(objective: Passages, model: Any, rows: Sequence[Passage], batch_size: int) -> float:
    """Fraction of passages with the right label."""
    right = 0
    with eval_mode(model):
        for some in batched(list(rows), batch_size):
            batch = passage_batch(some)
            right += int((objective.logits(model, batch).argmax(-1) == batch.tensors["label"]).sum())
    return right / len(rows)


def majority(training: Sequence[Passage], test: Sequence[Passage]) -> float:
    """Accuracy of always answering the most frequent label of the training passages."""
    labels = Counter(label for _, label in training)
    best = max(labels, key=lambda label: (labels[label], -label))
    return sum(label == best for _, label in test) / len(test)
