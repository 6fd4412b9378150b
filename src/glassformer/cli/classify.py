"""``glassformer classify``: which class a text or an image belongs to."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from glassformer.cli.arguments import Command


@dataclass
class Classify(Command):
    """Say which class a text or an image belongs to, with probabilities."""

    target: Annotated[str, tyro.conf.Positional]
    """Folder of a model, or of a run (its best checkpoint is taken), or a name on the hub."""
    text: str | None = None
    """What the model reads; - reads standard input."""
    image: Path | None = None
    """What a model of images looks at: a file."""
    top_k: int = 5
    """Classes to print, the likeliest first."""

    def run(self) -> None:
        """Print the classes."""
        import torch

        from glassformer.analysis import read, read_image
        from glassformer.cli.abilities import require
        from glassformer.cli.targets import load_model
        from glassformer.generation.streaming import evaluating

        if (self.text is None) == (self.image is None):
            raise ValueError("give either a --text or an --image")
        if self.top_k < 1:
            raise ValueError(f"--top-k must be at least 1, not {self.top_k}")
        model: Any = load_model(self.target)
        require(model, "classify", self.target)
        if len(model.labels) < 2:
            raise ValueError(
                f"{self.target} gives one number ({model.labels[0]}), and no classes to choose from"
            )
        if self.image is not None:
            picture = read_image(model, self.image)
            inputs, notes = picture.pixel_values, picture.notes
        else:
            reading = read(model, sys.stdin.read() if self.text == "-" else self.text or "")
            inputs, notes = torch.tensor([reading.ids], device=model.device), reading.notes
        print(*(f"({note})\n" for note in notes), sep="", end="", file=sys.stderr)
        with torch.no_grad(), evaluating(model):
            probabilities = model(inputs)[0].float().softmax(-1)
        best = probabilities.topk(min(self.top_k, len(model.labels)))
        for probability, label in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            print(f"{probability:7.2%}  {model.labels[label]}")
