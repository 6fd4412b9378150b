"""Sweeps on this machine: order, resumption, failures, and processes that are killed."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from glassformer.experiments import runs
from glassformer.experiments.executors import LocalExecutor, Resources, build_executor
from glassformer.experiments.runs import Run, execute, is_done, read_result
from glassformer.experiments.sweep import MAX_ATTEMPTS, Outcome, SweepError, run_sweep, wait_until
from glassformer.experiments.sweep_progress import SweepProgress, duration, last_line

pytestmark = pytest.mark.usefixtures("planted")


def runs_of(function, *settings):
    return [Run(f"run-{number}", f"planted:{function}", row) for number, row in enumerate(settings)]


def test_a_run_is_executed_once_and_its_result_kept(tmp_path):
    [run] = runs_of("add", {"a": 1, "b": 2})
    run.prepare(tmp_path)
    execute(tmp_path)
    execute(tmp_path)
    result = read_result(tmp_path)
    assert result["value"]["sum"] == 3
    assert result["settings"] == {"a": 1, "b": 2}
    assert result["seconds"] >= 0
    assert len((tmp_path / "calls.txt").read_text().splitlines()) == 1


def test_a_run_with_other_settings_is_refused(tmp_path):
    first, second = runs_of("add", {"a": 1, "b": 2}, {"a": 1, "b": 3})
    first.prepare(tmp_path)
    first.prepare(tmp_path)
    with pytest.raises(ValueError, match=r"other settings \(b\): choose another folder"):
        second.prepare(tmp_path)
    with pytest.raises(ValueError, match=r"other settings \(another function or protocol\)"):
        Run(first.name, first.function, first.settings, protocol="other").prepare(tmp_path)


def test_an_exception_is_kept_as_a_traceback_and_removed_by_the_next_attempt(tmp_path):
    [run] = runs_of("fail", {"a": 1})
    run.prepare(tmp_path)
    with pytest.raises(ValueError, match="must be even"):
        execute(tmp_path)
    assert "ValueError: a is 1: it must be even" in (tmp_path / "error.txt").read_text()
    assert not is_done(tmp_path)


@pytest.mark.parametrize("value", ["nan", "set"])
def test_a_result_that_is_no_json_is_a_failure(tmp_path, value):
    run = Run("odd", "planted:odd_result", {"value": value})
    run.prepare(tmp_path)
    with pytest.raises((ValueError, TypeError), match="JSON"):
        execute(tmp_path)
    assert "JSON" in (tmp_path / "error.txt").read_text()
    assert not is_done(tmp_path)


def test_the_command_of_a_run_gives_its_exit_status(tmp_path, monkeypatch, capsys):
    for function, settings, status in [
        ("add", {"a": 1, "b": 2}, 0),
        ("fail", {"a": 1}, 1),
        ("stop", {"status": 143}, 143),
        ("stop", {"status": "stopped"}, 1),
    ]:
        folder = tmp_path / f"{function}-{status}"
        Run("run", f"planted:{function}", settings).prepare(folder)
        monkeypatch.setattr(sys, "argv", ["runs", str(folder)])
        assert runs.main() == status
    assert "must be even" in capsys.readouterr().err


class Silent:
    """Ends no run."""

    num_workers = 1

    def execute(self, folders):
        yield Outcome(folders[0], "started")


def test_an_executor_that_loses_a_run_ends_the_sweep(tmp_path):
    with pytest.raises(SweepError, match="did not say how it ended"):
        run_sweep([Run("lost", "planted:add", {"a": 1, "b": 2})], tmp_path, Silent())


def test_names_of_runs_differ(tmp_path):
    run = Run("same", "planted:add", {"a": 1, "b": 2})
    with pytest.raises(ValueError, match="same name"):
        run_sweep([run, run], tmp_path, LocalExecutor(1))


@pytest.mark.parametrize(("workers", "threads"), [(0, 1), (1, 0)])
def test_numbers_of_workers_and_threads_are_positive(workers, threads):
    with pytest.raises(ValueError, match="at least 1"):
        LocalExecutor(workers, threads)


def test_unknown_executors_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown executor 'locl', did you mean 'local'"):
        build_executor("locl", 1, Resources(), tmp_path)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5000, "83 min"), (7500, "2 h 05 min")]
)
def test_durations_are_said_as_people_say_them(seconds, text):
    assert duration(seconds) == text


@pytest.mark.slow
def test_runs_that_are_done_are_skipped_and_the_others_executed(tmp_path, values_of):
    wanted = runs_of("add", *({"a": number, "b": 1} for number in range(4)))
    run_sweep(wanted[:2], tmp_path, LocalExecutor(2))
    output = io.StringIO()
    run_sweep(wanted, tmp_path, LocalExecutor(2, threads=3), Console(file=output, width=200))
    assert {name: value["sum"] for name, value in values_of(tmp_path).items()} == {
        "run-0": 1,
        "run-1": 2,
        "run-2": 3,
        "run-3": 4,
    }
    assert [value["threads"] for value in values_of(tmp_path).values()] == ["1", "1", "3", "3"]
    assert all(len((tmp_path / run.name / "calls.txt").read_text().splitlines()) == 1 for run in wanted)
    lines = output.getvalue().splitlines()
    assert lines[0] == "2 of 4 runs are done already"
    assert sorted(lines[1:3]) == ["run-2: started", "run-3: started"]
    assert "left" in lines[3]
    assert lines[4].startswith("[4/4] run-")
    assert "left" not in lines[4]


def test_a_terminal_shows_the_running_runs_and_their_last_lines(tmp_path, monkeypatch):
    costs = {f"run-{number}": 1.0 for number in range(4)}
    for name in costs:
        (tmp_path / name).mkdir()
    (tmp_path / "run-0" / "result.json").write_text('{"value": 1, "seconds": 100.0}')
    (tmp_path / "run-1" / "output.txt").write_text("first\n1,000 tokens: 3.2 nats\n\n")
    output = io.StringIO()
    console = Console(file=output, width=120, force_terminal=True)
    with SweepProgress(costs, tmp_path, LocalExecutor(2), console) as progress:
        for name in ("run-1", "run-2"):
            progress.report(Outcome(tmp_path / name, "started"), 1, False)
        progress.started["run-1"] -= 300
        plain = Console(file=io.StringIO(), width=120)
        plain.print(progress.table())
        shown = plain.file.getvalue()
        (tmp_path / "run-2" / "result.json").write_text('{"value": 1, "seconds": 300.0}')
        progress.report(Outcome(tmp_path / "run-2", "done"), 1, False)
        assert list(progress.started) == ["run-1"]
    assert "1 of 4 runs done, about 2 min left" in shown
    rows = [line.split() for line in shown.splitlines() if line.strip().startswith("run-")]
    assert rows == [["run-1", "5", "min", "1,000", "tokens:", "3.2", "nats"], ["run-2", "0", "s"]]
    assert "[2/4] run-2: 5 min, about 3 min left" in output.getvalue()


def test_the_last_line_of_an_output_is_that_of_its_end(tmp_path):
    file = tmp_path / "output.txt"
    assert last_line(file) == ""
    file.write_bytes(b"\xff\n" * 9000 + b"end \n \n")
    assert last_line(file) == "end"
    file.write_text("\n")
    assert last_line(file) == ""


@pytest.mark.slow
def test_a_run_that_raises_is_not_tried_again_and_the_others_are_finished(tmp_path, values_of):
    wanted = [
        Run("wrong", "planted:fail", {"a": 3}),
        Run("right", "planted:add", {"a": 1, "b": 1}),
        Run("wrong-too", "planted:fail", {"a": 5}),
    ]
    with pytest.raises(SweepError, match=r"the run wrong \(and 1 other run\) failed: ValueError: a is 3"):
        run_sweep(wanted, tmp_path, LocalExecutor(1))
    assert list(values_of(tmp_path)) == ["right"]


@pytest.mark.slow
def test_a_killed_worker_is_replaced(tmp_path, values_of):
    output = io.StringIO()
    run_sweep(runs_of("die", {"times": MAX_ATTEMPTS - 1}), tmp_path, LocalExecutor(1), Console(file=output))
    assert values_of(tmp_path) == {"run-0": {"deaths": MAX_ATTEMPTS - 1}}
    assert output.getvalue().count("killed by SIGKILL") == MAX_ATTEMPTS - 1


@pytest.mark.slow
def test_a_worker_that_is_killed_every_time_ends_the_sweep(tmp_path):
    with pytest.raises(SweepError, match="run-0 failed: its worker was killed by SIGKILL"):
        run_sweep(runs_of("die", {"times": 99}), tmp_path, LocalExecutor(1))


DRIVER = """
import sys
from pathlib import Path
from glassformer.experiments.executors import LocalExecutor
from glassformer.experiments.runs import Run
from glassformer.experiments.sweep import run_sweep

