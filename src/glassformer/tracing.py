"""Detection of forward passes that are turned into a program."""

from __future__ import annotations

import torch


def is_tracing() -> bool:
    """Whether ``torch.compile``, ``torch.export`` or ``torch.jit.trace`` is recording the forward pass.

    Values of tensors must not decide anything then, because the program will run with other ones, and a
    tensor that was computed before would become a constant of the program.
    """
    is_traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return is_traced or torch.compiler.is_compiling()


def is_exporting() -> bool:
    """Whether ``torch.export`` or ``torch.jit.trace`` is recording: all of the pass becomes one program."""
    is_traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return is_traced or torch.compiler.is_exporting()
