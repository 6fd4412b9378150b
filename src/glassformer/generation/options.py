"""Options of text generation: the one place where each is declared and documented."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict, TypeVar

from torch import Tensor

OverflowPolicy = Literal["slide", "extend", "error"]
"""What to do beyond ``model.max_seq_len``; see ``generate``."""

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True, eq=False)
class GenerationConfig:
    """Options of text generation, which ``generate``, ``stream`` and ``beam_search`` take as keywords.

    Args:
        temperature: divides the logits; 0 always takes the most likely token (greedy decoding).
        top_k: sample from the ``top_k`` most likely tokens; None or 0 is off.
        top_p: sample from the smallest set of most likely tokens with at least this total probability, in
            (0, 1]; None or 1 is off.
        min_p: sample from tokens with at least ``min_p`` times the probability of the most likely token, in
            [0, 1]; None or 0 is off.
        repetition_penalty: divides positive logits of tokens that occur in the prompt or were generated, and
            multiplies negative ones; above 0, None or 1 is off. Options apply in the order repetition
            penalty, temperature, top-k, top-p, min-p.
        seed: makes sampling reproducible without changing PyTorch's global random state, which None uses.
        stop_tokens: ids that end a sequence; the stop token is part of the result. Default: the end-of-text
            tokens that came with a published model, ``model.stop_tokens``; no token if there are none.
        num_return_sequences: sequences for each prompt: independent samples, or the best beams, best first.
            The prompt is processed once.
        num_beams: number of beams; above 1 ``generate`` uses beam search, which does not sample: of the
            options above only the repetition penalty applies, and a temperature of 0 or 1 is allowed.
        length_penalty: for beam search: exponent of the length that divides the log-probability of a
            sequence. Above 0 favors longer sequences, below 0 shorter ones.
        early_stopping: for beam search: stop as soon as ``num_beams`` sequences have ended.
        attention_mask: for a prompt given as a tensor, of the same shape: 1 or True for a real token, with
            padding on the left. The ids of padding are ignored and come back unchanged.
        pad_id: id that fills a row of a tensor after its stop token; default: the padding token that came
            with a published model, or the first of ``stop_tokens``.
        use_cache: keep keys and values. Without a cache all tokens are processed again for each new one; the
            result is the same.
        overflow: ``"slide"``, ``"extend"`` or ``"error"``; default: depends on the position scheme (see
            ``generate``).
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop_tokens: Sequence[int] = ()
    num_return_sequences: int = 1
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool = False
    attention_mask: Tensor | None = None
    pad_id: int | None = None
    use_cache: bool = True
    overflow: OverflowPolicy | None = None


class GenerationOptions(TypedDict, total=False):
    """Types of the fields of ``GenerationConfig``, to annotate ``**options: Unpack[GenerationOptions]``."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | None
    stop_tokens: Sequence[int]
    num_return_sequences: int
    num_beams: int
    length_penalty: float
    early_stopping: bool
    attention_mask: Tensor | None
    pad_id: int | None
    use_cache: bool
    overflow: OverflowPolicy | None


def build_config(model: Any, options: Mapping[str, Any]) -> GenerationConfig:
    """Return the options, completed by those that come with the model (``model.generation_defaults()``)."""
    defaults = model.generation_defaults() if hasattr(model, "generation_defaults") else {}
    return GenerationConfig(**{**defaults, **options})


def documents_options(function: Function) -> Function:
    """Show the fields of ``GenerationConfig`` in the ``help`` of a function that takes ``**options``.

    In the signature they replace ``**options``, and in the docstring the one-line entry ``options:``.
    """
    signature = inspect.signature(function)
    explicit = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
        )
        for field in fields(GenerationConfig)
        if field.name not in signature.parameters
    ]
    function.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*explicit, *options]
    )
    descriptions = inspect.cleandoc(GenerationConfig.__doc__ or "").partition("Args:\n")[2]
    docstring = inspect.cleandoc(function.__doc__ or "")
    function.__doc__ = re.sub("(?m)^    options: .*$", lambda _: descriptions, docstring)
    return function
