"""Tables of the study of scaling laws: losses, fits, intervals, and what the design recovers.

A point is a mapping with ``size``, ``seed``, the two counts of parameters, ``tokens`` and ``loss``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from glassformer.experiments.scaling.chinchilla_fit import fit_chinchilla
from glassformer.experiments.scaling.design import fit_without_lowest, simulate_design
from glassformer.experiments.scaling.fits import ScalingLaw, fit_joint_law, fit_power_law
from glassformer.experiments.scaling.model_comparison import Identification, is_identified
from glassformer.experiments.scaling.uncertainty import exponents_by_seed
from glassformer.experiments.study import ResultTable

Array = npt.NDArray[np.float64]
COUNTS = {"all parameters": "num_parameters", "without embeddings": "num_parameters_without_embeddings"}
"""The two ways to count parameters."""
MIN_CELLS = 8
"""The fewest means of which AICc of the joint law exists."""


def columns_of(
    points: Sequence[Mapping[str, Any]], count: str = "num_parameters"
) -> tuple[Array, Array, Array]:
    """Parameters, tokens and losses."""
    return tuple(np.array([p[key] for p in points], float) for key in (count, "tokens", "loss"))  # type: ignore[return-value]


def joint_law(points: Sequence[Mapping[str, Any]]) -> ScalingLaw:
    """L(N, D) by relative least squares."""
    return fit_joint_law(*columns_of(points))


def losses_table(points: Sequence[Mapping[str, Any]]) -> ResultTable:
    """Mean and spread of the loss of each size and budget."""
    groups = dict.fromkeys((p["size"], p["num_parameters"], p["tokens"]) for p in points)
    rows: list[list[str | float | int]] = []
    for size, parameters, tokens in sorted(groups, key=lambda group: group[1:]):
        losses = [p["loss"] for p in points if (p["size"], p["tokens"]) == (size, tokens)]
        spread = float(np.std(losses, ddof=1))
        rows.append([size, parameters, tokens, round(float(np.mean(losses)), 4), round(spread, 4)])
    header = ["layers x d_model", "parameters", "tokens", "loss, nats per byte", "standard deviation"]
    return ResultTable("Loss of each size and budget, over the seeds", header, rows)


def means(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One point for each size and budget, with the mean loss over the seeds."""
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for point in points:
        groups.setdefault((point["size"], point["tokens"]), []).append(point)
    return [{**rows[0], "loss": float(np.mean([row["loss"] for row in rows]))} for rows in groups.values()]


def fits_table(points: Sequence[Mapping[str, Any]], label: str, count: str) -> ResultTable:
    """All fits for one way to count parameters."""
    columns = columns_of(means(points), count)
    most = columns[1] == columns[1].max()
    laws = {
        "L(N, D), relative least squares": fit_joint_law(*columns),
        "without the lowest D": fit_without_lowest(*columns),
        "without E": fit_joint_law(*columns, constant=False),
        "Huber loss on log L (approach 3)": fit_chinchilla(*columns, num_starts=50),
        "L(N) at the largest D": fit_power_law(columns[0][most], columns[2][most]),
        "L(N) at the largest D, without E": fit_power_law(columns[0][most], columns[2][most], constant=False),
    }
    rows: list[list[str | float | None]] = []
    for name, law in laws.items():
        # AICc needs more points than coefficients, and a sum of squares.
        has_criterion = law.errors != "huber" and law.num_points >= law.num_coefficients + 3
        criterion = round(law.aicc(), 2) if has_criterion else None
        beta = None if law.beta is None else round(law.beta, 4)
        rows.append([name, round(law.E, 4), round(law.alpha, 4), beta, law.A, law.B or None, criterion])
    caption = (
        "Of the mean losses over the seeds, without the held-out size. AICc is comparable between the "
        "first and the third row."
    )
    header = ["fit", "E", "alpha", "beta", "A", "B", "AICc"]
    return ResultTable(f"Fits to the means over seeds, N: {label}", header, rows, caption)


