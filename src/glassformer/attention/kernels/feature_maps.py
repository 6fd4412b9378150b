"""Feature maps of linear attention: phi with phi(q)^T phi(k) > 0.

Each returns phi(x) divided by exp(c), and the exponent c, which differs between rows and has no gradient, so
that large inputs do not overflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def elu_features(x: Tensor) -> tuple[Tensor, Tensor]:
    """elu(x) + 1 ``(..., seq, d_head)``, and the exponent c = 0, ``(seq, 1)`` (Katharopoulos et al. 2020).

    It is at least the fourth root of the smallest number, so that products of two are never zero.
    """
    smallest: float = torch.finfo(x.dtype).tiny ** 0.25
    return (F.elu(x) + 1).clamp(min=smallest), x.new_zeros(x.size(-2), 1)


def favor_features(x: Tensor, num_features: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features whose products estimate exp(q^T k) (FAVOR+, Choromanski et al. 2021, lemma 1).

    Args:
        x: ``(..., seq, d_head)``.
        num_features: m, the rows of W.
        seed: of W.

    Returns:
        exp(W x - |x|^2 / 2 - c) / sqrt(m), ``(..., seq, feature)``, and c, ``(..., seq, 1)``, without
        gradients, which makes the largest feature one. The root of the smallest number is added, so that the
        product of two is never zero.

    """
    projection = random_projection(num_features, x.size(-1), seed, x.dtype, x.device)
    exponents = x @ projection.mT  # (..., seq, feature)
    offset = (x.square().sum(-1, keepdim=True) + math.log(num_features)) / 2
    largest = exponents.detach().amax(-1, keepdim=True) - offset.detach()
    smallest: float = torch.finfo(x.dtype).tiny ** 0.5
    return (exponents - (offset + largest)).exp() + smallest, largest


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def random_projection(
    num_features: int, d_head: int, seed: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Gaussian vectors ``(feature, d_head)`` that are orthogonal in each block of ``d_head`` of them.

    They are a function of the arguments on every device and in every version, so that they are not saved.
    """
    return torch.from_numpy(_projection(num_features, d_head, seed)).to(device, dtype)


@lru_cache(maxsize=64)
def _projection(num_features: int, d_head: int, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    # NumPy never changes the numbers of RandomState, and its arrays can be kept while PyTorch is tracing.
    random = np.random.RandomState(seed)
    blocks = []
    for _ in range(0, num_features, d_head):
        orthogonal, triangle = np.linalg.qr(random.standard_normal((d_head, d_head)))
        # With a positive diagonal the decomposition is unique, and the directions are uniform.
        blocks.append((orthogonal * np.sign(np.diag(triangle))).T)
    lengths = np.linalg.norm(random.standard_normal((num_features, d_head)), axis=1, keepdims=True)
    projection: np.ndarray[Any, np.dtype[np.float64]] = np.concatenate(blocks)[:num_features] * lengths
    return projection


FEATURE_MAPS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "elu": elu_features,
    "favor": favor_features,
}
"""Feature maps by the value of ``feature_map``."""
