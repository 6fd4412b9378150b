"""Strict JSON schema of the requests that the page sends."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from glassformer.choices import choose, suggestion

MAX_CHARACTERS = 20_000
"""Length of the text."""
MAX_ITEMS = 20_000
"""Length of a list: generated tokens, ablated heads."""
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
    analyses: bool = False
    """Whether an explorer page includes the slow analyses: logit lens, rollout, score decomposition."""


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
    return PredictionRequest(**{key: VALIDATORS[key](value) for key, value in values.items()})


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"text must be a string, got {_short(value)}")
    if len(value) > MAX_CHARACTERS:
        raise ValueError(f"text must have at most {MAX_CHARACTERS:,} characters, got {len(value):,}")
    surrogate = re.search("[\ud800-\udfff]", value)
    if surrogate:
        raise ValueError(f"text has an unpaired surrogate {surrogate[0]!a} at character {surrogate.start()}")
    return value


def _generated(value: Any) -> tuple[int, ...]:
    ids = _list(value, "generated")
    for token in ids:
        if type(token) is not int or not 0 <= token < 2**31:
            raise ValueError(f"generated must be a list of token ids, got {_short(token)} in it")
    return tuple(ids)


def _ablated_heads(value: Any) -> tuple[str, ...]:
    heads = _list(value, "ablated_heads")
    for head in heads:
        if not isinstance(head, str) or len(head) > 40:
            raise ValueError(f'ablated_heads must be a list of heads such as "4.7", got {_short(head)} in it')
    return tuple(heads)


def _ablation(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f'ablation must be "zero" or "mean", got {_short(value)}')
    return choose({"zero": "zero", "mean": "mean"}, value[:40], "ablation")


def _temperature(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 100:
        raise ValueError(f"temperature must be a number from 0 to 100, got {_short(value)}")
    return float(value)


def _top_k(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError(f"top_k must be an integer of at least 0, got {_short(value)}")
    return value


def _analyses(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"analyses must be true or false, got {_short(value)}")
    return value


VALIDATORS: dict[str, Callable[[Any], Any]] = {
    "text": _text,
    "generated": _generated,
    "ablated_heads": _ablated_heads,
    "ablation": _ablation,
    "temperature": _temperature,
    "top_k": _top_k,
    "analyses": _analyses,
}


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list, got {_short(value)}")
    if len(value) > MAX_ITEMS:
        raise ValueError(f"{name} must have at most {MAX_ITEMS:,} items, got {len(value):,}")
    return value


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
