"""One token per byte of UTF-8: nothing to train, nothing unknown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from glassformer.files import atomic_write
from glassformer.tokenization.ids import check_ids
from glassformer.tokenization.labels import visible
from glassformer.tokenization.marks import NoMarks
from glassformer.tokenization.names import END_OF_TEXT, TOKENIZER_FILE


class ByteTokenizer(NoMarks):
    """The id of a byte is its value; id 256 ends a text. ``decode(encode(text)) == text`` for any text."""

    vocab_size = 257
    end_of_text = 256

    def encode(self, text: str) -> list[int]:
        """The bytes of the text in UTF-8."""
        return list(text.encode("utf-8"))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` of each text."""
        return [self.encode(text) for text in texts]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """For each byte the character that it is, or is a part of."""
        return [(i, i + 1) for i, character in enumerate(text) for _ in character.encode("utf-8")]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the bytes; what is no UTF-8 becomes U+FFFD.

        Raises:
            ValueError: an id is not in ``range(257)``.
        """
        check_ids(ids, self.vocab_size)
        return b"".join(self._bytes(token_id) for token_id in ids).decode("utf-8", errors="replace")

    def label(self, token_id: int) -> str:
        r"""One byte for the eye: ``a``, ``·`` for a space, ``\xe2`` for a part of a character."""
        check_ids([token_id], self.vocab_size)
        return visible(self._bytes(token_id))

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        atomic_write(Path(folder) / TOKENIZER_FILE, json.dumps({"kind": "byte"}))

    def _bytes(self, token_id: int) -> bytes:
        return END_OF_TEXT.encode() if token_id == self.end_of_text else bytes([token_id])

    def __repr__(self) -> str:
        return "ByteTokenizer()"
