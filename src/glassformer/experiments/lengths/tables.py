"""Tables of the study of lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glassformer.experiments.lengths.ranks import Measured, Ranks, mean_reciprocal_ranks
from glassformer.experiments.statistics import one_sample_t
from glassformer.experiments.study import ResultTable

Cell = str | float | int | None

LITERATURE = {"none": 0.69, "t5": 0.55, "alibi": 0.50, "rotary": 0.33, "sinusoidal": 0.22}
"""Mean reciprocal ranks over all tasks of Kazemnejad et al. 2023, figure 2."""


def ranks_table(ranks: Ranks, runs: Sequence[Measured]) -> ResultTable:
    """Mean reciprocal rank of each scheme with its interval over the seeds."""
    rows: list[list[Cell]] = []
    for scheme in dict.fromkeys(run.scheme for run in runs):
        by_seed = list(mean_reciprocal_ranks(ranks, scheme).values())
        mean = round(float(np.mean(by_seed)), 3) if by_seed else None
        interval = "not ranked" if not by_seed else ""
        if len(by_seed) > 1:
            found = one_sample_t(by_seed)
            interval = f"{found.low:.3f} to {found.high:.3f}"
        rows.append([scheme, mean, interval, len(by_seed), LITERATURE.get(scheme)])
    header = ["positions", "mean reciprocal rank", "99 % interval", "seeds", "Kazemnejad et al. 2023"]
    caption = (
        "By exact answers at each length beyond the trained ones, over tasks and lengths, where a scheme has "
        "learned the task. Equal schemes share their ranks. With five schemes that are all alike it is .457."
    )
    return ResultTable("Mean reciprocal ranks beyond the trained lengths", header, rows, caption)


def learned_table(runs: Sequence[Measured], train_to: int, least: float) -> ResultTable:
    """Accuracy of each scheme and task at the trained and the longer lengths."""
    rows: list[list[Cell]] = []
    for task, scheme in dict.fromkeys((run.task, run.scheme) for run in runs):
        chosen = [run for run in runs if (run.task, run.scheme) == (task, scheme)]
        trained = [run.accuracy(train_to) for run in chosen]
        row: list[Cell] = [task, scheme, round(float(np.mean(trained)), 4), round(min(trained), 4)]
        row.append(sum(accuracy >= least for accuracy in trained))
        for kind in ("exact", "token"):
            beyond = [float(np.mean(run.beyond(train_to, kind))) for run in chosen]
            row += [round(float(np.mean(beyond)), 4), f"{min(beyond):.4f} to {max(beyond):.4f}"]
        rows.append(row)
    header = [
        "task",
        "positions",
        "exact, trained lengths",
        "lowest seed",
        f"seeds at {least:g}",
        "exact, longer",
        "range of seeds",
        "tokens, longer",
        "range of seeds",
    ]
    caption = (
        f"Means over lengths and seeds; trained lengths are 1 to {train_to}. Tokens are predicted from the "
        "correct ones before them."
    )
    return ResultTable("Accuracy at trained and longer lengths", header, rows, caption)


def accuracies_table(runs: Sequence[Measured], train_to: int, lengths: Sequence[int]) -> ResultTable:
    """Exact answers and correct tokens at chosen lengths."""
    exact, token = mean_accuracies(runs, "exact"), mean_accuracies(runs, "token")
    rows: list[list[Cell]] = [
        [
            task,
            scheme,
            *(f"{exact[task][scheme][str(n)]:.3f} / {token[task][scheme][str(n)]:.3f}" for n in lengths),
        ]
        for task, by_scheme in exact.items()
        for scheme in by_scheme
    ]
    header = ["task", "positions", *(str(n) for n in lengths)]
    caption = f"Exact answers / correct tokens, means over the seeds. Trained lengths are 1 to {train_to}."
    return ResultTable("Accuracy by length", header, rows, caption)


def mean_accuracies(runs: Sequence[Measured], kind: str) -> dict[str, dict[str, dict[str, float]]]:
    """Means over the seeds by task, scheme and length."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for task, scheme in dict.fromkeys((run.task, run.scheme) for run in runs):
        chosen = [run.lengths for run in runs if (run.task, run.scheme) == (task, scheme)]
        found.setdefault(task, {})[scheme] = {
            str(n): round(float(np.mean([lengths[n][kind] for lengths in chosen])), 4)
            for n in sorted(chosen[0])
        }
    return found
