"""What a model reads when it is shown a text: ids, a label for each, and what had to be done to it."""

from __future__ import annotations

import operator
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from glassformer.contracts import Tokenizer
from glassformer.models import TransformerModel
from glassformer.tokenization import ByteTokenizer


@dataclass(frozen=True)
class Reading:
    """A text as a model reads it."""

    ids: list[int]
    labels: list[str]
    """One for each id, never empty, spaces and newlines visible."""
    is_delimiter: list[bool]
    """Whether the token is punctuation, a line's end, or the end of a document."""
    notes: tuple[str, ...] = ()
    """What a reader of the result should know: that the text was cut, or read as bytes."""


def read(model: TransformerModel, text: str | Sequence[int]) -> Reading:
    """Turn a text, or ids, into what the model reads.

    A text longer than the model's ``max_seq_len`` is cut at its end; the notes say so.

    Args:
        model: with a tokenizer, or with a vocabulary that has room for bytes.
        text: a text, or token ids.

    Raises:
        ValueError: an empty text, an id out of range, or a model that cannot read text.
        TypeError: neither a text nor whole numbers.
    """
    limit = int(model.config["max_seq_len"])
    vocab_size = int(model.config["vocab_size"])
    tokenizer, notes = model.tokenizer, []
    if isinstance(text, str):
        if tokenizer is None:
            tokenizer = _bytes_for(vocab_size)
            notes.append("read as bytes: the model has no tokenizer")
        ids = tokenizer.encode(text)
    else:
        ids = _whole_numbers(text)
    if not ids:
        raise ValueError("the text is empty: give at least one token")
    for position, token in enumerate(ids):
        if not 0 <= token < vocab_size:
            raise ValueError(f"token id {token} at position {position}: ids are 0 to {vocab_size - 1}")
    if len(ids) > limit:
        notes.append(f"cut to the model's {limit} tokens of {len(ids)}")
        ids = ids[:limit]
    labels = [str(token) if tokenizer is None else tokenizer.label(token) for token in ids]
    delimiters = [tokenizer is not None and _is_delimiter(tokenizer, token) for token in ids]
    return Reading(ids, labels, delimiters, tuple(notes))


def _whole_numbers(ids: Sequence[int]) -> list[int]:
    if not isinstance(ids, Iterable):
        raise TypeError(f"give a text or a sequence of token ids, not {ids!r}")
    numbers = []
    for position, token in enumerate(ids):
        try:
            numbers.append(operator.index(token))
        except TypeError:
            raise TypeError(f"token id {token!r} at position {position} is not a whole number") from None
    return numbers


def _bytes_for(vocab_size: int) -> Tokenizer:
    if vocab_size < 256:
        raise ValueError(
            f"the model has no tokenizer, and its vocabulary of {vocab_size} has no room for bytes: "
            "set model.tokenizer, or pass token ids"
        )
    return ByteTokenizer()


def _is_delimiter(tokenizer: Tokenizer, token: int) -> bool:
    """Punctuation or white space with at least one mark or line's end; or the document's end."""
    if token == tokenizer.end_of_text:
        return True
    text = tokenizer.decode([token])
    marks = [char for char in text if char == "\n" or unicodedata.category(char).startswith("P")]
    return bool(marks) and all(char in marks or char.isspace() for char in text)
