"""Which text is for training, which for validation, which for the last test."""

from __future__ import annotations

import hashlib
import itertools
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from glassformer.data.corpora import Document, Source, documents
from glassformer.data.pieces import pieces
from glassformer.data.progress import Progress, SilentProgress

SPLITS = ("train", "validation", "test")
DEFAULT_FRACTIONS = (0.9, 0.05, 0.05)
DIGEST_BYTES = 16


class Piece(NamedTuple):
    """A run of text of one document that belongs to one split."""

    split: str
    text: str
    begins: bool
    """Whether it is the first of its document in this split."""
    ends: bool
    """Whether the document ends here."""


class Corpus:
    """A source of text, read through once to know what is in it, and its splits.

    Whole documents go to a split: they are ranked by the hash of (seed, text), and the ranks are dealt out by
    the fractions. So the split depends neither on their order nor on their names, equal documents stay
    together, and no split that has a fraction is empty. With fewer documents than splits each document is cut
    by position: the first 90 % of its characters are for training, the next 5 % for validation, and so on.
    """

    def __init__(
        self,
        source: Source,
        fractions: Sequence[float] = DEFAULT_FRACTIONS,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        """Read the source through.

        Args:
            source: what ``documents`` takes.
            fractions: the shares of train, validation and test; they sum to 1, and a split of 0 stays empty.
            seed: another seed, another split of the documents.
            progress: told how many bytes were read.

        Raises:
            ValueError: fractions that are none, a source without any text, a file that is no text.
        """
        self.source: Source = source if isinstance(source, str | Path) else tuple(source)
        self.fractions = checked_fractions(fractions)
        self.seed = seed
        self.num_bytes = 0
        self._digests = bytearray()
        self._lengths = array("Q")  # in characters
        self._survey(progress or SilentProgress())
        self.num_documents = sum(length > 0 for length in self._lengths)
        self.by_position = self.num_documents < sum(fraction > 0 for fraction in self.fractions)
        self._split_of = None if self.by_position else self._deal()

    @property
    def digest(self) -> str:
        """A hash of all texts in their order, as hexadecimal digits."""
        return _digest(bytes(self._digests)).hexdigest()

    def texts(self, split: str) -> Iterator[str]:
        """The text of one split in pieces, as for training a tokenizer."""
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}; the splits are {', '.join(SPLITS)}")
        return (piece.text for piece in self.pieces() if piece.split == split)

    def pieces(self) -> Iterator[Piece]:
        """All text, in the order of the source, cut between words into pieces of bounded size.

        Raises:
            ValueError: the source is no longer what it was when this corpus was made.
        """
        index = -1
        for index, document in enumerate(documents(self.source)):
            if index == len(self._lengths):
                break
            yield from self._pieces_of(document, index)
        if index + 1 != len(self._lengths):
            raise ValueError(f"{_name(self.source)} changed while it was read: start again")

    def _survey(self, progress: Progress) -> None:
        """Note the hash and the length of each document."""
        for document in documents(self.source):
            digest, length = _digest(), 0
            for chunk in document.chunks():
                data = _utf8(chunk, document)
                digest.update(data)
                length += len(chunk)
                self.num_bytes += len(data)
                progress.update("reading", self.num_bytes, None)
            self._digests += digest.digest()
            self._lengths.append(length)
        if not self.num_bytes:
            raise ValueError(f"{_name(self.source)} is empty: there is no text in it")
        progress.update("reading", self.num_bytes, self.num_bytes)

    def _digest_of(self, index: int) -> bytes:
        return bytes(self._digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES])

    def _deal(self) -> npt.NDArray[np.int8]:
        """The split of each document, as an index into SPLITS."""
        salt = f"{self.seed} ".encode()
        hashes = np.array(
            [
                int.from_bytes(_digest(salt + self._digest_of(i)).digest()[:8])
                for i in range(len(self._lengths))
            ],
            dtype=np.uint64,
        )
        full = np.array(self._lengths) > 0
        ranked = np.sort(hashes[full])
        splits = np.zeros(len(hashes), dtype=np.int8)
        for end in ends_of_splits(self.fractions, len(ranked))[:-1]:
            if end < len(ranked):
                splits += hashes >= ranked[end]
        empty = [name for i, name in enumerate(SPLITS) if self.fractions[i] and not (splits[full] == i).any()]
        if empty:
            raise ValueError(
                f"no document is left for {' and '.join(empty)}: too many of the {len(ranked)} documents of "
                f"{_name(self.source)} have the same text, and equal documents stay in one split"
            )
        return splits

    def _parts(self, index: int) -> list[tuple[int, int]]:
        """Which split a document goes to up to which of its characters."""
        length = self._lengths[index]
        if self._split_of is not None:
            return [(int(self._split_of[index]), length)]
        return list(enumerate(int(length * share) for share in _cumulative(self.fractions)))

    def _pieces_of(self, document: Document, index: int) -> Iterator[Piece]:
        digest = _digest()

        def watched() -> Iterator[str]:
            for chunk in document.chunks():
                digest.update(_utf8(chunk, document))
                yield chunk

        length = self._lengths[index]
        position = 0
        for split, part in itertools.groupby(
            _divide(watched(), self._parts(index)), key=lambda item: item[0]
        ):
            begins = True
            for text in pieces(text for _, text in part):
                position += len(text)
                yield Piece(SPLITS[split], text, begins, ends=position == length)
                begins = False
        if digest.digest() != self._digest_of(index):
            raise ValueError(f"{_name(self.source)} changed while it was read ({document.name}): start again")


def _divide(chunks: Iterable[str], parts: Sequence[tuple[int, int]]) -> Iterator[tuple[int, str]]:
    """Cut chunks at the ends of the parts, and say of each bit to which split it belongs."""
    position = 0
    for chunk in chunks:
        begin = 0
        for split, end in parts:
            bit = chunk[begin : max(end - position, begin)]
            begin += len(bit)
            if bit:
                yield split, bit
        position += len(chunk)


def checked_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    """Three shares that make 1, or a ValueError that says what they are."""
    shares = tuple(float(fraction) for fraction in fractions)
    valid = len(shares) == 3 and shares[0] > 0 and min(shares) >= 0 and math.isclose(sum(shares), 1)
    if not valid:
        raise ValueError(
            f"fractions are {list(fractions)}; expected three shares of train, validation and test that are "
            "not negative and sum to 1, the first above 0, such as 0.9 0.05 0.05"
        )
    return shares[0], shares[1], shares[2]


def _cumulative(fractions: Sequence[float]) -> list[float]:
    """0.9, 0.95, 1: the sums so far, without the dust of floating point."""
    return [round(total, 9) for total in itertools.accumulate(fractions)]


def ends_of_splits(fractions: Sequence[float], count: int) -> list[int]:
    """Up to which rank each split goes: one document each, the others by the fractions."""
    filled = list(itertools.accumulate(fraction > 0 for fraction in fractions))
    others = count - filled[-1]
    return [n + round(share * others) for n, share in zip(filled, _cumulative(fractions), strict=True)]


def _digest(data: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES)


def _utf8(text: str, document: Document) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{document.name} has a lone surrogate, {text[error.start]!r}, which is no character: it cannot "
            "be written in UTF-8"
        ) from None


def _name(source: Source) -> str:
    return str(source) if isinstance(source, str | Path) else "the list of texts"
