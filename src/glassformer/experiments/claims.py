"""Claims that a study judges, fixed before its first run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from glassformer.choices import suggestion

ClaimTest = Literal["difference", "equivalence", "at_least", "at_most"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A published claim about a mean, and how it is tested.

    Raises:
        ValueError: a field that is missing, out of range, or of no use to the test.
    """

    id: str
    text: str
    """The claim as a sentence."""
    source: str
    """Who claims it."""
    literature: str = ""
    """What published work found; may be empty."""
    test: ClaimTest
    """``"difference"``: the mean differs from the null value, in a direction and possibly by a size.
    ``"equivalence"``: the mean differs from it by less than the margin.
    ``"at_least"``, ``"at_most"``: the mean is beyond a threshold."""
    claimed: float | None = None
    """The claimed mean of a difference, None if only its direction is claimed; the value that an equivalence
    is about, None for 0; the threshold of ``"at_least"`` and ``"at_most"``."""
    tolerance: float = 0.0
    """How far the mean of a difference may be from the claimed one and still reproduce it."""
    direction: int | None = None
    """Of a difference: 1 for a mean above the null value, -1 for one below."""
    margin: float | None = None
    """The smallest distance from the null value that is of interest; an equivalence needs it, a difference
    may have it."""
    unit: str = ""

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ValueError(f"claim {self.id!r}: {problem}")

    def _problem(self) -> str | None:
        for name in ("id", "text", "source"):
            if not getattr(self, name):
                return f"{name} must not be empty"
        tests = get_args(ClaimTest)
        if self.test not in tests:
            return f"test must be one of {', '.join(tests)}, got {self.test!r}{suggestion(self.test, tests)}"
        for name in ("claimed", "tolerance", "margin"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                return f"{name} must be a finite number, got {number}"
        if self.margin is not None and self.margin <= 0:
            return f"margin must be above 0, got {self.margin}"
        if self.test == "difference":
            return self._problem_of_difference()
        if self.direction is not None:
            return f"direction is only for a difference, got {self.direction} for test {self.test!r}"
        if self.tolerance != 0:
            return f"tolerance is only for a difference, got {self.tolerance} for test {self.test!r}"
        if self.test == "equivalence":
            return None if self.margin is not None else "an equivalence needs a margin above 0"
        if self.margin is not None:
            return f"margin is only for a difference or an equivalence, got {self.margin} for {self.test!r}"
        return None if self.claimed is not None else f"claimed must be the threshold of {self.test!r}"

    def _problem_of_difference(self) -> str | None:
        if self.direction not in (1, -1):
            return f"direction of a difference must be 1 or -1, got {self.direction}"
        if self.claimed is None and self.tolerance != 0:
            return f"tolerance needs a claimed size, got {self.tolerance} without one"
        if self.claimed is not None and self.tolerance <= 0:
            return f"tolerance of a claimed size must be above 0, got {self.tolerance}"
        return None
