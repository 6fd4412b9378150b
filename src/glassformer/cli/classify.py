"""``glassformer classify``: classify a text or an image."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from glassformer.cli.arguments import Command, ModelFolderArgument
from glassformer.cli.inputs import (
    FileOption,
    SpecialTokensOption,
    TextOption,
    TextOrImageArgument,
    check_image,
    input_text_or_image,
)
from glassformer.cli.resolve_model import check_model, print_notes, set_special_tokens
from glassformer.terminal import printable


@dataclass
class Classify(Command):
    """Print the most probable classes of a text or an image."""

    target: ModelFolderArgument
    argument: TextOrImageArgument = None
    text: TextOption = None
    """The text as an option."""
    text_file: FileOption = None
    """Read the text from a file."""
    special_tokens: SpecialTokensOption = None
    image: FileOption = None
    """The image as an option, for a vision model."""
    top_k: int = 5
    """Number of classes to print."""

    def run(self) -> None:
        """Print the classes, the most probable first."""
        text, image = input_text_or_image(self.argument, self.text, self.text_file, self.image)
        if text is None and image is None:
            raise ValueError("give a text or an image: glassformer classify MODEL TEXT")
        if image is not None:
            check_image(image)
        if self.top_k < 1:
            raise ValueError(f"--top-k must be at least 1, got {self.top_k}")
        check_model(self.target)
        import torch

        from glassformer.analysis import encode_text, preprocess_image
        from glassformer.cli.resolve_model import load_model, require_capability
        from glassformer.eval_mode import eval_mode

        model: Any = load_model(self.target)
        require_capability(model, "classify", self.target)
        set_special_tokens(model, self.special_tokens)
        if len(model.labels) < 2:
            raise ValueError(f"{self.target} is a regression model with the one output {model.labels[0]!r}")
        if image is not None:
            processed = preprocess_image(model, image)
            inputs, notes = processed.pixel_values, processed.notes
        else:
            encoded = encode_text(model, text or "")
            inputs, notes = torch.tensor([encoded.ids], device=model.device), encoded.notes
        print_notes(notes)
        with torch.no_grad(), eval_mode(model):
            probabilities = model(inputs)[0].float().softmax(-1)
        best = probabilities.topk(min(self.top_k, len(model.labels)))
        if sys.stdout.isatty():  # a heading for people; programs read the lines alone
            print("probability of each class:")
        for probability, label in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            print(f"{probability:7.2%}  {printable(model.labels[label])}")
