"""``glassformer fill-mask``: predict the masked tokens of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from glassformer.cli.arguments import Command


@dataclass
class FillMask(Command):
    """Print the most probable tokens for each [MASK] of a text."""

    target: Annotated[str, tyro.conf.Positional]
    """A model folder, a run folder (its best checkpoint is used), or a name on the hub."""
    text: str
    """A text with at least one [MASK]."""
    top_k: int = 5
    """Number of tokens to print for each [MASK]."""

    def run(self) -> None:
        """Print the predictions of each mask, the most probable first."""
        from glassformer.cli.resolve_model import load_model, require_capability
        from glassformer.generation import fill_mask

        model: Any = load_model(self.target)
        require_capability(model, "fill-mask", self.target)
        masks = fill_mask(model, self.text, self.top_k)
        for number, predictions in enumerate(masks, start=1):
            if len(masks) > 1:
                print(f"--- mask {number} of {len(masks)} ---")
            for prediction in predictions:
                print(f"{prediction.probability:7.2%}  {prediction.token}")
