"""``glassformer generate``: a model continues a text."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from glassformer.cli.arguments import Command

if TYPE_CHECKING:
    from glassformer.contracts import Tokenizer


@dataclass
class Generate(Command):
    """Let a model continue a text, token by token."""

    target: Annotated[str, tyro.conf.Positional]
    """Folder of a model, or of a run (its best checkpoint is taken), a .gguf file, or a name on the hub."""
    prompt: str | None = None
    """The text to continue; - reads standard input. Default: start a new document."""
    max_new_tokens: int = 200
    """Tokens to write at most; the end of the document ends it too."""
    temperature: float = 0.8
    """0 takes the likeliest token each time; 1 samples from the model as it is."""
    top_k: int | None = 50
    """Sample from this many of the likeliest tokens; 0 is off."""
    top_p: float | None = None
    """Sample from the fewest tokens that hold this much probability."""
    min_p: float | None = None
    """Sample from tokens at least this many times as likely as the likeliest."""
    repetition_penalty: float | None = None
    """Above 1 makes tokens that have occurred less likely."""
    seed: int | None = None
    """Makes the text reproducible."""
    samples: int = 1
    """How many texts to write."""

    def run(self) -> None:
        """Print the texts, the first as it is written."""
        from glassformer.cli.abilities import require, tokenizer_of
        from glassformer.cli.targets import load_model
        from glassformer.generation import generate, stream

        model: Any = load_model(self.target)
        require(model, "generate", self.target)
        tokenizer = tokenizer_of(model, self.target)
        text = sys.stdin.read() if self.prompt == "-" else self.prompt
        ids = prompt_ids(tokenizer, text)
        options: dict[str, Any] = {
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "seed": self.seed,
            "stop_tokens": [] if tokenizer.end_of_text is None else [tokenizer.end_of_text],
        }
        if self.samples == 1:
            steps = stream(model, [ids], self.max_new_tokens, **options)
            sys.stdout.write(text or "")
            for piece in pieces(tokenizer, (int(tokens) for tokens in steps), ids[-1:]):
                sys.stdout.write(piece)
                sys.stdout.flush()
            print()
            return
        rows = generate(model, [ids], self.max_new_tokens, num_return_sequences=self.samples, **options)
        for number, row in enumerate(rows, start=1):
            print(f"--- {number} of {self.samples} ---")
            print((text or "") + "".join(pieces(tokenizer, iter(row[len(ids) :]), ids[-1:])))


def prompt_ids(tokenizer: Tokenizer, text: str | None) -> list[int]:
    """A prompt's ids; without a text, the mark that begins one, or that stands between two.

    Raises:
        ValueError: an empty text, or none where the tokenizer has no such mark.
    """
    if text is None:
        between = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
        start = tokenizer.add_marks([]) or between
        if not start:
            raise ValueError("this tokenizer has no mark that begins a document: give a --prompt")
        return start
    if not text:
        raise ValueError("the prompt is empty: give at least one character, or leave --prompt out")
    return tokenizer.add_marks(tokenizer.encode(text))


def pieces(tokenizer: Tokenizer, ids: Iterator[int], before: Sequence[int] = ()) -> Iterator[str]:
    """Text as soon as it is whole: a character that needs several tokens is held back until it has them.

    Args:
        tokenizer: of the model.
        ids: what the model writes; the end of the text ends it.
        before: the last token before them: some tokenizers leave out a space where a text begins.
    """
    from glassformer.generation import text_of

    context, held = list(before), list[int]()
    for token in ids:
        if token == tokenizer.end_of_text:
            break
        held.append(token)
        text = text_of(tokenizer, [*context, *held])[len(text_of(tokenizer, context)) :]
        if not text.endswith("\ufffd") or len(held) > 4:  # four bytes make any character
            yield text
            context, held = held, []
    if held:
        yield text_of(tokenizer, [*context, *held])[len(text_of(tokenizer, context)) :]
