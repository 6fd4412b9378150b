"""Losses of a pretrained setup: of the next byte, and of a hidden one between two sides."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glassformer.data import TokenFile
from glassformer.data.batches import batched
from glassformer.eval_mode import eval_mode
from glassformer.experiments.architectures.setup import NUM_BYTES, Setup, chosen

COUNTED = 2**24
"""Bytes that are counted at a time."""


@torch.no_grad()
def evaluate_bytes(
    setup: Setup,
    model: Any,
    training: TokenFile,
    held_out: TokenFile,
    measures: Collection[str] = ("next", "hidden"),
) -> dict[str, float]:
    """Nats per byte of a pretrained model and of the unigram.

    Args:
        setup: of the model.
        model: the model.
        training: the text that it was trained on, for the unigram and the possible bytes.
        held_out: another text, of which random windows are used, the same for all setups of a seed.
        measures: which of the two to evaluate.

    Returns:
        ``next``: of the byte after a context; ``hidden``: of a byte between two sides; ``next_unigram`` and
        ``hidden_unigram``: of the same bytes by their frequencies in the training text.
    """
    s = setup.settings
    counts = np.zeros(NUM_BYTES, dtype=np.int64)
    for start in range(0, len(training), COUNTED):
        counts += np.bincount(training[start : start + COUNTED], minlength=NUM_BYTES)
    unigram = np.log((counts + 1) / (counts + 1).sum())
    candidates = torch.from_numpy(np.flatnonzero(counts))
    log_unigram = torch.from_numpy(unigram)
    found: dict[str, float] = {}
    with eval_mode(model):
        if "next" in measures:
            contexts = random_windows(held_out, s["context"] + 1, s["num_next"], s["seed"])
            log_p, ids = _next(setup, model, contexts)
            found |= {"next": -float(log_p.mean()), "next_unigram": -float(log_unigram[ids].mean())}
        if "hidden" in measures:
            rows = random_windows(held_out, s["seq_len"], s["num_hidden"], s["seed"])
            log_p, ids = _hidden(setup, model, rows, candidates)
            found |= {"hidden": -float(log_p.mean()), "hidden_unigram": -float(log_unigram[ids].mean())}
    return found


def _next(setup: Setup, model: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Log p of the last byte of each row, and the byte."""
    found = [
        setup.next_byte(model, some[:, :-1]) for some in batched(rows, setup.settings["evaluation_batch"])
    ]
    return chosen(torch.cat(found)[:, None], rows[:, -1:])[:, 0], rows[:, -1]


def _hidden(setup: Setup, model: Any, rows: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Log p of a hidden byte in each row, and the byte; places are spread over the middle half."""
    length, parts = rows.size(1), setup.settings["hidden_places"]
    places = np.linspace(length // 4, 3 * length // 4 - 1, parts).astype(int)
    index = torch.full((NUM_BYTES,), -1)
    index[candidates] = torch.arange(len(candidates))
    log_p, ids = [], []
    for place, part in zip(places.tolist(), rows.tensor_split(parts), strict=True):
        known = part[index[part[:, place]] >= 0]  # bytes that the training text never has are left out
        for some in batched(known, setup.settings["evaluation_batch"]):
            if len(some):
                found = setup.hidden_byte(model, some, place, candidates)
                log_p.append(chosen(found[:, None], index[some[:, place]][:, None])[:, 0])
                ids.append(some[:, place])
    return torch.cat(log_p), torch.cat(ids)


def random_windows(tokens: TokenFile, length: int, count: int, seed: int) -> Tensor:
    """Random windows that do not overlap, ``(count, length)``.

    Raises:
        ValueError: the text is shorter than that many windows.
    """
    available = len(tokens) // length
    if available < count:
        raise ValueError(
            f"{count} windows of {length} bytes need {length * count:,} bytes, the text has {len(tokens):,}"
        )
    numbers = np.random.default_rng([seed, 7]).choice(available, count, replace=False)
    rows = [tokens[number * length : (number + 1) * length] for number in numbers]
    return torch.from_numpy(np.stack(rows).astype(np.int64))
