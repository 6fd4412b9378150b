"""``glassformer translate``: generate a target for each source with an encoder-decoder."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from glassformer.cli.arguments import Command, ModelFolderArgument, WeightsOption
from glassformer.cli.inputs import (
    FileOption,
    SpecialTokensOption,
    TextArgument,
    TextOption,
    check_one,
    input_text,
)
from glassformer.cli.resolve_model import check_model, print_notes, set_special_tokens
from glassformer.terminal import printable


@dataclass
class Translate(Command):
    """Generate a target for a text with an encoder-decoder: a translation, a summary, a pronunciation."""

    target: ModelFolderArgument
    argument: TextArgument = None
    text: TextOption = None
    """The source as an option. Standard input has one source per line; empty lines stay empty."""
    text_file: FileOption = None
    """Read the sources from a file, one per line."""
    special_tokens: SpecialTokensOption = None
    weights: WeightsOption = None
    num_beams: int = 4
    """Number of beams; 1 is greedy decoding."""
    length_penalty: float = 1.0
    """Above 0 favors longer targets, below 0 shorter ones."""
    n_best: int = 1
    """Number of targets per source, the best first; if several, each follows its rank and a tab."""
    max_new_tokens: int = 128
    """Maximum number of tokens of a target."""
    batch_size: int = 16
    """Number of sources per batch."""

    def run(self) -> None:
        """Print one line per target, in the order of the sources."""
        if self.batch_size < 1:
            raise ValueError(f"--batch-size must be at least 1, got {self.batch_size}")
        sources = self.sources()
        check_model(self.target)
        from glassformer.cli.resolve_model import load_model, require_capability, require_tokenizer
        from glassformer.tokenization import encode_typed_text, safe_decode

        model: Any = load_model(self.target, self.weights)
        require_capability(model, "translate", self.target)
        tokenizer = require_tokenizer(model, self.target)
        set_special_tokens(model, self.special_tokens)
        for batch in batched(sources, self.batch_size):
            encoded = [encode_typed_text(tokenizer, source) for source in filter(None, batch)]
            print_notes(dict.fromkeys(note for _, notes in encoded for note in notes))
            ids = [[*row, model.end_token] for row, _ in encoded]
            targets = iter(model.generate(ids, self.max_new_tokens, **self.decoding_options()) if ids else ())
            for source, rank in product(batch, range(1, self.n_best + 1)):
                target = without_end(next(targets), [*model.stop_tokens, model.end_token]) if source else []
                text = printable(safe_decode(tokenizer, target), keep="\t")
                print(f"{rank}\t{text}" if self.n_best > 1 else text)
            sys.stdout.flush()

    def sources(self) -> Iterator[str]:
        """The text itself, or the lines of a file or of standard input; blank lines become empty.

        Raises:
            ValueError: no text, a blank one, or two.
        """
        lines: Iterable[str] = sys.stdin
        check_one({"TEXT": self.argument, "--text": self.text, "--text-file": self.text_file})
        if "-" not in (self.argument, self.text, str(self.text_file)):
            text = input_text(self.argument, self.text, self.text_file)
            if text is None or not text.strip():
                raise ValueError("the source is empty: give at least one character")
            lines = [text] if self.text_file is None else text.split("\n")
        return (line.rstrip("\r\n") if line.strip() else "" for line in lines)

    def decoding_options(self) -> dict[str, Any]:
        """Options of ``generate`` for beam search or greedy decoding."""
        if self.num_beams == 1 and self.n_best == 1:
            return {"temperature": 0}
        return {
            "num_beams": self.num_beams,
            "length_penalty": self.length_penalty,
            "num_return_sequences": self.n_best,
        }


def batched(items: Iterator[str], size: int) -> Iterator[list[str]]:
    """Lists of ``size`` items; the last one may be shorter."""
    while batch := list(islice(items, size)):
        yield batch


def without_end(ids: list[int], end_tokens: Sequence[int]) -> list[int]:
    """Remove the end token."""
    return ids[:-1] if ids and ids[-1] in end_tokens else ids
