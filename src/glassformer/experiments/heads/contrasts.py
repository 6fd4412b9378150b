"""Contrasts of heads with their controls: one number per block of texts or seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

ROWS: Mapping[str, Sequence[str]] = {
    "previous": ("previous",),
    "delimiter": ("delimiter",),
    "subject-verb": ("verb->subject", "subject->verb"),
    "noun-adjective": ("noun->adjective", "adjective->noun"),
    "distant": ("distant->head", "distant->dependent"),
}
"""The patterns of each row of the claimed table; the better one is chosen."""
MIN_COPYING = 0.5
"""Accuracy at copying with all heads below which nothing can be said about what hurts it."""

MIN_QUERIES = 200
"""Queries on prose below which a note says that a rate is uncertain."""

Models: TypeAlias = Mapping[str, Sequence[Mapping[str, Any]]]
"""Results of each model: one for a published model, one per seed for the small one."""


@dataclass(frozen=True)
class Contrast:
    """What one claim is tested with."""

    values: Sequence[float]
    """One number per block of texts of a published model, or per seed of the small one."""
    null: float = 0.0
    """The mean of the control."""
    untestable: str | None = None
    """Why the claim cannot be tested."""


def row_contrasts(value: Mapping[str, Any], claimed: Mapping[str, float | None]) -> dict[str, Contrast]:
    """For each row, the rates of the best head on prose against those of its control.

    The values are the paired differences to the control, moved by its mean, so that their mean is the rate.

    Args:
        value: result of a published model.
        claimed: rate of each row.
    """
    found = {}
    for row, names in ROWS.items():
        best = best_pattern(value["patterns"]["prose"], names)
        if best is None:
            found[row] = Contrast([], untestable="The texts have too few of these relations.")
            continue
        controls = best["control"]["rates"]
        control, claim = float(np.mean(controls)), claimed.get(row)
        reason = None
        if claim is not None and control >= claim:
            name = best["control"]["name"]
            reason = f"The control, {name}, is at {control:.3f}, no less than the claimed {claim}."
        found[row] = Contrast((np.subtract(best["rates"], controls) + control).tolist(), control, reason)
    return found


def related_contrast(value: Mapping[str, Any]) -> Contrast:
    """The attention of a head to related words, beyond that to their controls."""
    if value["related"] is None:
        return Contrast([], untestable="The texts have too few related words.")
    return Contrast(value["related"]["differences"])


def cluster_contrast(values: Sequence[Mapping[str, Any]]) -> Contrast:
    """The silhouette of each seed above the mean of those of single clouds."""
    return Contrast([value["clusters"]["silhouette"] - value["clusters"]["null"] for value in values])


def specific_contrast(values: Sequence[Mapping[str, Any]]) -> Contrast:
    """The drop in copying without the specific head, beyond the larger one of text and control, in nats."""
    accuracy = float(np.mean([value["accuracy"]["copying"] for value in values]))
    drops = [value["specific"]["drops"] for value in values]
    found = per_unit(
        [np.subtract(drop["copying"], np.maximum(drop["text"], drop["control"])).tolist() for drop in drops]
    )
    reason = f"The accuracy at copying is {accuracy:.2f} with all heads, below {MIN_COPYING}."
    return Contrast(found, untestable=reason if accuracy < MIN_COPYING else None)


def redundancy_contrast(values: Sequence[Mapping[str, Any]]) -> Contrast:
    """The rise of the loss without the least important heads, in nats."""
    return Contrast(per_unit([value["pruned"]["drops"]["text"] for value in values]))


def per_unit(values: Sequence[Sequence[float]]) -> list[float]:
    """The blocks of the only model, or the mean over blocks of each seed."""
    return list(values[0]) if len(values) == 1 else [float(np.mean(blocks)) for blocks in values]


def best_pattern(patterns: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any] | None:
    """The pattern whose best head has the highest rate on the texts for selection, with its ``name``."""
    found = [{**patterns[name], "name": name} for name in names if name in patterns]
    return max(found, key=lambda row: float(row["selection"]), default=None)


def few_queries(model: str, value: Mapping[str, Any]) -> list[str]:
    """Notes on rows of the claimed table whose better direction has few queries on prose.

    Args:
        model: name of a published model.
        value: its result.
    """
    notes = []
    for row, names in ROWS.items():
        patterns = value["patterns"]["prose"]
        best = best_pattern(patterns, names)
        if best is None or sum(best["queries"][1:]) >= MIN_QUERIES:
            continue
        note = (
            f"{row}, {model}: the direction whose best head has the higher rate, {best['name']}, has "
            f"{sum(best['queries'][1:])} queries in all blocks, so that its rate is uncertain."
        )
        for name in names:
            if name != best["name"] and name in patterns:
                other = patterns[name]
                note += (
                    f" In the direction {name}, with {sum(other['queries'][1:]):,} queries, the best head "
                    f"reaches {np.mean(other['rates']):.3f} and its control, {other['control']['name']}, "
                    f"{np.mean(other['control']['rates']):.3f}."
                )
        notes.append(note)
    return notes


def significant(p_values: Sequence[float], drops: Sequence[float], alpha: float = 0.01) -> tuple[int, int]:
    """How many heads raise the loss when they are removed and how many lower it, each at p < alpha."""
    pairs = [drop for p, drop in zip(p_values, drops, strict=True) if p < alpha]
    return sum(drop > 0 for drop in pairs), sum(drop < 0 for drop in pairs)
