"""``glassformer translate``: an encoder-decoder writes a target for each source."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from typing import Annotated, Any

import tyro

from glassformer.cli.arguments import Command


@dataclass
class Translate(Command):
    """Let an encoder-decoder write what it makes of a text: a translation, a summary, a pronunciation."""

    target: Annotated[str, tyro.conf.Positional]
    """Folder of a model, or of a run (its best checkpoint is taken), or a name on the hub."""
    text: str
    """The source; - reads standard input, a source a line. An empty line stays one."""
    num_beams: int = 4
    """Continuations looked for side by side; 1 takes the likeliest token each time."""
    length_penalty: float = 1.0
    """Above 0 longer targets gain, below 0 shorter ones."""
    n_best: int = 1
    """Targets to print for each source, the best first; with several, each behind its rank and a tab."""
    max_new_tokens: int = 128
    """Tokens to write at most."""
    batch_size: int = 16
    """Sources to read at a time."""

    def run(self) -> None:
        """Print a line for each target, in the order of the sources."""
        from glassformer.cli.abilities import require, tokenizer_of
        from glassformer.cli.targets import load_model
        from glassformer.generation import text_of

        if self.batch_size < 1:
            raise ValueError(f"--batch-size must be at least 1, not {self.batch_size}")
        model: Any = load_model(self.target)
        require(model, "translate", self.target)
        tokenizer = tokenizer_of(model, self.target)
        for sources in batches(lines(self.text), self.batch_size):
            ids = [[*row, model.end_token] for row in tokenizer.encode_batch([*filter(None, sources)])]
            targets = iter(model.generate(ids, self.max_new_tokens, **self.options()) if ids else ())
            for source, rank in product(sources, range(1, self.n_best + 1)):
                target = without_end(next(targets), model.end_token) if source else []
                print(f"{rank}\t" if self.n_best > 1 else "", text_of(tokenizer, target), sep="")
            sys.stdout.flush()

    def options(self) -> dict[str, Any]:
        """Beam search where there are beams, else the likeliest token each time."""
        if self.num_beams == 1 and self.n_best == 1:
            return {"temperature": 0}
        return {
            "num_beams": self.num_beams,
            "length_penalty": self.length_penalty,
            "num_return_sequences": self.n_best,
        }


def lines(text: str) -> Iterator[str]:
    """The text itself, or the lines of standard input, of which those of white space alone become empty.

    Raises:
        ValueError: a text of white space alone.
    """
    if not text.strip():
        raise ValueError("the source is empty: give at least one character")
    for line in sys.stdin if text == "-" else [text]:
        yield line.rstrip("\r\n") if line.strip() else ""


def batches(items: Iterator[str], size: int) -> Iterator[list[str]]:
    """The items, ``size`` at a time."""
    while batch := list(islice(items, size)):
        yield batch


def without_end(ids: list[int], end_token: int) -> list[int]:
    """A target without the token that ends it."""
    return ids[:-1] if ids and ids[-1] == end_token else ids
