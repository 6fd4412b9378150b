"""The texts that a vocabulary is learned from: read once, and refused if there is nothing in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import tokenizers
from tokenizers import trainers


def train(tokenizer: tokenizers.Tokenizer, texts: Iterable[str], trainer: trainers.Trainer) -> None:
    """Let a tokenizer of the `tokenizers` library learn its vocabulary from texts.

    Raises:
        ValueError: every text is empty.
    """
    seen = _Seen(texts)
    tokenizer.train_from_iterator(seen, trainer=trainer)
    if not seen.characters:
        raise ValueError("there is no text to train a tokenizer on: every text is empty")


class _Seen:
    """An iterable that counts the characters that went by."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.characters = 0
        self._texts = texts

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.characters += len(text)
            yield text
