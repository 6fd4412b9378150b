"""Speed of matrix products by every backend, compared with the limits of the processor.

    python benchmarks/products.py                      # 1, 8 and 2048 rows, float32
    python benchmarks/products.py --rounds 20 --json products.json

The products are those of linear layers: forward, gradient of the input, and gradient of the weight; packed
weights have a forward product only. With one or few rows, as many copies of the weight are used in turn as
exceed the caches, because a model reads all of its weights before it reads one again. Types of numbers for
which this processor has no instructions are skipped.

The limits are measured in the same run. Arithmetic: the fastest of all backends, and for float32 numpy's
OpenBLAS, on products of square matrices that fit into the caches; the processor itself may be faster.
Memory: summing and filling an array larger than the caches with all threads. A product takes at least the
time of its arithmetic, and at least that of reading its operands and writing its result; the goal is that the
fastest backend reaches 0.75 of that limit.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import timing
import torch
from product_contenders import Format, formats, openblas
from rich.table import Table
from timing import console, goal_line, interleave, machine, quartiles, timed, write_json
from torch import Tensor

from glassformer.backends import get_backends


@dataclass(frozen=True)
class Sizes:
    weights: tuple[tuple[int, int], ...] = ((512, 512), (2048, 512), (512, 2048), (8192, 512))
    """Weights ``(out_features, in_features)``."""
    rows: tuple[int, ...] = (1, 8, 2048)
    """Rows of the input; below 64 the weights are read from memory."""
    array_bytes: int = 2**28
    """Size of the array that is larger than the caches."""
    square: tuple[int, ...] = (256, 512, 1024)
    """Sizes of the square matrices that fit into the caches."""


SMOKE = Sizes(weights=((32, 64),), rows=(1, 64), array_bytes=2**16, square=(32,))
GOAL = 0.75
MANY_ROWS = 64
SQUARE_FLOPS = 10**9
"""Products of small square matrices are repeated up to this number of operations."""


class Limits(NamedTuple):
    """Operations per second, and bytes read and written per second."""

    arithmetic: dict[str, float]
    """By format."""
    read: float
    write: float


def measure_limits(sizes: Sizes, native: Mapping[str, Format], rounds: int) -> Limits:
    """The limits of the processor with the current number of threads."""
    array = torch.zeros(sizes.array_bytes // 4)
    work = {"read": timed(array.sum, untimed=1), "write": timed(lambda: array.fill_(1.0), untimed=1)}
    flops: dict[str, dict[str, int]] = {}
    for name, form in native.items():
        contenders = form.contenders("forward")
        if name == "float32":
            contenders["OpenBLAS"] = openblas
        flops[name] = {}
        for n in sizes.square:
            times = max(1, SQUARE_FLOPS // (2 * n**3))
            a, b = (torch.randn(n, n).to(form.dtype) for _ in range(2))
            for contender, prepare in contenders.items():
                key = f"{name}, {contender}, {n}"
                flops[name][key] = 2 * n**3 * times
                work[key] = timed(_repeat([prepare(a, b)] * times), untimed=1)
    seconds = {key: quartiles(values).median for key, values in interleave(work, rounds).results.items()}
    return Limits(
        {name: max(keys[key] / seconds[key] for key in keys) for name, keys in flops.items()},
        sizes.array_bytes / seconds["read"],
        sizes.array_bytes / seconds["write"],
    )


def _repeat(calls: Sequence[Callable[[], object]]) -> Callable[[], None]:
    def run() -> None:
        for call in calls:
            call()

    return run


@dataclass(frozen=True)
class Case:
    """A product, and the contenders that compute it."""

    format: str
    kind: str
    rows: int
    weight: tuple[int, int]
    read: int
    """Bytes of the operands."""
    written: int
    """Bytes of the result."""
    copies: int
    """Products in one measurement."""
    runs: Mapping[str, Callable[[], object]]

    @property
    def label(self) -> str:
        return f"{self.format}, {self.kind}, {self.rows} rows, weight {self.weight}"

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.weight[0] * self.weight[1]

    def least_seconds(self, limits: Limits) -> float:
        """The time that the limits allow."""
        memory = self.read / limits.read + self.written / limits.write
        return max(self.flops / limits.arithmetic[self.format], memory)


def cases(sizes: Sizes, native: Mapping[str, Format]) -> Iterator[Case]:
    """All products of all formats, made one after the other to save memory."""
    numbers = torch.randn(sizes.array_bytes // 4)
    for name, form in native.items():
        converted = numbers.to(form.dtype)
        for rows in sizes.rows:
            for kind in ("forward", "grad_input", "grad_weight"):
                if form.contenders(kind):
                    yield from (_case(converted, name, form, kind, rows, weight) for weight in sizes.weights)


def _case(numbers: Tensor, name: str, form: Format, kind: str, rows: int, weight: tuple[int, int]) -> Case:
    d_out, d_in = weight
    copies = 1 if rows >= MANY_ROWS else max(1, numbers.numel() // (d_out * d_in))
    x, grad = torch.randn(rows, d_in).to(form.dtype), torch.randn(rows, d_out).to(form.dtype)
    if kind == "grad_weight":
        pairs = [(grad.T, x.T)] * copies
    else:
        weights = numbers[: copies * d_out * d_in].view(copies, d_out, d_in)
        pairs = [(x, w) if kind == "forward" else (grad, w.T) for w in weights]
    runs = {
        contender: _repeat([prepare(a, b) for a, b in pairs])
        for contender, prepare in form.contenders(kind).items()
    }
    item = form.dtype.itemsize
    values = {
        "forward": (x.numel(), grad.numel()),
        "grad_input": (grad.numel(), x.numel()),
        "grad_weight": (x.numel() + grad.numel(), d_out * d_in),
    }
    read, written = (item * number for number in values[kind])
    if kind != "grad_weight":
        read += form.weight_bytes * d_out * d_in
    return Case(name, kind, rows, weight, read, written, copies, runs)


def measure(sizes: Sizes, rounds: int) -> dict[str, Any]:
    """The limits, and the rates of every contender for every product."""
    native, skipped = formats()
    limits = measure_limits(sizes, native, rounds)
    rows, disturbed = [], 0
    for case in cases(sizes, native):
        measured = interleave({name: timed(run, untimed=1) for name, run in case.runs.items()}, rounds)
        disturbed += measured.disturbed
        rates = {}
        for name, seconds in measured.results.items():
            each = quartiles([second / case.copies for second in seconds])
            rates[name] = {
                "microseconds": [1e6 * value for value in each],
                "gflops_per_second": case.flops / each.median / 1e9,
                "gigabytes_per_second": (case.read + case.written) / each.median / 1e9,
                "of_limit": case.least_seconds(limits) / each.median,
            }
        names = {"format": case.format, "kind": case.kind, "rows": case.rows, "weight": case.weight}
        rows.append({**names, "contenders": rates})
    return {
        "limits": {
            "gflops_per_second": {name: rate / 1e9 for name, rate in limits.arithmetic.items()},
            "gigabytes_read_per_second": limits.read / 1e9,
            "gigabytes_written_per_second": limits.write / 1e9,
        },
        "products": rows,
        "selection": get_backends(),
        "rounds": rounds,
        "disturbed_rounds": disturbed,
        "skipped": skipped,
    }


def show(figures: dict[str, Any]) -> None:
    """Print the limits, a table for each format, and how many products reach the goal."""
    out = console()
    limits = figures["limits"]
    for name, rate in limits["gflops_per_second"].items():
        products = [row for row in figures["products"] if row["format"] == name]
        contenders = list(products[0]["contenders"])  # of the forward product: all
        table = Table(title=f"{name}: GFLOP/s, GB/s, and fraction of the limit", title_justify="left")
        for column in ("rows", "product", "weight", *contenders, "goal"):
            table.add_column(column, justify="left" if column in ("product", "goal") else "right")
        for row in products:
            rates = row["contenders"]
            best = max(rate["of_limit"] for rate in rates.values())
            table.add_row(
                str(row["rows"]),
                row["kind"],
                "{} x {}".format(*row["weight"]),
                *(_cell(rates.get(contender)) for contender in contenders),
                "reached" if best >= GOAL else "NOT reached",
            )
        out.print(table)
        worst = min(max(rate["of_limit"] for rate in row["contenders"].values()) for row in products)
        out.print(f"{name}, limit of arithmetic: {rate:.0f} GFLOP/s")
        out.print(
            goal_line(f"{name}, worst product by its fastest backend, of the limit", worst, at_least=GOAL)
        )
    out.print(
        f"limits of memory: read {limits['gigabytes_read_per_second']:.1f} GB/s,"
        f" written {limits['gigabytes_written_per_second']:.1f} GB/s"
    )
    for what, reason in figures["skipped"].items():
        out.print(f"{what}: skipped: {reason}")
    out.print(f"selection: {figures['selection']}")
    out.print(
        f"{figures['rounds']} rounds of each product, {figures['disturbed_rounds']} disturbed by other"
        f" processes; {machine()}"
    )


def _cell(rate: Mapping[str, float] | None) -> str:
    if rate is None:
        return "-"
    return f"{rate['gflops_per_second']:.0f}, {rate['gigabytes_per_second']:.1f}, {rate['of_limit']:.2f}"


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument(
        "--smoke", action="store_true", help="use tiny sizes, to check that the benchmark runs"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.smoke:
        timing.BUSY_SECONDS = 0
    with torch.no_grad():
        figures = measure(SMOKE if arguments.smoke else Sizes(), arguments.rounds)
    show(figures)
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
