"""Learning rates chosen by a pilot: each rate at the full budget, on a seed that the study does not use.

    python -m glassformer.experiments.learning_rates positions laptop FOLDER

The scale's settings have the rates to try (``pilot_rates``) and the seed (``pilot_seed``). The command prints
the best rate of each group of runs; a person writes it into ``protocol.toml`` before the first run of the
study. After an interruption the same command continues.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from glassformer.experiments.executors import LocalExecutor
from glassformer.experiments.protocol import Protocol as StudyProtocol
from glassformer.experiments.protocol import Scale
from glassformer.experiments.runs import Run, read_result
from glassformer.experiments.study import find_study
from glassformer.experiments.study_runner import available_processors
from glassformer.experiments.sweep import run_sweep

FIRST = "-seed-0"
"""End of the names of the runs that a pilot repeats."""


class PilotedStudy(Protocol):
    """A study whose runs have ``learning_rate`` and ``seed`` among their settings."""

    pilot_function: str | None
    """Function of the runs of a pilot, if it can be less than that of a run of the study."""

    @property
    def protocol(self) -> StudyProtocol:
        """The protocol."""
        ...

    def runs(self, scale: Scale) -> list[Run]:
        """The runs, named ``GROUP-seed-N``."""
        ...

    def pilot_loss(self, value: Any) -> float:
        """Of a run's result, what the best learning rate minimizes."""
        ...


@dataclass(frozen=True)
class BestRate:
    """The best learning rate of a group of runs."""

    rate: float
    loss: float
    at_an_end: bool
    """Whether it is the lowest or the highest that was tried, so that one beyond may be better."""


def pilot_runs(study: PilotedStudy, scale: Scale) -> list[Run]:
    """The first run of each group with each rate, on the seed of the pilot.

    Raises:
        ValueError: the scale has no ``pilot_rates``, or its ``pilot_seed`` is a seed of the study.
    """
    rates, seed = scale.settings.get("pilot_rates", []), scale.settings.get("pilot_seed", 0)
    if not rates:
        raise ValueError(f"the scale {scale.name!r} has no pilot_rates: its learning rates are not piloted")
    if seed < scale.settings["seeds"]:
        raise ValueError(f"pilot_seed must not be one of the {scale.settings['seeds']} seeds, got {seed}")
    return [
        replace(
            run,
            name=f"{run.name.removesuffix(FIRST)}-rate-{rate:g}",
            function=study.pilot_function or run.function,
            settings={**run.settings, "learning_rate": rate, "seed": seed},
        )
        for run in study.runs(scale)
        if run.name.endswith(FIRST)
        for rate in rates
    ]


def best_rates(losses: Mapping[str, Mapping[float, float]]) -> dict[str, BestRate]:
    """The rate with the lowest loss of each group.

    Args:
        losses: by group and rate.
    """
    found = {}
    for group, by_rate in losses.items():
        rate = min(by_rate, key=by_rate.__getitem__)
        found[group] = BestRate(rate, by_rate[rate], rate in (min(by_rate), max(by_rate)))
    return found


def choose_learning_rates(
    study: PilotedStudy, scale: Scale, folder: Path, console: Console | None = None
) -> dict[str, dict[float, float]]:
    """Make the runs of the pilot that are not done.

    Returns:
        The loss by group and rate.
    """
    runs = pilot_runs(study, scale)
    run_sweep(runs, folder / "runs", LocalExecutor(available_processors()), console)
    losses: dict[str, dict[float, float]] = {}
    for run in runs:
        value = read_result(folder / "runs" / run.name)["value"]
        group = run.name.rpartition("-rate-")[0]
        losses.setdefault(group, {})[run.settings["learning_rate"]] = study.pilot_loss(value)
    return losses


def main(arguments: Sequence[str]) -> int:
    """Run the pilot of the study and scale on the command line, and print its losses and best rates."""
    name, scale_name, folder = arguments
    study: Any = find_study(name)
    console = Console()
    losses = choose_learning_rates(study, study.protocol.scale(scale_name), Path(folder), console)
    for group, best in best_rates(losses).items():
        tried = ", ".join(f"{rate:g}: {loss:.4f}" for rate, loss in losses[group].items())
        end = " (at an end of the rates that were tried)" if best.at_an_end else ""
        console.print(f"{group} = {best.rate:g}{end}; losses {tried}", markup=False, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
