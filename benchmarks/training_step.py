"""Time and memory of one training step, compared with other libraries.

    python benchmarks/training_step.py                 # 6 layers, d_model 512, batch 8 x 256, fp32, 2 threads
    python benchmarks/training_step.py --rounds 20 --json training_step.json

A step is a forward pass, a backward pass, and an update by the same optimizer for all (glassformer's: a fused
``torch.optim.AdamW`` with decay groups), without dropout. Output and embedding matrices are tied in all
models. Each contender runs in a process of its own; rounds are interleaved, and ratios are taken within a
round.

FLOPs of a step: 6 x (matrix parameters, the tied head counted) x tokens, and for causal attention 6 x
num_layers x d_model x seq_len x tokens. Utilization divides them by the time of the step and by the rate of
float32 matrix products of the shapes that occur in the step, measured in the same rounds: the fastest of them
("of peak"), and their average weighted by their number in a step ("of products").

Memory is relative to the idle process, which holds model and optimizer state but no gradients. The peak of
the tensors is exact; the peak of the process includes the memory of the allocator and the libraries.
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
from timing import Memory, console, interleave, machine, memory_of, paired_ratio, quartiles, timed, write_json
from torch import Tensor


@dataclass(frozen=True)
class Product:
    """A matrix product of a training step."""

    run: Callable[[], object]
    flops: int
    count: int
    """Number of occurrences in a step."""


def products(sizes: Sizes) -> dict[str, Product]:
    """All matrix products of a step that involve weights, with preallocated results."""
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
    """A contender in a process of its own, so that contenders share no memory and no allocator.

    As a context manager, it ends the process on exit.
    """

    def __init__(self, name: str, sizes: Sizes, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, child_end = context.Pipe()
        self._process = context.Process(
            target=_answer_requests, args=(child_end, name, sizes, threads), daemon=True
        )
        self._process.start()
        child_end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()

    def step(self) -> float:
        """Seconds of one step."""
        return float(self._request("step"))

    def memory(self) -> Memory:
        """Peak memory of a step."""
        return Memory(*self._request("memory"))

    def _request(self, name: str) -> Any:
        self._connection.send(name)
        return self._connection.recv()


def _answer_requests(connection: Connection, name: str, sizes: Sizes, threads: int) -> None:
    torch.set_num_threads(threads)
    step = training_step(name, sizes)
    step()  # creates the optimizer's state
    answers: dict[str, Callable[[], Any]] = {"step": timed(step), "memory": lambda: tuple(memory_of(step))}
    while True:
        connection.send(answers[connection.recv()]())


def measure(sizes: Sizes, rounds: int, threads: int) -> dict[str, Any]:
    """Times, utilization and memory of all contenders."""
    matmuls = products(sizes)
    with ExitStack() as stack:
        processes = {name: stack.enter_context(Process(name, sizes, threads)) for name in CONTENDERS}
        work = {name: process.step for name, process in processes.items()}
        work |= {name: timed(product.run) for name, product in matmuls.items()}
        measured = interleave(work, rounds)
        memory = {name: process.memory() for name, process in processes.items()}
    seconds = measured.results
    medians = {name: quartiles(seconds[name]).median for name in seconds}
    peak_rate = max(product.flops / medians[name] for name, product in matmuls.items())
    all_flops = sum(product.count * product.flops for product in matmuls.values())
    product_rate = all_flops / sum(product.count * medians[name] for name, product in matmuls.items())
    figures: dict[str, Any] = {}
    for name in CONTENDERS:
        rate = sizes.flops / medians[name]
        figures[name] = {
            "milliseconds": [1e3 * value for value in quartiles(seconds[name])],
            "tokens_per_second": sizes.tokens / medians[name],
            "speed_relative_to_hugging_face": paired_ratio(seconds[THEIRS], seconds[name]),
            "utilization_of_peak": rate / peak_rate,
            "utilization_of_products": rate / product_rate,
            "bytes": memory[name]._asdict(),
        }
    return {
        "sizes": vars(sizes),
        "flops": sizes.flops,
        "gflops_per_second": {"peak": peak_rate / 1e9, "products": product_rate / 1e9},
        "rounds": rounds,
        "disturbed_rounds": measured.disturbed,
        "contenders": figures,
    }


MEMORY = {"idle MiB": "idle", "+ tensors": "tensors", "+ process": "process"}


def show(figures: dict[str, Any]) -> None:
    """Print the table and the rates it refers to."""
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
            f"{row['utilization_of_peak']:.2f}",
            f"{row['utilization_of_products']:.2f}",
            *(f"{row['bytes'][kind] / 2**20:.0f}" for kind in MEMORY.values()),
        )
    out = console()
    out.print(table)
    rates = figures["gflops_per_second"]
    out.print(
        f"{figures['flops'] / 1e9:.0f} GFLOP per step; float32 products: fastest {rates['peak']:.0f} GFLOP/s,"
        f" weighted average {rates['products']:.0f} GFLOP/s"
    )
    out.print(
        f"{figures['rounds']} rounds, {figures['disturbed_rounds']} disturbed by other processes; {machine()}"
    )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--smoke", action="store_true", help="use tiny sizes, to check that the benchmark runs"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes = SMOKE if arguments.smoke else Sizes()
    figures = measure(sizes, arguments.rounds, arguments.threads)
    show(figures)
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
