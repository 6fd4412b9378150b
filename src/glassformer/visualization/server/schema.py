"""Strict JSON schema of the requests that the page sends."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NoReturn

from glassformer.choices import choose, suggestion

MAX_CHARACTERS = 20_000
"""Length of the text."""
MAX_ITEMS = 20_000
"""Length of a list: generated or wanted tokens, ablated heads."""
MAX_DIGITS = 20
"""Digits of an integer."""
MAX_BODY_BYTES = 512 * 1024
"""Room for the longest text with every character escaped as a surrogate pair, and for the other keys."""


@dataclass(frozen=True)
class PredictionRequest:
    """A text, the tokens generated after it, the ablated heads, and the sampling options."""

    text: str
    generated: tuple[int, ...] = ()
    """Token ids."""
    ablated_heads: tuple[str, ...] = ()
    """``LAYER.HEAD``, or ``KIND:LAYER.HEAD`` for a model with several kinds of attention."""
    ablation: str = "zero"
    """Replacement of the output of an ablated head: ``"zero"`` or ``"mean"``."""
    temperature: float = 1.0
    top_k: int = 0
    tokens: tuple[int, ...] = ()
    """Ids of tokens whose probabilities are wanted whether they are among the most probable or not."""
    chat: bool = False
    """Whether the text is a message of the user, to be put into the model's chat template."""
    attention: bool = False
    """Whether predictions come with the attention, from the same forward pass."""
    analyses: bool = False
    """Whether attention comes with the slow analyses: logit lens, rollout, score decomposition, vectors."""


def parse_request(body: bytes) -> PredictionRequest:
    """Parse and validate the body of a request.

    Raises:
        ValueError: not JSON, an unknown, missing or repeated key, or a value of the wrong type or size.
    """
    try:
        values = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_reject_constant,
            parse_int=_parse_int,
        )
    except UnicodeDecodeError:
        raise ValueError("the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("the body is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError(f"the body must be a JSON object, got {_short(values)}")
    keys = [field.name for field in fields(PredictionRequest)]
    for key in values:
        if key not in keys:
            raise ValueError(f"unknown key {_short(key)}{suggestion(key, keys)} (keys: {', '.join(keys)})")
    if "text" not in values:
        raise ValueError('the key "text" is missing')
    return _validate(PredictionRequest(**values))


def _validate(request: PredictionRequest) -> PredictionRequest:
    """Check the types and sizes of values that come from JSON."""
    text = request.text
    _check(isinstance(text, str), "text must be a string", text)
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"text must have at most {MAX_CHARACTERS:,} characters, got {len(text):,}")
    surrogate = re.search("[\ud800-\udfff]", text)
    if surrogate:
        raise ValueError(f"text has an unpaired surrogate {surrogate[0]!a} at character {surrogate.start()}")
    for name in ("generated", "tokens"):
        for token in _check_list(getattr(request, name), name):
            valid = type(token) is int and 0 <= token < 2**31
            _check(valid, f"{name} must be a list of token ids", token, " in it")
    for head in _check_list(request.ablated_heads, "ablated_heads"):
        valid = isinstance(head, str) and len(head) <= 40
        _check(valid, 'ablated_heads must be a list of heads such as "4.7"', head, " in it")
    _check(isinstance(request.ablation, str), 'ablation must be "zero" or "mean"', request.ablation)
    choose({"zero": "zero", "mean": "mean"}, request.ablation[:40], "ablation")
    temperature, top_k = request.temperature, request.top_k
    valid = type(temperature) in (int, float) and 0 <= temperature <= 100
    _check(valid, "temperature must be a number from 0 to 100", temperature)
    _check(type(top_k) is int and 0 <= top_k < 2**31, "top_k must be an integer of at least 0", top_k)
    for name in ("chat", "attention", "analyses"):
        value = getattr(request, name)
        _check(isinstance(value, bool), f"{name} must be true or false", value)
    return replace(
        request,
        generated=tuple(request.generated),
        tokens=tuple(request.tokens),
        ablated_heads=tuple(request.ablated_heads),
        temperature=float(temperature),
    )


def _check(valid: bool, requirement: str, value: Any, where: str = "") -> None:
    if not valid:
        raise ValueError(f"{requirement}, got {_short(value)}{where}")


def _check_list(value: Any, name: str) -> Sequence[Any]:
    _check(isinstance(value, list | tuple), f"{name} must be a list", value)
    if len(value) > MAX_ITEMS:
        raise ValueError(f"{name} must have at most {MAX_ITEMS:,} items, got {len(value):,}")
    return value  # type: ignore[no-any-return]


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {_short(repeated)} is repeated")
    return values


def _reject_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")


def _parse_int(digits: str) -> int:
    # int() takes quadratic time, so its input must be short.
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer must have at most {MAX_DIGITS} digits, got {len(digits):,}")
    return int(digits)


def _short(value: Any) -> str:
    """Repr of a value, abbreviated."""
    return reprlib.repr(value)
