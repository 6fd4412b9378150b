"""Symbols with spaces between them, as sounds are written: ``HH AH0 L OW1``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from glassformer.files import atomic_write
from glassformer.tokenization.ids import check_ids
from glassformer.tokenization.labels import visible
from glassformer.tokenization.names import TOKENIZER_FILE

SPECIAL_SYMBOLS = ("<pad>", "</s>", "<unk>")


class SymbolTokenizer:
    """One token per symbol of a text that has spaces between its symbols.

    A word that is no symbol is read letter by letter, so that one vocabulary serves letters (``hello``) and
    sounds (``HH AH0 L OW1``). Ids are 0 for padding, 1 for the end, 2 for a letter that is no symbol, then
    the symbols in their order. ``decode`` puts one space between symbols, also those of a word, and leaves
    out padding and end.
    """

    pad_token, end_of_text, _unknown = range(3)
    mask_token = None

    def __init__(self, symbols: Sequence[str]) -> None:
        """Tokenizer over the given symbols.

        Raises:
            ValueError: a symbol that is empty, has a space in it, occurs twice, or is a special one.
        """
        for symbol in symbols:
            if not isinstance(symbol, str) or symbol.split() != [symbol] or symbol in SPECIAL_SYMBOLS:
                raise ValueError(
                    f"{symbol!r} is no symbol: one is a text without spaces, other than "
                    f"{', '.join(SPECIAL_SYMBOLS)}"
                )
        self.symbols = tuple(symbols)
        self._ids = {symbol: i for i, symbol in enumerate(symbols, start=len(SPECIAL_SYMBOLS))}
        if len(self._ids) < len(symbols):
            twice = next(symbol for i, symbol in enumerate(symbols, start=3) if self._ids[symbol] != i)
            raise ValueError(f"the symbol {twice!r} occurs twice")

    @classmethod
    def train(cls, texts: Iterable[str]) -> SymbolTokenizer:
        """The tokenizer over all symbols of the texts, sorted. The texts are read once.

        Raises:
            ValueError: the texts are empty.
        """
        symbols = {symbol for text in texts for symbol in text.split()}
        if not symbols:
            raise ValueError("a symbol tokenizer needs at least one symbol, got none")
        return cls(sorted(symbols - set(SPECIAL_SYMBOLS)))

    @property
    def vocab_size(self) -> int:
        """The number of symbols and special ones."""
        return len(self.symbols) + len(SPECIAL_SYMBOLS)

    def encode(self, text: str) -> list[int]:
        """The id of each symbol; of each letter, in a word that is no symbol.

        Raises:
            UnicodeEncodeError: the text has a lone surrogate, which is no letter.
        """
        return [self._ids.get(text[start:end], self._unknown) for start, end in self.spans(text)]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` of each text."""
        return [self.encode(text) for text in texts]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each symbol stands; each letter, in a word that is no symbol.

        Raises:
            UnicodeEncodeError: as ``encode``.
        """
        text.encode("utf-8")
        words = [match.span() for match in re.finditer(r"\S+", text)]
        return [
            span
            for start, end in words
            for span in ([(start, end)] if text[start:end] in self._ids else _letters(start, end))
        ]

    def add_marks(self, ids: Sequence[int], pair: Sequence[int] | None = None) -> list[int]:
        """The ids and the end; with a second text, its ids and the end once more."""
        second = [] if pair is None else [*pair, self.end_of_text]
        return [*ids, self.end_of_text, *second]

    def decode(self, ids: Sequence[int]) -> str:
        """The symbols of the ids with single spaces between them, without padding and end.

        Raises:
            ValueError: an id is not in ``range(vocab_size)``.
        """
        check_ids(ids, self.vocab_size)
        silent = (self.pad_token, self.end_of_text)
        return " ".join(self._symbol(token_id) for token_id in ids if token_id not in silent)

    def label(self, token_id: int) -> str:
        """One symbol for the eye."""
        check_ids([token_id], self.vocab_size)
        return visible(self._symbol(token_id).encode("utf-8"))

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        description = {"kind": "symbols", "symbols": self.symbols}
        atomic_write(Path(folder) / TOKENIZER_FILE, json.dumps(description))

    def _symbol(self, token_id: int) -> str:
        return (SPECIAL_SYMBOLS + self.symbols)[token_id]

    def __repr__(self) -> str:
        return f"SymbolTokenizer({len(self.symbols)} symbols)"


def _letters(start: int, end: int) -> list[tuple[int, int]]:
    return [(i, i + 1) for i in range(start, end)]
