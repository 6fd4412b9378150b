"""Checks of a design of runs: simulation before it is run, and a fit without the lowest budget after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glassformer.experiments.scaling.fits import Fit, ScalingLaw, check_runs, fit_joint_law
from glassformer.experiments.scaling.model_comparison import is_identified
from glassformer.experiments.scaling.uncertainty import t_intervals


@dataclass(frozen=True)
class DesignReport:
    """How well a design recovers a known law, by name of E and the exponents."""

    num_runs: int
    """Runs of the design."""
    bias: Mapping[str, float]
    """Mean over repeats of the estimate, minus the truth; the estimate is the fit of the means over seeds."""
    spread: Mapping[str, float]
    """Standard deviation over repeats of the estimate."""
    coverage: Mapping[str, float]
    """Share of repeats whose interval over seeds includes the truth; empty for a single seed."""
    identified: float
    """Share of repeats in which E is identified."""


def simulate_design(
    sizes: npt.ArrayLike,
    budgets: npt.ArrayLike,
    law: ScalingLaw,
    noise_sd: float,
    seeds: int,
    *,
    shared_sd: float = 0.0,
    repeats: int = 100,
    confidence: float = 0.95,
    seed: int = 0,
) -> DesignReport:
    """Simulate a design with a known law, fit the joint law, and compare.

    The design is every size with every budget and every seed. Errors are normal, and the law itself holds
    exactly, which no law does for real runs: this is the best that the design can do.

    Args:
        sizes: ``(size,)``, numbers of parameters.
        budgets: ``(budget,)``, numbers of tokens.
        law: the joint law that is true.
        noise_sd: standard deviation, in nats, of the error of each run.
        seeds: number of seeds.
        shared_sd: standard deviation, in nats, of an error that all budgets of a size and seed share, as when
            they are decays from a single run.
        repeats: number of simulations.
        confidence: of the intervals whose coverage is counted.
        seed: of the errors.

    Raises:
        ValueError: the law is no joint law, there is nothing to repeat, or the design has too few sizes,
            budgets or runs.
    """
    if law.beta is None:
        raise ValueError("law must be a joint law with B and beta, got beta=None")
    if seeds < 1 or repeats < 2:
        raise ValueError(f"seeds must be at least 1 and repeats at least 2, got {seeds} and {repeats}")
    if not (noise_sd >= 0 and shared_sd >= 0):
        raise ValueError(f"noise_sd and shared_sd must not be negative, got {noise_sd} and {shared_sd}")
    levels = np.meshgrid(np.asarray(sizes, dtype=np.float64), np.asarray(budgets, dtype=np.float64))
    num_parameters, num_tokens = (level.ravel() for level in levels)
    exact = law.predict(num_parameters, num_tokens)
    random = np.random.default_rng(seed)
    laws, covered, identified = [], [], 0
    for _ in range(repeats):
        errors = noise_sd * random.standard_normal((seeds, *levels[0].shape))  # (seed, budget, size)
        errors += shared_sd * random.standard_normal((seeds, 1, levels[0].shape[1]))
        losses = exact + errors.reshape(seeds, -1)
        mean = losses.mean(axis=0)
        fitted = fit_joint_law(num_parameters, num_tokens, mean)
        without = fit_joint_law(num_parameters, num_tokens, mean, constant=False)
        laws.append(list(fitted.coefficients.values()))
        identified += is_identified(fitted, without).identified
        if seeds > 1:
            fits = [fit_joint_law(num_parameters, num_tokens, loss) for loss in losses]
            intervals = t_intervals(fits, confidence)
            covered.append([value in intervals[name] for name, value in law.coefficients.items()])
    estimates = np.array(laws)
    names = list(law.coefficients)
    bias = estimates.mean(axis=0) - np.array(list(law.coefficients.values()))
    return DesignReport(
        num_runs=len(exact) * seeds,
        bias=dict(zip(names, bias.tolist(), strict=True)),
        spread=dict(zip(names, estimates.std(axis=0, ddof=1).tolist(), strict=True)),
        coverage=dict(zip(names, np.mean(covered, axis=0).tolist(), strict=True)) if covered else {},
        identified=identified / repeats,
    )


def fit_without_lowest(
    num_parameters: npt.ArrayLike,
    num_tokens: npt.ArrayLike,
    loss: npt.ArrayLike,
    *,
    fit: Fit = fit_joint_law,
    lowest: int = 1,
) -> ScalingLaw:
    """Repeat a fit without the runs of the fewest tokens.

    The law describes long training; runs that were too short for it can move E and beta. If the fits with and
    without them agree, these runs do not decide the result.

    Args:
        num_parameters: ``(run,)``.
        num_tokens: ``(run,)``.
        loss: ``(run,)``.
        fit: the fit.
        lowest: how many different numbers of tokens to leave out, from the lowest.

    Raises:
        ValueError: there are not more numbers of tokens than that, or as raised by ``fit``.
    """
    (sizes, tokens), losses = check_runs(loss, num_parameters=num_parameters, num_tokens=num_tokens)
    levels = np.unique(tokens)
    if not 0 < lowest < len(levels):
        raise ValueError(
            f"lowest must be 1 to {len(levels) - 1} for {len(levels)} numbers of tokens, got {lowest}"
        )
    rest = tokens >= levels[lowest]
    return fit(sizes[rest], tokens[rest], losses[rest])
