"""What a pretrained setup knows about bytes: the next one, and a hidden one between two sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from glassformer.data import TokenFile
from glassformer.data.batches import batched
from glassformer.eval_mode import eval_mode
from glassformer.experiments.architectures.setup import NUM_BYTES, Setup, chosen


@torch.no_grad()
def evaluate_bytes(setup: Setup, model: Any, training: TokenFile, held_out: TokenFile) -> dict[str, float]:
    """Nats per byte of a pretrained model and of the unigram.

    Args:
        setup: of the model.
        model: the model.
        training: the text that it was trained on, for the unigram and the possible bytes.
        held_out: another text, of which windows at fixed places are used.

    Returns:
        ``next``: of the byte after a context; ``hidden``: of a byte between two sides; ``next_unigram`` and
        ``hidden_unigram``: of the same bytes by their frequencies in the training text.
    """
    s = setup.settings
    counts = np.bincount(np.asarray(training[: len(training)]), minlength=NUM_BYTES)[:NUM_BYTES]
    unigram = np.log((counts + 1) / (counts + 1).sum())
    candidates = torch.from_numpy(np.flatnonzero(counts))
    with eval_mode(model):
        contexts = windows_at(held_out, s["context"] + 1, s["num_next"])
        next_ids = contexts[:, -1]
        found_next = torch.cat(
            [setup.next_byte(model, rows[:, :-1]) for rows in batched(contexts, s["evaluation_batch"])]
        )
        rows = windows_at(held_out, s["seq_len"], s["num_hidden"])
        found_hidden, hidden_ids = _hidden(setup, model, rows, candidates)
    log_unigram = torch.from_numpy(unigram)
    return {
        "next": -float(chosen(found_next[:, None], next_ids[:, None]).mean()),
        "next_unigram": -float(log_unigram[next_ids].mean()),
        "hidden": -float(found_hidden.mean()),
        "hidden_unigram": -float(log_unigram[hidden_ids].mean()),
    }


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


def windows_at(tokens: TokenFile, length: int, count: int) -> Tensor:
    """Windows at evenly spaced places, ``(count, length)``.

    Raises:
        ValueError: the text is shorter than that many windows.
    """
    if len(tokens) < length * count:
        raise ValueError(
            f"{count} windows of {length} bytes need {length * count:,} bytes, the text has {len(tokens):,}"
        )
    starts = np.linspace(0, len(tokens) - length, count).astype(int)
    return torch.from_numpy(np.stack([tokens[start : start + length] for start in starts]).astype(np.int64))
