"""What a page may ask: JSON read strictly, so that anything else is refused in one sentence."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from glassformer.choices import choose, suggestion

LONGEST_TEXT = 20_000
"""Characters."""
MOST_ENTRIES = 20_000
"""Of a list: tokens that were written, heads that are off."""
MOST_DIGITS = 20
"""Of a whole number."""
LARGEST_BODY = 512 * 1024
"""Bytes: the longest text with each character as two escapes, and room for the rest."""


@dataclass(frozen=True)
class Question:
    """A text, what the model wrote after it, the heads that are off, and how a token is drawn."""

    text: str
    written: tuple[int, ...] = ()
    """Token ids."""
    off: tuple[str, ...] = ()
    """LAYER.HEAD, or KIND:LAYER.HEAD."""
    how: str = "zero"
    """What stands for a head that is off: "zero" or "mean"."""
    temperature: float = 1.0
    top_k: int = 0
    analyses: bool = False
    """Whether an explorer page has logit lens, rollout and scores in parts, which take their time."""


def read_question(body: bytes) -> Question:
    """A question from the body of a request.

    Raises:
        ValueError: no JSON, a key that is unknown, missing or there twice, a value of another type or size.
    """
    try:
        found = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_without_repeats,
            parse_constant=_no_number,
            parse_int=_whole_number,
        )
    except UnicodeDecodeError:
        raise ValueError("the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("the body is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"the body must be a JSON object, not {_shown(found)}")
    known = [field.name for field in fields(Question)]
    for name in found:
        if name not in known:
            raise ValueError(
                f"unknown key {_shown(name)}{suggestion(name, known)} (keys: {', '.join(known)})"
            )
    if "text" not in found:
        raise ValueError('the key "text" is missing')
    return Question(**{name: CHECKS[name](value) for name, value in found.items()})


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"text must be a string, not {_shown(value)}")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"text has {len(value):,} characters: {LONGEST_TEXT:,} are read at most")
    half = re.search("[\ud800-\udfff]", value)
    if half:
        raise ValueError(f"text has half a character at {half.start()}: the surrogate {half[0]!a} alone")
    return value


def _written(value: Any) -> tuple[int, ...]:
    ids = _list(value, "written")
    for token in ids:
        if type(token) is not int or not 0 <= token < 2**31:
            raise ValueError(f"written must hold token ids, not {_shown(token)}")
    return tuple(ids)


def _off(value: Any) -> tuple[str, ...]:
    heads = _list(value, "off")
    for head in heads:
        if not isinstance(head, str) or len(head) > 40:
            raise ValueError(f'off must hold heads such as "4.7", not {_shown(head)}')
    return tuple(heads)


def _how(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f'how must be "zero" or "mean", not {_shown(value)}')
    return choose({"zero": "zero", "mean": "mean"}, value[:40], "replacement of a head")


def _temperature(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 100:
        raise ValueError(f"temperature must be a number from 0 to 100, not {_shown(value)}")
    return float(value)


def _top_k(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError(f"top_k must be a whole number, 0 or above, not {_shown(value)}")
    return value


def _analyses(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"analyses must be true or false, not {_shown(value)}")
    return value


CHECKS: dict[str, Callable[[Any], Any]] = {
    "text": _text,
    "written": _written,
    "off": _off,
    "how": _how,
    "temperature": _temperature,
    "top_k": _top_k,
    "analyses": _analyses,
}


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list, not {_shown(value)}")
    if len(value) > MOST_ENTRIES:
        raise ValueError(f"{name} has {len(value):,} entries: {MOST_ENTRIES:,} are read at most")
    return value


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {_shown(twice)} is there twice")
    return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def _whole_number(word: str) -> int:
    if len(word) > MOST_DIGITS:
        raise ValueError(f"a number has {len(word):,} digits: {MOST_DIGITS} are read at most")
    return int(word)


def _shown(value: Any) -> str:
    """A value, shortened."""
    return reprlib.repr(value)
