"""Text generation: ``generate`` returns whole sequences, ``stream`` yields one token at a time."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Unpack, overload

import torch
from torch import Tensor

from glassformer.contracts import LanguageModel
from glassformer.eval_mode import eval_mode
from glassformer.generation.beam_search import beam_search
from glassformer.generation.decoding_state import DecodingState, StopTokens, start_decoding
from glassformer.generation.options import GenerationOptions, build_config, documents_options
from glassformer.generation.prompts import Prompt, append_tokens
from glassformer.generation.sampling import Sampler


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


@documents_options
def generate(
    model: LanguageModel, prompt: Prompt, max_new_tokens: int, **options: Unpack[GenerationOptions]
) -> Tensor | list[int] | list[list[int]]:
    """Continue prompts. The result has the form of the prompt.

    ====================  ===============================  =========================================
    prompt                result                           after a stop token, a row
    ====================  ===============================  =========================================
    tensor (batch, seq)   tensor (rows, seq + new), int64  is filled with ``pad_id``
    tensor (seq,)         tensor (seq + new,), int64       ends
    list of lists         list of lists                    ends
    flat list             flat list                        ends
    ====================  ===============================  =========================================

    Here ``rows = batch * num_return_sequences``, with the sequences of a prompt next to each other, and
    ``new`` is ``max_new_tokens``, or less if all rows ended before. Prompts in a list may differ in length;
    each gets the result that it would get alone (greedily, up to rounding).

    Beyond ``model.max_seq_len`` the behavior depends on the position scheme, unless ``overflow`` is given:

    ====================================  ========  ========================================================
    positions                             default   alternatives
    ====================================  ========  ========================================================
    ALiBi, T5 relative bias, none         extend    slide, error
    rotary with scaling                   extend    slide, error
    rotary, sinusoidal                    slide     error, extend (beyond the lengths of training)
    learned                               slide     error
    ====================================  ========  ========================================================

    - extend: the context grows without limit. Scaling of rotary positions (linear, NTK, YaRN, Llama 3) takes
      effect only so. Under dynamic scaling each token beyond the original length changes the angles of all,
      so the whole context is processed again for each one, as without a cache.
    - slide: when the context has ``max_seq_len`` tokens, the oldest half is dropped and the rest is processed
      again, with positions from zero. The start of the window depends only on the number of tokens: it is the
      same for a long prompt, in a batch, and without a cache. The cost arises every ``max_seq_len / 2``
      tokens.
    - error: raise before anything is computed if a prompt and ``max_new_tokens`` might not fit.

    Args:
        model: any ``contracts.LanguageModel``. A module is in evaluation mode during the call.
        prompt: token ids in one of the forms above, at least one token for each prompt.
        max_new_tokens: largest number of tokens to add; 0 returns the prompt.
        options: the fields of ``GenerationConfig``.

    Returns:
        Prompts and continuations, as in the first table.

    Raises:
        ValueError: an empty prompt, an id outside the vocabulary, an option out of its range, several
            sequences for a flat prompt, prompts that do not fit with ``overflow="error"``, or sampling
            options together with beam search.
        TypeError: ids that are not integers, or an unknown option.
    """
    config = build_config(model, options)
    if config.num_beams != 1:
        ids, _ = beam_search(model, prompt, max_new_tokens, **options)
        return ids
    if config.length_penalty != 1 or config.early_stopping:
        raise ValueError("length_penalty and early_stopping need beam search: set num_beams above 1")
    steps = list(stream(model, prompt, max_new_tokens, **options))
    return append_tokens(prompt, steps, config.num_return_sequences, config.stop_tokens)


@documents_options
def stream(
    model: LanguageModel, prompt: Prompt, max_new_tokens: int, **options: Unpack[GenerationOptions]
) -> Generator[Tensor, None, None]:
    """Generate token by token, without beam search.

    Errors are raised at the call, not at the first token. After its stop token a row yields ``pad_id``; the
    stream ends with the last row. The model is in evaluation mode from the first token until the stream ends
    or is closed.

    Args:
        model: as in ``generate``.
        prompt: as in ``generate``.
        max_new_tokens: as in ``generate``.
        options: the fields of ``GenerationConfig``.

    Yields:
        The new token of every row, ``(batch * num_return_sequences,)`` int64.

    Raises:
        ValueError: as ``generate``, or ``num_beams`` other than 1.
        TypeError: as ``generate``.
    """
    config = build_config(model, options)
    if config.num_beams != 1:
        raise ValueError(f"stream cannot use beam search: num_beams must be 1, got {config.num_beams}")
    if config.seed is not None and not 0 <= config.seed < 2**63:
        raise ValueError(f"seed must be at least 0 and below 2**63, got {config.seed}")
    state, stop = start_decoding(model, prompt, max_new_tokens, config)
    generator = None
    if config.seed is not None:
        generator = torch.Generator(state.tokens.device).manual_seed(config.seed)
    sampler = Sampler(config, generator=generator)
    return _stream_steps(state, sampler, stop, max_new_tokens, config.num_return_sequences)


@torch.no_grad()  # not inference_mode: a model may keep tensors made here, and later train with them
def _stream_steps(
    state: DecodingState, sampler: Sampler, stop: StopTokens, max_new_tokens: int, num_copies: int
) -> Generator[Tensor, None, None]:
    with eval_mode(state.model):
        for step in range(max_new_tokens):
            logits = state.prefill(num_copies) if step == 0 else state.next_token_logits()
            tokens = sampler(logits, state.tokens)
            state.append(tokens)
            yield stop(tokens)
            if stop.all_finished():
                return
