"""How long does one training step take, and how much memory, next to other libraries?

    python benchmarks/training_step.py                 # 6 layers, d_model 512, batch 8 x 256, fp32, 2 threads
    python benchmarks/training_step.py --rounds 20 --json training_step.json

A step is forward, backward, and one update by the same optimizer for all (glassformer's own: a fused
``torch.optim.AdamW`` with decay groups), without dropout. Output and embedding matrices are tied
everywhere. Each contender lives in a process of its own; they take turns, and ratios are taken within a
round.

FLOPs of a step: 6 x (matrix parameters, the tied head counted) x tokens, and for causal attention 6 x
num_layers x d_model x seq_len x tokens. Utilisation divides them by the time of the step and by the rate
of float32 matrix products of the step's own shapes, measured in the same rounds: the fastest of them ("of
peak"), and their average, weighted as a step needs them ("of products").

Memory is counted above the same process when it is idle: model and optimizer state exist, gradients do
not. The peak of tensors in a step is exact; the process's high-water mark adds what the allocator and
the libraries take.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from contenders import CONTENDERS, SMOKE, THEIRS, Sizes, training_step
from rich.table import Table
from timing import Memory, console, machine, memory_of, paired, spread, take_turns, timed, write_json
from torch import Tensor


@dataclass(frozen=True)
class Product:
    """A matrix product of a training step."""

    run: Callable[[], object]
    flops: int
    count: int
    """How many times a step needs it."""


def products(sizes: Sizes) -> dict[str, Product]:
    """All matrix products of a step with weights, their results written where memory is at hand."""
    d, ff, layers = sizes.d_model, sizes.d_ff, sizes.num_layers
    matrices = {"attention": (d, d, 4 * layers), "up": (d, ff, layers), "down": (ff, d, layers)}
    result: dict[str, Product] = {}
    for name, (d_in, d_out, count) in {**matrices, "head": (d, sizes.vocab_size, 1)}.items():
        x, y = torch.randn(sizes.tokens, d_in), torch.randn(sizes.tokens, d_out)
        w = torch.randn(d_out, d_in)
        flops = 2 * sizes.tokens * d_in * d_out
        for kind, a, b in (("x W^T", x, w.T), ("dy W", y, w), ("dy^T x", y.T, x)):
            result[f"{name}: {kind}"] = Product(_product(a, b), flops, count)
    return result


def _product(a: Tensor, b: Tensor) -> Callable[[], object]:
    result = a @ b
    return lambda: torch.mm(a, b, out=result)


class Process:
    """A contender in a process of its own, so that neither its memory nor its allocator is another's.

    A context: the process ends with it.
    """

    def __init__(self, name: str, sizes: Sizes, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, sizes, threads), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()

    def step(self) -> float:
        """Seconds of one step."""
        return float(self._ask("step"))

    def memory(self) -> Memory:
        """Peak memory of a step."""
        return Memory(*self._ask("memory"))

    def _ask(self, question: str) -> Any:
        self._connection.send(question)
        return self._connection.recv()


def _serve(connection: Connection, name: str, sizes: Sizes, threads: int) -> None:
    torch.set_num_threads(threads)
    step = training_step(name, sizes)
    step()  # makes the optimizer's state
    answers: dict[str, Callable[[], Any]] = {"step": timed(step), "memory": lambda: tuple(memory_of(step))}
    while True:
        connection.send(answers[connection.recv()]())


def measure(sizes: Sizes, rounds: int, threads: int) -> dict[str, Any]:
    """Everything: times, utilisation, memory."""
    matmuls = products(sizes)
    with ExitStack() as stack:
        processes = {name: stack.enter_context(Process(name, sizes, threads)) for name in CONTENDERS}
        work = {name: process.step for name, process in processes.items()}
        work |= {name: timed(product.run) for name, product in matmuls.items()}
        turns = take_turns(work, rounds)
        memory = {name: process.memory() for name, process in processes.items()}
    seconds = turns.results
    medians = {name: spread(seconds[name]).median for name in seconds}
    peak_rate = max(product.flops / medians[name] for name, product in matmuls.items())
    all_flops = sum(product.count * product.flops for product in matmuls.values())
    product_rate = all_flops / sum(product.count * medians[name] for name, product in matmuls.items())
    figures: dict[str, Any] = {}
    for name in CONTENDERS:
        rate = sizes.flops / medians[name]
        figures[name] = {
            "milliseconds": [1e3 * value for value in spread(seconds[name])],
            "tokens_per_second": sizes.tokens / medians[name],
            "speed_relative_to_hugging_face": paired(seconds[THEIRS], seconds[name]),
            "utilisation_of_peak": rate / peak_rate,
            "utilisation_of_products": rate / product_rate,
            "bytes": memory[name]._asdict(),
        }
    return {
        "sizes": vars(sizes),
        "flops": sizes.flops,
        "gflops_per_second": {"peak": peak_rate / 1e9, "products": product_rate / 1e9},
        "rounds": rounds,
        "disturbed_rounds": turns.disturbed,
        "contenders": figures,
    }


MEMORY = {"idle MiB": "idle", "+ tensors": "tensors", "+ process": "process"}


def show(figures: dict[str, Any]) -> None:
    """The table, and what it rests on."""
    table = Table(title="One training step (median, quartiles)")
    for column in ("", "ms", "tokens/s", "x Hugging Face", "of peak", "of products", *MEMORY):
        table.add_column(column, justify="right" if column else "left", no_wrap=not column)
    for name, row in figures["contenders"].items():
        low, middle, high = row["milliseconds"]
        table.add_row(
            name,
            f"{middle:.0f} ({low:.0f} to {high:.0f})",
            f"{row['tokens_per_second']:.0f}",
            f"{row['speed_relative_to_hugging_face']:.2f}",
            f"{row['utilisation_of_peak']:.2f}",
            f"{row['utilisation_of_products']:.2f}",
            *(f"{row['bytes'][kind] / 2**20:.0f}" for kind in MEMORY.values()),
        )
    out = console()
    out.print(table)
    rates = figures["gflops_per_second"]
    out.print(
        f"{figures['flops'] / 1e9:.0f} GFLOP a step; float32 products: fastest {rates['peak']:.0f} GFLOP/s, "
        f"as a step needs them {rates['products']:.0f} GFLOP/s"
    )
    out.print(f"{figures['rounds']} rounds, {figures['disturbed_rounds']} of them disturbed; {machine()}")


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes = SMOKE if arguments.smoke else Sizes()
    figures = measure(sizes, arguments.rounds, arguments.threads)
    show(figures)
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
