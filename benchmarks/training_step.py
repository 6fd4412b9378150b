"""Time and memory of one training step, compared with other libraries.

    python benchmarks/training_step.py                 # 6 layers, d_model 512, batch 8 x 256, 2 threads
    python benchmarks/training_step.py --rounds 20 --json training_step.json

A step is a forward pass, a backward pass, and an update by the same optimizer for all (glassformer's: a fused
``torch.optim.AdamW`` with decay groups), without dropout. Output and embedding matrices are tied in all
models. Each contender runs in a process of its own, and makes a step that is not timed before each timed one;
rounds are interleaved, and ratios are taken within a round. Steps are measured in float32, and under bfloat16
autocast if the processor has instructions for it.

Utilization is the time of the step's own products with weights, over the time of the step. The products are
timed alone in the same rounds, each at once for all tokens, by the backends that glassformer has chosen for
this machine (under autocast by PyTorch).

Memory is relative to the idle process, which holds model and optimizer state but no gradients. The peak of
the tensors is exact; the peak of the process includes the memory of the allocator and the libraries.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timing
import torch
import torch.nn.functional as F
from contenders import CONTENDERS, OURS, PACKAGES, SMOKE, THEIRS, Sizes, training_step
from own_process import OwnProcess
from rich.table import Table
from timing import (
    Memory,
    console,
    goal_line,
    interleave,
    machine,
    memory_of,
    paired_ratio,
    quartiles,
    timed,
    vendor,
    write_json,
)

from glassformer.backends import BACKENDS, get_backends, set_backends
from glassformer.training.devices import has_native_bfloat16

EMULATED = "this processor has no instructions for bfloat16; --emulated-bfloat16 measures it nevertheless"
SPEED_GOALS = {"float32": {"AMD": 1.6, "Intel": 1.13}, "bfloat16": {"AMD": 1.1, "Intel": 1.1}}
"""Goals of the speed relative to Hugging Face, by precision and vendor of the processor."""
UTILIZATION_GOAL, MEMORY_GOAL = 0.75, 0.5


@dataclass(frozen=True)
class Product:
    """A matrix product of a training step."""

    run: Callable[[], object]
    flops: int
    count: int
    """Number of occurrences in a step."""


def products(sizes: Sizes, precision: str) -> dict[str, Product]:
    """All matrix products of a step that involve weights, by the backends in use."""
    d, ff, layers = sizes.d_model, sizes.d_ff, sizes.num_layers
    matrices = {"attention": (d, d, 4 * layers), "up": (d, ff, layers), "down": (ff, d, layers)}
    result: dict[str, Product] = {}
    for name, (d_in, d_out, count) in {**matrices, "head": (d, sizes.vocab_size, 1)}.items():
        shapes = (sizes.tokens, d_in), (sizes.tokens, d_out), (d_out, d_in)
        x, grad, w = (torch.randn(shape, dtype=getattr(torch, precision)) for shape in shapes)
        flops = 2 * sizes.tokens * d_in * d_out
        factors = {"forward": (x, w), "grad_input": (grad, w.T), "grad_weight": (grad.T, x.T)}
        for kind, (a, b) in factors.items():
            backend = BACKENDS[get_backends()[f"{kind}.many"]] if precision == "float32" else F.linear
            result[f"{precision}, {name}: {kind}"] = Product(partial(backend, a, b, None), flops, count)
    return result


def functions_of(
    name: str, sizes: Sizes, threads: int, precisions: Sequence[str], backends: dict[str, str]
) -> dict[str, Callable[[], Any]]:
    """Functions of a contender, for a process of its own: seconds and peak memory of a step."""
    torch.set_num_threads(threads)
    set_backends(backends)
    step = training_step(name, sizes)
    functions: dict[str, Callable[[], Any]] = {}
    for precision in precisions:
        run = partial(step, getattr(torch, precision))
        run()  # creates the optimizer's state
        functions[f"step {precision}"] = timed(run, untimed=1)
        functions[f"memory {precision}"] = partial(_peak_memory, run)
    return functions


def _peak_memory(run: Callable[[], None]) -> tuple[float, ...]:
    return tuple(memory_of(run, steps=3))  # as a plain tuple, for the connection


def measure(
    sizes: Sizes, names: Sequence[str], precisions: Sequence[str], rounds: int, threads: int
) -> dict[str, Any]:
    """Times, utilization and memory of the contenders, by precision."""
    matmuls = {precision: products(sizes, precision) for precision in precisions}
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(
                OwnProcess(functions_of, name, sizes, threads, precisions, get_backends())
            )
            for name in names
        }
        work: dict[str, Callable[[], float]] = {}
        for precision in precisions:
            work |= {
                f"{precision}, {name}": process.function(f"step {precision}")
                for name, process in processes.items()
            }
            work |= {name: timed(product.run, untimed=2) for name, product in matmuls[precision].items()}
        measured = interleave(work, rounds)
        memory = {
            precision: {
                name: Memory(*process.function(f"memory {precision}")())
                for name, process in processes.items()
            }
            for precision in precisions
        }
    return {
        "sizes": vars(sizes),
        "flops": sizes.flops,
        "backends": get_backends(),
        "rounds": rounds,
        "disturbed_rounds": measured.disturbed,
        "precisions": {
            precision: _figures(sizes, precision, measured.results, matmuls[precision], memory[precision])
            for precision in precisions
        },
    }


def _figures(
    sizes: Sizes,
    precision: str,
    seconds: Mapping[str, Sequence[float]],
    matmuls: Mapping[str, Product],
    memory: Mapping[str, Memory],
) -> dict[str, Any]:
    """The figures of one precision."""
    times = [[product.count * second for second in seconds[name]] for name, product in matmuls.items()]
    alone = [sum(of_round) for of_round in zip(*times, strict=True)]  # all products of a step, by round
    steps = {name: seconds[f"{precision}, {name}"] for name in memory}
    return {
        "products_milliseconds": [1e3 * value for value in quartiles(alone)],
        "products_gflops_per_second": (
            sum(product.count * product.flops for product in matmuls.values()) / quartiles(alone).median / 1e9
        ),
        "contenders": {
            name: {
                "milliseconds": [1e3 * value for value in quartiles(steps[name])],
                "tokens_per_second": sizes.tokens / quartiles(steps[name]).median,
                "speed_relative_to_hugging_face": paired_ratio(steps[THEIRS], steps[name]),
                "utilization": paired_ratio(alone, steps[name]),
                "bytes": memory[name]._asdict(),
            }
            for name in steps
        },
    }


MEMORY = {"idle MiB": "idle", "+ tensors": "tensors", "+ process": "process"}


def show(figures: dict[str, Any], skipped: Mapping[str, str], processor_vendor: str) -> None:
    """Print a table for each precision, the goals, and what was skipped."""
    out = console()
    for precision, of_precision in figures["precisions"].items():
        table = Table(title=f"One training step in {precision} (median, quartiles)")
        for column in ("", "ms", "tokens/s", "x Hugging Face", "utilization", *MEMORY):
            table.add_column(column, justify="right" if column else "left", no_wrap=not column)
        for name, row in of_precision["contenders"].items():
            low, middle, high = row["milliseconds"]
            table.add_row(
                name,
                f"{middle:.0f} ({low:.0f} to {high:.0f})",
                f"{row['tokens_per_second']:.0f}",
                f"{row['speed_relative_to_hugging_face']:.2f}",
                f"{row['utilization']:.2f}",
                *(f"{row['bytes'][kind] / 2**20:.0f}" for kind in MEMORY.values()),
            )
        out.print(table)
        low, middle, high = of_precision["products_milliseconds"]
        out.print(
            f"its products alone: {middle:.0f} ms ({low:.0f} to {high:.0f}),"
            f" {of_precision['products_gflops_per_second']:.0f} GFLOP/s"
        )
        out.print("\n".join(check_goals(precision, of_precision["contenders"], processor_vendor)))
    for what, reason in skipped.items():
        out.print(f"{what}: skipped: {reason}")
    out.print(f"{figures['flops'] / 1e9:.0f} GFLOP per step; backends: {figures['backends']}")
    out.print(
        f"{figures['rounds']} rounds, {figures['disturbed_rounds']} disturbed by other processes; {machine()}"
    )


def check_goals(precision: str, contenders: Mapping[str, Any], processor_vendor: str) -> list[str]:
    """Each goal with the measured value, and whether it is reached."""
    ours, theirs = contenders[OURS], contenders[THEIRS]
    speed, utilization = ours["speed_relative_to_hugging_face"][1], ours["utilization"][1]
    memory = ours["bytes"]["tensors"] / theirs["bytes"]["tensors"]
    goal = SPEED_GOALS[precision].get(processor_vendor)
    lines = [
        goal_line(f"{precision}, {processor_vendor}, x Hugging Face", speed, at_least=goal),
        goal_line(f"{precision}, peak of tensors, x Hugging Face", memory, at_most=MEMORY_GOAL),
    ]
    if precision == "float32":
        lines.append(goal_line(f"{precision}, utilization", utilization, at_least=UTILIZATION_GOAL))
    return lines


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=[*CONTENDERS][2:],
        metavar="NAME",
        help="further contenders; default: all",
    )
    parser.add_argument(
        "--emulated-bfloat16",
        action="store_true",
        help="measure bfloat16 autocast also on a processor without instructions for it",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="use tiny sizes, to check that the benchmark runs"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.smoke:
        timing.BUSY_SECONDS = 0
    wanted = [OURS, THEIRS, *([*CONTENDERS][2:] if arguments.peers is None else arguments.peers)]
    skipped = {name: f"{PACKAGES[name]} is not installed" for name in wanted if not find_spec(PACKAGES[name])}
    if THEIRS in skipped:
        parser.error(f"the ratios need {THEIRS}: {skipped[THEIRS]}")
    precisions = ["float32"]
    if has_native_bfloat16(torch.device("cpu")) or arguments.emulated_bfloat16:
        precisions.append("bfloat16")
    else:
        skipped["bfloat16"] = EMULATED
    sizes = SMOKE if arguments.smoke else Sizes()
    names = [name for name in wanted if name not in skipped]
    figures = measure(sizes, names, precisions, arguments.rounds, arguments.threads)
    show(figures, skipped, vendor())
    write_json(arguments.json, {**figures, "skipped": skipped})


if __name__ == "__main__":
    main()
