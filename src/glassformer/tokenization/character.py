"""One token per character of a small alphabet, as char-rnn and nanoGPT read Shakespeare."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from glassformer.files import atomic_write
from glassformer.tokenization.ids import check_ids
from glassformer.tokenization.labels import visible
from glassformer.tokenization.marks import NoMarks
from glassformer.tokenization.names import TOKENIZER_FILE


class CharacterTokenizer(NoMarks):
    """The id of a character is its place among the sorted distinct characters.

    There is no end-of-text id and no id for an unknown character: such a character is an error.
    """

    end_of_text = None

    def __init__(self, characters: str) -> None:
        """Tokenizer over the given characters.

        Args:
            characters: the alphabet, in any order; repeats are dropped.

        Raises:
            ValueError: there are none.
        """
        if not characters:
            raise ValueError("a character tokenizer needs at least one character, got none")
        self.characters = "".join(sorted(set(characters)))
        self._ids = {character: i for i, character in enumerate(self.characters)}

    @classmethod
    def train(cls, texts: Iterable[str]) -> CharacterTokenizer:
        """The tokenizer over all characters of the texts, which are read once.

        Raises:
            ValueError: the texts are empty.
        """
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        return cls("".join(characters))

    @property
    def vocab_size(self) -> int:
        """The number of distinct characters."""
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """The id of each character.

        Raises:
            ValueError: a character that is not in the alphabet, with its offset.
        """
        try:
            return [self._ids[character] for character in text]
        except KeyError:
            offset, unknown = next((i, c) for i, c in enumerate(text) if c not in self._ids)
            raise ValueError(
                f"character {unknown!r} at offset {offset} is not among the {self.vocab_size} characters "
                "that this tokenizer knows"
            ) from None

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` of each text."""
        return [self.encode(text) for text in texts]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Each character covers itself.

        Raises:
            ValueError: as ``encode``.
        """
        return [(i, i + 1) for i in range(len(self.encode(text)))]

    def decode(self, ids: Sequence[int]) -> str:
        """The characters of the ids.

        Raises:
            ValueError: an id is not in ``range(vocab_size)``.
        """
        check_ids(ids, self.vocab_size)
        return "".join(self.characters[token_id] for token_id in ids)

    def label(self, token_id: int) -> str:
        """One character for the eye: ``·`` for a space, ``↵`` for a newline."""
        check_ids([token_id], self.vocab_size)
        return visible(self.characters[token_id].encode("utf-8", errors="surrogatepass"))

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        description = {"kind": "character", "characters": self.characters}
        atomic_write(Path(folder) / TOKENIZER_FILE, json.dumps(description))

    def __repr__(self) -> str:
        return f"CharacterTokenizer({self.characters!r})"
