"""Tokenizer for symbols separated by spaces, such as phonemes: ``HH AH0 L OW1``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from glassformer.terminal import count_of
from glassformer.tokenization.base import BaseTokenizer, check_ids, printable_label, write_tokenizer_file

SPECIAL_SYMBOLS = ("<pad>", "</s>", "<unk>")
"""The special tokens, with ids 0, 1 and 2."""


class SymbolTokenizer(BaseTokenizer):
    """One token for each symbol of a text whose symbols are separated by white space.

    A word that is not a symbol is split into letters, so that one vocabulary serves spelling (``hello``) and
    pronunciation (``HH AH0 L OW1``). The special tokens have ids 0 (padding), 1 (end) and 2 (unknown letter);
    the symbols follow in the given order. ``decode`` puts one space between all tokens, and omits padding and
    end.

    Args:
        symbols: the vocabulary.

    Raises:
        ValueError: a symbol is empty, contains white space, is repeated, or is a special token.
    """

    pad_token, end_of_text, _unknown = range(3)

    def __init__(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            if not isinstance(symbol, str) or symbol.split() != [symbol] or symbol in SPECIAL_SYMBOLS:
                raise ValueError(
                    f"a symbol must be a nonempty string without white space other than "
                    f"{', '.join(SPECIAL_SYMBOLS)}, got {symbol!r}"
                )
        self.symbols = tuple(symbols)
        self.vocab_size = len(SPECIAL_SYMBOLS) + len(self.symbols)
        self._ids = {symbol: i for i, symbol in enumerate(symbols, start=len(SPECIAL_SYMBOLS))}
        if len(self._ids) < len(symbols):
            repeated = next(symbol for i, symbol in enumerate(symbols, start=3) if self._ids[symbol] != i)
            raise ValueError(f"symbols must be distinct, got {repeated!r} twice")

    @classmethod
    def train(cls, texts: Iterable[str]) -> SymbolTokenizer:
        """Build the vocabulary from all symbols of the texts, sorted. The texts are read once.

        Raises:
            ValueError: all texts are empty.
        """
        symbols = {symbol for text in texts for symbol in text.split()}
        if not symbols:
            raise ValueError("a symbol tokenizer needs at least one symbol, got none")
        return cls(sorted(symbols - set(SPECIAL_SYMBOLS)))

    def encode(self, text: str) -> list[int]:
        """Return the id of each symbol, and of each letter of a word that is not a symbol.

        Raises:
            UnicodeEncodeError: the text has a lone surrogate.
        """
        return [self._ids.get(text[start:end], self._unknown) for start, end in self.spans(text)]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return ``(start, end)`` of each symbol, and of each letter of a word that is not a symbol.

        Raises:
            UnicodeEncodeError: the text has a lone surrogate.
        """
        text.encode("utf-8")
        words = [match.span() for match in re.finditer(r"\S+", text)]
        return [
            span
            for start, end in words
            for span in ([(start, end)] if text[start:end] in self._ids else _letters(start, end))
        ]

    def add_special_tokens(self, ids: Sequence[int], pair: Sequence[int] | None = None) -> list[int]:
        """Return ``ids </s>``, or ``ids </s> pair </s>``."""
        second = [] if pair is None else [*pair, self.end_of_text]
        return [*ids, self.end_of_text, *second]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the symbols of the ids separated by single spaces, without padding and end.

        Raises:
            ValueError: an id is not in ``range(vocab_size)``.
        """
        check_ids(ids, self.vocab_size)
        omitted = (self.pad_token, self.end_of_text)
        return " ".join(self._symbol(token_id) for token_id in ids if token_id not in omitted)

    def label(self, token_id: int) -> str:
        """Return the symbol, made printable."""
        check_ids([token_id], self.vocab_size)
        return printable_label(self._symbol(token_id).encode("utf-8"))

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        write_tokenizer_file(folder, {"kind": "symbols", "symbols": self.symbols})

    def _symbol(self, token_id: int) -> str:
        return (SPECIAL_SYMBOLS + self.symbols)[token_id]

    def __repr__(self) -> str:
        return f"SymbolTokenizer({count_of(len(self.symbols), 'symbol')})"


def _letters(start: int, end: int) -> list[tuple[int, int]]:
    return [(i, i + 1) for i in range(start, end)]
