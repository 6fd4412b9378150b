"""Who earns a name: heads that look where a pattern points, more than every control does.

Three controls, measured on the same items:

    fixed offset     always looking at the distance that most often leads to a target: a true distance, and a
                     query from which it leads out of the text misses. Of the rate only (a fixed choice has no
                     mass to spread), and not for patterns that are a distance themselves
    random weights   the best head of a model of the same shape that has learned nothing
    shuffled labels  each query's targets exchanged for as many random visible keys: in expectation, over all
                     such exchanges

Control heads and offsets are chosen on one half of the items, and everything is scored on the other. A head
is named after a pattern if both rate and mass exceed every control by more than a margin, at a false
discovery rate of 5 % over heads x patterns (Benjamini & Hochberg 1995). It may earn several names. Its main
name is the one that is furthest above its controls on the half for choosing; a sink (the first token,
delimiters) only where it has no other, for that is where heads look that have nothing to look for (Clark et
al. 2019, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from glassformer.analysis.head_report import Row
from glassformer.analysis.patterns import Pattern
from glassformer.analysis.reduction import DESCRIPTIONS, REACH
from glassformer.analysis.scores import Score, Totals
from glassformer.analysis.statistics import Array, benjamini_hochberg, interval, p_above, ratio_means

FALSE_DISCOVERIES = 0.05
FEWEST_ITEMS = 30
"""Items, of the half for scoring, with a query for a pattern, below which it names no head."""
MEASURES = {"rate": "hits", "mass": "mass"}
SINKS = ("first", "delimiter")

Heads = Sequence[tuple[int, int]]
"""(layer, head) of each."""


@dataclass(frozen=True)
class Judgement:
    """All heads held against the controls of one pattern, by one measure."""

    measure: str
    score: Score
    """``(head,)``"""
    controls: dict[str, Score]
    """By what the control is called; one number each."""
    margin: float

    def lift_where_chosen(self) -> Array:
        """How far each head is above the strongest control, on the half for choosing."""
        lifts = [(self.score - control).choosing for control in self.controls.values()]
        return np.asarray(np.min(lifts, axis=0))

    def p(self) -> Array:
        """Of "some control is not exceeded by the margin", for each head."""
        lifts = [self.score - control for control in self.controls.values()]
        p = [p_above(lift.scoring, lift.replicates, self.margin) for lift in lifts]
        return np.asarray(np.max(p, axis=0))

    def columns(self) -> dict[str, Array]:
        """Score and interval of each head."""
        low, high = interval(self.score.replicates)
        return {"score": self.score.scoring, "low": low, "high": high, "p": self.p()}

    def strongest(self) -> tuple[str, float]:
        """The control that is highest on the half for scoring."""
        return max(((name, float(c.scoring)) for name, c in self.controls.items()), key=lambda pair: pair[1])


@dataclass(frozen=True)
class Judged:
    """All heads held against the controls of one pattern."""

    pattern: Pattern
    judgements: Sequence[Judgement]
    num_queries: int
    num_items: int

    def lift_where_chosen(self) -> Array:
        """The smaller of rate's and mass's, for each head."""
        return np.asarray(np.min([some.lift_where_chosen() for some in self.judgements], axis=0))

    def p(self) -> Array:
        """The larger of rate's and mass's, for each head; NaN where there are too few items to tell."""
        p = np.max([judgement.p() for judgement in self.judgements], axis=0)
        return p if self.num_items >= FEWEST_ITEMS else np.full_like(p, np.nan)


def judge(
    pattern: Pattern, number: int, heads: Heads, model: Totals, control: Totals, margin: float
) -> Judged:
    """Hold all heads against the controls of a pattern.

    Args:
        pattern: one that has queries.
        number: its place among the patterns of its level and material.
        heads: of the model.
        model: its sums.
        control: those of a model of the same shape with random weights.
        margin: by which a control is to be exceeded.

    """
    judgements = []
    for measure, what in MEASURES.items():
        random = control.score(pattern.level, what, number)
        layer, head = heads[random.best()]
        controls = {
            f"random weights {layer}.{head}": random[random.best()],
            "shuffled labels": model.score(pattern.level, "chance", number),
        }
        if measure == "rate" and not pattern.positional:
            offsets = model.score(pattern.level, "offsets", number)
            controls[f"fixed offset {offsets.best() - REACH:+d}"] = offsets[offsets.best()]
        score = model.score(pattern.level, what, number)
        judgements.append(Judgement(measure, score, controls, margin))
    num_items = int(model.num_items[f"{pattern.level}/queries"][number])
    return Judged(pattern, judgements, model.num_queries(pattern.level, number), num_items)


def discoveries(judged: Sequence[Judged], num_heads: int) -> tuple[Array, Array]:
    """Which names are earned.

    Args:
        judged: every pattern that has queries.
        num_heads: of the model.

    Returns:
        q, and whether it is the main name of the head, both ``(pattern, head)``.

    """
    if not judged:
        return np.empty((0, num_heads)), np.empty((0, num_heads), dtype=bool)
    q = benjamini_hochberg(np.array([some.p() for some in judged]))
    earned = q <= FALSE_DISCOVERIES  # NaN is not
    lift = np.array([some.lift_where_chosen() - 2 * (some.pattern.name in SINKS) for some in judged])
    lift[~earned] = -np.inf
    return q, earned & (np.arange(len(judged))[:, None] == lift.argmax(axis=0))


def rows(judged: Sequence[Judged], heads: Heads) -> Iterator[Row]:
    """The table's rows of patterns: columns as in ``head_report.COLUMNS``."""
    for some, q, main in zip(judged, *discoveries(judged, len(heads)), strict=True):
        for judgement in some.judgements:
            columns = judgement.columns()
            control, control_score = judgement.strongest()
            for number, (layer, head) in enumerate(heads):
                values = {name: float(column[number]) for name, column in columns.items()}
                yield (
                    _row(layer, head, some.pattern.name, judgement.measure)
                    | values
                    | {
                        "control": control,
                        "control_score": control_score,
                        "lift": values["score"] - control_score,
                        "q": None if np.isnan(q[number]) else float(q[number]),
                        "num_queries": some.num_queries,
                        "num_items": some.num_items,
                        "name": some.pattern.name if q[number] <= FALSE_DISCOVERIES else "",
                        "main": bool(main[number]),
                    }
                )


