"""``glassformer study``: rerun an experiment of the library and judge the claims about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from glassformer.cli.arguments import Command, Flag, option
from glassformer.cli.inputs import FolderOption
from glassformer.terminal import printable


@dataclass
class Study(Command):
    """Run a study: its protocol, its runs with several seeds, and a report with a verdict for each claim.

    After an interruption the same command continues; when all runs are done it only analyzes them again.
    """

    name: Annotated[
        str | None,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="NAME", help="Name of the study; --list shows all.", help_behavior_hint=""),
    ] = None
    list: Flag = False
    """List the studies with their questions and the time that they take."""
    scale: Annotated[Literal["smoke", "laptop", "full"], option(default_hint=None)] = "laptop"
    """smoke: under 2 minutes, to test the study. laptop: at most 3 hours on two cores. full: the sizes of the
    claims, for GPUs; its cost is printed first."""
    out: FolderOption = None
    """Folder for the runs, results.json and report.html. Default: runs/study-NAME-SCALE."""
    executor: Annotated[Literal["local", "ray", "slurm"], option(default_hint=None)] = "local"
    """Where the runs are executed: processes of this machine, a Ray cluster, or Slurm."""
    workers: Annotated[int | None, option("INT")] = None
    """Runs at the same time, with one thread each. Default: one per processor."""

    def run(self) -> None:
        """Run the study, or list all."""
        if self.list or self.name is None:
            if not self.list:
                raise ValueError("which study? --list shows all")
            print_studies()
            return
        from rich.console import Console

        from glassformer.experiments.study import find_study
        from glassformer.experiments.study_runner import GPU_FLOPS, REPORT, run_study
        from glassformer.experiments.sweep import SweepError

        study = find_study(self.name)
        scale = study.protocol.scale(self.scale)
        folder = Path(self.out or Path("runs") / f"study-{self.name}-{self.scale}")
        if self.scale == "full" and (flops := study.flops(scale)):
            hours = flops / GPU_FLOPS / 3600
            print(
                f"{flops:.2g} FLOPs: about {hours:,.0f} hours of one GPU at {GPU_FLOPS:.0e} FLOPs per second"
            )
        try:
            results = run_study(
                study, scale, folder, executor=self.executor, workers=self.workers, console=Console()
            )
        except SweepError as error:
            raise ValueError(str(error)) from error
        except (KeyboardInterrupt, SystemExit):
            print("interrupted: the same command continues", flush=True)
            raise
        for claim in results["claims"]:
            print(printable(f"{claim['verdict']}: {claim['text']}. {claim['reason']}"))
        print(f"report: {printable(folder / REPORT)}")


def print_studies() -> None:
    """Print each study with its question, its claims and its duration."""
    from glassformer.experiments.study import study_protocols
    from glassformer.experiments.sweep_progress import duration

    for name, protocol in study_protocols().items():
        times = ", ".join(
            f"{scale.name} {duration(60 * scale.minutes)}"
            for scale in protocol.scales.values()
            if scale.name != "full"
        )
        print(f"{name}: {protocol.question}\n    {len(protocol.claims)} claims; {times}")
