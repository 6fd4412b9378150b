"""``glassformer tokenize``: token files for training, or a look at how a text is cut."""

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
    """Turn text into token files, as training does first, and say what came out."""

    data: Annotated[DataConfig, tyro.conf.arg(name="")] = field(default_factory=DataConfig)
    text: str | None = None
    """Instead of writing files, show how this text is cut into tokens."""

    def run(self) -> None:
        """Build the files, or show the tokens."""
        from rich.console import Console
        from rich.table import Table

        from glassformer.training.language_modelling import prepare_data
        from glassformer.training.tokenizers import make_tokenizer

        console = Console()
        if self.text is not None:
            tokenizer = make_tokenizer(self.data)
            console.print(_cut(tokenizer, self.text), markup=False, highlight=False, soft_wrap=True)
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


def _cut(tokenizer: Tokenizer, text: str) -> str:
    """Each token and its id, and how many there are."""
    ids = tokenizer.encode(text)
    shown = "  ".join(f"{tokenizer.label(token)}[{token}]" for token in ids)
    size = len(text.encode())
    return f"{shown}\n{len(ids):,} tokens, {size:,} bytes" + (
        f", {size / len(ids):.2f} bytes / token" if ids else ""
    )
