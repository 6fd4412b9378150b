"""Commands that are killed by SIGKILL at random moments and run again, compared with undisturbed ones.

python tests/kills/run.py --kills 150             # exit code 1 if anything was lost or left over
python tests/kills/run.py --only train --seed 3   # other moments

A command runs again and again in one folder, and each time is killed after a random part of the time that it
takes, until one run finishes. Then every file must be there, with the content that an undisturbed run gives,
and no other file. After each kill of a training, its newest checkpoint must be whole and not an older one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the process forks

import torch

from glassformer.analysis.head_patterns import analyze
from glassformer.cli import main as glassformer_main
from glassformer.data import token_file_builder
from glassformer.models import GPTModel, TransformerModel
from glassformer.tokenization import ByteTokenizer
from glassformer.training.checkpoints import Checkpoints, verify

for module in ("cli.ablate", "cli.prune", "cli.tokenize", "cli.train", "training.pipeline"):
    import_module(f"glassformer.{module}")  # once, so that a forked process starts within milliseconds
import_module("glassformer.experiments.head_clusters.figure")

VARYING = {"seconds", "tokens_per_second", "git_revision", "git_changes"}
"""JSON values that are not the same in every run."""


@dataclass(frozen=True)
class Command:
    """A command to kill.

    Args:
        name: of the command.
        arguments: of the command line, for the folder of inputs and the folder in which it runs.
        check: raises an error if the folder, after a kill, has lost what it had; gets its last result.
        refuses_full_folder: whether it refuses a folder in which it has finished.
    """

    name: str
    arguments: Callable[[Path, Path], list[str]]
    check: Callable[[Path, int], int] = lambda folder, before: before
    refuses_full_folder: bool = False


@dataclass
class Outcome:
    """What happened to one command."""

    kills: int = 0
    finished: int = 0
    problems: list[str] = field(default_factory=list)
    after_kills: Counter[str] = field(default_factory=Counter)
    """Kinds of files that kills left, which the next run has removed."""


def train(inputs: Path, folder: Path) -> list[str]:
    """Train a tiny model on files that are tokenized in the same folder, and resume if there is a run."""
    data = ["--data.source", str(inputs / "text.txt"), "--data.folder", str(folder / "tokens")]
    data += ["--data.tokenizer", "bpe", "--data.vocab-size", "300", "--data.seq-len", "16"]
    data += ["--data.fractions", "0.8", "0.1", "0.1"]
    sizes = ["--model.preset", "none", "--model.d-model", "16", "--model.num-layers", "2"]
    sizes += ["--model.num-heads", "2", "--batch-size", "2", "--steps", "48"]
    every = ["--checkpoints.every", "4", "--evaluation.every", "8", "--log-every", "1"]
    resume = ["--resume"] if (folder / "run" / "config.toml").exists() else []
    return ["train", "--run-folder", str(folder / "run"), *data, *sizes, *every, "--prompt", "The", *resume]


def check_training(folder: Path, before: int) -> int:
    """Verify the newest checkpoint, and load the best; return the newest step."""
    checkpoints = Checkpoints(folder / "run" / "checkpoints")
    newest = max(checkpoints.steps(), default=-1)
    if newest < before:
        raise ValueError(f"the newest checkpoint was of step {before}, and is now of step {newest}")
    for path in (checkpoints.latest(), checkpoints.best()):
        if path is not None:
            verify(path)
            TransformerModel.from_pretrained(path)
    return newest


def tokenize(inputs: Path, folder: Path) -> list[str]:
    """Tokenize a text, with a tokenizer that is trained first."""
    options = ["--tokenizer", "bpe", "--vocab-size", "300"]
    return ["tokenize", "--source", str(inputs / "long.txt"), "--folder", str(folder / "tokens"), *options]


COMMANDS = (
    Command("train", train, check_training),
    Command("tokenize", tokenize),
    Command(
        "analyze",
        lambda inputs, folder: [
            *("analyze", str(inputs / "model"), "--data", str(inputs / "text.txt")),
            *("--patterns", "tokens,copying", "--max-sentences", "60", "--run-folder", str(folder / "run")),
        ],
    ),
    Command(
        "prune",
        lambda inputs, folder: [
            *("prune", str(inputs / "model"), str(folder / "new" / "small"), "--fraction", "0.3"),
            *("--data", str(inputs / "text.txt"), "--max-texts", "20"),
        ],
        refuses_full_folder=True,
    ),
    Command(
        "ablate",
        lambda inputs, folder: [
            *("ablate", str(inputs / "model"), "--heads", "0.1", "--items", "2", "--random-draws", "2"),
            *("--tasks", "copying", "agreement", "--run-folder", str(folder / "run")),
        ],
    ),
)


def main() -> int:
    """Kill the commands and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=150, help="of all commands together")
    parser.add_argument("--seed", type=int, default=0)
    names = [command.name for command in COMMANDS]
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="COMMAND", help=" ".join(names)
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    commands = [command for command in COMMANDS if command.name in options.only]
    with tempfile.TemporaryDirectory() as name:
        inputs = write_inputs(Path(name) / "inputs")
        outcomes = {}
        for number, command in enumerate(commands):
            kills = options.kills // len(commands) + (number < options.kills % len(commands))
            generator = random.Random(f"{options.seed} {command.name}")
            outcomes[command.name] = kill_many(command, inputs, Path(name) / command.name, kills, generator)
            print_outcome(command.name, outcomes[command.name])
    total = sum(outcome.kills for outcome in outcomes.values())
    problems = sum(len(outcome.problems) for outcome in outcomes.values())
    print(f"{total} kills, {problems} losses and leftovers")
    return 1 if problems else 0


