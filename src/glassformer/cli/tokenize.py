"""``glassformer tokenize``: write token files for training, or show the tokens of a text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import tyro

from glassformer.cli.arguments import Command
from glassformer.training.config import DataConfig

if TYPE_CHECKING:
    from glassformer.contracts import Tokenizer


@dataclass
class Tokenize(Command):
    """Tokenize text into token files, as training does, and print their sizes."""

    data: Annotated[DataConfig, tyro.conf.arg(name="")] = field(default_factory=DataConfig)
    text: str | None = None
    """Show the tokens of this text instead of writing files."""

    def run(self) -> None:
        """Write the files or print the tokens."""
        from rich.console import Console
        from rich.table import Table

        from glassformer.training.language_modeling import prepare_data
        from glassformer.training.tokenizers import make_tokenizer

        console = Console()
        if self.text is not None:
            tokenizer = make_tokenizer(self.data)
            console.print(token_list(tokenizer, self.text), markup=False, highlight=False, soft_wrap=True)
            return
        _, files = prepare_data(self.data)
        table = Table(title=f"{files.folder}  (vocabulary: {files.vocab_size:,})", title_justify="left")
        for column in ("split", "documents", "bytes", "tokens", "bytes / token"):
            table.add_column(column, justify="left" if column == "split" else "right")
        for name, split in files.splits.items():
            ratio = f"{split.num_bytes / len(split):.3f}" if len(split) else "-"
            numbers = (split.num_documents, split.num_bytes, len(split))
            table.add_row(name, *(f"{number:,}" for number in numbers), ratio)
        console.print(table)


def token_list(tokenizer: Tokenizer, text: str) -> str:
    """Each token with its id, and the counts of tokens and bytes."""
    ids = tokenizer.encode(text)
    tokens = "  ".join(f"{tokenizer.label(token)}[{token}]" for token in ids)
    size = len(text.encode())
    ratio = f", {size / len(ids):.2f} bytes / token" if ids else ""
    return f"{tokens}\n{len(ids):,} tokens, {size:,} bytes{ratio}"