def description_rows(model: Totals, heads: Heads) -> Iterator[Row]:
    """The table's rows of what is measured without a target: no control, no test, no name."""
    if not model.num_queries("described", 0):
        return
    for number, name in enumerate(DESCRIPTIONS):
        yield from _plain_rows(
            model.score("described", "mass", number),
            heads,
            (name, "mean"),
            int(model.scoring["described/queries"][0]),
            int(model.num_items["described/queries"][0]),
        )


def frequency_rows(pattern: Pattern, number: int, model: Totals, heads: Heads) -> Iterator[Row]:
    """Rows of a pattern's mass over the frequency of its targets among what is visible."""
    mass, often = (model.score(pattern.level, what, number) for what in ("mass", "chance"))
    ratio = Score(
        ratio_means(mass.choosing, often.choosing),
        ratio_means(mass.scoring, often.scoring),
        ratio_means(mass.replicates, often.replicates[:, None]),
    )
    num_items = int(model.num_items[f"{pattern.level}/queries"][number])
    yield from _plain_rows(
        ratio, heads, (pattern.name, "mass / frequency"), model.num_queries(pattern.level, number), num_items
    )


def _plain_rows(
    score: Score, heads: Heads, what: tuple[str, str], num_queries: int, num_items: int
) -> Iterator[Row]:
    low, high = interval(score.replicates)
    for number, (layer, head) in enumerate(heads):
        yield _row(layer, head, *what) | {
            "score": float(score.scoring[number]),
            "low": float(low[number]),
            "high": float(high[number]),
            "num_queries": num_queries,
            "num_items": num_items,
        }


def _row(layer: int, head: int, pattern: str, measure: str) -> Row:
    """A row whose other columns are still empty."""
    return (
        {"layer": layer, "head": head, "pattern": pattern, "measure": measure}
        | dict.fromkeys(
            ("score", "low", "high", "control", "control_score", "lift", "p", "q", "num_queries", "num_items")
        )
        | {"name": "", "main": False}
    )
