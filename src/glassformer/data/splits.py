"""Splitting texts and examples into training, validation and test."""

from __future__ import annotations

import hashlib
import itertools
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from glassformer.data.corpora import Document, Source, chunk_text, documents
from glassformer.data.progress import Progress, SilentProgress

SPLITS = ("train", "validation", "test")
DEFAULT_FRACTIONS = (0.9, 0.05, 0.05)
DIGEST_BYTES = 16

Item = TypeVar("Item")


def group_split(
    items: Sequence[Item], group: Callable[[Item], str], fractions: Sequence[float], seed: int = 0
) -> dict[str, list[Item]]:
    """Split items so that all items of a group are in the same split.

    Groups are ranked by the hash of ``(seed, group)`` and the ranks divided by the fractions, so the split
    does not depend on the order of the items.

    Args:
        items: what to split.
        group: returns the group of an item, such as the speech that a passage comes from.
        fractions: fractions of the groups in train, validation and test.
        seed: of the hash.

    Returns:
        The items of each split, in their order.

    Raises:
        ValueError: invalid fractions, or fewer groups than splits.
    """
    fractions = check_fractions(fractions)
    groups = sorted({group(item) for item in items})
    needed = sum(fraction > 0 for fraction in fractions)
    if len(groups) < needed:
        raise ValueError(f"{needed} splits need at least {needed} different examples, got {len(groups)}")
    hashes = (
        _hash64(hashlib.blake2b(f"{seed} {name}".encode("utf-8", "surrogatepass"), digest_size=8))
        for name in groups
    )
    split_of = dict(zip(groups, _split_by_rank(hashes, fractions), strict=True))
    splits: dict[str, list[Item]] = {split: [] for split in SPLITS}
    for item in items:
        splits[SPLITS[split_of[group(item)]]].append(item)
    return splits


class Chunk(NamedTuple):
    """A run of text of one document that belongs to one split."""

    split: str
    text: str
    is_first: bool
    """Whether it is the first chunk of its document in this split."""
    is_last: bool
    """Whether it is the last chunk of its document."""