def run(n):
    settings = {"steps": 5 + 35 * (n > 0), "seconds": 0.05, "seed": n}
    return Run(f"seed-{n}", "planted:count_slowly", settings)

runs = [run(n) for n in range(3)]
run_sweep(runs, Path(sys.argv[1]), LocalExecutor(2))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_killed_driver_takes_its_workers_along_and_loses_nothing(tmp_path, number, values_of):
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as driver:
        assert wait_until(lambda: (tmp_path / "seed-0" / "result.json").exists(), 60)
        finished = (tmp_path / "seed-0" / "result.json").read_bytes()
        driver.send_signal(number)
        driver.wait(60)
    counted = [int(path.read_text()) for path in tmp_path.glob("*/count.txt")]
    assert wait_until(lambda: not list(tmp_path.glob("*/.lock")) or not any_worker(tmp_path), 30)
    stopped = [path.read_text() for path in sorted(tmp_path.glob("*/count.txt"))]
    time.sleep(0.3)
    assert [path.read_text() for path in sorted(tmp_path.glob("*/count.txt"))] == stopped
    assert list(values_of(tmp_path)) == ["seed-0"]
    subprocess.run(command, check=True)
    assert values_of(tmp_path) == {f"seed-{n}": {"counted": 5 + 35 * (n > 0), "seed": n} for n in range(3)}
    assert (tmp_path / "seed-0" / "result.json").read_bytes() == finished
    assert min(counted) >= 1


def any_worker(folder):
    """Whether a process still executes a run below the folder."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if "glassformer.experiments.runs" in command and any(str(folder) in word for word in command):
            return True
    return False
