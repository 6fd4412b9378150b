"""Sums over items made into means: to choose by, to report, and in each replicate of the bootstrap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from glassformer.analysis.reduction import Sums
from glassformer.analysis.statistics import Array, bootstrap_weights, halves, ratio_means


@dataclass(frozen=True)
class Score:
    """A mean over queries, or several of them, each time along the last axis."""

    choosing: Array
    """On the half of the items that is for choosing."""
    scoring: Array
    """On the other half."""
    replicates: Array
    """On what each replicate drew from the other half, ``(replicate, ...)``."""

    def best(self) -> int:
        """The number of the one that is the highest on the half for choosing."""
        return int(self.choosing.argmax())

    def __getitem__(self, number: int) -> Score:
        return Score(self.choosing[number], self.scoring[number], self.replicates[..., number])

    def __sub__(self, other: Score) -> Score:
        """The difference, each time; the other is a single one."""
        return Score(
            self.choosing - other.choosing,
            self.scoring - other.scoring,
            self.replicates - other.replicates[:, None],
        )


@dataclass(frozen=True)
class Totals:
    """Sums of one model over all items of one material; keys as in ``reduction.Sums``."""

    choosing: Mapping[str, Array]
    scoring: Mapping[str, Array]
    replicates: Mapping[str, Array]
    num_items: Mapping[str, Array]
    """How many items of the half for scoring are not zero."""

    @classmethod
    def over(cls, parts: Iterable[Sums], sizes: Sequence[int], replicates: int, seed: int) -> Totals:
        """Add up parts, one after the other.

        Args:
            parts: sums for each item.
            sizes: items of each part.
            replicates: of the bootstrap.
            seed: of the halves and the replicates: the same for two models, so that they can be compared.

        """
        totals: tuple[dict[str, Array], ...] = ({}, {}, {}, {})
        split = halves(sizes, seed)
        draws = bootstrap_weights([int((~chosen).sum()) for chosen in split], replicates, seed)
        for sums, chosen, weights in zip(parts, split, draws, strict=True):
            for name, values in sums.items():
                first, second = values[torch.from_numpy(chosen)], values[torch.from_numpy(~chosen)]
                drawn = torch.from_numpy(weights) @ second.float().flatten(1)
                found = (
                    first.double().sum(0),
                    second.double().sum(0),
                    drawn.view(-1, *values.shape[1:]),
                    (second != 0).sum(0).double(),
                )
                for total, part in zip(totals, found, strict=True):
                    total[name] = total[name] + part.numpy() if name in total else part.numpy()
        return cls(*totals)

    def num_queries(self, level: str, pattern: int) -> int:
        """Queries for a pattern, on the half for scoring."""
        return int(self.scoring[f"{level}/queries"][pattern]) if f"{level}/queries" in self.scoring else 0

    def score(self, level: str, what: str, pattern: int) -> Score:
        """Means of ``level/what`` over the queries of a pattern, or of a description."""
        halves = [self.choosing, self.scoring, self.replicates]
        sums = [half[f"{level}/{what}"][..., pattern] for half in halves]
        counts = [half[f"{level}/queries"][..., pattern] for half in halves]
        counts[2] = counts[2].reshape(-1, *[1] * (sums[2].ndim - 1))
        return Score(*(ratio_means(total, count) for total, count in zip(sums, counts, strict=True)))
