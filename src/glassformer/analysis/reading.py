"""What a model reads when it is shown a text: ids, a label for each, and what had to be done to it.

Marks that a model wants around a text (BERT's [CLS] and [SEP], T5's end, a Llama's beginning) are put there
by its tokenizer; ids are read as they are given.
"""

from __future__ import annotations

import operator
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

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


def read(model: TransformerModel, text: str | Sequence[int], longest: int | None = None) -> Reading:
    """Turn a text, or ids, into what the model reads.

    A text gets the marks that the tokenizer adds around one. One that is longer than the model's
    ``max_seq_len`` is cut at its end, before the marks; the notes say so.

    Args:
        model: with a tokenizer, or with a vocabulary that has room for bytes.
        text: a text, or token ids.
        longest: cut to so many tokens, where the model would read more.

    Raises:
        ValueError: an empty text, an id out of range, or a model that cannot read text.
        TypeError: neither a text nor whole numbers, or a model that reads no tokens.
    """
    if "vocab_size" not in model.config:
        raise TypeError(f"a {type(model).__name__} reads no text: give it an image")
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
    add_marks = marks_of(model, tokenizer) if isinstance(text, str) else list
    length = len(add_marks(ids))
    whose = "the model's " if longest is None or longest >= limit else ""
    limit = limit if longest is None else min(limit, longest)
    if length > limit:
        notes.append(f"cut to {whose}{limit} tokens of {length}")
        ids = ids[: max(0, limit - (length - len(ids)))]
    ids = add_marks(ids)
    labels = [_label(tokenizer, token) for token in ids]
    delimiters = [_is_delimiter(tokenizer, token) for token in ids]
    return Reading(ids, labels, delimiters, tuple(notes))


@runtime_checkable
class EncoderDecoder(Protocol):
    """A model that reads a source and writes a target."""

    start_token: int
    end_token: int

    def encode(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        """The source as the decoder reads it."""
        ...

    def generate(self, input_ids: list[int], max_new_tokens: int, **options: Any) -> list[int]:
        """The target, without ``start_token``."""
        ...


@dataclass(frozen=True)
class Pair:
    """A source, and the target as the decoder reads and writes it: one token further in each place."""

    source: Reading
    target: Reading
    """What the decoder reads: a start, then the target without its last token."""
    written: Reading
    """What it is to write, having read as much: the target."""


LONGEST_TARGET = 64
"""Tokens that a model is asked to write where no target is given."""


def read_pair(
    model: TransformerModel, text: str | Sequence[int], target: str | Sequence[int] | None = None
) -> Pair:
    """Turn a source and a target into what an encoder-decoder reads and writes.

    Args:
        model: an encoder-decoder; else as ``read``.
        text: the source: a text, or token ids.
        target: a text, or token ids without the start; by default what the model itself writes, taking the
            likeliest token each time.

    Raises:
        ValueError: as ``read``.
        TypeError: as ``read``, or a model that is no encoder-decoder.
    """
    if not isinstance(model, EncoderDecoder):
        raise TypeError(f"a {type(model).__name__} reads one text, and no target beside it")
    source, notes = read(model, text), []
    if target is None:
        room = min(LONGEST_TARGET, int(model.config["max_seq_len"]))
        target = model.generate(source.ids, room, temperature=0)
        notes = ["the target is what the model writes"]
    written = read(model, target)
    written = replace(written, notes=(*notes, *(f"target {note}" for note in written.notes)))
    start = read(model, [model.start_token])
    begun = Reading(
        [*start.ids, *written.ids[:-1]],
        [*start.labels, *written.labels[:-1]],
        [*start.is_delimiter, *written.is_delimiter[:-1]],
        written.notes,
    )
    return Pair(source, begun, written)


def marks_of(model: TransformerModel, tokenizer: Tokenizer | None) -> Callable[[list[int]], list[int]]:
    """What is put around a text: an encoder-decoder's texts end with its mark, whatever the tokenizer."""
    if isinstance(model, EncoderDecoder):
        return lambda ids: [*ids, model.end_token]
    return list if tokenizer is None else tokenizer.add_marks


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
            "set model.tokenizer, put its tokenizer.json into the model's folder, or pass token ids"
        )
    return ByteTokenizer()


def _label(tokenizer: Tokenizer | None, token: int) -> str:
    """The token for the eye; its number where there is no tokenizer, or none that knows it."""
    return str(token) if tokenizer is None or token >= tokenizer.vocab_size else tokenizer.label(token)


def _is_delimiter(tokenizer: Tokenizer | None, token: int) -> bool:
    """Punctuation or white space with at least one mark or line's end; or the document's end."""
    if tokenizer is None or token >= tokenizer.vocab_size:
        return False
    if token == tokenizer.end_of_text:
        return True
    text = tokenizer.decode([token])
    marks = [char for char in text if char == "\n" or unicodedata.category(char).startswith("P")]
    return bool(marks) and all(char in marks or char.isspace() for char in text)
