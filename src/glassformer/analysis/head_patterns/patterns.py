"""Attention patterns: the query-key relations that a head is tested for.

A pattern gives, for every query of a batch, the keys that are its targets:

    target[b, query, key] = True if, in item b, the pattern relates this query to this key

How much of a head's attention the targets get is measured in ``collect``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from glassformer.choices import choose
from glassformer.tokenization.base import pad_sequences, padding_mask

Level = Literal["token", "word"]
Dataset = Literal["text", "repeated"]

MAX_OFFSET = 8
"""The largest distance that is a pattern."""

SYNTAX_LABELS: Mapping[tuple[str, str], frozenset[str]] = {
    ("verb", "subject"): frozenset({"nsubj", "nsubjpass", "nsubj:pass"}),
    ("verb", "object"): frozenset({"dobj", "obj"}),
    ("noun", "adjective"): frozenset({"amod"}),
    ("noun", "determiner"): frozenset({"det"}),
}
"""Labels of the dependent for each (head, dependent), in spaCy's English and in Universal Dependencies."""


@dataclass(frozen=True)
class Words:
    """The words of an item and their syntactic relations."""

    word_ids: Sequence[int]
    """For each token the index of its word; -1 for tokens outside any word, such as special tokens."""
    relations: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    """Pairs (query word, key word) of each relation, by its name."""


@dataclass(frozen=True)
class Item:
    """One input of the model: an encoded text or a generated sequence."""

    ids: Sequence[int]
    is_delimiter: Sequence[bool]
    text: str = ""
    """The encoded text; empty if token ids were given."""
    words: Words | None = None
    """Required by patterns of words; an item without words has no queries for them."""


@dataclass(frozen=True)
class Batch:
    """Items padded on the right to the same length."""

    items: Sequence[Item]
    ids: Tensor
    """``(batch, seq)``; zero in padding."""
    attention_mask: Tensor
    """Boolean, ``(batch, seq)``: False in padding."""
    is_delimiter: Tensor
    """Boolean, ``(batch, seq)``."""
    word_ids: Tensor
    """``(batch, seq)``: the word of each token, or -1."""

    @classmethod
    def from_items(cls, items: Sequence[Item], device: torch.device | str = "cpu") -> Batch:
        """Pad items to the length of the longest."""
        rows = [item.ids for item in items]
        word_ids = [[-1] * len(item.ids) if item.words is None else item.words.word_ids for item in items]
        return cls(
            items,
            pad_sequences(rows, 0).to(device),
            padding_mask(rows).to(device),
            pad_sequences([item.is_delimiter for item in items], 0).bool().to(device),
            pad_sequences(word_ids, -1).to(device),
        )

    @property
    def num_words(self) -> int:
        """The largest number of words of an item."""
        return int(self.word_ids.max()) + 1

    def size(self, level: Level) -> int:
        """The padded length of an item in tokens or words."""
        return self.ids.size(1) if level == "token" else self.num_words


class Pattern(Protocol):
    """A relation between queries and keys. Patterns are values: two with the same name are equal."""

    @property
    def name(self) -> str:
        """One word, or two joined by ``->``; the label of a head that attends this way."""
        ...

    @property
    def level(self) -> Level:
        """Whether queries and keys are tokens or words."""
        ...

    @property
    def positional(self) -> bool:
        """Whether the pattern is itself a fixed offset, so that a fixed offset is no baseline for it."""
        ...

    @property
    def dataset(self) -> Dataset:
        """The data that it is measured on: texts, or repeated random tokens."""
        ...

    def targets(self, batch: Batch) -> Tensor:
        """Boolean, broadcastable to ``(batch, query, key)`` with ``batch.size(level)`` queries and keys.

        Padding and masked keys are removed later.
        """
        ...


@dataclass(frozen=True)
class Offset:
    """The key at a fixed distance: key = query + distance."""

    name: str
    distance: int
    level: Level = "token"
    positional: bool = True
    dataset: Dataset = "text"

    def targets(self, batch: Batch) -> Tensor:  # noqa: D102
        index = torch.arange(batch.size(self.level), device=batch.ids.device)
        return (index[None, :] == index[:, None] + self.distance)[None]


@dataclass(frozen=True)
class First:
    """The first token: an attention sink (Xiao et al. 2023), often a beginning-of-text token."""

    name: str = "first"
    level: Level = "token"
    positional: bool = False
    dataset: Dataset = "text"

    def targets(self, batch: Batch) -> Tensor:  # noqa: D102
        return (torch.arange(batch.size(self.level), device=batch.ids.device) == 0)[None, None]


