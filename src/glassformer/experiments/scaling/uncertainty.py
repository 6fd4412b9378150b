"""Intervals of the exponents and of the irreducible loss.

    over seeds      how much the estimates would differ with other seeds: seeds are the unit, because runs of
                    one seed may share its data order and initialization
    of a single fit how much they would differ with other errors of the same runs, by the wild bootstrap

With fewer than ten seeds the interval over seeds is Student's t over one fit for each seed. Percentiles of
resampled means are too narrow by sqrt(1 - 1 / n) and use normal quantiles: at 5 seeds a 95 % interval covers
84 %. From ten seeds on, seeds are resampled with all their runs, and the percentiles are widened to make up
for both (Hesterberg 2015).

No interval of E is valid if E is not identified: an estimate at a bound has no such distribution (Andrews
2000), and E is then bounded from above only.

This module needs scipy, which the extra ``analysis`` installs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glassformer.experiments.scaling.fits import Array, Fit, ScalingLaw, check_runs, fit_joint_law
from glassformer.experiments.statistics import MIN_BOOTSTRAP_SEEDS

try:
    from scipy.stats import norm, t
except ImportError as error:
    raise ImportError(
        f"fits of scaling laws need scipy: pip install 'glassformer[analysis]' ({error})"
    ) from error


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval."""

    estimate: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def exponents_by_seed(
    seeds: npt.ArrayLike,
    num_parameters: npt.ArrayLike,
    num_tokens: npt.ArrayLike,
    loss: npt.ArrayLike,
    *,
    fit: Fit = fit_joint_law,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Student's t intervals of E and the exponents over one fit for each seed.

    The estimate is the mean over seeds. Averaging does not remove the bias of a fit of few runs; for a given
    design ``simulate_design`` tells how large it is.

    Args:
        seeds: ``(run,)``, the seed of each run.
        num_parameters: ``(run,)``.
        num_tokens: ``(run,)``.
        loss: ``(run,)``.
        fit: the fit of one seed.
        confidence: of each interval.

    Raises:
        ValueError: fewer than two seeds, or as raised by ``fit``.
    """
    groups, data = _by_seed(seeds, num_parameters, num_tokens, loss)
    return t_intervals([fit(*(values[group] for values in data)) for group in groups], confidence)


def seed_intervals(
    seeds: npt.ArrayLike,
    num_parameters: npt.ArrayLike,
    num_tokens: npt.ArrayLike,
    loss: npt.ArrayLike,
    *,
    fit: Fit = fit_joint_law,
    confidence: float = 0.95,
    resamples: int = 999,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of E and the exponents over seeds.

    From ``MIN_BOOTSTRAP_SEEDS`` seeds on, a bootstrap of pairs (Efron & Tibshirani 1993, section 9.5) whose
    units are the seeds, around the fit of all runs; below, the intervals of ``exponents_by_seed``.

    Args:
        seeds: ``(run,)``, the seed of each run.
        num_parameters: ``(run,)``.
        num_tokens: ``(run,)``.
        loss: ``(run,)``.
        fit: the fit.
        confidence: of each interval.
        resamples: samples of the seeds.
        seed: of the resampling.

    Raises:
        ValueError: fewer than two seeds, or as raised by ``fit``.
    """
    groups, data = _by_seed(seeds, num_parameters, num_tokens, loss)
    number = len(groups)
    if number < MIN_BOOTSTRAP_SEEDS:
        return exponents_by_seed(seeds, num_parameters, num_tokens, loss, fit=fit, confidence=confidence)
    random = np.random.default_rng(seed)
    laws = []
    for _ in range(resamples):
        runs = np.concatenate([groups[index] for index in random.integers(number, size=number)])
        laws.append(fit(*(values[runs] for values in data)))
    quantile = float(t.ppf((1 + confidence) / 2, number - 1)) * math.sqrt(number / (number - 1))
    return _percentiles(fit(*data), laws, float(norm.cdf(-quantile)))


def residual_bootstrap(
    num_parameters: npt.ArrayLike,
    num_tokens: npt.ArrayLike,
    loss: npt.ArrayLike,
    *,
    fit: Fit = fit_joint_law,
    confidence: float = 0.95,
    resamples: int = 199,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile intervals of E and the exponents of a single fit, by the wild bootstrap (Liu 1988).

    Each sample takes the fitted losses plus the residuals with random signs (Davidson & Flachaire 2008),
    times sqrt(n / (n - p)) for n runs and p coefficients. The signs keep the size of the error of each run,
    so errors may differ in size between runs. The intervals hold for this design and for independent errors;
    errors that runs share, such as those of a seed, and a law of another form are not accounted for.

    Args:
        num_parameters: ``(run,)``.
        num_tokens: ``(run,)``.
        loss: ``(run,)``.
        fit: the fit.
        confidence: of each interval.
        resamples: samples of the residuals.
        seed: of the signs.

    Raises:
        ValueError: not more runs than coefficients, or as raised by ``fit``.
    """
    (sizes, tokens), losses = check_runs(loss, num_parameters=num_parameters, num_tokens=num_tokens)
    law = fit(sizes, tokens, losses)
    freedom = len(losses) - law.num_coefficients
    if freedom < 1:
        raise ValueError(
            f"residuals need more runs than the {law.num_coefficients} coefficients, got {len(losses)}"
        )
    fitted = law.predict(sizes, tokens if law.beta is not None else None)
    residuals = (losses - fitted) * math.sqrt(len(losses) / freedom)
    random = np.random.default_rng(seed)
    laws = [
        fit(sizes, tokens, fitted + residuals * random.choice([-1.0, 1.0], len(losses)))
        for _ in range(resamples)
    ]
    return _percentiles(law, laws, (1 - confidence) / 2)


def t_intervals(laws: Sequence[ScalingLaw], confidence: float = 0.95) -> dict[str, Interval]:
    """Student's t intervals of E and the exponents over independent fits.

    Raises:
        ValueError: fewer than two laws.
    """
    number = len(laws)
    if number < 2:
        raise ValueError(f"an interval over seeds needs at least two seeds, got {number}")
    quantile = float(t.ppf((1 + confidence) / 2, number - 1))
    intervals = {}
    for name, values in _estimates(laws).items():
        mean, half = float(values.mean()), quantile * float(values.std(ddof=1)) / math.sqrt(number)
        intervals[name] = Interval(mean, mean - half, mean + half)
    return intervals


def _estimates(laws: Sequence[ScalingLaw]) -> Mapping[str, Array]:
    """E and the exponents, ``(law,)`` each."""
    return {name: np.array([law.coefficients[name] for law in laws]) for name in laws[0].coefficients}


def _percentiles(law: ScalingLaw, laws: Sequence[ScalingLaw], tail: float) -> dict[str, Interval]:
    """Intervals that leave out this share of the laws on each side."""
    return {
        name: Interval(law.coefficients[name], *(float(end) for end in np.quantile(values, [tail, 1 - tail])))
        for name, values in _estimates(laws).items()
    }


def _by_seed(
    seeds: npt.ArrayLike, num_parameters: npt.ArrayLike, num_tokens: npt.ArrayLike, loss: npt.ArrayLike
) -> tuple[list[npt.NDArray[np.intp]], tuple[Array, Array, Array]]:
    """The runs of each seed; sizes, tokens and losses."""
    (sizes, tokens), losses = check_runs(loss, num_parameters=num_parameters, num_tokens=num_tokens)
    ids = np.asarray(seeds)
    if ids.shape != losses.shape:
        raise ValueError(
            f"seeds must have one value for each of the {len(losses)} losses, got shape {ids.shape}"
        )
    return [np.flatnonzero(ids == value) for value in np.unique(ids)], (sizes, tokens, losses)
