"""``glassformer fill-mask``: predict the masked tokens of a text."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from glassformer.cli.arguments import Command, ModelFolderArgument
from glassformer.cli.inputs import FileOption, SpecialTokensOption, TextArgument, TextOption, input_text
from glassformer.cli.resolve_model import check_model, set_special_tokens
from glassformer.terminal import printable


@dataclass
class FillMask(Command):
    """Print the most probable tokens for each [MASK] of a text."""

    target: ModelFolderArgument
    argument: TextArgument = None
    text: TextOption = None
    """The text as an option: with at least one [MASK]."""
    text_file: FileOption = None
    """Read the text from a file."""
    special_tokens: SpecialTokensOption = None
    top_k: int = 5
    """Number of tokens to print for each [MASK]."""

    def run(self) -> None:
        """Print the predictions of each mask, the most probable first."""
        text = input_text(self.argument, self.text, self.text_file)
        if text is None:
            raise ValueError('give a text: glassformer fill-mask MODEL "The [MASK] of the Union"')
        check_model(self.target)
        from glassformer.cli.resolve_model import load_model, require_capability
        from glassformer.generation import fill_mask

        model: Any = load_model(self.target)
        require_capability(model, "fill-mask", self.target)
        set_special_tokens(model, self.special_tokens, text)
        masks = fill_mask(model, text, self.top_k)
        if sys.stdout.isatty():  # a heading for people; programs read the lines alone
            print("probability of each token:")
        for number, predictions in enumerate(masks, start=1):
            if len(masks) > 1:
                print(f"--- mask {number} of {len(masks)} ---")
            for prediction in predictions:
                print(f"{prediction.probability:7.2%}  {printable(prediction.token)}")
