"""Means over seeds: confidence intervals, tests, and the effect that a number of seeds can detect.

    one_sample_t       interval and test of a mean against a value
    paired_t           the same for the differences to a reference with the same seeds
    equivalence        test that a mean lies within a margin of a value
    bootstrap_mean     interval without the assumption of a normal distribution; at least ten seeds
    holm               p-values corrected for the number of tests
    power_of           probability that a t test finds a true effect
    detectable_effect  the true effect that it finds with a given probability

A seed is one observation. Items within a run share its initialization and its order of the data, so they are
no independent evidence about how a model was built or trained; every function takes one number per seed.

The t tests assume that these numbers are normally distributed. A sign-flip test does not, but its p-value for
n seeds is at least 2 / 2**n: .0625 for 5 seeds and .0078 for 8. With fewer than 8 seeds, a p-value below .01
rests on the assumption.

All numbers of an ``Estimate`` are finite, so ``dataclasses.asdict`` of it is valid JSON; values that are not
finite are refused. Seeds that differ by no more than rounding errors have no spread: both ends of the
interval are the mean, and the p-value is its limit for a spread close to zero, 0 or 1.

This module needs scipy, which the extra ``analysis`` installs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

try:
    from scipy.optimize import brentq
    from scipy.stats import nct, norm, t
except ImportError as error:
    raise ImportError(
        f"statistics of studies need scipy: pip install 'glassformer[analysis]' ({error})"
    ) from error

MIN_BOOTSTRAP_SEEDS = 10
"""The smallest number of seeds of a bootstrap."""
RESAMPLES = 9999
"""Number of bootstrap resamples."""
ROUNDING = 1e-12
"""A spread below this fraction of the largest value counts as a rounding error."""
LARGEST = 1e100
"""The largest size of a value; squares of much larger ones overflow."""

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its confidence interval and its test."""

    mean: float
    low: float
    """Lower end of the confidence interval."""
    high: float
    """Upper end of the confidence interval."""
    p_value: float
    """Of the null hypothesis that the mean is ``null``, two-sided; with a margin, that it is as far away."""
    num_seeds: int
    null: float
    """The value that the mean is tested against."""
    confidence: float
    """Level of the interval."""
    standard_error: float
    """Standard deviation over seeds / sqrt(number of seeds)."""
    margin: float | None = None
    """Of an equivalence test; None for a test of a difference."""
    repeats: str = "seeds"
    """What the ``num_seeds`` numbers are of, if not of seeds: such as "blocks of texts"."""

    def p_value_within(self, margin: float) -> float:
        """p-value if the mean is at least ``margin`` from ``null``: the larger of two one-sided ones."""
        excess = margin - abs(self.mean - self.null)
        return _t_tail(excess, self.standard_error, self.num_seeds)

    def p_value_beyond(self, margin: float) -> float:
        """p-value if the mean is within ``margin`` of ``null``: twice the smaller of two one-sided ones."""
        excess = abs(self.mean - self.null) - margin
        return min(1.0, 2 * _t_tail(excess, self.standard_error, self.num_seeds))


def one_sample_t(values: npt.ArrayLike, *, null: float = 0.0, confidence: float = 0.99) -> Estimate:
    """Interval of a mean and its two-sided t test against a value (Student 1908).

    T = (mean - null) / (s / sqrt(n)) has n - 1 degrees of freedom; the interval is mean ± t_q * s / sqrt(n)
    with q = (1 + confidence) / 2.

    Args:
        values: one number per seed.
        null: the mean under the null hypothesis.
        confidence: level of the interval.

    Raises:
        ValueError: fewer than two seeds, or a value that is not finite.
    """
    numbers = _per_seed("values", values)
    return _t_estimate(numbers, null, confidence, scale=float(np.abs(numbers).max()))


def paired_t(
    values: npt.ArrayLike, reference: npt.ArrayLike, *, null: float = 0.0, confidence: float = 0.99
) -> Estimate:
    """Interval and test of the mean of values - reference, as in ``one_sample_t``.

    Args:
        values: one number per seed.
        reference: one number per seed, in the same order of seeds.
        null: the mean difference under the null hypothesis.
        confidence: level of the interval.

    Raises:
        ValueError: fewer than two seeds, different numbers of them, or a value that is not finite.
    """
    numbers, others = _per_seed("values", values), _per_seed("reference", reference)
    if len(numbers) != len(others):
        raise ValueError(
            f"values and reference must be of the same seeds, got {len(numbers)} and {len(others)} of them"
        )
    scale = float(max(np.abs(numbers).max(), np.abs(others).max()))
    return _t_estimate(numbers - others, null, confidence, scale)


