"""Studies: a protocol, the runs that it asks for, and their analysis."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING, Any

from glassformer.choices import choose
from glassformer.experiments.protocol import Protocol, Scale, load_protocol
from glassformer.experiments.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from glassformer.experiments.statistics import Estimate

STUDIES = {
    "architectures": "ArchitecturesStudy",
    "complexity": "ComplexityStudy",
    "heads": "HeadsStudy",
    "lengths": "LengthsStudy",
    "positions": "PositionsStudy",
    "scaling": "ScalingStudy",
    "why": "WhyStudy",
}
"""Class of each study, in ``study.py`` of the package with its name."""
PROTOCOL = "protocol.toml"


@dataclass(frozen=True)
class ResultTable:
    """A table of the report. Numbers stay numbers, so that other programs can read them."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]
    caption: str = ""


@dataclass(frozen=True)
class Findings:
    """What the analysis of a study's runs found."""

    estimates: Mapping[str, Estimate]
    """The measured value of each claim that could be tested, by the claim's name."""
    untestable: Mapping[str, str] = field(default_factory=dict)
    """Why the other claims could not."""
    tables: Sequence[ResultTable] = ()
    power: Sequence[ResultTable] = ()
    """What effects the study could have detected."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What the figures show, as values for JSON."""
    notes: Sequence[str] = ()
    """What is to be known about these results, in sentences."""


class Study(ABC):
    """A question that experiments answer."""

    pilot_function: str | None = None
    """Function of the runs of a pilot of learning rates, if it can be less than that of the study."""

    @property
    def name(self) -> str:
        """Name of the study's package."""
        return type(self).__module__.split(".")[-2]

    @cached_property
    def protocol(self) -> Protocol:
        """The protocol beside the study's module."""
        return load_protocol(Path(inspect.getfile(type(self))).with_name(PROTOCOL))

    @abstractmethod
    def runs(self, scale: Scale) -> list[Run]:
        """The runs at this scale, in the order in which they start."""

    @abstractmethod
    def analyze(self, results: Mapping[str, Any], scale: Scale) -> Findings:
        """Analyze the values that the runs returned, by the name of the run.

        The same values give the same findings to the last digit.
        """

    @abstractmethod
    def figures(self, data: Mapping[str, Any]) -> list[tuple[Figure, str]]:
        """Draw ``Findings.data``: figures with captions."""

    @abstractmethod
    def summarize(self, value: Any) -> dict[str, str | float | int]:
        """The most important numbers of one run, for the table of runs."""

    def flops(self, scale: Scale) -> float | None:
        """Floating-point operations of all runs, if they are what a scale costs."""
        return None


def power_table(by_claim: Mapping[str, Sequence[float]], alpha: float = 0.01) -> ResultTable:
    """The distance from a value that the runs could have told from it, for each claim.

    For an equivalence, the margin comes on top of it.

    Args:
        by_claim: one number per seed, by the name of the claim.
        alpha: level of the tests of all claims together.
    """
    from glassformer.experiments.statistics import detectable_effect

    rows: list[list[str | float | int]] = []
    for name, values in by_claim.items():
        spread = float(stdev(values))
        effect = detectable_effect(spread, len(values), alpha=alpha / len(by_claim))
        rows.append([name, spread, len(values), effect])
    header = ["claim", "standard deviation of a seed", "seeds", "detectable difference"]
    caption = (
        f"With 80 % power by a t test at {alpha:g}, divided by the number of claims. For an equivalence the "
        "margin comes on top."
    )
    return ResultTable("Power", header, rows, caption)


def find_study(name: str) -> Study:
    """The study with this name.

    Raises:
        ValueError: an unknown name; suggests the nearest one.
    """
    class_name = choose(STUDIES, name, "study")
    study: Study = getattr(import_module(f"glassformer.experiments.{name}.study"), class_name)()
    return study


def study_protocols() -> dict[str, Protocol]:
    """The protocol of each study, without importing its code."""
    root = Path(str(files("glassformer.experiments")))
    return {name: load_protocol(root / name / PROTOCOL) for name in STUDIES}
