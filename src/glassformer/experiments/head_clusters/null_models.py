"""Null models of the clustering study: a single cloud of points with the spread of the heads.

    distances  = those of the points U diag(sqrt(v)), by principal coordinates (Gower 1966)
    a sample   = those of Q diag(sqrt(v)), where the columns of Q are drawn independently

A null model must match the data in everything except clusters: a skewed cloud, for example, has better
clusters than a Gaussian one. There are two null models.

    unimodal  each column has the unimodal density of maximum likelihood for that column of U (Grenander 1956;
              Birgé 1997), which keeps its skewness and tails but has a single mode
    uniform   each column is uniform on an interval, without any mode (Tibshirani et al. 2001)

The columns are then made orthonormal, the widest first, so that the spread along every axis is exactly that
of the heads. With Gaussian densities this is the rotation test, which is exact for Gaussian clouds (Langsrud
2005).

Limitation: principal axes mix axes of the same spread. If a cloud is skewed along many axes of similar
spread, the unimodal model underestimates the skewness, and the test rejects more often than its nominal
level.

This module needs scikit-learn, which the extra ``analysis`` installs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import isotonic_regression

from glassformer.experiments.head_clusters.distances import Matrix, principal_coordinates

NUM_MODES = 15
"""Positions, evenly spaced by rank, that are tried as the mode of a density."""


@dataclass(frozen=True)
class NullModel:
    """A distribution of distances between as many points as there are heads."""

    eigenvalues: Matrix
    """Of the principal coordinates, ``(axis,)``, by size; negative ones belong to non-Euclidean distances."""
    densities: list[tuple[Matrix, Matrix]]
    """For each axis the distribution function of its values: points, and the probability below each."""

    @classmethod
    def unimodal(cls, distances: Matrix) -> NullModel:
        """Unimodal along every axis, with the skewness of points at these distances ``(point, point)``."""
        eigenvalues, axes = principal_axes(distances)
        return cls(eigenvalues, [unimodal_distribution(axis) for axis in axes.T])

    @classmethod
    def uniform(cls, distances: Matrix) -> NullModel:
        """Uniform along every axis."""
        eigenvalues, _ = principal_axes(distances)
        even = np.linspace(0, 1, len(distances))
        return cls(eigenvalues, [(even, even)] * len(eigenvalues))

    def sample(self, random: np.random.Generator) -> Matrix:
        """Draw distances ``(point, point)``.

        Raises:
            ValueError: all distances of the data are zero.
        """
        if not self.densities:
            raise ValueError("all distances are zero: there is no null model to sample from")
        total = len(self.densities[0][0])
        drawn = np.stack([np.interp(random.random(total), below, x) for x, below in self.densities], axis=1)
        q, r = np.linalg.qr(drawn - drawn.mean(0))
        q *= np.sign(np.diag(r))
        products = (q * self.eigenvalues) @ q.T
        squares = np.diag(products)
        distances: Matrix = np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0))
        np.fill_diagonal(distances, 0)
        return distances


def principal_axes(distances: Matrix) -> tuple[Matrix, Matrix]:
    """Principal coordinates with non-zero eigenvalues, largest absolute value first."""
    values, axes = principal_coordinates(distances)
    order = np.argsort(-np.abs(values))
    order = order[np.abs(values[order]) > 1e-9 * np.abs(values).max()]
    return values[order], axes[:, order]


def unimodal_distribution(values: Matrix) -> tuple[Matrix, Matrix]:
    """The unimodal distribution of maximum likelihood, with constant density between neighboring values.

    Args:
        values: ``(point,)``, not all equal.

    Returns:
        The sorted values, and the probability below each of them.
    """
    x = np.sort(values)
    gaps = np.maximum(np.diff(x), 1e-9 * (x[-1] - x[0]))
    empirical = 1 / (len(gaps) * gaps)
    fits = []
    for mode in np.unique(np.linspace(0, len(gaps), NUM_MODES).astype(int)):
        rising, falling = slice(None, mode), slice(mode, None)
        fits.append(
            np.concatenate(
                [
                    isotonic_regression(empirical[side], sample_weight=gaps[side], increasing=increasing)
                    for side, increasing in ((rising, True), (falling, False))
                    if len(gaps[side])
                ]
            )
        )
    likeliest = max(fits, key=lambda density: float(np.log(density).sum()))
    below = np.concatenate([[0.0], np.cumsum(likeliest * gaps)])
    return x, below / below[-1]
