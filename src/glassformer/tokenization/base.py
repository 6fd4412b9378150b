"""Base class of tokenizers, their file names, token labels, and padding."""

from __future__ import annotations

import json
import re
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from glassformer.contracts import Tokenizer
from glassformer.files import atomic_write

TOKENIZER_FILE = "tokenizer.json"
"""The file that a tokenizer is saved in."""

TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
"""An optional file beside it that names the special tokens."""


class BaseTokenizer:
    """Defaults of ``contracts.Tokenizer``: no special tokens, and batches encoded one text at a time."""

    vocab_size: int
    end_of_text: int | None = None
    pad_token: int | None = None
    mask_token: int | None = None
    parse_special_tokens: bool | None = None
    """Whether special tokens that a text spells out are special, in ``encode_typed_text``. Default: only
    masks, for models that predict them."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens around it."""
        raise NotImplementedError

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode each text."""
        return [self.encode(text) for text in texts]

    def add_special_tokens(self, ids: Sequence[int], pair: Sequence[int] | None = None) -> list[int]:
        """Return the ids unchanged, followed by those of the second text if there is one."""
        return [*ids, *(pair or ())]

    def add_marks(self, ids: Sequence[int], pair: Sequence[int] | None = None) -> list[int]:
        """Deprecated name of ``add_special_tokens``."""
        warnings.warn(
            "Tokenizer.add_marks is now called add_special_tokens", DeprecationWarning, stacklevel=2
        )
        return self.add_special_tokens(ids, pair)


def check_ids(ids: Sequence[int], vocab_size: int) -> None:
    """Raise ValueError if an id is not in ``range(vocab_size)``, naming the first one and its position."""
    if len(ids) == 0 or (min(ids) >= 0 and max(ids) < vocab_size):
        return
    position, bad = next((i, t) for i, t in enumerate(ids) if not 0 <= t < vocab_size)
    raise ValueError(
        f"token id {bad} at position {position} is not in the vocabulary: ids are 0 to {vocab_size - 1}"
    )


def check_vocabulary(vocabulary: Mapping[str, Any]) -> None:
    """Check the ids of a vocabulary that was read from a file, before anything is built from it.

    Some published vocabularies leave ids out, so an id may exceed the number of tokens, but not twice that
    number.

    Raises:
        ValueError: an id that is not an integer of at least 0, or too large.
    """
    limit = 2 * len(vocabulary)
    for token, token_id in vocabulary.items():
        if type(token_id) is not int or not 0 <= token_id < limit:
            raise ValueError(
                f"the token {token!r} has id {token_id!r}, but the ids of {len(vocabulary)} tokens must be "
                f"integers from 0 to {limit - 1}"
            )


@contextmanager
def library_errors(action: str) -> Iterator[None]:
    """Turn what the `tokenizers` library raises into a ValueError saying that it cannot do ``action``.

    It raises bare exceptions, and Rust panics, whose class has no public name and is not an ``Exception``.
    """
    try:
        yield
    except (ValueError, OSError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"the tokenizers library cannot {action} ({error})") from None


def write_tokenizer_file(folder: Path, description: Mapping[str, Any]) -> None:
    """Write ``tokenizer.json`` for a tokenizer that is not one of the `tokenizers` library."""
    atomic_write(Path(folder) / TOKENIZER_FILE, json.dumps(description))


_SYMBOLS = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍"}
_DOTTED_CIRCLE = "◌"  # Unicode's base for a combining character that stands alone


def token_label(tokenizer: Tokenizer | None, token_id: int, names: Mapping[int, str] | None = None) -> str:
    """Return the label of a token for tables and figures.

    Args:
        tokenizer: the tokenizer of the model, or None.
        token_id: an id of the model's vocabulary, which may be larger than the tokenizer's.
        names: names by id, such as ``{0: "⟨start⟩"}``, for tokens that decode to a control character.

    Returns:
        The name, or else ``tokenizer.label(token_id)``. Without a tokenizer, or for an id that the tokenizer
        does not have, the id itself.
    """
    if tokenizer is None or token_id >= tokenizer.vocab_size:
        return str(token_id)
    if names and token_id in names and not tokenizer.decode([token_id]).isprintable():
        return names[token_id]
    return tokenizer.label(token_id)


def printable_label(token: bytes) -> str:
    r"""Return a printable, nonempty label for the bytes of a token.

    A space becomes ``·``, a newline ``↵``, a tab ``⇥`` and a carriage return ``␍``; other unprintable
    characters and bytes that are not UTF-8 are escaped (``\xe2``). A combining character at the start is
    drawn on a dotted circle, a middle dot at the start or end is written ``\xb7`` because it would look like
    a space, and the empty token is ``∅``.
    """
    text = token.decode("utf-8", errors="backslashreplace")
    text = re.sub("^[ ·]+|[ ·]+$", lambda end: end[0].replace("·", r"\xb7"), text)
    label = "".join(_printable(character) for character in text)
    if label and unicodedata.combining(label[0]):
        label = _DOTTED_CIRCLE + label
    return label or "∅"


def _printable(character: str) -> str:
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def safe_decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Decode ids, with U+FFFD for each id that the tokenizer does not have.

    Published models often have a larger vocabulary than their tokenizer and may generate such ids.
    """
    runs = groupby(ids, lambda token: token < tokenizer.vocab_size)
    return "".join(tokenizer.decode(list(run)) if known else "\ufffd" * len(list(run)) for known, run in runs)


def pad_sequences(
    rows: Sequence[Sequence[int]],
    value: int = 0,
    *,
    side: Literal["left", "right"] = "right",
    length: int | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Pad sequences to one length.

    Args:
        rows: one sequence of integers for each row, at least one row.
        value: the padding value.
        side: where to pad.
        length: of the result. Default: that of the longest row.
        device: device of the result.

    Returns:
        An int64 tensor ``(row, seq)``.
    """
    length = max(map(len, rows)) if length is None else length
    padding = [[value] * (length - len(row)) for row in rows]
    if side == "left":
        padded = [[*pad, *row] for row, pad in zip(rows, padding, strict=True)]
    else:
        padded = [[*row, *pad] for row, pad in zip(rows, padding, strict=True)]
    return torch.tensor(padded, dtype=torch.long, device=device)


def padding_mask(
    rows: Sequence[Sequence[int]],
    *,
    side: Literal["left", "right"] = "right",
    device: torch.device | str | None = None,
) -> Tensor:
    """Return the attention mask of ``pad_sequences``: boolean ``(row, seq)``, False for padding."""
    lengths = torch.tensor([len(row) for row in rows], device=device)[:, None]
    columns = torch.arange(int(lengths.max()), device=device)
    return columns < lengths if side == "right" else columns >= len(columns) - lengths