class Corpus:
    """A source of text, read once to hash and measure its documents, and its splits.

    A split consists of whole documents: they are ranked by the hash of ``(seed, text)``, and the ranks are
    divided by the fractions. So the split depends neither on the order nor on the names of the documents,
    equal documents stay together, and every split with a fraction gets a document. If there are fewer
    documents than splits, each document is split by position: the first 90 % of its characters are for
    training, the next 5 % for validation, and so on.

    Args:
        source: what ``documents`` takes.
        fractions: of train, validation and test; they sum to 1, and a split of 0 is empty.
        seed: of the hash that ranks the documents.
        progress: receives the number of bytes read.

    Raises:
        ValueError: invalid fractions, a source without text, or a file that is not text.
    """

    def __init__(
        self,
        source: Source,
        fractions: Sequence[float] = DEFAULT_FRACTIONS,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.source: Source = source if isinstance(source, str | Path) else tuple(source)
        self.fractions = check_fractions(fractions)
        self.seed = seed
        self.num_bytes = 0
        self._digests = bytearray()
        self._lengths = array("Q")  # in characters
        self._measure(progress or SilentProgress())
        self.num_documents = sum(length > 0 for length in self._lengths)
        self.by_position = self.num_documents < sum(fraction > 0 for fraction in self.fractions)
        self._split_of = None if self.by_position else self._split_documents()

    @property
    def digest(self) -> str:
        """Hash of all texts in their order, as hexadecimal digits."""
        return _digest(bytes(self._digests)).hexdigest()

    def texts(self, split: str) -> Iterator[str]:
        """Iterate over the text of one split in chunks, for example to train a tokenizer."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        return (chunk.text for chunk in self.chunks() if chunk.split == split)

    def chunks(self) -> Iterator[Chunk]:
        """Iterate over all text, in the order of the source, in chunks of bounded size.

        Raises:
            ValueError: the source has changed since this corpus was made.
        """
        index = -1
        for index, document in enumerate(documents(self.source)):
            if index == len(self._lengths):
                break
            yield from self._document_chunks(document, index)
        if index + 1 != len(self._lengths):
            raise ValueError(f"{_source_name(self.source)} changed while it was read: start again")

    def _measure(self, progress: Progress) -> None:
        """Store the hash and the length of each document."""
        for document in documents(self.source):
            digest, length = _digest(), 0
            for part in document.chunks():
                data = _encode_utf8(part, document)
                digest.update(data)
                length += len(part)
                self.num_bytes += len(data)
                progress.update("reading", self.num_bytes, None)
            self._digests += digest.digest()
            self._lengths.append(length)
        if not self.num_bytes:
            raise ValueError(f"{_source_name(self.source)} is empty: there is no text in it")
        progress.update("reading", self.num_bytes, self.num_bytes)

    def _digest_of(self, index: int) -> bytes:
        return bytes(self._digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES])

    def _split_documents(self) -> npt.NDArray[np.int8]:
        """Return the split of each document, as an index into SPLITS; unused for empty documents."""
        salt = f"{self.seed} ".encode()
        indices = np.flatnonzero(np.array(self._lengths))
        assigned = _split_by_rank(
            (_hash64(_digest(salt + self._digest_of(int(i)))) for i in indices), self.fractions
        )
        empty = [name for i, name in enumerate(SPLITS) if self.fractions[i] and not (assigned == i).any()]
        if empty:
            raise ValueError(
                f"no document is left for {' and '.join(empty)}: too many of the {len(indices)} documents of "
                f"{_source_name(self.source)} have the same text, and equal documents stay in one split"
            )
        splits = np.zeros(len(self._lengths), dtype=np.int8)
        splits[indices] = assigned
        return splits

    def _split_ends(self, index: int) -> list[tuple[int, int]]:
        """Return the splits of a document and the character at which each ends."""
        length = self._lengths[index]
        if self._split_of is not None:
            return [(int(self._split_of[index]), length)]
        return list(enumerate(int(length * total) for total in _cumulative(self.fractions)))

    def _document_chunks(self, document: Document, index: int) -> Iterator[Chunk]:
        digest = _digest()

        def hashed_parts() -> Iterator[str]:
            for part in document.chunks():
                digest.update(_encode_utf8(part, document))
                yield part

        length = self._lengths[index]
        position = 0
        for split, parts in itertools.groupby(
            _split_parts(hashed_parts(), self._split_ends(index)), key=lambda item: item[0]
        ):
            is_first = True
            for text in chunk_text(text for _, text in parts):
                position += len(text)
                yield Chunk(SPLITS[split], text, is_first, is_last=position == length)
                is_first = False
        if digest.digest() != self._digest_of(index):
            raise ValueError(
                f"{_source_name(self.source)} changed while it was read ({document.name}): start again"
            )


def _split_parts(parts: Iterable[str], ends: Sequence[tuple[int, int]]) -> Iterator[tuple[int, str]]:
    """Cut the parts of a document at the ends of its splits; yield each with the index of its split."""
    position = 0
    for part in parts:
        start = 0
        for split, end in ends:
            text = part[start : max(end - position, start)]
            start += len(text)
            if text:
                yield split, text
        position += len(part)


def check_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    """Return the fractions of train, validation and test, or raise ValueError if they are invalid."""
    values = tuple(float(fraction) for fraction in fractions)
    valid = len(values) == 3 and values[0] > 0 and min(values) >= 0 and math.isclose(sum(values), 1)
    if not valid:
        raise ValueError(
            "fractions must be three numbers for train, validation and test that are not negative and sum "
            f"to 1, the first above 0, such as 0.9 0.05 0.05, got {list(fractions)}"
        )
    return values[0], values[1], values[2]


def split_ends(fractions: Sequence[float], count: int) -> list[int]:
    """Return the rank at which each split ends: one item for each split, the others by the fractions."""
    filled = list(itertools.accumulate(fraction > 0 for fraction in fractions))
    others = count - filled[-1]
    return [n + round(total * others) for n, total in zip(filled, _cumulative(fractions), strict=True)]


def _split_by_rank(hashes: Iterable[int], fractions: Sequence[float]) -> npt.NDArray[np.int8]:
    """Rank 64-bit hashes and return the split of each, as an index into SPLITS; equal hashes share one."""
    values = np.fromiter(hashes, dtype=np.uint64)
    ranked = np.sort(values)
    splits = np.zeros(len(values), dtype=np.int8)
    for end in split_ends(fractions, len(ranked))[:-1]:
        if end < len(ranked):
            splits += values >= ranked[end]
    return splits


def _cumulative(fractions: Sequence[float]) -> list[float]:
    """Return the cumulative sums, such as 0.9, 0.95, 1, rounded to nine digits."""
    return [round(total, 9) for total in itertools.accumulate(fractions)]


def _digest(data: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES)


def _hash64(digest: hashlib.blake2b) -> int:
    return int.from_bytes(digest.digest()[:8])


def _encode_utf8(text: str, document: Document) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{document.name} has a lone surrogate, {text[error.start]!r}, which cannot be written in UTF-8"
        ) from None


def _source_name(source: Source) -> str:
    return str(source) if isinstance(source, str | Path) else "the list of texts"
