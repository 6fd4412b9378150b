"""Character-level tokenizers: one token for each byte, or for each character of a small alphabet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from glassformer.tokenization.base import BaseTokenizer, check_ids, printable_label, write_tokenizer_file
from glassformer.tokenization.special_tokens import END_OF_TEXT


class ByteTokenizer(BaseTokenizer):
    """One token for each byte of UTF-8, with the byte's value as its id; id 256 is the end of a text.

    ``decode(encode(text)) == text`` for any text.
    """

    vocab_size = 257
    end_of_text = 256

    def encode(self, text: str) -> list[int]:
        """Return the bytes of the text in UTF-8."""
        return list(text.encode("utf-8"))

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return for each byte the character that it belongs to, as ``(start, end)``."""
        return [(i, i + 1) for i, character in enumerate(text) for _ in character.encode("utf-8")]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the bytes; invalid UTF-8 becomes U+FFFD.

        Raises:
            ValueError: an id is not in ``range(257)``.
        """
        check_ids(ids, self.vocab_size)
        return b"".join(self._bytes(token_id) for token_id in ids).decode("utf-8", errors="replace")

    def label(self, token_id: int) -> str:
        r"""Return a printable label: ``a``, ``·`` for a space, ``\xe2`` for a part of a character."""
        check_ids([token_id], self.vocab_size)
        return printable_label(self._bytes(token_id))

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        write_tokenizer_file(folder, {"kind": "byte"})

    def _bytes(self, token_id: int) -> bytes:
        return END_OF_TEXT.encode() if token_id == self.end_of_text else bytes([token_id])

    def __repr__(self) -> str:
        return "ByteTokenizer()"


class CharacterTokenizer(BaseTokenizer):
    """One token for each character, with the character's rank in the sorted alphabet as its id.

    There is no end-of-text token and no unknown token: encoding a character outside the alphabet raises.

    Args:
        characters: the alphabet, in any order; repeated characters count once.

    Raises:
        ValueError: the alphabet is empty.
    """

    def __init__(self, characters: str) -> None:
        if not characters:
            raise ValueError("a character tokenizer needs at least one character, got none")
        self.characters = "".join(sorted(set(characters)))
        self.vocab_size = len(self.characters)
        self._ids = {character: i for i, character in enumerate(self.characters)}

    @classmethod
    def train(cls, texts: Iterable[str]) -> CharacterTokenizer:
        """Build the alphabet from all characters of the texts, which are read once.

        Raises:
            ValueError: all texts are empty.
        """
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        return cls("".join(characters))

    def encode(self, text: str) -> list[int]:
        """Return the id of each character.

        Raises:
            ValueError: a character is not in the alphabet; the message gives its offset.
        """
        try:
            return [self._ids[character] for character in text]
        except KeyError:
            offset, unknown = next((i, c) for i, c in enumerate(text) if c not in self._ids)
            raise ValueError(
                f"character {unknown!r} at offset {offset} is not among the {self.vocab_size} characters "
                "that this tokenizer knows"
            ) from None

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return ``(i, i + 1)`` for each character.

        Raises:
            ValueError: a character is not in the alphabet.
        """
        return [(i, i + 1) for i in range(len(self.encode(text)))]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the characters of the ids.

        Raises:
            ValueError: an id is not in ``range(vocab_size)``.
        """
        check_ids(ids, self.vocab_size)
        return "".join(self.characters[token_id] for token_id in ids)

    def label(self, token_id: int) -> str:
        """Return a printable label: ``·`` for a space, ``↵`` for a newline."""
        check_ids([token_id], self.vocab_size)
        return printable_label(self.characters[token_id].encode("utf-8", errors="surrogatepass"))

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        write_tokenizer_file(folder, {"kind": "character", "characters": self.characters})

    def __repr__(self) -> str:
        return f"CharacterTokenizer({self.characters!r})"
