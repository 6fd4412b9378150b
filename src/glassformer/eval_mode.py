"""Context manager for evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(model: object) -> Iterator[None]:
    """Put a model into evaluation mode, and restore the mode of every module afterwards.

    Args:
        model: a module; any other object is left alone.
    """
    if not isinstance(model, nn.Module):
        yield
        return
    in_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in in_training:
            module.training = True
