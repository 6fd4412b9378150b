"""What heads that are off change in a model that guesses nothing: where the vectors of its tokens point."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def last_vectors(model: Any, ids: list[int]) -> Tensor:
    """What the last layer gives for each token, ``(seq, d_model)``."""
    hidden: Tensor = model.hidden_states(torch.tensor([ids], device=model.device))
    return hidden[0]


def cosines(before: Tensor, after: Tensor) -> list[float]:
    """Before . after / (|before| |after|) for each token: 1 where its vector points where it did.

    Args:
        before: ``(seq, d_model)``, with all heads.
        after: the same, without those that are off.

    Raises:
        ValueError: vectors that are no numbers.
    """
    found = torch.cosine_similarity(before.double(), after.double(), dim=-1)
    if not bool(found.isfinite().all()):
        raise ValueError("the model's hidden states are no numbers: its weights are broken or diverged")
    return [float(x) for x in found.clamp(-1, 1)]
