"""Span corruption: write the spans that were taken out of a text (Raffel et al. 2020, section 3.1.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from glassformer.contracts import Tokenizer
from glassformer.data import Batches, TokenFile, windows
from glassformer.data.epochs import random_numbers, shuffled
from glassformer.data.examples import Batch
from glassformer.tokenization import ByteTokenizer
from glassformer.training.config import TrainingConfig
from glassformer.training.evaluation import mean_loss
from glassformer.training.language_modelling import prepare_data, training_windows
from glassformer.training.masked_language_modelling import HELD_OUT_SEED
from glassformer.training.sequence_to_sequence import SequenceToSequence
from glassformer.training.task import Figures, Prepared

Ids = npt.NDArray[Any]


class SpanCorruption:
    """Takes spans out of rows of ids: ``a b c d e`` becomes ``a <0> d e``, with the target ``<0> b c <1>``.

    ``<0>``, ``<1>``, ... are sentinels, ids of their own.

    A row of n tokens loses round(fraction * n) of them, in round(that / mean_span) spans, at least one; where
    they begin and how long they are is drawn at random. So all rows of a length have sources of one length,
    and targets of one length.

    Args:
        fraction: the part of the tokens that is taken out.
        mean_span: tokens of a span.
        first_sentinel: ids from here on are sentinels.

    """

    def __init__(self, fraction: float, mean_span: float, first_sentinel: int) -> None:
        self.fraction, self.mean_span, self.first_sentinel = fraction, mean_span, first_sentinel

    def num_spans(self, length: int) -> int:
        """Spans taken out of a row of so many tokens."""
        return min(max(round(self.num_hidden(length) / self.mean_span), 1), length - self.num_hidden(length))

    def num_hidden(self, length: int) -> int:
        """Tokens taken out of a row of so many, which leaves at least one.

        Raises:
            ValueError: a row that is too short to be cut.

        """
        if length < 2:
            raise ValueError(f"a row of {length} tokens has no span that could be taken out")
        return min(max(round(self.fraction * length), 1), length - 1)

    def __call__(self, row: Ids, *key: int) -> tuple[list[int], list[int]]:
        """Source and target of a row ``(seq,)``, a function of row and key alone; no marks."""
        hidden = self.num_hidden(len(row))
        spans = self.num_spans(len(row))
        kept_lengths = _partition(len(row) - hidden, spans, (*key, 0))
        hidden_lengths = _partition(hidden, spans, (*key, 1))
        source: list[int] = []
        target: list[int] = []
        place = 0
        for number, (kept, taken) in enumerate(zip(kept_lengths, hidden_lengths, strict=True)):
            sentinel = self.first_sentinel + number
            source += [*row[place : place + kept].tolist(), sentinel]
            target += [sentinel, *row[place + kept : place + kept + taken].tolist()]
            place += kept + taken
        return source, [*target, self.first_sentinel + spans]


def _partition(total: int, parts: int, key: Sequence[int]) -> Ids:
    """``total`` cut at random into so many parts of at least one."""
    first, second, *rest = key
    cuts = np.sort(shuffled(total - 1, first, second, *rest)[: parts - 1]) + 1
    return np.diff(np.concatenate(([0], cuts, [total])))


class CorruptedBatches:
    """Batches of windows with spans taken out, each a function of its number alone."""

    def __init__(self, batches: Batches, corruption: SpanCorruption, end: int) -> None:
        self.batches, self.corruption, self.end = batches, corruption, end

    def batch(self, step: int) -> Batch:
        """``source``, ``source_mask`` and ``target``, as for ``SequenceToSequence``."""
        rows = self.batches.batch(step)[:, :-1].numpy()
        return corrupted_batch(rows, self.corruption, self.end, self.batches.seed, step)


def corrupted_batch(rows: Ids, corruption: SpanCorruption, end: int, seed: int, number: int) -> Batch:
    """Rows ``(batch, seq)`` with spans taken out."""
    seeds = (random_numbers(len(rows), seed, number) * 2**31).astype(np.int64)
    pairs = [
        corruption(row, int(own), place) for place, (row, own) in enumerate(zip(rows, seeds, strict=True))
    ]
    sources = torch.tensor([[*source, end] for source, _ in pairs])
    return Batch(
        {
            "source": sources,
            "source_mask": torch.ones_like(sources, dtype=torch.bool),
            "target": torch.tensor([[*target, end] for _, target in pairs]),
        }
    )


class SpanCorruptionTask:
    """Write the spans that were taken out of running text."""

    family = "t5"

    def placeholders(self, config: TrainingConfig) -> dict[str, Any]:
        """A vocabulary of bytes."""
        return {"vocab_size": ByteTokenizer().vocab_size}

    def prepare(
        self, config: TrainingConfig, tokenizer: Tokenizer | None, console: Console | None
    ) -> Prepared:
        """Token files of the text, and windows of them with spans taken out."""
        tokenizer, files = prepare_data(config.data, console, tokenizer)
        end = tokenizer.end_of_text
        if end is None:
            raise ValueError("span corruption needs a tokenizer with an end-of-text token")
        corruption = SpanCorruption(config.task.corrupt, config.task.mean_span, tokenizer.vocab_size)
        length = config.data.seq_len
        sentinels = corruption.num_spans(length) + 1
        objective = SequenceToSequence(end, config.task.label_smoothing)
        return Prepared(
            objective,
            CorruptedBatches(training_windows(files, config, length), corruption, end),
            files.key,
            {
                "vocab_size": tokenizer.vocab_size + sentinels,
                "start_token": end,
                "pad_token": end,
                "end_token": end,
            },
            tokenizer,
            evaluate=_figures(files.validation, config, corruption, end),
            test=_figures(files.test, config, corruption, end),
        )


def _figures(
    split: TokenFile, config: TrainingConfig, corruption: SpanCorruption, end: int
) -> Figures | None:
    """What to call for a model's loss on a split, in nats per target token."""
    if len(split) <= config.data.seq_len:
        return None

    def batches() -> Iterator[Batch]:
        for number, (rows, _) in enumerate(windows(split, config.data.seq_len, config.evaluation.batch_size)):
            if rows.size(1) == config.data.seq_len:  # the tail may be too short to be cut
                yield corrupted_batch(rows.numpy(), corruption, end, HELD_OUT_SEED, number)

    return lambda model: {"loss": mean_loss(model, SequenceToSequence(end), batches())}
