"""``glassformer train``: a run from a config file, flags, or both."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

import tyro

from glassformer.cli.arguments import Command
from glassformer.training.config import TrainingConfig
from glassformer.training.config_files import config_path, load_config


@dataclass
class Train(Command):
    """Train a model. Values come from the defaults, then --config, then the other flags."""

    config: str | None = None
    """A TOML file with any of the values below (unknown keys are errors), or the name of one that is in the
    library: classify-minilm, classify-mlm, digits, g2p, g2p-2017, g2p-published, mlm, mnist, spans."""
    resume: bool = False
    """Go on with the run in --run-folder, with its own config, to the bit as if it had never stopped."""
    overwrite: bool = False
    """Remove the run in --run-folder and start anew."""
    prompt: str | None = None
    """Let the model continue this text at each evaluation."""
    settings: Annotated[TrainingConfig, tyro.conf.arg(name="")] = field(default_factory=TrainingConfig)

    @classmethod
    def parse(cls, arguments: Sequence[str], default: Self | None = None) -> Self:
        """Read the flags; where they name a file, or a run to resume, read them once more on top of that."""
        command = super().parse(arguments, default)
        if command.config is not None:
            settings = load_config(config_path(command.config), TrainingConfig())
            command = super().parse(arguments, cls(settings=settings))
        kept = Path(command.settings.run_folder) / "config.toml"
        if not command.resume or not kept.exists():
            return command
        settings = load_config(kept, TrainingConfig())
        if command.config is not None:
            settings = load_config(config_path(command.config), settings)
        return super().parse(arguments, cls(settings=settings))

    def run(self) -> int:
        """Train; say where the result is, and how to go on."""
        from glassformer.training.pipeline import train

        sample = None if self.prompt is None else continuation(self.prompt)
        result = train(self.settings, resume=self.resume, overwrite=self.overwrite, sample=sample)
        folder = self.settings.run_folder
        if result.status == "interrupted":
            print(f"interrupted at step {result.step}; saved in {result.checkpoint}")
            print(f"go on with: glassformer train --resume --run-folder {shlex.quote(folder)}")
            return 130
        loss = result.metrics.get("validation_loss")
        said = "" if loss is None else f", held-out loss {loss:.4f} nats"
        print(f"finished {result.step} steps{said}; the model is in {result.checkpoint}")
        for name, value in (result.results or {}).items():
            print(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")
        return 0


def continuation(prompt: str, tokens: int = 60) -> Any:
    """What a model makes of a prompt: a function of the model, always the same for the same weights."""

    def sample(model: Any) -> str:
        from glassformer.generation import generate, text_of

        if not prompt:
            raise ValueError("the prompt is empty: give at least one character")
        ids = model.tokenizer.encode(prompt)
        return text_of(model.tokenizer, generate(model, ids, tokens, temperature=0.8, top_k=50, seed=0))

    return sample
