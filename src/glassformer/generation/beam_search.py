"""Beam search: the most likely continuations, several candidates at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.contracts import LanguageModel
from glassformer.eval_mode import eval_mode
from glassformer.generation.decoding_state import DecodingState, StopTokens, start_decoding
from glassformer.generation.options import (
    GenerationConfig,
    GenerationOptions,
    build_config,
    documents_options,
)
from glassformer.generation.prompts import Prompt, append_tokens
from glassformer.generation.sampling import LogitsProcessor, repetition_processors

_SAMPLING_IS_OFF = {
    "temperature": (0, 1),
    "top_k": (None, 0),
    "top_p": (None, 1),
    "min_p": (None, 0),
    "seed": (None,),
}


@documents_options
def beam_search(
    model: LanguageModel, prompt: Prompt, max_new_tokens: int, **options: Unpack[GenerationOptions]
) -> tuple[Tensor | list[int] | list[list[int]], Tensor]:
    """Find continuations y of each prompt x with large sum of log p(y_i | x, y_<i) / |y| ** length_penalty.

    At each step the best ``num_beams`` unfinished continuations of a prompt are kept. A continuation is
    finished by a stop token, which counts as part of it, or at ``max_new_tokens``; it is a candidate for the
    result only if it is among the best ``num_beams`` of its step. The search of a prompt ends when
    ``num_beams`` continuations are finished and the best unfinished one, at its present length, scores no
    higher than the worst of them; or, with ``early_stopping``, when ``num_beams`` are finished.

    Args:
        model: as in ``generate``.
        prompt: as in ``generate``; each prompt is searched independently.
        max_new_tokens: as in ``generate``.
        options: the fields of ``GenerationConfig``.

    Returns:
        Prompts and continuations in the form of ``generate``, the best of each prompt first; and their
        scores, ``(batch * num_return_sequences,)`` float32.

    Raises:
        ValueError: ``num_beams`` below 1 or above the vocabulary size, more sequences than beams or than
            continuations with nonzero probability, or a sampling option; otherwise as ``generate``.
        TypeError: as ``generate``.

    Source: Graves 2012, "Sequence Transduction with Recurrent Neural Networks", section 2.5; the penalty is
    that of Wu et al. 2016, "Google's Neural Machine Translation System", equation 14, with |y| in place of
    (5 + |y|) / 6.
    """
    config = build_config(model, options)
    _check_options(config, model.vocab_size)
    state, stop = start_decoding(model, prompt, max_new_tokens, config)
    processors = repetition_processors(config)
    batch, num_copies = len(state.tokens), config.num_return_sequences
    if max_new_tokens == 0:
        return append_tokens(prompt, [], num_copies, config.stop_tokens), torch.zeros(batch * num_copies)
    finished = FinishedBeams(batch, config.num_beams, max_new_tokens, stop.pad_id, state.tokens.device)
    _search(state, finished, processors, stop, config)
    tokens, scores = finished.best(num_copies)
    return append_tokens(prompt, tokens.unbind(1), num_copies, config.stop_tokens), scores


class FinishedBeams:
    """The best finished continuations of each prompt, best first. At the start there are none.

    Args:
        batch: number of prompts.
        num_beams: number of continuations to keep for each.
        max_new_tokens: largest length of a continuation.
        pad_id: id that fills a continuation after its end.
        device: device of the tensors.
    """

    def __init__(
        self, batch: int, num_beams: int, max_new_tokens: int, pad_id: int, device: torch.device
    ) -> None:
        self.pad_id = pad_id
        self.tokens = torch.full((batch, num_beams, max_new_tokens), pad_id, device=device)
        self.lengths = torch.zeros((batch, num_beams), dtype=torch.long, device=device)
        self.scores = torch.full((batch, num_beams), -math.inf, device=device)

    def add(self, tokens: Tensor, scores: Tensor) -> None:
        """Keep the best of the present continuations and of new ones.

        Args:
            tokens: ``(batch, num_beams, length)``.
            scores: ``(batch, num_beams)``, -inf for continuations that are not finished.
        """
        batch, num_beams, length = tokens.shape
        padded = F.pad(tokens, (0, self.tokens.shape[2] - length), value=self.pad_id)
        self.scores, best = torch.cat([self.scores, scores], dim=1).topk(num_beams)
        rows = torch.arange(batch, device=best.device)[:, None]
        self.tokens = torch.cat([self.tokens, padded], dim=1)[rows, best]
        self.lengths = torch.cat([self.lengths, torch.full_like(self.lengths, length)], dim=1)[rows, best]

    def is_done(self, best_unfinished: Tensor | float) -> Tensor:
        """Return for each prompt whether it has ``num_beams`` continuations of at least the given score."""
        worst = self.scores[:, -1]
        return (worst > -math.inf) & (worst >= best_unfinished)

    def best(self, count: int) -> tuple[Tensor, Tensor]:
        """Return tokens ``(batch * count, longest)`` and scores of the ``count`` best of each prompt."""
        scores = self.scores[:, :count]
        if scores.isinf().any():
            row = int(scores.isinf().any(1).nonzero()[0])
            found = int(scores[row].isfinite().sum())
            raise ValueError(
                f"num_return_sequences is {count}, but the model gives only {found} continuations of prompt "
                f"{row} a nonzero probability"
            )
        longest = int(self.lengths[:, :count].max())
        return self.tokens[:, :count, :longest].flatten(0, 1), scores.flatten()


def _check_options(config: GenerationConfig, vocab_size: int) -> None:
    for name, off in _SAMPLING_IS_OFF.items():
        if (value := getattr(config, name)) not in off:
            raise ValueError(
                f"{name} is an option of sampling and cannot be used in beam search, got {value}"
            )
    if not isinstance(config.num_beams, int):
        raise TypeError(f"num_beams must be an int, got {config.num_beams!r}")
    if not 1 <= config.num_beams <= vocab_size:
        raise ValueError(
            f"num_beams must be between 1 and the vocabulary size {vocab_size}, got {config.num_beams}"
        )
    if config.num_return_sequences > config.num_beams:
        raise ValueError(
            f"num_return_sequences must be at most num_beams={config.num_beams}, "
            f"got {config.num_return_sequences}"
        )
    if not math.isfinite(config.length_penalty):
        raise ValueError(f"length_penalty must be finite, got {config.length_penalty}")


@torch.no_grad()
def _search(
    state: DecodingState,
    finished: FinishedBeams,
    processors: Sequence[LogitsProcessor],
    stop: StopTokens,
    config: GenerationConfig,
) -> None:
    """Run the search and add its results to ``finished``."""
    batch, num_beams, max_new_tokens = finished.tokens.shape
    device, prompt_length = finished.tokens.device, state.length
    rows = torch.arange(batch, device=device)[:, None]
    # Enough candidates that num_beams remain if every stop token of every beam is among them.
    num_candidates = max(2, 1 + len(stop.ids)) * num_beams
    log_p = torch.full((batch, num_beams), -math.inf, device=device)
    log_p[:, 0] = 0.0  # at the start all beams are the same prompt, so only one of them may continue
    searching = torch.ones(batch, dtype=torch.bool, device=device)
    with eval_mode(state.model):
        for length in range(1, max_new_tokens + 1):
            logits = state.prefill(num_beams) if length == 1 else state.next_token_logits()
            next_log_p = logits.float().log_softmax(-1)  # (batch * beam, vocab_size)
            for process in processors:
                next_log_p = process(next_log_p, state.tokens)
            sums = (log_p[..., None] + next_log_p.view(batch, num_beams, -1)).flatten(1)
            sums, indices = sums.topk(min(num_candidates, sums.shape[1]))  # (batch, candidate), best first
            beams, tokens = indices // logits.shape[1], indices % logits.shape[1]
            ends = torch.isin(tokens, stop.ids) | (length == max_new_tokens)

            generated = state.tokens[:, prompt_length:].view(batch, num_beams, -1)
            scores = (sums / length**config.length_penalty)[:, :num_beams]
            is_result = (ends & searching[:, None])[:, :num_beams]
            finished.add(
                torch.cat([generated[rows, beams[:, :num_beams]], tokens[:, :num_beams, None]], dim=-1),
                scores.masked_fill(~is_result, -math.inf),
            )

            log_p, order = sums.masked_fill(ends, -math.inf).topk(num_beams)
            best = -math.inf if config.early_stopping else log_p[:, 0] / length**config.length_penalty
            searching &= (log_p[:, 0] > -math.inf) & ~finished.is_done(best)
            if not searching.any():
                return
            state.reorder((rows * num_beams + beams.gather(1, order)).flatten())
            state.append(tokens.gather(1, order).flatten())
