"""Generation as it happens: one step, one token a row."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TypedDict

import torch
from torch import Tensor, nn

from glassformer.contracts import LanguageModel
from glassformer.generation.context import Context, Overflow, check_room, overflow_policy
from glassformer.generation.prompts import Prompt, check_sequences, read_prompt
from glassformer.generation.sampling import Sampler
from glassformer.generation.stopping import StopRule


class SamplingOptions(TypedDict, total=False):
    """The keywords that say how a token is drawn."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    seed: int | None


class CommonOptions(TypedDict, total=False):
    """The keywords that every way of generating has."""

    repetition_penalty: float | None
    stop_tokens: Sequence[int]
    num_return_sequences: int
    attention_mask: Tensor | None
    pad_id: int | None
    use_cache: bool
    overflow: Overflow | None


class GenerationOptions(SamplingOptions, CommonOptions, total=False):
    """The keywords of ``stream``, for functions that only pass them on."""


def stream(
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
) -> Generator[Tensor, None, None]:
    """Yield the new token of every row, ``(batch * num_return_sequences,)`` int64, as soon as it is known.

    Arguments and errors are those of ``generate``; errors come at the call, not at the first token. A row
    that has met a stop token goes on as ``pad_id``; the stream ends with the last row. The model is in
    evaluation mode from the first token until the stream ends or is closed; then every module is back in its
    own mode.
    """
    if seed is not None and not 0 <= seed < 2**63:
        raise ValueError(f"seed must be at least 0 and below 2**63, got {seed}")
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
    sampler = Sampler(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        generator=None if seed is None else torch.Generator(context.tokens.device).manual_seed(seed),
    )
    return _steps(context, sampler, stop, max_new_tokens, num_return_sequences)


def open_context(
    model: LanguageModel,
    prompt: Prompt,
    max_new_tokens: int,
    *,
    stop_tokens: Sequence[int],
    num_return_sequences: int,
    attention_mask: Tensor | None,
    pad_id: int | None,
    use_cache: bool,
    overflow: Overflow | None,
) -> tuple[Context, StopRule]:
    """What every way of generating begins with: prompts read and checked, and the rule that ends rows.

    Arguments and errors are those of ``generate``.
    """
    if not isinstance(max_new_tokens, int):
        raise TypeError(f"max_new_tokens must be a whole number, got {max_new_tokens!r}")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be 0 or above, got {max_new_tokens}")
    check_sequences(prompt, num_return_sequences)
    batch = read_prompt(prompt, attention_mask, model.vocab_size).to(_device(model, prompt))
    stop = StopRule(stop_tokens, pad_id, model.vocab_size, batch.ids.device)
    policy = overflow_policy(model, overflow)
    if policy == "error":
        check_room(batch, max_new_tokens, model.max_seq_len)
    return Context(model, batch, max_new_tokens, slides=policy == "slide", use_cache=use_cache), stop


@torch.no_grad()  # not inference_mode: its tensors, in tables that a model keeps, would break later training
def _steps(
    context: Context, sampler: Sampler, stop: StopRule, max_new_tokens: int, copies: int
) -> Generator[Tensor, None, None]:
    with evaluating(context.model):
        for step in range(max_new_tokens):
            logits = context.next_token_logits()
            if step == 0:
                check_numbers(logits)
                logits = logits.repeat_interleave(copies, dim=0)  # a prompt is read once, whatever the copies
                context.repeat(copies)
            tokens = sampler(logits, context.tokens)
            context.append(tokens)
            yield stop(tokens)
            if stop.all_finished():
                return


def check_numbers(logits: Tensor) -> None:
    """Refuse a model that is broken.

    Raises:
        ValueError: NaN among its first logits.
    """
    if logits.isnan().any():
        raise ValueError("the model's logits are NaN after the prompt: its weights are broken or diverged")


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """The model in evaluation mode; afterwards every module is back in the mode that it had."""
    if not isinstance(model, nn.Module):
        yield
        return
    in_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in in_training:
            module.training = True


def _device(model: LanguageModel, prompt: Prompt) -> torch.device:
    """Where the model is; a model without parameters goes where the prompt is."""
    home = torch.tensor(()) if not isinstance(prompt, Tensor) else prompt
    return next(model.parameters(), home).device if isinstance(model, nn.Module) else home.device
