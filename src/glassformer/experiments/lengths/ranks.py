"""Mean reciprocal ranks of position schemes over tasks and lengths.

In each cell, a task at one length of one seed, the schemes are ranked by their accuracy; the reciprocal rank
is 1 for the best, 1/2 for the second, and so on. Schemes that are equal get the mean of their reciprocal
ranks, so that the sum over the schemes of a cell is always 1 + 1/2 + ... + 1/k. A scheme is ranked only where
it has learned the task, judged by its accuracy at the trained lengths alone: elsewhere its rank would say how
well it was trained.

Source: Kazemnejad et al. 2023, section 4 and figure 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Measured:
    """Accuracies of one run."""

    task: str
    scheme: str
    seed: int
    lengths: Mapping[int, Mapping[str, float]]
    """``exact``, ``token`` and ``loss`` by length."""

    def accuracy(self, train_to: int, kind: str = "exact") -> float:
        """Mean over the trained lengths, 1 to ``train_to``."""
        return float(np.mean([self.lengths[n][kind] for n in range(1, train_to + 1)]))

    def beyond(self, train_to: int, kind: str = "exact") -> list[float]:
        """At each longer length."""
        return [row[kind] for n, row in sorted(self.lengths.items()) if n > train_to]


def measured_runs(results: Mapping[str, Any]) -> list[Measured]:
    """The runs, by their names ``TASK-SCHEME-seed-N``."""
    found = []
    for name, value in results.items():
        task, scheme, _, seed = name.split("-")
        lengths = {int(n): row for n, row in value["lengths"].items()}
        found.append(Measured(task, scheme, int(seed), lengths))
    return found


def reciprocal_ranks(accuracies: Mapping[str, float]) -> dict[str, float]:
    """Reciprocal rank of each scheme, the highest accuracy first."""
    values = np.array(list(accuracies.values()))
    by_rank = 1 / np.arange(1, len(values) + 1)
    ranks = {}
    for name, value in accuracies.items():
        better, equal = int((values > value).sum()), int((values == value).sum())
        ranks[name] = float(by_rank[better : better + equal].mean())
    return ranks


Ranks = dict[tuple[str, int], dict[str, list[float]]]
"""By task and seed: the reciprocal ranks of each ranked scheme, one for each length that was not trained."""


def rank_all(runs: Sequence[Measured], train_to: int, min_accuracy: float) -> Ranks:
    """Rank the schemes of each task, seed and length.

    Args:
        runs: all runs.
        train_to: the longest trained length.
        min_accuracy: at the trained lengths, below which a scheme is not ranked.
    """
    groups: dict[tuple[str, int], list[Measured]] = {}
    for run in runs:
        learned = groups.setdefault((run.task, run.seed), [])
        if run.accuracy(train_to) >= min_accuracy:
            learned.append(run)
    ranks: Ranks = {}
    for key, learned in groups.items():
        cells = zip(*(run.beyond(train_to) for run in learned), strict=True)
        names = [run.scheme for run in learned]
        by_cell = [reciprocal_ranks(dict(zip(names, cell, strict=True))) for cell in cells]
        ranks[key] = {name: [cell[name] for cell in by_cell] for name in names}
    return ranks


def mean_reciprocal_ranks(ranks: Ranks, scheme: str) -> dict[int, float]:
    """Mean over all tasks and lengths at which a scheme is ranked, by seed."""
    by_seed: dict[int, list[float]] = {}
    for (_, seed), of_schemes in ranks.items():
        by_seed.setdefault(seed, []).extend(of_schemes.get(scheme, []))
    return {seed: float(np.mean(values)) for seed, values in sorted(by_seed.items()) if values}


def contrast(ranks: Ranks, scheme: str, reference: str) -> dict[int, float]:
    """Mean reciprocal rank of a scheme - that of a reference, by seed, over the tasks that both learned."""
    differences: dict[int, list[float]] = {}
    for (_, seed), of_schemes in ranks.items():
        if scheme in of_schemes and reference in of_schemes:
            pairs = zip(of_schemes[scheme], of_schemes[reference], strict=True)
            differences.setdefault(seed, []).extend(ours - theirs for ours, theirs in pairs)
    return {seed: float(np.mean(values)) for seed, values in sorted(differences.items())}
