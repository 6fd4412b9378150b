"""Decoders: a causal language model, and one that reads a prefix in both directions.

causal LM   each byte from those before it                                      (Radford et al. 2018)
prefix LM   each byte after a random prefix, which is read in both directions   (Raffel et al. 2020)
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from glassformer.attention import causal, prefix
from glassformer.data import Batches
from glassformer.data.batches import Batch, random_numbers
from glassformer.experiments.architectures.setup import Setup, byte_log_p, chosen, mean_over
from glassformer.models import GPTModel
from glassformer.training import LanguageModeling
from glassformer.training.cross_entropy import cross_entropy_sum
from glassformer.training.language_modeling import TransformedWindows
from glassformer.training.task import IGNORE_INDEX, BatchSource, Objective


class CausalSetup(Setup):
    """GPT: a causal language model."""

    name = "causal"

    def build(self) -> GPTModel:  # noqa: D102
        return GPTModel(**self.sizes(), num_layers=self.settings["num_layers"], tie_embeddings=True)

    def objective(self) -> Objective:  # noqa: D102
        return LanguageModeling()

    def batches(self, windows: Batches) -> BatchSource:  # noqa: D102
        return windows

    def next_byte(self, model: Any, contexts: Tensor) -> Tensor:  # noqa: D102
        return self._log_p(model, contexts, None)[:, -1]

    def hidden_byte(self, model: Any, rows: Tensor, position: int, candidates: Tensor) -> Tensor:
        """By Bayes: p(c | left, right) is proportional to p(c | left) p(right | left, c)."""
        return torch.stack([self._joint(model, row, position, candidates) for row in rows])

    def features(self, model: Any, rows: Tensor, mask: Tensor) -> Tensor:  # noqa: D102
        return mean_over(model.hidden_states(rows, mask), mask)

    def _joint(self, model: Any, row: Tensor, position: int, candidates: Tensor) -> Tensor:
        """Log p(c, right | left) of each candidate, normalized over them."""
        filled = row.repeat(len(candidates), 1)
        filled[:, position] = candidates
        log_p = self._log_p(model, filled[:, :-1], None)[:, position - 1 :]
        return chosen(log_p, filled[:, position:]).sum(1).log_softmax(0)

    def _log_p(self, model: Any, ids: Tensor, length: int | None) -> Tensor:
        """Log p of the byte after each: ``(batch, seq) -> (batch, seq, 257)``.

        Args:
            model: the model.
            ids: ``(batch, seq)``.
            length: of the prefix; None for a causal model.
        """
        mask = None if length is None else causal() | prefix(length)
        return byte_log_p(model(ids, mask=mask))


class PrefixLanguageModeling(Objective):
    """-log p(byte after the prefix | those before it), in nats per byte."""

    unit: ClassVar[str] = "tokens"

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """Loss of ``ids`` ``(batch, seq + 1)`` with prefixes of ``lengths`` ``(batch,)``."""
        ids, lengths = batch.tensors["ids"].long(), batch.tensors["lengths"]
        logits = model(ids[:, :-1], mask=causal() | prefix(lengths))
        return cross_entropy_sum(logits.flatten(0, 1), _after_prefix(ids, lengths).flatten())

    def count(self, batch: Batch) -> int:
        """Number of bytes after the prefixes."""
        return int((_after_prefix(batch.tensors["ids"], batch.tensors["lengths"]) != IGNORE_INDEX).sum())


def _after_prefix(ids: Tensor, lengths: Tensor) -> Tensor:
    """Targets ``(batch, seq)``: the bytes at the slots from the length of the prefix on."""
    slots = torch.arange(1, ids.size(1), device=ids.device)
    return ids[:, 1:].long().masked_fill(slots < lengths[:, None], IGNORE_INDEX)


class PrefixSetup(CausalSetup):
    """GPT with a mask: a prefix is read in both directions, and the rest is generated."""

    name = "prefix"

    def objective(self) -> Objective:  # noqa: D102
        return PrefixLanguageModeling()

    def batches(self, windows: Batches) -> BatchSource:  # noqa: D102
        def transform(ids: Any, seed: int, number: int) -> Batch:
            draws = random_numbers(len(ids), seed, number)
            lengths = 1 + (draws * (ids.shape[1] - 1)).astype(np.int64)  # 1 to seq
            return Batch(
                {"ids": torch.from_numpy(ids.astype(np.int64)), "lengths": torch.from_numpy(lengths)}
            )

        return WholeWindows(windows, transform)

    def next_byte(self, model: Any, contexts: Tensor) -> Tensor:  # noqa: D102
        return self._log_p(model, contexts, contexts.size(1))[:, -1]

    def features(self, model: Any, rows: Tensor, mask: Tensor) -> Tensor:  # noqa: D102
        return mean_over(model.hidden_states(rows, mask, mask=causal() | prefix(mask.sum(1))), mask)

    def _joint(self, model: Any, row: Tensor, position: int, candidates: Tensor) -> Tensor:
        """Log p(c | left) + log p(right | left, c), with what is left of each as the prefix."""
        own = self.next_byte(model, row[None, :position])[0, candidates]
        filled = row.repeat(len(candidates), 1)
        filled[:, position] = candidates
        log_p = self._log_p(model, filled[:, :-1], position + 1)[:, position:]
        return (own + chosen(log_p, filled[:, position + 1 :]).sum(1)).log_softmax(0)


class WholeWindows(TransformedWindows):
    """Batches of windows with all ``seq_len + 1`` tokens that a transform has changed."""

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        return self.transform(self.windows.batch(step).numpy(), self.windows.seed, step)
