"""``glassformer tokenize``: write token files for training, or show the tokens of a text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from glassformer.cli.arguments import Command
from glassformer.cli.inputs import FileOption, SpecialTokensOption, TextArgument, TextOption, input_text
from glassformer.terminal import count_of, printable
from glassformer.training.config import DataConfig

if TYPE_CHECKING:
    from glassformer.contracts import Tokenizer


@dataclass
class Tokenize(Command):
    """Tokenize text into token files, as training does, and print their sizes."""

    argument: TextArgument = None
    text: TextOption = None
    """The text as an option. Without a text, token files are written."""
    text_file: FileOption = None
    """Read the text from a file."""
    special_tokens: SpecialTokensOption = None
    data: Annotated[DataConfig, tyro.conf.arg(name="")] = field(default_factory=DataConfig)

    def run(self) -> None:
        """Write the files or print the tokens."""
        text = input_text(self.argument, self.text, self.text_file)
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        from glassformer.training.language_modeling import prepare_data
        from glassformer.training.tokenizers import make_tokenizer

        console = Console()
        if text is not None:
            tokenizer: Any = make_tokenizer(self.data)
            tokenizer.parse_special_tokens = self.special_tokens
            shown = printable(token_list(tokenizer, text), keep="\n")
            console.print(shown, markup=False, highlight=False, soft_wrap=True)
            return
        _, files = prepare_data(self.data)
        title = f"{escape(printable(files.folder))}  (vocabulary: {files.vocab_size:,})"
        table = Table(title=title, title_justify="left")
        for column in ("split", "documents", "bytes", "tokens", "bytes / token"):
            table.add_column(column, justify="left" if column == "split" else "right")
        for name, split in files.splits.items():
            ratio = f"{split.num_bytes / len(split):.3f}" if len(split) else "-"
            numbers = (split.num_documents, split.num_bytes, len(split))
            table.add_row(name, *(f"{number:,}" for number in numbers), ratio)
        console.print(table)


def token_list(tokenizer: Tokenizer, text: str) -> str:
    """Each token with its id, and the counts of tokens and bytes."""
    from glassformer.tokenization import encode_typed_text

    ids, notes = encode_typed_text(tokenizer, text)
    tokens = "  ".join(f"{tokenizer.label(token)}[{token}]" for token in ids)
    size = len(text.encode())
    ratio = f", {size / len(ids):.2f} bytes / token" if ids else ""
    return "\n".join([tokens, f"{count_of(len(ids), 'token')}, {count_of(size, 'byte')}{ratio}", *notes])
