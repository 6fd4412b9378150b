"""Losses of a trained model on texts longer than those of training, and its recall of planted facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.data import TokenFile, windows
from glassformer.eval_mode import eval_mode
from glassformer.experiments.positions.models import extended_positions
from glassformer.experiments.positions.planted_facts import FactVocabulary, recall_conditions
from glassformer.models import GPTModel
from glassformer.training import chunked_cross_entropy, evaluate

Ids = npt.NDArray[np.int64]
TOKENS_AT_A_TIME = 4096
"""Tokens of a batch."""


def windows_ending_at(text: TokenFile | Ids, ends: Ids, length: int) -> Ids:
    """Windows ``(end, length + 1)``, each with its last token at an index of the text."""
    return np.stack([np.asarray(text[end - length : end + 1], dtype=np.int64) for end in ends])


def spread_ends(num_tokens: int, longest: int, num_windows: int, targets: int) -> Ids:
    """Indices of the last tokens of windows, evenly spread over a text, so that no target is shared.

    Args:
        num_tokens: of the text.
        longest: inputs of the longest window.
        num_windows: number of windows.
        targets: the last tokens of a window that are predicted.

    Raises:
        ValueError: the text is too short.
    """
    if num_tokens - longest < num_windows * targets:
        raise ValueError(
            f"{num_windows} windows with {targets} targets of their own and a context of {longest} need "
            f"{longest + num_windows * targets:,} tokens, the text has {num_tokens:,}"
        )
    return np.linspace(longest, num_tokens - 1, num_windows).astype(np.int64)


@torch.no_grad()
def last_targets_loss(model: GPTModel, rows: Ids, targets: int) -> float:
    """Mean loss of the last tokens of windows, in nats.

    Args:
        model: a language model.
        rows: windows ``(window, inputs + 1)``.
        targets: how many of the last tokens of each window are predicted, at most ``inputs``.

    Raises:
        ValueError: more targets than inputs.
    """
    if not 1 <= targets < rows.shape[1]:
        raise ValueError(f"targets must be from 1 to {rows.shape[1] - 1} (inputs), got {targets}")
    total = 0.0
    with eval_mode(model):
        for ids in _batches(rows, model):
            hidden = model.hidden_states(ids[:, :-1])[:, -targets:]
            loss = chunked_cross_entropy(hidden, model.lm_head.weight, ids[:, -targets:], reduction="sum")
            total += float(loss)
    return total / (len(rows) * targets)


@torch.no_grad()
def recall(model: GPTModel, rows: Ids, slots: Ids) -> dict[str, float]:
    """How well a model answers questions.

    Args:
        model: a language model.
        rows: windows ``(window, tokens)``.
        slots: of the questions, ``(window, question)``; each answer is the next token.

    Returns:
        ``accuracy``: the answer is the most probable of all tokens; ``loss`` of the answers in nats.
    """
    correct, total, done = 0, 0.0, 0
    with eval_mode(model):
        for ids in _batches(rows, model):
            asked = torch.from_numpy(slots[done : done + len(ids)]).to(ids.device)
            done += len(ids)
            hidden = model.hidden_states(ids)
            at_questions = hidden.gather(1, asked[..., None].expand(-1, -1, hidden.size(-1)))
            answers = ids.gather(1, asked + 1)
            logits = model.unembed(at_questions).float()  # (window, question, vocab_size)
            correct += int((logits.argmax(-1) == answers).sum())
            total -= float(logits.log_softmax(-1).gather(-1, answers[..., None]).sum())
    return {"accuracy": correct / slots.size, "loss": total / slots.size}


def measure(
    model: GPTModel,
    text: TokenFile,
    vocabulary: FactVocabulary,
    settings: Mapping[str, Any],
    policy: str | None = None,
) -> dict[str, Any]:
    """All measurements of a model on a text.

    Args:
        model: trained on windows of ``seq_len`` tokens.
        text: held out.
        vocabulary: ids of the facts.
        settings: ``seq_len`` and ``factors`` of it; ``fixed_windows`` and ``fixed_targets``;
            ``window_tokens``; ``sliding_windows``, ``sliding_stride`` and ``sliding_factors``;
            ``recall_windows`` and ``num_facts``; ``evaluation_seed``.
        policy: for learned positions, a key of ``POLICIES``.

    Returns:
        By the length of the context, losses in nats per token: ``fixed``, of the same targets with shorter
        and longer contexts; ``windows``, of all tokens of a text that is cut into windows; ``sliding``, of
        the last tokens of a window that moves by as many. And ``recall``: see ``recall_conditions``.

    Raises:
        ValueError: the text is too short.
    """
    n, seed = settings["seq_len"], settings["evaluation_seed"]
    lengths = [factor * n for factor in settings["factors"]]
    count, targets = settings["fixed_windows"], settings["fixed_targets"]
    ends = spread_ends(len(text), max(lengths), count, targets)
    stride, moves = settings["sliding_stride"], settings["sliding_windows"]
    sliding_lengths = [factor * n for factor in settings["sliding_factors"]]
    # The window slides over the beginning of the text, from the first place where the longest one fits.
    spread_ends(len(text), max(sliding_lengths), moves, stride)  # raises if it does not
    sliding_ends = max(sliding_lengths) + stride * np.arange(moves)
    whole = np.asarray(text[: settings["window_tokens"]])
    recall_rows = windows_ending_at(
        text, spread_ends(len(text), 2 * n, settings["recall_windows"], 1), 2 * n - 1
    )
    found: dict[str, Any] = {"fixed": {}, "windows": {}, "sliding": {}, "recall": {}}
    for length in lengths:
        with extended_positions(model, length, policy, seed):
            fixed = windows_ending_at(text, ends, length)
            found["fixed"][str(length)] = last_targets_loss(model, fixed, targets)
            batches = windows(whole, length, max(1, TOKENS_AT_A_TIME // length))
            found["windows"][str(length)] = evaluate(model, batches).nats_per_token
    for length in sliding_lengths:
        with extended_positions(model, length, policy, seed):
            moved = windows_ending_at(text, sliding_ends, length)
            found["sliding"][str(length)] = last_targets_loss(model, moved, stride)
    conditions = recall_conditions(recall_rows, vocabulary, n, settings["num_facts"], seed)
    for name, (rows, slots) in conditions.items():
        with extended_positions(model, rows.shape[1], policy, seed):
            found["recall"][name] = recall(model, rows, slots)
    return found


def _batches(rows: Ids, model: GPTModel) -> Iterator[Tensor]:
    size = max(1, TOKENS_AT_A_TIME // rows.shape[1])
    device = next(model.parameters()).device
    for start in range(0, len(rows), size):
        yield torch.from_numpy(rows[start : start + size]).to(device)