@dataclass(frozen=True)
class Delimiter:
    """Punctuation, line breaks and end-of-text tokens (Clark et al. 2019, section 3.2)."""

    name: str = "delimiter"
    level: Level = "token"
    positional: bool = False
    dataset: Dataset = "text"

    def targets(self, batch: Batch) -> Tensor:  # noqa: D102
        return batch.is_delimiter[:, None, :]


@dataclass(frozen=True)
class Duplicate:
    """The previous occurrence of the query's token (duplicate token heads, Wang et al. 2022)."""

    name: str = "duplicate"
    level: Level = "token"
    positional: bool = False
    dataset: Dataset = "repeated"

    def targets(self, batch: Batch) -> Tensor:  # noqa: D102
        return previous_occurrence(batch.ids)


@dataclass(frozen=True)
class Induction:
    """The token after the previous occurrence of the query's token (prefix matching, Olsson et al. 2022)."""

    name: str = "induction"
    level: Level = "token"
    positional: bool = False
    dataset: Dataset = "repeated"

    def targets(self, batch: Batch) -> Tensor:  # noqa: D102
        before = previous_occurrence(batch.ids)
        after = torch.zeros_like(before)
        after[:, :, 1:] = before[:, :, :-1]
        return after


@dataclass(frozen=True)
class SyntaxRelation:
    """Words in a syntactic relation: the pairs in ``Words.relations`` under the pattern's name.

    Attention to a word is summed over its tokens, attention from a word is averaged (Clark et al. 2019,
    section 4).
    """

    name: str
    level: Level = "word"
    positional: bool = False
    dataset: Dataset = "text"

    def targets(self, batch: Batch) -> Tensor:  # noqa: D102
        size = batch.size("word")
        target = torch.zeros(len(batch.items), size, size, dtype=torch.bool)
        for row, item in enumerate(batch.items):
            for query, key in () if item.words is None else item.words.relations.get(self.name, ()):
                target[row, query, key] = True
        return target.to(batch.ids.device)


def previous_occurrence(ids: Tensor) -> Tensor:
    """The previous occurrence of each token: ids ``(batch, seq)`` to boolean ``(batch, query, key)``."""
    same = (ids[:, :, None] == ids[:, None, :]).tril(-1)
    return same & (same.flip(-1).cumsum(-1).flip(-1) == 1)


def token_patterns() -> dict[str, Pattern]:
    """All patterns of tokens, by name."""
    near: list[Pattern] = [Offset("previous", -1), Offset("current", 0), Offset("next", 1)]
    far = [Offset(f"offset{sign * k:+d}", sign * k) for sign in (-1, 1) for k in range(2, MAX_OFFSET + 1)]
    patterns: list[Pattern] = [*near, First(), Delimiter(), Induction(), Duplicate(), *far]
    return {pattern.name: pattern for pattern in patterns}


def syntax_patterns() -> dict[str, Pattern]:
    """All syntactic relations, by name, in both directions: ``verb->subject``, ``subject->verb``, ..."""
    ends = [pair for head, dependent in SYNTAX_LABELS for pair in ((head, dependent), (dependent, head))]
    return {name: SyntaxRelation(name) for name in (f"{query}->{key}" for query, key in ends)}


def all_patterns() -> dict[str, Pattern]:
    """All patterns of tokens and of words, by name."""
    return {**token_patterns(), **syntax_patterns()}


PATTERN_GROUPS = {
    "tokens": ("previous", "current", "next", "first", "delimiter"),
    "offsets": tuple(name for name in token_patterns() if name.startswith("offset")),
    "copying": ("induction", "duplicate"),
    "syntax": tuple(syntax_patterns()),
}
"""Groups of patterns, whose names are accepted wherever names of patterns are."""


def select_patterns(names: Iterable[str]) -> dict[str, Pattern]:
    """The patterns with these names, or in groups with these names, in the order of ``all_patterns``.

    Raises:
        ValueError: an unknown name.
    """
    known = all_patterns()
    groups = {**{name: (name,) for name in known}, **PATTERN_GROUPS}
    selected = {pattern for name in names for pattern in choose(groups, name, "pattern")}
    return {name: pattern for name, pattern in known.items() if name in selected}
