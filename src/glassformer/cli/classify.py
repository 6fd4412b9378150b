"""``glassformer classify``: classify a text or an image."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from glassformer.cli.arguments import Command


@dataclass
class Classify(Command):
    """Print the most probable classes of a text or an image."""

    target: Annotated[str, tyro.conf.Positional]
    """A model folder, a run folder (its best checkpoint is used), or a name on the hub."""
    text: str | None = None
    """The text; - reads standard input."""
    image: Path | None = None
    """An image file, for a vision model."""
    top_k: int = 5
    """Number of classes to print."""

    def run(self) -> None:
        """Print the classes, the most probable first."""
        import torch

        from glassformer.analysis import encode_text, preprocess_image
        from glassformer.cli.resolve_model import load_model, require_capability
        from glassformer.eval_mode import eval_mode

        if (self.text is None) == (self.image is None):
            raise ValueError("give either --text or --image")
        if self.top_k < 1:
            raise ValueError(f"--top-k must be at least 1, got {self.top_k}")
        model: Any = load_model(self.target)
        require_capability(model, "classify", self.target)
        if len(model.labels) < 2:
            raise ValueError(f"{self.target} is a regression model with the one output {model.labels[0]!r}")
        if self.image is not None:
            image = preprocess_image(model, self.image)
            inputs, notes = image.pixel_values, image.notes
        else:
            encoded = encode_text(model, sys.stdin.read() if self.text == "-" else self.text or "")
            inputs, notes = torch.tensor([encoded.ids], device=model.device), encoded.notes
        print(*(f"({note})\n" for note in notes), sep="", end="", file=sys.stderr)
        with torch.no_grad(), eval_mode(model):
            probabilities = model(inputs)[0].float().softmax(-1)
        best = probabilities.topk(min(self.top_k, len(model.labels)))
        for probability, label in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            print(f"{probability:7.2%}  {model.labels[label]}")
