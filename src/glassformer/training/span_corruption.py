"""Span corruption: generate the spans that were removed from a text (Raffel et al. 2020, section 3.1.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from glassformer.contracts import Tokenizer
from glassformer.data import TokenFile
from glassformer.data.batches import Batch, random_numbers, random_permutation
from glassformer.training.config import TrainingConfig
from glassformer.training.evaluation import mean_loss
from glassformer.training.language_modeling import (
    TransformedWindows,
    prepare_data,
    training_windows,
    transformed_windows,
)
from glassformer.training.sequence_to_sequence import SequenceToSequence
from glassformer.training.task import Evaluate, PreparedTask, Task

Ids = npt.NDArray[Any]


class SpanCorruption:
    """Replacement of random spans of ids by sentinels.

    ``a b c d e`` becomes ``a <0> d e`` with the target ``<0> b c <1>``. A row of n tokens loses
    round(rate * n) tokens, at least one, in round(that / mean_span_length) spans of random positions and
    lengths. So the sources of all rows of one length have the same length, and so have the targets.

    Args:
        rate: fraction of the tokens that is removed.
        mean_span_length: mean number of tokens per span.
        first_sentinel: id of the first sentinel; the others follow it.
    """

    def __init__(self, rate: float, mean_span_length: float, first_sentinel: int) -> None:
        self.rate, self.mean_span_length, self.first_sentinel = rate, mean_span_length, first_sentinel

    def num_spans(self, length: int) -> int:
        """Number of spans removed from a row of ``length`` tokens."""
        removed = self.num_removed(length)
        return min(max(round(removed / self.mean_span_length), 1), length - removed)

    def num_removed(self, length: int) -> int:
        """Number of tokens removed from a row of ``length`` tokens; at least one token remains.

        Raises:
            ValueError: ``length`` is below 2.
        """
        if length < 2:
            raise ValueError(f"span corruption needs rows of at least 2 tokens, got {length}")
        return min(max(round(self.rate * length), 1), length - 1)

    def __call__(self, row: Ids, *key: int) -> tuple[list[int], list[int]]:
        """Source and target of a row ``(seq,)``, without end tokens, as a function of row and key alone."""
        removed = self.num_removed(len(row))
        spans = self.num_spans(len(row))
        kept_lengths = _random_partition(len(row) - removed, spans, (*key, 0))
        removed_lengths = _random_partition(removed, spans, (*key, 1))
        source: list[int] = []
        target: list[int] = []
        start = 0
        for number, (kept, length) in enumerate(zip(kept_lengths, removed_lengths, strict=True)):
            sentinel = self.first_sentinel + number
            source += [*row[start : start + kept].tolist(), sentinel]
            target += [sentinel, *row[start + kept : start + kept + length].tolist()]
            start += kept + length
        return source, [*target, self.first_sentinel + spans]


def _random_partition(total: int, parts: int, key: Sequence[int]) -> Ids:
    """``parts`` random integers of at least one that sum to ``total``."""
    cuts = np.sort(random_permutation(total - 1, *key)[: parts - 1]) + 1
    return np.diff(cuts, prepend=0, append=total)


def corrupted_batch(rows: Ids, corruption: SpanCorruption, end_token: int, seed: int, number: int) -> Batch:
    """A batch of rows ``(batch, seq)`` with spans removed; ``seed`` and ``number`` determine which."""
    row_seeds = (random_numbers(len(rows), seed, number) * 2**31).astype(np.int64)
    pairs = [corruption(row, int(row_seeds[index]), index) for index, row in enumerate(rows)]
    sources = torch.tensor([[*source, end_token] for source, _ in pairs])
    return Batch(
        {
            "source": sources,
            "source_mask": torch.ones_like(sources, dtype=torch.bool),
            "target": torch.tensor([[*target, end_token] for _, target in pairs]),
        }
    )


class SpanCorruptionTask(Task):
    """Generate the spans that were removed from a text."""

    family = "t5"

    def prepare(
        self, config: TrainingConfig, tokenizer: Tokenizer | None, console: Console | None
    ) -> PreparedTask:
        """Build or reuse the token files of the text."""
        tokenizer, files = prepare_data(config.data, console, tokenizer)
        end_token = tokenizer.end_of_text
        if end_token is None:
            raise ValueError("span corruption needs a tokenizer with an end-of-text token")
        task, length = config.task, config.data.seq_len
        corruption = SpanCorruption(task.corruption_rate, task.mean_span_length, tokenizer.vocab_size)

        def transform(rows: Ids, seed: int, number: int) -> Batch:
            return corrupted_batch(rows, corruption, end_token, seed, number)

        def evaluation(split: TokenFile) -> Evaluate | None:
            if len(split) <= length:
                return None
            whole = replace(split, num_tokens=1 + (len(split) - 1) // length * length)  # no shorter window
            batches = partial(transformed_windows, whole, length, config.evaluation.batch_size, transform)
            return lambda model: {"loss": mean_loss(model, SequenceToSequence(end_token), batches())}

        num_sentinels = corruption.num_spans(length) + 1
        return PreparedTask(
            SequenceToSequence(end_token, task.label_smoothing),
            TransformedWindows(training_windows(files, config, length), transform),
            files.key,
            {
                "vocab_size": tokenizer.vocab_size + num_sentinels,
                "start_token": end_token,
                "pad_token": end_token,
                "end_token": end_token,
            },
            tokenizer,
            evaluate=evaluation(files.validation),
            test=evaluation(files.test),
        )
