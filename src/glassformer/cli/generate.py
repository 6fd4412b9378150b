"""``glassformer generate``: generate a continuation of a text."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Any, Literal

from glassformer.cli.arguments import Command, Flag, ModelArgument, WeightsOption, option
from glassformer.cli.inputs import FileOption, SpecialTokensOption, TextArgument, input_text
from glassformer.cli.resolve_model import check_model, set_special_tokens
from glassformer.terminal import printable

if TYPE_CHECKING:
    from glassformer.contracts import Tokenizer


@dataclass
class Generate(Command):
    """Generate a continuation of a text, token by token."""

    target: ModelArgument
    argument: TextArgument = None
    prompt: Annotated[str | None, option("TEXT", "--text")] = None
    """The text to continue as an option. Default: start a new document."""
    text_file: FileOption = None
    """Read the text to continue from a file."""
    special_tokens: SpecialTokensOption = None
    weights: WeightsOption = None
    chat: Flag = False
    """Put the text into the model's chat template as a message, and print the answer only."""
    max_new_tokens: int = 200
    """Maximum number of new tokens; an end-of-text token ends the text earlier."""
    temperature: float = 0.8
    """0 takes the most probable token; 1 samples from the unchanged distribution."""
    top_k: int | None = 50
    """Sample from the k most probable tokens; 0 turns it off."""
    top_p: Annotated[float | None, option()] = None
    """Sample from the smallest set of tokens with this total probability."""
    min_p: Annotated[float | None, option()] = None
    """Sample from tokens with at least this fraction of the highest probability."""
    repetition_penalty: Annotated[float | None, option()] = None
    """Above 1, makes tokens that have occurred less probable."""
    seed: Annotated[int | None, option()] = None
    """Random seed, for reproducible text."""
    samples: int = 1
    """Number of texts to generate."""
    overflow: Annotated[Literal["slide", "extend", "error"] | None, option()] = None
    """Beyond the model's length: drop the oldest half, grow, or stop with an error. Default: by positions."""

    def run(self) -> None:
        """Print the texts; a single one is streamed."""
        text = input_text(self.argument, self.prompt, self.text_file, "--prompt")
        check_model(self.target)
        from glassformer.cli.resolve_model import load_model, require_capability, require_tokenizer
        from glassformer.generation import decode_stream, generate, stream

        model: Any = load_model(self.target, self.weights)
        require_capability(model, "generate", self.target)
        tokenizer = require_tokenizer(model, self.target)
        set_special_tokens(model, self.special_tokens, text)
        ids = chat_ids(tokenizer, text) if self.chat else prompt_ids(tokenizer, text)
        shown = "" if self.chat or text is None else text
        ends = (*model.stop_tokens, tokenizer.end_of_text)
        stop_tokens = [token for token in ends if token is not None]
        options: dict[str, Any] = {
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "seed": self.seed,
            "stop_tokens": stop_tokens,
            "overflow": self.overflow,
        }
        if self.samples == 1:
            steps = stream(model, [ids], self.max_new_tokens, **options)
            write(shown)
            tokens = takewhile(lambda token: token not in stop_tokens, map(int, steps))
            for chunk in decode_stream(tokenizer, tokens, ids):
                write(chunk)
                sys.stdout.flush()
            print()
            return
        rows = generate(model, [ids], self.max_new_tokens, num_return_sequences=self.samples, **options)
        for number, row in enumerate(rows, start=1):
            print(f"--- {number} of {self.samples} ---")
            tokens = takewhile(lambda token: token not in stop_tokens, row[len(ids) :])
            write(shown + "".join(decode_stream(tokenizer, tokens, ids)) + "\n")


def write(text: str) -> None:
    """Write to standard output; on a terminal, escape control characters except newlines and tabs."""
    sys.stdout.write(printable(text, keep="\n\t") if sys.stdout.isatty() else text)


def chat_ids(tokenizer: Tokenizer, text: str | None) -> list[int]:
    """Token ids of a conversation that begins with a message of the user, up to the answer.

    Raises:
        ValueError: no text, or a tokenizer without a chat template.
    """
    from glassformer.tokenization import PretrainedTokenizer

    if not text:
        raise ValueError("--chat needs a message: give a text of at least one character")
    if not isinstance(tokenizer, PretrainedTokenizer) or not tokenizer.chat_templates:
        raise ValueError("this model has no chat template: leave --chat out")
    ids: list[int] = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True
    )
    return ids


def prompt_ids(tokenizer: Tokenizer, text: str | None) -> list[int]:
    """Token ids of a prompt; without a text, the special token that begins or separates documents.

    Raises:
        ValueError: an empty text, or none and a tokenizer without such a token.
    """
    from glassformer.tokenization import encode_typed_text

    if text is None:
        separator = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
        start = tokenizer.add_special_tokens([]) or separator
        if not start:
            raise ValueError("this tokenizer has no token that begins a document: give a --prompt")
        return start
    if not text:
        raise ValueError("the prompt is empty: give at least one character, or leave --prompt out")
    return tokenizer.add_special_tokens(encode_typed_text(tokenizer, text)[0])
