"""The joint scaling law by a Huber loss on logarithms: approach 3 of Hoffmann et al. (2022, section 3.3).

    f(a, b, e, alpha, beta) = sum_i Huber_delta(LSE(a - alpha log N_i, b - beta log D_i, e) - log L_i)

LSE is log-sum-exp, so that E = exp(e), A = exp(a) and B = exp(b) are positive; delta is 0.001. Unlike
squares, the Huber loss bounds the influence of a single run. L-BFGS searches the minimum from many starts.

f is far below 1, where optimizers with absolute tolerances stop early, as they did for the published estimate
(Besiroglu et al. 2024). Here f is minimized in units of delta^2, over centered logarithms of N and D, and the
best result is refined with tighter tolerances.

This module needs scipy, which the extra ``analysis`` installs.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

from glassformer.experiments.scaling.fits import Array, ScalingLaw, check_distinct, check_runs

try:
    from scipy.optimize import minimize
except ImportError as error:
    raise ImportError(
        f"fits of scaling laws need scipy: pip install 'glassformer[analysis]' ({error})"
    ) from error

HUBER_DELTA = 1e-3
"""The residual of log L at which the loss turns from a square to a line."""
START_GRID = {
    "a": (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    "b": (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    "e": (-1.0, -0.5, 0.0, 0.5, 1.0),
    "alpha": (0.0, 0.5, 1.0, 1.5, 2.0),
    "beta": (0.0, 0.5, 1.0, 1.5, 2.0),
}
"""The 4,500 starts of Hoffmann et al. (2022)."""


def fit_chinchilla(
    num_parameters: npt.ArrayLike,
    num_tokens: npt.ArrayLike,
    loss: npt.ArrayLike,
    *,
    num_starts: int = 200,
    delta: float = HUBER_DELTA,
) -> ScalingLaw:
    """Fit L(N, D) = E + A N^-alpha + B D^-beta with a Huber loss on log L; see the module for the formula.

    Args:
        num_parameters: ``(run,)``.
        num_tokens: ``(run,)``, of training.
        loss: ``(run,)``, in nats.
        num_starts: how many starts of ``START_GRID``, those of the lowest objective, to search from.
        delta: of the Huber loss.

    Raises:
        ValueError: lengths differ, values are not positive and finite, there are too few points, or
            ``num_starts`` or ``delta`` is not positive.
    """
    (sizes, tokens), losses = check_runs(loss, num_parameters=num_parameters, num_tokens=num_tokens)
    check_distinct(3, num_parameters=sizes, num_tokens=tokens)
    if len(losses) < 5:
        raise ValueError(f"5 coefficients need at least as many points, got {len(losses)}")
    if num_starts < 1 or not delta > 0:
        raise ValueError(f"num_starts and delta must be positive, got {num_starts} and {delta}")
    log_sizes, log_tokens = np.log(sizes), np.log(tokens)
    size_mean, token_mean = float(log_sizes.mean()), float(log_tokens.mean())
    data = (log_sizes - size_mean, log_tokens - token_mean, np.log(losses))

    def scaled(coefficients: Array) -> tuple[float, Array]:
        value, gradient = chinchilla_objective(coefficients, *data, delta=delta)
        return value / delta**2, gradient / delta**2

    starts = [
        np.array([a - alpha * size_mean, b - beta * token_mean, e, alpha, beta])
        for a, b, e, alpha, beta in itertools.product(*START_GRID.values())
    ]
    starts = sorted(starts, key=lambda start: scaled(start)[0])[:num_starts]
    options = {"ftol": 1e-10, "gtol": 1e-5, "maxiter": 2000}
    found = min(
        (minimize(scaled, start, jac=True, method="L-BFGS-B", options=options) for start in starts),
        key=lambda result: float(result.fun),
    )
    options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 20_000, "maxfun": 100_000}
    found = min(
        (found, minimize(scaled, found.x, jac=True, method="L-BFGS-B", options=options)),
        key=lambda result: float(result.fun),
    )
    a, b, e, alpha, beta = (float(value) for value in found.x)
    return ScalingLaw(
        E=math.exp(e),
        A=math.exp(a + alpha * size_mean),
        alpha=alpha,
        B=math.exp(b + beta * token_mean),
        beta=beta,
        residual_sum=float(found.fun) * delta**2,
        num_points=len(losses),
        num_coefficients=5,
        errors="huber",
    )


def chinchilla_objective(
    coefficients: Array,
    log_parameters: Array,
    log_tokens: Array,
    log_loss: Array,
    *,
    delta: float = HUBER_DELTA,
) -> tuple[float, Array]:
    """The sum of Huber losses and its gradient.

    Args:
        coefficients: a, b, e, alpha, beta.
        log_parameters: ``(run,)``.
        log_tokens: ``(run,)``.
        log_loss: ``(run,)``.
        delta: of the Huber loss.

    Returns:
        The value, and its derivatives by the coefficients in their order.
    """
    a, b, e, alpha, beta = coefficients
    terms = np.stack(
        [a - alpha * log_parameters, b - beta * log_tokens, np.full_like(log_loss, e)]
    )  # (term, run)
    largest = terms.max(axis=0)
    shares = np.exp(terms - largest)
    total = shares.sum(axis=0)
    residual = largest + np.log(total) - log_loss
    # The Huber loss is r^2 / 2 up to delta and delta (|r| - delta / 2) beyond; its derivative is r, clipped.
    clipped = np.clip(residual, -delta, delta)
    value = float(clipped @ (residual - clipped / 2))
    slopes = clipped * shares / total
    by_a, by_b, by_e = slopes.sum(axis=1)
    gradient = np.array([by_a, by_b, by_e, -slopes[0] @ log_parameters, -slopes[1] @ log_tokens])
    return value, gradient
