"""``glassformer train``: train a model from a config file, options, or both."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

import tyro

from glassformer.cli.arguments import Command, Flag, option, replace_renamed
from glassformer.cli.inputs import check_one, input_text
from glassformer.terminal import count_of, printable
from glassformer.training.config import TrainingConfig
from glassformer.training.config_files import config_path, load_config


@dataclass
class Train(Command):
    """Train a model. Other options override --config, which overrides the defaults."""

    config: Annotated[str | None, option("FILE")] = None
    """A TOML file with any of the values below, or the name of a config of the library: classify-minilm,
    classify-mlm, digits, g2p, g2p-2017, g2p-published, mlm, mnist, spans. Unknown keys are errors."""
    resume: Flag = False
    """Resume the run in --run-folder with its own config; the result is bit-equal to an uninterrupted run."""
    allow_changes: Flag = False
    """With --resume: go on although the config, the data, the number of threads, or anything else has changed
    on which the result depends. To train longer: --resume --allow-changes --steps 5000."""
    skip_damaged: Flag = False
    """With --resume: delete checkpoints that are damaged, and resume from the newest one that is not."""
    overwrite: Flag = False
    """Delete the run in --run-folder and start again."""
    prompt: Annotated[str | None, option("TEXT", "--text")] = None
    """Generate a continuation of this text at each evaluation; - reads it from standard input."""
    settings: Annotated[TrainingConfig, tyro.conf.arg(name="")] = field(default_factory=TrainingConfig)

    @classmethod
    def parse(cls, arguments: Sequence[str], default: Self | None = None) -> Self:
        """Parse the options; parse them again on top of a config file or of the config of a resumed run."""
        arguments = replace_renamed("train", arguments)  # once, so that warnings are printed once
        command = super().parse(arguments, default)
        if command.config is not None:
            settings = load_config(config_path(command.config), TrainingConfig())
            command = super().parse(arguments, cls(settings=settings))
        run_config = Path(command.settings.run_folder) / "config.toml"
        if not command.resume or not run_config.exists():
            return command
        settings = load_config(run_config, TrainingConfig())
        if command.config is not None:
            settings = load_config(config_path(command.config), settings)
        return super().parse(arguments, cls(settings=settings))

    def run(self) -> int:
        """Train, then print where the result is or how to resume."""
        check_one({"--resume": self.resume, "--overwrite": self.overwrite})
        from glassformer.training.pipeline import train

        prompt = input_text(None, self.prompt, None, "--prompt")
        sample = None if prompt is None else sample_continuation(prompt)
        result = train(
            self.settings,
            resume=self.resume,
            overwrite=self.overwrite,
            allow_changes=self.allow_changes,
            skip_damaged=self.skip_damaged,
            sample=sample,
        )
        folder = self.settings.run_folder
        if result.status == "interrupted":
            print(f"interrupted at step {result.step}; saved in {printable(result.checkpoint)}")
            print(f"resume with: glassformer train --resume --run-folder {printable(shlex.quote(folder))}")
            return 128 + signal.Signals[result.signal or "SIGINT"]
        loss = result.metrics.get("validation_loss")
        validation = "" if loss is None else f", validation loss {loss:.4f} nats"
        print(
            f"finished {count_of(result.step, 'step')}{validation}; "
            f"the model is in {printable(result.checkpoint)}"
        )
        for name, value in (result.results or {}).items():
            print(printable(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}"))
        return 0


def sample_continuation(prompt: str, max_new_tokens: int = 60) -> Any:
    """A function that generates a continuation of the prompt with a model, always with the same seed."""

    def sample(model: Any) -> str:
        from glassformer.generation import generate
        from glassformer.tokenization import safe_decode

        if not prompt:
            raise ValueError("the prompt is empty: give at least one character")
        ids = model.tokenizer.encode(prompt)
        return safe_decode(
            model.tokenizer, generate(model, ids, max_new_tokens, temperature=0.8, top_k=50, seed=0)
        )

    return sample