def intervals_table(points: Sequence[Mapping[str, Any]]) -> ResultTable:
    """Coefficients with intervals over the seeds."""
    seeds = [p["seed"] for p in points]
    rows: list[list[str | float]] = []
    for label, count in COUNTS.items():
        found = exponents_by_seed(seeds, *columns_of(points, count), confidence=0.99)
        if not identification(points, count).identified:
            del found["E"]
            rows.append([label, "E", "not identified", "", ""])
        for name, interval in found.items():
            rows.append(
                [label, name, round(interval.estimate, 4), round(interval.low, 4), round(interval.high, 4)]
            )
    header = ["N", "coefficient", "mean of the seeds' fits", "from", "to"]
    return ResultTable("Intervals of 99 % over seeds", header, rows)


def claimed_table() -> ResultTable:
    """What the claims imply about each other."""
    sizes, perplexities = np.array([5e7, 1e8, 2e8]), np.array([52.1, 38.2, 29.7])
    slope = -float(np.polyfit(np.log(sizes), np.log(np.log(perplexities)), 1)[0])
    time = math.log(36 / 4) / math.log(4)
    rows: list[list[str | float]] = [
        *(
            [f"FLOPs, 6 N D, of {n / 1e6:.0f} M parameters and 20 tokens for each", 6 * n * 20 * n]
            for n in sizes.tolist()
        ),
        ["-d log L / d log N of the claimed perplexities", round(slope, 3)],
        ["exponent of the claimed training times in N", round(time, 3)],
        ["exponent of 6 N D FLOPs in N, equal tokens", 1.0],
        ["exponent of 6 N D FLOPs in N, tokens in proportion", 2.0],
    ]
    return ResultTable("What the claims imply", ["quantity", "value"], rows)


def design_table(points: Sequence[Mapping[str, Any]], seeds: int) -> ResultTable:
    """Recovery of a law like the fitted one by this design."""
    sizes, tokens, _ = columns_of(points)
    law = joint_law(means(points))
    noise, shared = _error_sizes(points)
    found = simulate_design(
        np.unique(sizes), np.unique(tokens), law, noise, seeds, shared_sd=shared, repeats=20
    )
    rows: list[list[str | float | None]] = [
        [name, value, found.bias[name], found.spread[name], found.coverage.get(name)]
        for name, value in law.coefficients.items()
    ]
    caption = (
        f"20 simulations of this design with errors of {noise:.4f} nats of each run and {shared:.4f} that "
        f"the budgets of a size and seed share; in {100 * found.identified:.0f} % of them E was identified."
    )
    header = ["coefficient", "true", "bias", "standard deviation", "coverage of 95 % intervals"]
    return ResultTable("What this design recovers if the fitted law is true", header, rows, caption)


def _error_sizes(points: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Standard deviations of the loss between seeds: of each budget alone, and shared by a trunk's budgets.

    By analysis of variance of the differences from the mean over seeds.
    """
    mean_of = {(p["size"], p["tokens"]): p["loss"] for p in means(points)}
    by_trunk: dict[tuple[str, int], list[float]] = {}
    for p in points:
        difference = p["loss"] - mean_of[p["size"], p["tokens"]]
        by_trunk.setdefault((p["size"], p["seed"]), []).append(difference)
    differences = np.array(list(by_trunk.values()))  # (size and seed, budget)
    trunks, budgets = differences.shape
    seeds = len({p["seed"] for p in points})
    degrees = trunks * (seeds - 1) / seeds
    of_trunks = differences.mean(axis=1)
    within = float(((differences - of_trunks[:, None]) ** 2).sum()) / (degrees * (budgets - 1))
    between = budgets * float((of_trunks**2).sum()) / degrees
    return float(np.sqrt(within)), float(np.sqrt(max(0.0, (between - within) / budgets)))


def identification(points: Sequence[Mapping[str, Any]], count: str = "num_parameters") -> Identification:
    """Whether the means over seeds identify E."""
    columns = columns_of(means(points), count)
    if len(columns[0]) < MIN_CELLS:
        reason = f"E is not identified: AICc needs at least {MIN_CELLS} sizes and budgets."
        return Identification(False, reason)
    return is_identified(fit_joint_law(*columns), fit_joint_law(*columns, constant=False))
