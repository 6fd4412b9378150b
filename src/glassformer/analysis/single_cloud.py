"""What distances look like where there are no clusters: a single cloud, as wide as the heads'.

    distances  = those of the places U diag(sqrt(v)), by principal coordinates (Gower 1966)
    a draw     = those of Q diag(sqrt(v)), where the columns of Q are drawn apart from each other

A reference without clusters has to be like the data in all else, or the test finds that instead: even a
skewed cloud has better clusters than a Gaussian one. There are two.

    one_peaked  each column from the one-peaked density that is likeliest to have made that of U (Grenander
                1956; Birgé 1997): its skewness and its tails stay, its further peaks go
    box         each column evenly from an interval (Tibshirani et al. 2001): no peak at all

The columns are then made orthonormal, the widest first, so that the spread along every axis is that of the
heads, exactly. Were the densities Gaussian, this would be the rotation test, which is exact for Gaussian
clouds of any shape (Langsrud 2005).

Principal axes mix what is as wide: of a cloud that is skewed along many axes alike they show too little of
it, and of such clouds more than the nominal share seems clustered.

This module needs scikit-learn, which the extra ``analysis`` brings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import isotonic_regression

from glassformer.analysis.head_distances import Matrix

PEAKS = 15
"""Places, evenly spaced by rank, that are tried as the peak of a density."""


@dataclass(frozen=True)
class SingleCloud:
    """Draws distances of as many points from a single cloud."""

    spread: Matrix
    """The eigenvalues ``(axis,)``, by size; distances that are not quite Euclidean have some below zero."""
    densities: list[tuple[Matrix, Matrix]]
    """Of each axis: where its density changes, and the share of the values that are below, ``(point,)``."""

    @classmethod
    def one_peaked(cls, distances: Matrix) -> SingleCloud:
        """As skewed along every axis as points at these distances ``(point, point)``."""
        spread, axes = principal_axes(distances)
        return cls(spread, [one_peaked(axis) for axis in axes.T])

    @classmethod
    def box(cls, distances: Matrix) -> SingleCloud:
        """Even along every axis."""
        spread, _ = principal_axes(distances)
        even = np.linspace(0, 1, len(distances))
        return cls(spread, [(even, even)] * len(spread))

    def draw(self, random: np.random.Generator) -> Matrix:
        """Distances ``(point, point)``."""
        if not self.densities:
            raise ValueError("all points are in one place: there is no cloud to draw from")
        total = len(self.densities[0][0])
        drawn = np.stack([np.interp(random.random(total), below, x) for x, below in self.densities], axis=1)
        q, r = np.linalg.qr(drawn - drawn.mean(0))
        q *= np.sign(np.diag(r))
        products = (q * self.spread) @ q.T
        own = np.diag(products)
        distances: Matrix = np.sqrt(np.maximum(own[:, None] + own - 2 * products, 0))
        np.fill_diagonal(distances, 0)
        return distances


def principal_axes(distances: Matrix) -> tuple[Matrix, Matrix]:
    """Where points at these distances are: their spread ``(axis,)``, and orthonormal ``(point, axis)``.

    The widest come first; axes without any spread are left out.
    """
    total = len(distances)
    centre = np.eye(total) - 1 / total
    spread, axes = np.linalg.eigh(-centre @ distances**2 @ centre / 2)
    widest = np.argsort(-np.abs(spread))
    widest = widest[np.abs(spread[widest]) > 1e-9 * np.abs(spread).max()]
    return spread[widest], axes[:, widest]


def one_peaked(values: Matrix) -> tuple[Matrix, Matrix]:
    """The likeliest density that rises to a peak and then falls: constant between neighbours.

    Args:
        values: ``(point,)``, not all the same.

    Returns:
        The values in order, and the share of the density below each of them.
    """
    x = np.sort(values)
    gaps = np.maximum(np.diff(x), 1e-9 * (x[-1] - x[0]))
    empirical = 1 / (len(gaps) * gaps)
    fits = []
    for peak in np.unique(np.linspace(0, len(gaps), PEAKS).astype(int)):
        rise, fall = slice(None, peak), slice(peak, None)
        fits.append(
            np.concatenate(
                [
                    isotonic_regression(empirical[side], sample_weight=gaps[side], increasing=up)
                    for side, up in ((rise, True), (fall, False))
                    if len(gaps[side])
                ]
            )
        )
    likeliest = max(fits, key=lambda density: float(np.log(density).sum()))
    below = np.concatenate([[0.0], np.cumsum(likeliest * gaps)])
    return x, below / below[-1]
