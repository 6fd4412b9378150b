"""``glassformer fill-mask``: a model guesses what a hole in a text hides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from glassformer.cli.arguments import Command


@dataclass
class FillMask(Command):
    """Guess the tokens that a text hides behind [MASK], with probabilities."""

    target: Annotated[str, tyro.conf.Positional]
    """Folder of a model, or of a run (its best checkpoint is taken), or a name on the hub."""
    text: str
    """A text with [MASK] in it, once or several times."""
    top_k: int = 5
    """Guesses for each."""

    def run(self) -> None:
        """Print the guesses for one mask after the other."""
        from glassformer.cli.abilities import require
        from glassformer.cli.targets import load_model
        from glassformer.generation import fill_mask

        model: Any = load_model(self.target)
        require(model, "fill-mask", self.target)
        masks = fill_mask(model, self.text, self.top_k)
        for number, guesses in enumerate(masks, start=1):
            if len(masks) > 1:
                print(f"--- mask {number} of {len(masks)} ---")
            for guess in guesses:
                print(f"{guess.probability:7.2%}  {guess.token}")