def equivalence(
    differences: npt.ArrayLike, margin: float, *, null: float = 0.0, confidence: float = 0.98
) -> Estimate:
    """Interval of a mean and the test that it lies within a margin of a value (Schuirmann 1987).

    The p-value is the larger one of the two one-sided t tests of mean <= null - margin and
    mean >= null + margin. It is below alpha exactly where the interval of confidence 1 - 2 alpha lies within
    null ± margin; the default confidence belongs to an alpha of .01.

    Args:
        differences: one number per seed, such as values - reference.
        margin: the smallest difference of interest, fixed before the runs.
        null: the center of the margin.
        confidence: level of the interval.

    Raises:
        ValueError: fewer than two seeds, a value that is not finite, or a margin that is not above 0.
    """
    if not 0 < margin <= LARGEST:
        raise ValueError(f"margin must be a finite number above 0, got {margin}")
    numbers = _per_seed("differences", differences)
    return _t_estimate(numbers, null, confidence, float(np.abs(numbers).max()), float(margin))


def bootstrap_mean(
    values: npt.ArrayLike,
    *,
    null: float = 0.0,
    confidence: float = 0.99,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Interval of a mean by the bias-corrected and accelerated bootstrap (BCa, Efron 1987), and its test.

    The p-value is 1 - the confidence of the smallest interval that includes ``null``, or 2 / (resamples + 1)
    if all resampled means are on one side of it.

    A bootstrap over few seeds is too narrow: the spread of resampled means is sqrt((n - 1) / n) times the
    standard error, and their quantiles are nearer to those of a normal than of a t distribution (Hesterberg
    2015). For normally distributed values, a percentile interval of 95 % covers about
    P(abs(T) < 1.96 sqrt((n - 1) / n)): 84 % at 5 seeds and 90 % at 10. BCa corrects for skewness only.

    Args:
        values: one number per seed, at least ten.
        null: the mean under the null hypothesis.
        confidence: level of the interval.
        resamples: number of resamples.
        seed: of the resamples.

    Raises:
        ValueError: fewer than ten seeds, or a value that is not finite.
    """
    numbers = _per_seed("values", values)
    if len(numbers) < MIN_BOOTSTRAP_SEEDS:
        raise ValueError(
            f"a bootstrap needs at least {MIN_BOOTSTRAP_SEEDS} seeds, got {len(numbers)}: with so few its "
            "interval is too narrow (at 5 seeds, one of 95 % covers 84 %); use one_sample_t or paired_t"
        )
    by_t = _t_estimate(numbers, null, confidence, scale=float(np.abs(numbers).max()))
    if by_t.standard_error == 0:
        return by_t
    draws = np.random.default_rng(seed).integers(len(numbers), size=(resamples, len(numbers)))
    means = numbers[draws].mean(axis=1)
    deviations = (numbers - by_t.mean) / by_t.standard_error
    acceleration = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5)
    bias = norm.ppf(_share_below(means, by_t.mean))
    z = bias + norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = np.quantile(means, norm.cdf(bias + z / (1 - acceleration * z)))
    p_value = 2 / (resamples + 1)
    if means.min() <= null <= means.max():
        # The formula of the ends, solved for the level of the interval that ends at null.
        z = norm.ppf(_share_below(means, null)) - bias
        p_value = max(p_value, 2 * norm.sf(abs(z / (1 + acceleration * z) - bias)))
    return replace(by_t, low=float(low), high=float(high), p_value=float(p_value))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for the number of tests (Holm 1979).

    The corrected i-th smallest of m p-values is the maximum of min(1, (m - j + 1) p_j) over j <= i. The
    probability that any true null hypothesis has one of at most alpha is at most alpha, however the tests
    depend on each other.

    Args:
        p_values: of one family of tests, by name.

    Returns:
        The corrected p-values by name, in the same order.

    Raises:
        ValueError: a p-value that is not between 0 and 1.
    """
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise ValueError(f"p-values must be between 0 and 1, got {p} for {name!r}")
    corrected, largest = dict(p_values), 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = largest
    return corrected


def power_of(effect: float, sd: float, num_seeds: int, alpha: float = 0.01) -> float:
    """Probability that a two-sided one-sample or paired t test finds a true effect (Cohen 1988, chapter 2).

    P(abs(T) > t_(1 - alpha / 2)), where T has the noncentral t distribution with n - 1 degrees of freedom and
    noncentrality effect / sd * sqrt(n).

    Args:
        effect: true mean - null.
        sd: standard deviation over seeds; of the differences if the test is paired.
        num_seeds: number of seeds n.
        alpha: level of the test.

    Raises:
        ValueError: fewer than two seeds, a negative sd, or an alpha that is not between 0 and 1.
    """
    if num_seeds < 2:
        raise ValueError(f"a t test needs at least two seeds, got {num_seeds}")
    if not 0 <= sd <= LARGEST:
        raise ValueError(f"sd must be a finite number, 0 or above, got {sd}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    if sd == 0:
        return 1.0 if effect else alpha
    df, noncentrality = num_seeds - 1, abs(effect) / sd * math.sqrt(num_seeds)
    critical = t.isf(alpha / 2, df)
    # The other tail is P(T < -critical), which nct.cdf gives as NaN where it is tiny.
    return float(nct.sf(critical, df, noncentrality) + nct.sf(critical, df, -noncentrality))


def detectable_effect(sd: float, num_seeds: int, *, alpha: float = 0.01, power: float = 0.8) -> float:
    """The smallest true effect that the test of ``power_of`` finds with a given probability.

    Args:
        sd: standard deviation over seeds; of the differences if the test is paired.
        num_seeds: number of seeds.
        alpha: level of the test.
        power: the probability, above alpha.

    Raises:
        ValueError: as in ``power_of``, or a power that is not between alpha and 1.
    """
    power_of(0.0, sd, num_seeds, alpha)  # checks the arguments
    if not alpha < power < 1:
        raise ValueError(f"power must be between alpha ({alpha}) and 1, got {power}")

    def excess_power(effect: float) -> float:
        return power_of(effect, 1.0, num_seeds, alpha) - power

    upper = 1.0
    while excess_power(upper) < 0:
        upper *= 2
    return sd * float(brentq(excess_power, 0.0, upper))


def _per_seed(name: str, values: npt.ArrayLike) -> Numbers:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise ValueError(f"{name} must hold one number per seed, got an array of shape {numbers.shape}")
    if len(numbers) < 2:
        raise ValueError(f"{name} must hold the numbers of at least two seeds, got {len(numbers)}")
    for index, number in enumerate(numbers.tolist()):
        if not abs(number) <= LARGEST:
            raise ValueError(f"{name} must be finite numbers, got {number} at index {index}")
    return numbers


def _t_estimate(
    numbers: Numbers, null: float, confidence: float, scale: float, margin: float | None = None
) -> Estimate:
    """The estimate of a mean; ``scale`` is the size of the numbers that rounding errors are relative to."""
    if not abs(null) <= LARGEST:
        raise ValueError(f"null must be a finite number, got {null}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    mean, sd, num_seeds = float(numbers.mean()), float(numbers.std(ddof=1)), len(numbers)
    rounding = ROUNDING * max(scale, abs(null))
    if sd <= rounding:
        sd, mean = 0.0, float(null) if abs(mean - null) <= rounding else mean
    standard_error = sd / math.sqrt(num_seeds)
    half = float(t.ppf((1 + confidence) / 2, num_seeds - 1)) * standard_error
    estimate = Estimate(
        mean, mean - half, mean + half, 1.0, num_seeds, float(null), confidence, standard_error, margin
    )
    p_value = estimate.p_value_beyond(0.0) if margin is None else estimate.p_value_within(margin)
    return replace(estimate, p_value=p_value)


def _t_tail(excess: float, standard_error: float, num_seeds: int) -> float:
    """P(T > excess / standard error); the limit where there is no spread."""
    if standard_error == 0:
        return 0.0 if excess > 0 else 1.0
    return float(t.sf(excess / standard_error, num_seeds - 1))


def _share_below(means: Numbers, value: float) -> float:
    """Share of means below a value, equal ones counted half; never 0 or 1."""
    share = ((means < value).mean() + (means <= value).mean()) / 2
    return float(np.clip(share, 1 / (len(means) + 1), len(means) / (len(means) + 1)))
