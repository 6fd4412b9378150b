"""``glassformer translate``: generate a target for each source with an encoder-decoder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Annotated, Any

import tyro

from glassformer.cli.arguments import Command


@dataclass
class Translate(Command):
    """Generate a target for a text with an encoder-decoder: a translation, a summary, a pronunciation."""

    target: Annotated[str, tyro.conf.Positional]
    """A model folder, a run folder (its best checkpoint is used), or a name on the hub."""
    text: str
    """The source; - reads standard input, one source per line. Empty lines stay empty."""
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
        from glassformer.cli.resolve_model import load_model, require_capability, require_tokenizer
        from glassformer.tokenization import safe_decode

        if self.batch_size < 1:
            raise ValueError(f"--batch-size must be at least 1, got {self.batch_size}")
        model: Any = load_model(self.target)
        require_capability(model, "translate", self.target)
        tokenizer = require_tokenizer(model, self.target)
        for sources in batched(read_sources(self.text), self.batch_size):
            ids = [[*row, model.end_token] for row in tokenizer.encode_batch([*filter(None, sources)])]
            targets = iter(model.generate(ids, self.max_new_tokens, **self.decoding_options()) if ids else ())
            for source, rank in product(sources, range(1, self.n_best + 1)):
                target = without_end(next(targets), [*model.stop_tokens, model.end_token]) if source else []
                print(f"{rank}\t" if self.n_best > 1 else "", safe_decode(tokenizer, target), sep="")
            sys.stdout.flush()

    def decoding_options(self) -> dict[str, Any]:
        """Options of ``generate`` for beam search or greedy decoding."""
        if self.num_beams == 1 and self.n_best == 1:
            return {"temperature": 0}
        return {
            "num_beams": self.num_beams,
            "length_penalty": self.length_penalty,
            "num_return_sequences": self.n_best,
        }


def read_sources(text: str) -> Iterator[str]:
    """The text itself, or the lines of standard input; blank lines become empty.

    Raises:
        ValueError: a blank text.
    """
    if not text.strip():
        raise ValueError("the source is empty: give at least one character")
    for line in sys.stdin if text == "-" else [text]:
        yield line.rstrip("\r\n") if line.strip() else ""


def batched(items: Iterator[str], size: int) -> Iterator[list[str]]:
    """Lists of ``size`` items; the last one may be shorter."""
    while batch := list(islice(items, size)):
        yield batch


def without_end(ids: list[int], end_tokens: Sequence[int]) -> list[int]:
    """Remove the end token."""
    return ids[:-1] if ids and ids[-1] in end_tokens else ids
