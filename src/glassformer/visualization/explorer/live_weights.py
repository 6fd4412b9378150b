"""Weights of a model in 8 bits, for the forward pass that a live page computes itself.

Each row of a matrix is stored as integers from -127 to 127 with one float32 factor. Vectors (norms and
biases) and position biases stay float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.models import TransformerModel
from glassformer.positions import RelativeBias
from glassformer.visualization.explorer.encoding import compress, decompress

MAX_SIZE = 30_000_000
"""Maximum number of 8-bit weights of a live page."""
LEVELS = 127
"""The largest integer of a row."""


@dataclass(frozen=True)
class PackedTensor:
    """An encoded matrix ``(rows, columns)`` or vector ``(size,)``."""

    shape: list[int]
    data: str
    """Of a matrix, the factors of its rows as float32, then its integers as int8; of a vector, float32.
    Little-endian; compressed, in base 91."""


def quantize_rows(weight: Tensor) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Round a matrix ``(rows, columns)`` to integers, and the factor of each row, ``(rows,)``."""
    rows: npt.NDArray[np.float32] = weight.detach().float().cpu().numpy()
    factors = (np.abs(rows).max(axis=1) / LEVELS).astype(np.float32)
    divisors = np.where(factors > 0, factors, np.float32(1))
    integers = np.rint(rows / divisors[:, None]).clip(-LEVELS, LEVELS).astype(np.int8)
    return integers, factors


def dequantize_rows(integers: npt.NDArray[np.int8], factors: npt.NDArray[np.float32]) -> Tensor:
    """The float32 matrix that ``quantize_rows`` stands for."""
    return torch.from_numpy(integers.astype(np.float32) * factors[:, None])


def pack_tensor(tensor: Tensor, *, quantized: bool) -> PackedTensor:
    """Encode a float32 vector, or a matrix in 8 bits."""
    if quantized:
        integers, factors = quantize_rows(tensor)
        data = factors.astype("<f4").tobytes() + integers.tobytes()
    else:
        data = tensor.detach().float().cpu().numpy().astype("<f4").tobytes()
    return PackedTensor(list(tensor.shape), compress(data))


def unpack_matrix(packed: PackedTensor) -> Tensor:
    """Decode a matrix of 8 bits."""
    data, (rows, columns) = decompress(packed.data), packed.shape
    factors = np.frombuffer(data[: 4 * rows], dtype="<f4").astype(np.float32)
    return dequantize_rows(np.frombuffer(data[4 * rows :], dtype=np.int8).reshape(rows, columns), factors)


def named_weights(model: TransformerModel) -> dict[str, Tensor]:
    """The parameters that a page computes with, by name: tied ones once, and no pooler.

    The table of a relative position bias is left out, too: the biases are stored by distance.
    """
    left_out = ("pooler.", "positions.") if isinstance(model.positions, RelativeBias) else ("pooler.",)
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name not in model.tied_parameters() and not name.startswith(left_out)
    }


def is_quantized(tensor: Tensor) -> bool:
    """Whether a parameter is stored in 8 bits: all matrices are."""
    return tensor.dim() == 2


def size_in_bytes(model: TransformerModel) -> int:
    """Number of 8-bit weights of a model."""
    return sum(tensor.numel() for tensor in named_weights(model).values() if is_quantized(tensor))


def dequantized_state(model: TransformerModel) -> dict[str, Tensor]:
    """All parameters with the values that a page computes with, in float32; tied ones under both names."""
    state = {name: tensor.detach().float().cpu() for name, tensor in model.state_dict().items()}
    for name, tensor in named_weights(model).items():
        if is_quantized(tensor):
            state[name] = dequantize_rows(*quantize_rows(tensor))
    return state | {name: state[target] for name, target in model.tied_parameters().items()}
