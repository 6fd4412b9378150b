"""``glassformer describe``: parameters, FLOPs and memory of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from glassformer.cli.arguments import Command, option
from glassformer.cli.resolve_model import check_model
from glassformer.terminal import printable


@dataclass
class Describe(Command):
    """Show parameters, FLOPs and activation memory of each part of a model, with their formulas."""

    model: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="MODEL",
            help="A preset (gpt2, bert-base-uncased, t5-small, vit-base, ...), or a model folder, a run "
            "folder or a .gguf file.",
        ),
    ]
    seq_len: Annotated[int | None, option()] = None
    """Length n of a sequence or source, in tokens. Default: max_seq_len, or the number of patches."""
    target_len: Annotated[int | None, option()] = None
    """Length m of the target of an encoder-decoder, in tokens. Default: that of the source."""
    batch_size: int = 1
    """Number of sequences or images."""
    kernel: Annotated[str | None, option("NAME")] = None
    """Attention kernel instead of the model's: textbook, fused, flash, block_sparse or linear."""
    pattern: Annotated[str | None, option("NAME")] = None
    """Attention pattern instead of the model's: sliding_window, dilated_window, longformer or big_bird."""

    def run(self) -> None:
        """Print the table."""
        check_model(self.model)
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        from glassformer.cli.resolve_model import load_preset_or_model
        from glassformer.models.costs import default_length, describe, total, with_attention

        model = with_attention(load_preset_or_model(self.model), self.kernel, self.pattern)
        seq_len = default_length(model) if self.seq_len is None else self.seq_len
        costs = describe(model, seq_len, self.batch_size, self.target_len)
        sums = total(costs)
        sizes = ", ".join(f"{name}={value}" for name, value in model.config.items() if type(value) is int)
        target = f", m = {self.target_len or seq_len}" if model.is_encoder_decoder else ""
        table = Table(
            title=f"{escape(printable(self.model))} at n = {seq_len}{target}, batch {self.batch_size}",
            title_justify="left",
        )
        table.add_column("component")
        table.add_column("copies", justify="right")
        for quantity in ("parameters", "FLOPs", "memory"):
            table.add_column(quantity, justify="right")
            table.add_column("each", style="dim")
        for cost in costs:
            table.add_row(
                cost.component,
                str(cost.copies),
                f"{cost.parameters:,}",
                cost.parameter_formula,
                _scaled(cost.flops, 1000, ("", "k", "M", "G", "T", "P")),
                cost.flop_formula,
                _scaled(cost.memory, 1024, ("B", "KiB", "MiB", "GiB", "TiB")),
                cost.memory_formula,
            )
        flops = _scaled(sums.flops, 1000, ("", "k", "M", "G", "T", "P"))
        memory = _scaled(sums.memory, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))
        table.add_section()
        table.add_row("total", "", f"{sums.parameters:,}", "", flops, "", memory, "")
        console = Console()
        console.width = max(console.width, 150)
        console.print(table)
        console.print(
            f"{sizes}\n"
            "n: sequence length, m: target length, P: patches, d: d_model, f: d_ff, h: heads,\n"
            "g: key-value heads, e: d_head, V: vocab_size, L: layers.\n"
            "FLOPs are those of a forward pass; a training step takes three times as many. Attention scores\n"
            "are O(n^2 d), the other layers O(n d^2), the output layer O(n d V). Memory is that of the\n"
            "activations saved for the backward pass, without the loss. The fused kernel saves an n x n\n"
            "matrix of a learned bias, of ALiBi, and of a mask that is not just causal; flash and\n"
            "block_sparse save none, and their FLOPs are those of the blocks that the mask leaves.",
            highlight=False,
            markup=False,
        )


def _scaled(number: float, base: int, units: tuple[str, ...]) -> str:
    """Format a number with a unit prefix: 12,345,678 as 12.3 M."""
    for unit in units[:-1]:
        if abs(number) < base:
            return f"{number:,.0f} {unit}" if unit in units[:1] else f"{number:,.1f} {unit}"
        number /= base
    return f"{number:,.1f} {units[-1]}"
