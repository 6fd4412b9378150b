"""Beam search: the likeliest whole continuations, looked for several at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.contracts import LanguageModel
from glassformer.generation.context import Context, Overflow
from glassformer.generation.prompts import Prompt, continued
from glassformer.generation.sampling import Filter, RepetitionPenalty
from glassformer.generation.stopping import StopRule
from glassformer.generation.streaming import check_numbers, evaluating, open_context


def beam_search(
    model: LanguageModel,
    prompt: Prompt,
    max_new_tokens: int,
    *,
    num_beams: int,
    length_penalty: float = 1.0,
    early_stopping: bool = False,
    repetition_penalty: float | None = None,
    stop_tokens: Sequence[int] = (),
    num_return_sequences: int = 1,
    attention_mask: Tensor | None = None,
    pad_id: int | None = None,
    use_cache: bool = True,
    overflow: Overflow | None = None,
) -> tuple[Tensor | list[int] | list[list[int]], Tensor]:
    """Continuations y of each prompt x with the largest sum of log p(y_i | x, y_<i) / |y| ** length_penalty.

    Of each prompt the best ``num_beams`` unfinished continuations go on. A continuation competes for the
    result once it ends, with a stop token, which counts as part of it, or at ``max_new_tokens``; but only if
    it is among the best ``num_beams`` of its step. The search of a prompt is over when ``num_beams`` have
    ended and the best unfinished one, as it is, scores no higher than the worst of them (it might still do so
    later: that is the search's approximation); or, with ``early_stopping``, as soon as ``num_beams`` have
    ended.

    Args:
        model: as in ``generate``.
        prompt: as in ``generate``; each is searched as if it were alone.
        max_new_tokens: as in ``generate``.
        num_beams: how many go on side by side.
        length_penalty: 0 compares sums of log p, 1 means; above 0 longer continuations gain, below 0 shorter.
        early_stopping: whether the first ``num_beams`` that have ended are enough.
        repetition_penalty: as in ``generate``, on log p.
        stop_tokens: as in ``generate``.
        num_return_sequences: how many of each prompt's beams to return.
        attention_mask: as in ``generate``.
        pad_id: as in ``generate``.
        use_cache: as in ``generate``.
        overflow: as in ``generate``.

    Returns:
        Prompts with their continuations, in the form that ``generate`` gives them, the best of each prompt
        first; and their scores, ``(batch * num_return_sequences,)`` float32.

    Raises:
        ValueError: fewer beams than one or more than tokens, more results than beams or than continuations
            with a probability above zero; as ``generate`` otherwise.
        TypeError: as ``generate``.

    Source: Graves 2012, "Sequence Transduction with Recurrent Neural Networks", section 2.5; the penalty is
    that of Wu et al. 2016, "Google's Neural Machine Translation System", equation 14, with |y| in place of
    (5 + |y|) / 6.
    """
    if not isinstance(num_beams, int):
        raise TypeError(f"num_beams must be a whole number, got {num_beams!r}")
    if not 1 <= num_beams <= model.vocab_size:
        raise ValueError(f"num_beams must be between 1 and the {model.vocab_size} tokens, got {num_beams}")
    if num_return_sequences > num_beams:
        raise ValueError(f"num_return_sequences={num_return_sequences} is more than num_beams={num_beams}")
    if not math.isfinite(length_penalty):
        raise ValueError(f"length_penalty must be a finite number, got {length_penalty}")
    context, stop = open_context(
        model,
        prompt,
        max_new_tokens,
        stop_tokens=stop_tokens,
        num_return_sequences=num_return_sequences,
        attention_mask=attention_mask,
        pad_id=pad_id,
        use_cache=use_cache,
        overflow=overflow,
    )
    filters: list[Filter] = []
    if repetition_penalty is not None and repetition_penalty != 1:
        filters.append(RepetitionPenalty(repetition_penalty))
    if max_new_tokens == 0:
        rows = len(context.tokens) * num_return_sequences
        return continued(prompt, [], num_return_sequences, stop_tokens), torch.zeros(rows)
    ended = Ended(len(context.tokens), num_beams, max_new_tokens, stop.pad_id, context.tokens.device)
    _search(context, ended, filters, stop, length_penalty, early_stopping)
    tokens, scores = ended.best(num_return_sequences)
    return continued(prompt, tokens.unbind(1), num_return_sequences, stop_tokens), scores


class Ended:
    """The best continuations of each prompt that have ended, best first. At the start none has.

    Args:
        batch: prompts.
        num_beams: how many continuations of each are kept.
        room: tokens of a continuation at most.
        pad_id: what stands behind its end.
        device: where it is kept.
    """

    def __init__(self, batch: int, num_beams: int, room: int, pad_id: int, device: torch.device) -> None:
        self.pad_id = pad_id
        self.tokens = torch.full((batch, num_beams, room), pad_id, device=device)
        self.lengths = torch.zeros((batch, num_beams), dtype=torch.long, device=device)
        self.scores = torch.full((batch, num_beams), -math.inf, device=device)

    def add(self, tokens: Tensor, scores: Tensor) -> None:
        """Keep the best of what is here and of ``tokens (batch, num_beams, length)``.

        Their ``scores (batch, num_beams)`` are -inf where they have not ended.
        """
        batch, num_beams, length = tokens.shape
        padded = F.pad(tokens, (0, self.tokens.shape[2] - length), value=self.pad_id)
        self.scores, best = torch.cat([self.scores, scores], dim=1).topk(num_beams)
        rows = torch.arange(batch, device=best.device)[:, None]
        self.tokens = torch.cat([self.tokens, padded], dim=1)[rows, best]
        self.lengths = torch.cat([self.lengths, torch.full_like(self.lengths, length)], dim=1)[rows, best]

    def settled(self, reachable: Tensor | float) -> Tensor:
        """For each prompt, whether its places are all taken, by what scores as high as others may reach."""
        worst = self.scores[:, -1]
        return (worst > -math.inf) & (worst >= reachable)

    def best(self, count: int) -> tuple[Tensor, Tensor]:
        """Tokens ``(batch * count, longest)`` and scores of the ``count`` best of each prompt."""
        scores = self.scores[:, :count]
        if scores.isinf().any():
            row = int(scores.isinf().any(1).nonzero()[0])
            found = int(scores[row].isfinite().sum())
            raise ValueError(
                f"the model gives only {found} continuations of prompt {row} a probability above zero; "
                f"num_return_sequences={count} asks for more"
            )
        longest = int(self.lengths[:, :count].max())
        return self.tokens[:, :count, :longest].flatten(0, 1), scores.flatten()


@torch.no_grad()
def _search(
    context: Context,
    ended: Ended,
    filters: Sequence[Filter],
    stop: StopRule,
    length_penalty: float,
    early_stopping: bool,
) -> None:
    """Fill ``ended``."""
    batch, num_beams, max_new_tokens = ended.tokens.shape
    device, first_new = ended.tokens.device, context.length
    rows = torch.arange(batch, device=device)[:, None]
    kept = max(2, 1 + len(stop.stop_tokens)) * num_beams  # if all that can stop do, num_beams still go on
    log_p = torch.full((batch, num_beams), -math.inf, device=device)
    log_p[:, 0] = 0.0  # at the start all beams are the prompt: one of them is enough
    searching = torch.ones(batch, dtype=torch.bool, device=device)
    with evaluating(context.model):
        for length in range(1, max_new_tokens + 1):
            logits = context.next_token_logits()
            if length == 1:
                check_numbers(logits)
                logits = logits.repeat_interleave(num_beams, dim=0)
                context.repeat(num_beams)
            next_log_p = logits.float().log_softmax(-1)  # (batch * beam, vocab_size)
            for change in filters:
                next_log_p = change(next_log_p, context.tokens)
            sums = (log_p[..., None] + next_log_p.view(batch, num_beams, -1)).flatten(1)
            sums, places = sums.topk(min(kept, sums.shape[1]))  # (batch, candidate), best first
            beams, tokens = places // logits.shape[1], places % logits.shape[1]
            ends = torch.isin(tokens, stop.stop_tokens) | (length == max_new_tokens)

            said = context.tokens[:, first_new:].view(batch, num_beams, -1)[rows, beams[:, :num_beams]]
            scores = (sums / length**length_penalty)[:, :num_beams]
            counts = (ends & searching[:, None])[:, :num_beams]
            ended.add(
                torch.cat([said, tokens[:, :num_beams, None]], dim=-1),
                scores.masked_fill(~counts, -math.inf),
            )

            log_p, order = sums.masked_fill(ends, -math.inf).topk(num_beams)
            reachable = -math.inf if early_stopping else log_p[:, 0] / length**length_penalty
            searching &= (log_p[:, 0] > -math.inf) & ~ended.settled(reachable)
            if not searching.any():
                return
            context.reorder((rows * num_beams + beams.gather(1, order)).flatten())
            context.append(tokens.gather(1, order).flatten())
