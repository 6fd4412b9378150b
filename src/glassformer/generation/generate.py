"""generate: continue prompts, all at once; ``streaming.stream`` does the same token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack, overload

import torch
from torch import Tensor

from glassformer.contracts import LanguageModel
from glassformer.generation.context import Overflow
from glassformer.generation.prompts import Prompt, as_lists, is_single
from glassformer.generation.streaming import GenerationOptions, stream


@overload
def generate(
    model: LanguageModel, prompt: Tensor, max_new_tokens: int, **options: Unpack[GenerationOptions]
) -> Tensor: ...


@overload
def generate(
    model: LanguageModel, prompt: Sequence[int], max_new_tokens: int, **options: Unpack[GenerationOptions]
) -> list[int]: ...


@overload
def generate(
    model: LanguageModel,
    prompt: Sequence[Sequence[int]],
    max_new_tokens: int,
    **options: Unpack[GenerationOptions],
) -> list[list[int]]: ...


def generate(
    model: LanguageModel,
    prompt: Prompt,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    stop_tokens: Sequence[int] = (),
    seed: int | None = None,
    num_return_sequences: int = 1,
    attention_mask: Tensor | None = None,
    pad_id: int | None = None,
    use_cache: bool = True,
    overflow: Overflow | None = None,
) -> Tensor | list[int] | list[list[int]]:
    """Continue prompts: what comes back has the form of what was put in.

    ====================  ===============================  =========================================
    prompt                result                           a row that met a stop token
    ====================  ===============================  =========================================
    tensor (batch, seq)   tensor (rows, seq + new), int64  is filled up with ``pad_id``
    tensor (seq,)         tensor (seq + new,), int64       ends with it
    list of lists         list of lists                    ends with it
    flat list             flat list                        ends with it
    ====================  ===============================  =========================================

    Here ``rows = batch * num_return_sequences``, the sequences of one prompt next to each other, and ``new``
    is ``max_new_tokens`` or, if all rows stopped before, less. Prompts of a list may differ in length; each
    gets what it would get alone (greedily, up to rounding).

    Past ``model.max_seq_len`` it depends on the position scheme, unless ``overflow`` says otherwise:

    ====================================  ========  ========================================================
    positions                             default   also possible
    ====================================  ========  ========================================================
    ALiBi, T5 relative bias, none         extend    slide, error
    rotary, sinusoidal                    slide     error, extend (beyond what the model was trained on)
    learned                               slide     error
    ====================================  ========  ========================================================

    - extend: the context goes on growing.
    - slide: when the context is full, its oldest half is dropped and the rest is read afresh, with positions
      from zero. The model never sees more than ``max_seq_len`` tokens, nor, once there are as many, less than
      half of that. Where the window stands depends only on how many tokens there are: it is the same for a
      long prompt, in a batch, and without a cache. Reading afresh happens every ``max_seq_len / 2`` tokens.
    - error: prompts and ``max_new_tokens`` that might not fit are refused before anything is computed.

    Args:
        model: any ``contracts.LanguageModel``. A module is put into evaluation mode for the time being.
        prompt: token ids, in one of the forms above; at least one token each.
        max_new_tokens: how many tokens to add at most; 0 gives the prompt back.
        temperature: 0 takes the likeliest token each time (greedy); otherwise logits are divided by it.
        top_k: sample from the ``top_k`` likeliest tokens; 0 is off, above the vocabulary is all of it.
        top_p: sample from the fewest likeliest tokens that hold this much probability, in (0, 1].
        min_p: sample from tokens at least this many times as likely as the likeliest, in [0, 1].
        repetition_penalty: divides positive logits of tokens that have occurred in the prompt or since, and
            multiplies negative ones; above 0, 1 is off. Filters run in the order repetition penalty,
            temperature, top-k, top-p, min-p.
        stop_tokens: ids at which a row ends; the id itself is part of the result.
        seed: makes sampling reproducible and leaves PyTorch's global random state alone. None uses that.
        num_return_sequences: continuations of each prompt, sampled independently; the prompt is read once.
        attention_mask: with a tensor ``(batch, seq)``: 1 or True for a real token, padding on the left. What
            ids the padding has does not matter, and they come back as they were.
        pad_id: what fills up a tensor behind a stop token; the first of ``stop_tokens`` by default.
        use_cache: keep keys and values. Without, all is computed again for each token, to the same result.
        overflow: "slide", "extend" or "error"; None as in the table above.

    Raises:
        ValueError: an empty prompt, an id outside the vocabulary, a number outside its range, several
            sequences from a flat prompt, or prompts that do not fit under ``overflow="error"``.
        TypeError: ids that are no integers.
    """
    steps = list(
        stream(
            model,
            prompt,
            max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            stop_tokens=stop_tokens,
            seed=seed,
            num_return_sequences=num_return_sequences,
            attention_mask=attention_mask,
            pad_id=pad_id,
            use_cache=use_cache,
            overflow=overflow,
        )
    )
    if isinstance(prompt, Tensor):
        return _append_to_tensor(prompt, steps, num_return_sequences)
    rows = _append_to_lists(as_lists(prompt), steps, num_return_sequences, set(stop_tokens))
    return rows[0] if is_single(prompt) else rows


def _append_to_tensor(prompt: Tensor, steps: list[Tensor], copies: int) -> Tensor:
    rows = prompt.long().reshape(-1, prompt.shape[-1]).repeat_interleave(copies, dim=0)
    new = [tokens[:, None].to(prompt.device) for tokens in steps]
    result = torch.cat([rows, *new], dim=1)
    return result[0] if prompt.dim() == 1 else result


def _append_to_lists(
    prompts: list[list[int]], steps: list[Tensor], copies: int, stop_tokens: set[int]
) -> list[list[int]]:
    rows = [list(prompt) for prompt in prompts for _ in range(copies)]
    columns = torch.stack(steps, dim=1).tolist() if steps else []
    for row, continuation in zip(rows, columns, strict=False):
        for token in continuation:
            row.append(token)
            if token in stop_tokens:
                break
    return rows
