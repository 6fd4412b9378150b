"""What saves memory in a training step, and what time it costs.

    python benchmarks/training_memory.py                  # SmolLM2's shape, one text of 2,048 tokens
    python benchmarks/training_memory.py --preset gpt2 --seq-len 1024

Each row is a whole step (forward, backward, AdamW) of the same model with one technique, and with all of
them. "plain" is the textbook kernel with the loss on all logits. The rows with a window of 256 compare the
kernels that need the mask as a table with the block-sparse one. Every row is measured in a process of its
own; times are taken in turns.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timing
import torch
import torch.nn.functional as F
from own_process import OwnProcess
from rich.table import Table
from timing import Memory, console, interleave, machine, memory_of, paired_ratio, quartiles, timed, write_json

from glassformer.models import GPTModel
from glassformer.training.cross_entropy import chunked_cross_entropy


@dataclass(frozen=True)
class Technique:
    """How a step is computed."""

    kernel: str = "textbook"
    window: int | None = None
    chunked_loss: bool = False
    checkpointing: bool = False
    bfloat16: bool = False


TECHNIQUES = {
    "plain": Technique(),
    "fused kernel": Technique("fused"),
    "flash": Technique("flash"),
    "chunked loss": Technique(chunked_loss=True),
    "checkpointing": Technique(checkpointing=True),
    "bfloat16": Technique(bfloat16=True),
    "fused kernel, chunked loss": Technique("fused", chunked_loss=True),
    "flash, chunked loss": Technique("flash", chunked_loss=True),
    "all: flash, chunked loss, checkpointing, bfloat16": Technique("flash", None, True, True, True),
    "window 256, textbook": Technique("textbook", 256, True),
    "window 256, fused": Technique("fused", 256, True),
    "window 256, block-sparse": Technique("block_sparse", 256, True),
}


def build_step(technique: Technique, options: argparse.Namespace) -> Callable[[], None]:
    """A function that trains the model on one batch."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"kernel": technique.kernel, "window": technique.window}
    sizes |= {"gradient_checkpointing": technique.checkpointing}
    if options.smoke:
        sizes |= {
            "d_model": 32,
            "num_layers": 2,
            "d_ff": 48,
            "num_heads": 4,
            "num_kv_heads": 2,
            "vocab_size": 64,
        }
    model = GPTModel.from_preset(options.preset, **sizes).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(model.vocab_size, (options.batch_size, options.seq_len + 1))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16) if technique.bfloat16 else nullcontext():
            hidden, targets = model.hidden_states(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()
            if technique.chunked_loss:
                loss = chunked_cross_entropy(hidden, model.lm_head.weight, targets)
            else:
                loss = F.cross_entropy(model.lm_head(hidden).float(), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    step()  # allocates the state of the optimizer, which is not the memory of a step
    return step


def functions(name: str, options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Seconds and memory of a step."""
    torch.set_num_threads(options.threads)
    timing.BUSY_SECONDS = options.busy_seconds
    step = build_step(TECHNIQUES[name], options)
    return {"seconds": timed(step), "memory": partial(memory_of, step, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--preset", default="smollm2-135m", choices=GPTModel.presets)
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--techniques", nargs="+", choices=TECHNIQUES, default=list(TECHNIQUES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to test the benchmark itself")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.busy_seconds = timing.BUSY_SECONDS
    if options.smoke:
        options.seq_len, options.rounds, options.busy_seconds = 48, 1, 0
        timing.BUSY_SECONDS = 0
    seconds: dict[str, list[float]] = {}
    memory: dict[str, Memory] = {}
    reference = options.techniques[0]
    for name in options.techniques:  # two processes at a time: each holds a model
        pair = [reference] if name == reference else [reference, name]
        processes = {each: OwnProcess(functions, each, options) for each in pair}
        try:
            found = interleave(
                {each: own.function("seconds") for each, own in processes.items()}, options.rounds
            )
            memory[name] = processes[name].function("memory")()
        finally:
            for own in processes.values():
                own.__exit__(None, None, None)
        seconds[name] = found.results[name]
        seconds[f"{reference} beside {name}"] = found.results[reference]
    title = f"{options.preset}, {options.batch_size} x {options.seq_len} tokens"
    table = Table(
        "", "peak of tensors, MiB", "of the process, MiB", "step, ms", f"time, x {reference}", title=title
    )
    rows = {}
    for name in options.techniques:
        ratio = paired_ratio(seconds[name], seconds[f"{reference} beside {name}"])
        rows[name] = {
            "tensors": memory[name].tensors,
            "process": memory[name].process,
            "seconds": quartiles(seconds[name]),
            "time_relative": ratio,
        }
        table.add_row(
            name,
            f"{memory[name].tensors / 2**20:,.0f}",
            f"{memory[name].process / 2**20:,.0f}",
            f"{quartiles(seconds[name]).median * 1000:,.0f}",
            f"{ratio:.2f}",
        )
    console().print(table)
    console().print(f"{machine()['processor']}, {options.threads} threads; memory is above the idle model")
    write_json(options.json, {"preset": options.preset, "seq_len": options.seq_len, "rows": rows})


if __name__ == "__main__":
    main()
