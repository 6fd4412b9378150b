"""Tables of the study of positions, from the measurements of each run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from glassformer.experiments.positions.models import POLICIES
from glassformer.experiments.statistics import one_sample_t
from glassformer.experiments.study import ResultTable

Measured = Mapping[str, Any]
"""What ``measure`` returns."""
Cell = str | float | int | None

JUDGED_POLICY = f"learned, {next(iter(POLICIES))}"
"""Of learned positions, the measurement that the claim is judged by."""
LITERATURE = {
    "sinusoidal": (20.05, 43.54),
    "rotary": (20.07, 21.37),
    "t5": (19.65, 18.79),
    "alibi": (19.73, 18.73),
}
"""Perplexities at 512 and 1,012 tokens of models trained at 512 on WikiText-103 (Press et al. 2022)."""


def by_name(results: Mapping[str, Any]) -> dict[str, list[Measured]]:
    """The measurements of each scheme by seed; of learned positions one list for each policy.

    Args:
        results: values of runs by their names ``SCHEME-seed-N``.
    """
    found: dict[str, dict[int, Measured]] = {}
    for run, value in results.items():
        seed = int(run.rpartition("-")[2])
        for name, row in value["measured"].items():
            found.setdefault(f"learned, {name}" if name in POLICIES else name, {})[seed] = row
    return {name: [rows[seed] for seed in sorted(rows)] for name, rows in found.items()}


def change(rows: Sequence[Measured], trained: int, length: int) -> list[float]:
    """Loss of the fixed targets with a context of ``length`` - that with the trained one, for each seed."""
    return [row["fixed"][str(length)] - row["fixed"][str(trained)] for row in rows]


def loss_at(rows: Sequence[Measured], length: int) -> list[float]:
    """Loss of the text in windows of this length, for each seed."""
    return [row["windows"][str(length)] for row in rows]


def recall_of(rows: Sequence[Measured], condition: str, reference: str | None = None) -> list[float]:
    """Accuracy in one condition, or its difference to that in another one, for each seed."""
    return [
        row["recall"][condition]["accuracy"] - (row["recall"][reference]["accuracy"] if reference else 0.0)
        for row in rows
    ]


def perplexities_table(measured: Mapping[str, Sequence[Measured]], n: int) -> ResultTable:
    """Loss at the trained length, and its difference to that without positions."""
    none = np.array(loss_at(measured["none"], n))
    rows: list[list[Cell]] = []
    for name, of_seeds in measured.items():
        losses = np.array(loss_at(of_seeds, n))
        mean = one_sample_t(losses)
        if name == "none":
            rows.append(
                [name, round(math.exp(mean.mean), 2), round(mean.mean, 4), round(_sd(losses), 4), None, None]
            )
            continue
        gain = one_sample_t(none - losses)
        interval = f"{gain.low:.4f} to {gain.high:.4f}"
        rows.append(
            [
                name,
                round(math.exp(mean.mean), 2),
                round(mean.mean, 4),
                round(_sd(losses), 4),
                round(gain.mean, 4),
                interval,
            ]
        )
    header = [
        "positions",
        "perplexity",
        "loss, nats",
        "standard deviation",
        "gain over none, nats",
        "99 % interval",
    ]
    caption = f"On held-out text in windows of {n} tokens, over the seeds."
    return ResultTable("At the trained length", header, rows, caption)


def changes_table(measured: Mapping[str, Sequence[Measured]], factors: Sequence[int], n: int) -> ResultTable:
    """Change of the loss of the fixed targets at each length."""
    rows: list[list[Cell]] = []
    for name, of_seeds in measured.items():
        for factor in factors[1:]:
            found = one_sample_t(change(of_seeds, n, factor * n))
            literature = None
            if factor == 2 and name in LITERATURE:
                before, after = LITERATURE[name]
                literature = round(math.log(after / before), 3)
            rows.append(
                [
                    name,
                    f"{factor}x",
                    round(found.mean, 4),
                    f"{found.low:.4f} to {found.high:.4f}",
                    round(100 * math.expm1(found.mean), 1),
                    literature,
                ]
            )
    header = ["positions", "length", "change, nats", "99 % interval", "perplexity, %", "Press et al., nats"]
    caption = (
        "Of the same targets, predicted with a context of the trained length and with a longer one that ends "
        "at the same place. Press et al. 2022 trained at 512 and measured windows of 1,012 tokens."
    )
    return ResultTable("Change of the loss with longer contexts", header, rows, caption)


def contexts_table(measured: Mapping[str, Sequence[Measured]], kind: str, n: int) -> ResultTable:
    """Loss and its change at each length, of windows that do not overlap or that slide.

    Args:
        measured: by scheme.
        kind: ``"windows"`` or ``"sliding"``.
        n: trained length.
    """
    rows: list[list[Cell]] = []
    for name, of_seeds in measured.items():
        for length in of_seeds[0][kind]:
            losses = np.array([row[kind][length] for row in of_seeds])
            changes = losses - np.array([row[kind][str(n)] for row in of_seeds])
            interval = ""
            if int(length) != n:
                found = one_sample_t(changes)
                interval = f"{found.low:.4f} to {found.high:.4f}"
            rows.append(
                [
                    name,
                    int(length),
                    round(math.exp(float(losses.mean())), 2),
                    round(float(changes.mean()), 4),
                    interval,
                ]
            )
    header = ["positions", "context", "perplexity", "change, nats", "99 % interval"]
    title, caption = {
        "windows": (
            "Windows that do not overlap",
            "All tokens of a text that is cut into windows; in longer ones fewer tokens have little context.",
        ),
        "sliding": (
            "A sliding window",
            "The last tokens of a window that moves by as many, so that almost the whole context is used.",
        ),
    }[kind]
    return ResultTable(title, header, rows, caption)


def recall_table(measured: Mapping[str, Sequence[Measured]], num_values: int) -> ResultTable:
    """Accuracy of the answers in each condition."""
    rows: list[list[Cell]] = []
    for name, of_seeds in measured.items():
        means = [float(np.mean(recall_of(of_seeds, condition))) for condition in ("trained", "near", "far")]
        lost = one_sample_t(recall_of(of_seeds, "far", "trained"))
        row: list[Cell] = [name, *(round(100 * mean, 1) for mean in means)]
        rows.append([*row, round(100 * lost.mean, 1), f"{100 * lost.low:.1f} to {100 * lost.high:.1f}"])
    header = [
        "positions",
        "trained length, %",
        "twice, fact near, %",
        "twice, fact far, %",
        "far - trained, points",
        "99 % interval",
    ]
    caption = (
        "Answers that are the most probable token, to the same questions in the same text. Near facts are as "
        "close to their questions as at the trained length, far ones a trained length farther away. Guessing "
        f"among the values gives {100 / num_values:.1f} %."
    )
    return ResultTable("Recall of planted facts", header, rows, caption)


def _sd(values: Any) -> float:
    return float(np.std(values, ddof=1))
