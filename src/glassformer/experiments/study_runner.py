"""Running a study: checks, the sweep of its runs, its analysis, and its results."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from glassformer.experiments.executors import Resources, build_executor
from glassformer.experiments.protocol import Scale, differences
from glassformer.experiments.runs import Run, is_done, read_result
from glassformer.experiments.study import Study
from glassformer.experiments.sweep import run_sweep
from glassformer.experiments.sweep_progress import duration
from glassformer.experiments.verdicts import judge_all
from glassformer.files import atomic_write, read_json
from glassformer.folder_lock import lock_folder
from glassformer.integers import check_at_least
from glassformer.terminal import count_of

RESULTS, REPORT, STUDY = "results.json", "report.html", "study.json"
"""Files of a study's folder."""
GPU_FLOPS = 2e14
"""Floating-point operations per second that are assumed for the hours of a scale: a fifth of what an H100 is
specified for in dense bfloat16 products."""
TIME_LIMIT = 2.0
"""Of each job of a batch system, in expected times of the whole study: no run should come near it."""
CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where a process finds the limits of its control group."""
SMOKE = "The scale smoke only tests that the study runs."
"""Why no claim is judged at that scale."""


def run_study(
    study: Study,
    scale: Scale,
    folder: Path,
    *,
    executor: str = "local",
    workers: int | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Run what is not done, analyze all, and write ``results.json`` and ``report.html``.

    The folder is locked meanwhile. After an interruption, the same call continues.

    Args:
        study: the study.
        scale: its sizes, one of ``study.protocol.scales``.
        folder: where the runs and results are kept.
        executor: a name in ``EXECUTORS``.
        workers: runs at the same time on this machine. Default: one per processor, with one thread each; one
            with all threads if the scale is ``exclusive``.
        console: where progress is shown. Default: nowhere.

    Returns:
        The content of ``results.json``.

    Raises:
        ValueError: the folder holds another study, scale or protocol (says what differs); ``workers`` is
            below 1, above 1 for an exclusive scale, or given for another executor than the local one; an
            exclusive scale has another executor.
        OSError: there is too little memory or disk for the scale, or another process uses the folder.
        SweepError: runs failed.
    """
    from glassformer.experiments.study_report import write_report

    processors = available_processors()
    if scale.exclusive and (workers not in (None, 1) or executor != "local"):
        given = f"--executor {executor}" if executor != "local" else f"--workers {workers}"
        raise ValueError(
            f"{study.name} measures time, so its runs are made one by one on this machine: leave out {given}"
        )
    if workers is not None and executor != "local":
        raise ValueError(
            f"--workers is for the local executor, got --workers {workers} --executor {executor}: "
            "the cluster decides how many runs fit"
        )
    if workers is not None:
        check_at_least(1, workers=workers)
    threads = processors if scale.exclusive else 1
    workers = (1 if scale.exclusive else processors) if workers is None else workers
    with lock_folder(folder, "folder of the study"):
        check_folder(study, scale, folder)
        needed = Resources(threads, scale.gpus, scale.memory_gib, TIME_LIMIT * scale.minutes)
        chosen = build_executor(executor, workers, needed, folder / "slurm")
        runs = [replace(run, protocol=study.protocol.hash) for run in study.runs(scale)]
        left = [run for run in runs if not is_done(folder / "runs" / run.name)]
        if left:
            share = sum(run.cost for run in left) / sum(run.cost for run in runs)
            check_resources(scale, folder, share, min(workers, len(left)) if executor == "local" else 0)
            if console is not None:
                expected = duration(60 * scale.minutes * share)
                console.print(
                    f"{count_of(len(left), 'run')}, expected to take {expected} on two cores", highlight=False
                )
        run_sweep(runs, folder / "runs", chosen, console)
        results = analyze_runs(study, scale, runs, folder)
        atomic_write(folder / RESULTS, json.dumps(results, indent=1, allow_nan=False) + "\n")
        write_report(study, results, folder / REPORT)
    return results


