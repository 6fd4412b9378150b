"""What a head may look at: relations between a token (or word) that looks and those that it looks at.

    target[b, query, key] = whether, in item b, this query is meant to look at this key

A ``Pattern`` says nothing about any head; ``measuring`` finds how much attention goes where it points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

Level = Literal["token", "word"]
Material = Literal["text", "repeated"]

FARTHEST = 8
"""The largest distance that has a pattern of its own."""


@dataclass(frozen=True)
class Words:
    """The words of an item, and which of them belong together."""

    of_token: Sequence[int]
    """For each token the number of its word, counted from zero; -1 for one that is part of none (marks)."""
    relations: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    """From the name of a relation to its pairs (word that looks, word that it looks at)."""


@dataclass(frozen=True)
class Item:
    """One text, or one generated sequence, as the model reads it."""

    ids: Sequence[int]
    is_delimiter: Sequence[bool]
    text: str = ""
    """What was read; empty where ids were given."""
    words: Words | None = None
    """Needed by patterns of words; an item without has no query for them."""


@dataclass(frozen=True)
class Batch:
    """Items side by side, padded on the right."""

    items: Sequence[Item]
    ids: Tensor
    """``(batch, seq)``; zero in padding."""
    real: Tensor
    """Boolean, ``(batch, seq)``: False in padding."""
    is_delimiter: Tensor
    """Boolean, ``(batch, seq)``."""
    word_of_token: Tensor
    """``(batch, seq)``: the word of each token; -1 for none."""

    @classmethod
    def of(cls, items: Sequence[Item], device: torch.device | str = "cpu") -> Batch:
        """Pad items to the longest of them."""
        length = max(len(item.ids) for item in items)

        def padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
            return torch.tensor([[*row, *[filler] * (length - len(row))] for row in rows], device=device)

        return cls(
            items,
            padded([item.ids for item in items], 0),
            padded([[1] * len(item.ids) for item in items], 0).bool(),
            padded([item.is_delimiter for item in items], 0).bool(),
            padded([[] if item.words is None else item.words.of_token for item in items], -1),
        )

    @property
    def num_words(self) -> int:
        """Words of the item that has most."""
        return int(self.word_of_token.max()) + 1

    def size(self, level: Level) -> int:
        """Tokens, or words, of an item with its padding."""
        return self.ids.size(1) if level == "token" else self.num_words


class Pattern(Protocol):
    """A relation between places in an item.

    Patterns are values: two of one name are the same.
    """

    @property
    def name(self) -> str:
        """One word, or two joined by ``->``; a head may be called so."""
        ...

    @property
    def level(self) -> Level:
        """Whether places are tokens or words."""
        ...

    @property
    def positional(self) -> bool:
        """Whether it is a distance itself: then a fixed distance is no control for it."""
        ...

    @property
    def material(self) -> Material:
        """What it is measured on: texts, or repeated random tokens."""
        ...

    def targets(self, batch: Batch) -> Tensor:
        """Boolean ``(batch, query, key)``, over ``batch.size(level)`` places, or broadcasts to it.

        Padding, and what the model's mask hides, need not be left out: ``measuring`` does it.
        """
        ...


@dataclass(frozen=True)
class Offset:
    """key = query + distance."""

    name: str
    distance: int
    level: Level = "token"
    positional: bool = True
    material: Material = "text"

    def targets(self, batch: Batch) -> Tensor:  # noqa: D102
        place = torch.arange(batch.size(self.level), device=batch.ids.device)
        return (place[None, :] == place[:, None] + self.distance)[None]


@dataclass(frozen=True)
class First:
    """key = 0: a sink (Xiao et al. 2023), or the mark that a text begins with."""

    name: str = "first"
    level: Level = "token"
    positional: bool = False
    material: Material = "text"

    def targets(self, batch: Batch) -> Tensor:  # noqa: D102
        return (torch.arange(batch.size(self.level), device=batch.ids.device) == 0)[None, None]


@dataclass(frozen=True)
class Delimiter:
    """key is punctuation, a line's end, or the mark at a text's end (Clark et al. 2019, section 3.2)."""

    name: str = "delimiter"
    level: Level = "token"
    positional: bool = False
    material: Material = "text"

    def targets(self, batch: Batch) -> Tensor:  # noqa: D102
        return batch.is_delimiter[:, None, :]


@dataclass(frozen=True)
class Duplicate:
    """key = where the query's token stood last before (Wang et al. 2022, duplicate token heads)."""

    name: str = "duplicate"
    level: Level = "token"
    positional: bool = False
    material: Material = "repeated"

    def targets(self, batch: Batch) -> Tensor:  # noqa: D102
        return last_occurrence(batch.ids)


@dataclass(frozen=True)
class Induction:
    """key = right after where the query's token stood last before (Olsson et al. 2022, prefix matching)."""

    name: str = "induction"
    level: Level = "token"
    positional: bool = False
    material: Material = "repeated"

    def targets(self, batch: Batch) -> Tensor:  # noqa: D102
        before = last_occurrence(batch.ids)
        after = torch.zeros_like(before)
        after[:, :, 1:] = before[:, :, :-1]
        return after


@dataclass(frozen=True)
class Relation:
    """key is a word that the query's word is related to: the pairs in ``Words.relations`` under its name.

    Attention to a word is summed over its tokens, from a word averaged (Clark et al. 2019, section 4).
    """

    name: str
    level: Level = "word"
    positional: bool = False
    material: Material = "text"

    def targets(self, batch: Batch) -> Tensor:  # noqa: D102
        size = batch.size("word")
        target = torch.zeros(len(batch.items), size, size, dtype=torch.bool)
        for row, item in enumerate(batch.items):
            for query, key in () if item.words is None else item.words.relations.get(self.name, ()):
                target[row, query, key] = True
        return target.to(batch.ids.device)


def last_occurrence(ids: Tensor) -> Tensor:
    """Where each token stood last before: ids ``(batch, seq)`` to boolean ``(batch, query, key)``."""
    same = (ids[:, :, None] == ids[:, None, :]).tril(-1)
    return same & (same.flip(-1).cumsum(-1).flip(-1) == 1)


def token_patterns() -> dict[str, Pattern]:
    """Every pattern of tokens, by name."""
    near: list[Pattern] = [Offset("previous", -1), Offset("current", 0), Offset("next", 1)]
    far = [Offset(f"offset{sign * k:+d}", sign * k) for sign in (-1, 1) for k in range(2, FARTHEST + 1)]
    known: list[Pattern] = [*near, First(), Delimiter(), Induction(), Duplicate(), *far]
    return {pattern.name: pattern for pattern in known}