def print_outcome(name: str, outcome: Outcome) -> None:
    """Print the row of a command."""
    left = ", ".join(f"{count} {kind}" for kind, count in outcome.after_kills.most_common()) or "nothing"
    print(
        f"{name:<9} {outcome.kills:4} kills, {outcome.finished:3} finished runs, "
        f"{len(outcome.problems)} losses and leftovers; kills left for the next run: {left}",
        flush=True,
    )
    for problem in outcome.problems[:10]:
        print(f"    {problem}", flush=True)


def write_inputs(folder: Path) -> Path:
    """Write a small and a longer text, and a model."""
    folder.mkdir()
    sentences = [f"The cat number {n} sat on the mat, and the dog sat on log {n % 7}. " for n in range(60)]
    (folder / "text.txt").write_text("\n\n".join(sentences))
    (folder / "long.txt").write_text("\n\n".join(sentences * 60))
    torch.manual_seed(0)
    model = GPTModel(257, 16, 2, 4, max_seq_len=128)
    model.tokenizer = ByteTokenizer()
    model.save_pretrained(folder / "model")
    return folder


def kill_many(command: Command, inputs: Path, folder: Path, kills: int, generator: random.Random) -> Outcome:
    """Run a command in one folder after the other until it was killed ``kills`` times."""
    outcome = Outcome()
    undisturbed = folder / "undisturbed"
    started = time.monotonic()
    if (code := run(command, inputs, undisturbed, None)) != 0:
        outcome.problems.append(f"the undisturbed run ended with {code}: {log_of(undisturbed)}")
        return outcome
    duration = time.monotonic() - started
    expected = dict(content(undisturbed))
    for number in range(10 * kills):
        life = folder / f"life {number}"
        before = -1
        for _ in range(100):
            delay = generator.uniform(0, 1.1 * duration) if outcome.kills < kills else None
            code = run(command, inputs, life, delay)
            if code != -signal.SIGKILL:
                break
            outcome.kills += 1
            outcome.after_kills.update(kind for path in life.rglob("*") if (kind := kind_of_leftover(path)))
            try:
                before = command.check(life, before)
            except Exception as error:
                outcome.problems.append(f"after kill {outcome.kills}: {error}")
        differences = compare(expected, dict(content(life)))
        # A command killed after its last write has finished; the next one may say that the folder is full.
        if code == 0 or (code == 2 and command.refuses_full_folder and not differences):
            outcome.finished += 1
            outcome.problems += differences
        else:
            outcome.problems.append(f"a run after {outcome.kills} kills ended with {code}: {log_of(life)}")
        if outcome.kills >= kills:
            break
    return outcome


def run(command: Command, inputs: Path, folder: Path, delay: float | None) -> int:
    """Run a command in a forked process, kill it after ``delay`` seconds, and return its exit code."""
    (folder / "temporary").mkdir(parents=True, exist_ok=True)
    arguments = command.arguments(inputs, folder)
    process = os.fork()
    if process == 0:
        run_in_child(arguments, folder)
    if delay is not None:
        wait_for(process, delay)
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def wait_for(process: int, seconds: float) -> None:
    """Wait until a process ends, but at most so long; it stays a zombie, so its number cannot be reused."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(min(left, 0.01))


def run_in_child(arguments: list[str], folder: Path) -> None:
    """Run a command line, and end the process."""
    code = 1
    try:
        log = os.open(folder.parent / f"{folder.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        tempfile.tempdir = str(folder / "temporary")
        token_file_builder.BATCH_CHARACTERS = 2000  # so that there is more than one batch, journal and part
        token_file_builder.build_token_files.__kwdefaults__["journal_characters"] = 20_000
        analyze.ITEMS_PER_PART = 8
        code = glassformer_main(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def content(folder: Path) -> Iterator[tuple[str, object]]:
    """Every path below a folder, and what must be the same in every run."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            yield name, os.readlink(path)
        elif path.is_dir():
            yield name, None
        elif path.name in ("metrics.jsonl", "samples.jsonl"):
            yield name, [without_varying(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.name == "checksums.json":
            yield name, {k: v for k, v in json.loads(path.read_text()).items() if k != "state.json"}
        elif path.name == "state.json":  # its settings have the git revision and the path of the run
            yield name, without_varying(json.loads(path.read_text())["progress"])
        elif path.suffix == ".json":
            yield name, without_varying(json.loads(path.read_text()))
        else:
            yield name, path.read_bytes().replace(str(folder).encode(), b"FOLDER")


def without_varying(value: object) -> object:
    """A JSON value without what differs from run to run."""
    if isinstance(value, dict):
        return {key: without_varying(inner) for key, inner in value.items() if key not in VARYING}
    return value


def compare(expected: dict[str, object], found: dict[str, object]) -> list[str]:
    """Describe what was lost, and what was left over."""
    lost = [f"lost: {name}" for name in expected if name not in found]
    lost += [f"differs: {name}" for name in expected if name in found and found[name] != expected[name]]
    return lost + [f"left over: {name}" for name in found if name not in expected]


def kind_of_leftover(path: Path) -> str | None:
    """The kind of a file that is not to stay."""
    if path.name == "journal.json" or path.name.startswith("glassformer-"):
        return "journals" if path.name == "journal.json" else "temporary folders"
    if path.name == ".lock":
        return "locks"
    return "unfinished writes" if path.name.startswith(".") else None


def log_of(folder: Path) -> str:
    """The last line that a command printed."""
    lines = (folder.parent / f"{folder.name}.log").read_text().splitlines()
    return lines[-1] if lines else "nothing printed"


if __name__ == "__main__":
    sys.exit(main())