def check_folder(study: Study, scale: Scale, folder: Path) -> None:
    """Write which study and protocol the folder is for, or check that it is for this one.

    Raises:
        ValueError: the folder is for another one; says what differs.
    """
    described = {"study": study.name, "scale": scale.name, "protocol": dict(study.protocol.content)}
    file = folder / STUDY
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(file, json.dumps(described, indent=1) + "\n")
        return
    stored = read_json(file)
    if not isinstance(stored, dict) or not described.keys() <= stored.keys():
        raise ValueError(f"{file} does not say which study the folder is for: choose another --out")
    for key in ("study", "scale"):
        if stored[key] != described[key]:
            raise ValueError(
                f"{folder} holds the {key} {stored[key]!r}, not {described[key]!r}: choose another --out"
            )
    now = json.loads(json.dumps(study.protocol.content))
    if stored["protocol"] != now:
        changed = differences(stored["protocol"], now) or ["the order of its parts"]
        more = f" (and {len(changed) - 3} other changes)" if len(changed) > 3 else ""
        raise ValueError(
            f"the protocol has changed since the runs in {folder} were made: {'; '.join(changed[:3])}{more}."
            " Choose another --out: results of two protocols are not mixed"
        )


def available_processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_resources(scale: Scale, folder: Path, share: float, workers: int) -> None:
    """Check that the memory of this machine and the disk are large enough.

    Args:
        scale: what it needs.
        folder: on the disk.
        share: of the runs that are not done, by their cost.
        workers: runs at the same time on this machine.

    Raises:
        OSError: one is not; says how much is needed and free.
    """
    free = shutil.disk_usage(folder).free / 2**30
    needed = share * scale.disk_gib
    if free < needed:
        raise OSError(f"the scale {scale.name} needs {needed:.2g} GiB of disk, {free:.1f} are free")
    available = available_memory_gib()
    if available is not None and available < workers * scale.memory_gib:
        raise OSError(
            f"the scale {scale.name} needs {workers * scale.memory_gib:g} GiB of memory for {workers} workers"
            f", {available:.1f} are free: use fewer --workers"
        )


def available_memory_gib(system: Path = Path("/proc/meminfo"), group: Path = CONTROL_GROUP) -> float | None:
    """Free memory in GiB: that of the system or of this process's control group, if that has less.

    Args:
        system: a file like ``/proc/meminfo``.
        group: a folder with the files of a control group (cgroup v2).

    Returns:
        None if neither tells it.
    """
    found = []
    with suppress(OSError, StopIteration):
        lines = system.read_text("utf-8").splitlines()
        found.append(int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))) * 1024)
    with suppress(OSError, ValueError):
        limit = int((group / "memory.max").read_text("utf-8"))  # "max" is no limit
        counts = dict(line.split() for line in (group / "memory.stat").read_text("utf-8").splitlines())
        used = int((group / "memory.current").read_text("utf-8")) - int(counts.get("inactive_file", 0))
        found.append(limit - used)
    return min(found) / 2**30 if found else None


def analyze_runs(study: Study, scale: Scale, runs: list[Run], folder: Path) -> dict[str, Any]:
    """The content of ``results.json``, from the results of the runs alone."""
    done = {run.name: read_result(folder / "runs" / run.name) for run in runs}
    findings = study.analyze({name: result["value"] for name, result in done.items()}, scale)
    claims = study.protocol.claims
    untestable = dict.fromkeys((claim.id for claim in claims), SMOKE) if scale.name == "smoke" else None
    judgements = judge_all(claims, findings.estimates, untestable or findings.untestable)
    flops = study.flops(scale)
    return {
        "study": study.name,
        "scale": scale.name,
        "protocol_hash": study.protocol.hash,
        "protocol": dict(study.protocol.content),
        "claims": [
            {
                **asdict(claim),
                "measured": asdict(findings.estimates[claim.id]) if claim.id in findings.estimates else None,
                **asdict(judgements[claim.id]),
            }
            for claim in claims
        ],
        "tables": [asdict(table) for table in findings.tables],
        "power": [asdict(table) for table in findings.power],
        "notes": list(findings.notes),
        "data": _plain(findings.data),
        "runs": [
            {"name": name, "seconds": result["seconds"], **study.summarize(result["value"])}
            for name, result in done.items()
        ],
        "processors": sorted({result["processor"] for result in done.values()}),
        "versions": sorted(
            {", ".join(f"{name} {v}" for name, v in result["versions"].items()) for result in done.values()}
        ),
        "computing_minutes": round(sum(result["seconds"] for result in done.values()) / 60, 1),
        "flops": flops,
        "gpu_hours": None if flops is None else flops / GPU_FLOPS / 3600,
    }


def _plain(data: Mapping[str, Any]) -> Any:
    """As JSON reads it again, so that figures are the same from memory and from the file."""
    return json.loads(json.dumps(data, allow_nan=False))
