"""What attention costs as the text grows: time and peak memory of each kernel, with fitted exponents.

    python benchmarks/attention.py                                  # 256 to 65,536 tokens
    python benchmarks/attention.py --lengths 1024 4096 --figure docs/images/attention-cost.svg

One layer's attention with 8 heads of 64, batch 1, float32. Patterns have a window of 256, 8 global tokens and
3 random blocks of 64. Beside the kernels of the library run PyTorch's compiled FlexAttention and the eager
attention of Hugging Face. A size of which the computed memory exceeds half of what is free is not run; its
memory is then printed as computed. Ratios are taken within rounds in which every kernel runs once.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timing
import torch
from rich.table import Table
from scipy import stats
from timing import console, goal_line, interleave, machine, memory_of, paired_ratio, quartiles, write_json
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from glassformer.attention import (
    BlockSparseAttention,
    FusedAttention,
    LinearAttention,
    causal,
    sliding_window,
)
from glassformer.experiments.complexity.measure import D_HEAD, KERNELS, NUM_HEADS, WINDOW

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Contender:
    """A kernel to measure."""

    build: Callable[[int], Attend]
    """Makes the function for a length."""
    is_linear: bool = False
    """Whether its time is meant to be linear in the length; the others end at ``--longest-quadratic``."""
    tables: int = 0
    """Tables of all queries and keys that a forward and backward pass holds at the same time."""
    has_backward: bool = True
    lengths: tuple[int, ...] | None = None
    """Lengths to measure, of a kernel that is compiled for each; None for all."""


def kernel(name: str, *, makes_mask: bool = False) -> Callable[[int], Attend]:
    """One of the library's kernels with its mask.

    The mask is made once for a length, as a model does without padding, so that its tiles are planned once;
    or, with ``makes_mask``, in each call, as in the first layer of a padded batch.
    """
    module, mask = KERNELS[name]

    def build(n: int) -> Attend:
        made = mask()
        return lambda q, k, v: module(q, k, v, mask() if makes_mask else made)[0]

    return build


def eager(n: int) -> Attend:
    """Hugging Face's attention without a fused kernel."""
    from transformers.models.llama.modeling_llama import eager_attention_forward

    module = torch.nn.Module()
    module.num_key_value_groups = 1  # type: ignore[assignment]
    mask = torch.zeros(1, 1, n, n).masked_fill_(~torch.ones(n, n, dtype=torch.bool).tril(), -math.inf)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        output: Tensor = eager_attention_forward(module, q, k, v, mask, scaling=D_HEAD**-0.5)[0]
        return output.transpose(1, 2)

    return attend


def flex(n: int) -> Attend:
    """PyTorch's compiled FlexAttention with the causal window."""

    def allows(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query - key < WINDOW)

    mask = create_block_mask(allows, None, None, n, n, device="cpu")
    compiled = torch.compile(flex_attention, dynamic=False)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with torch.no_grad():
            output: Tensor = compiled(q, k, v, block_mask=mask)
        return output

    return attend


CONTENDERS = {
    "textbook": Contender(kernel("textbook"), tables=5),
    "Hugging Face, eager": Contender(eager, tables=4),
    "fused": Contender(kernel("fused")),
    "flash": Contender(kernel("flash")),
    "FlexAttention, window": Contender(flex, True, has_backward=False, lengths=(1024, 4096, 16384)),
    "window": Contender(kernel("window"), True),
    "window, new mask": Contender(kernel("window", makes_mask=True), True),
    "Longformer": Contender(kernel("Longformer"), True),
    "Longformer, new mask": Contender(kernel("Longformer", makes_mask=True), True),
    "BigBird": Contender(kernel("BigBird"), True),
    "linear, elu + 1": Contender(kernel("linear, elu + 1"), True),
    "linear, FAVOR+": Contender(kernel("linear, FAVOR+"), True),
}


def inputs(n: int, *, needs_grad: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [
        torch.randn(1, NUM_HEADS, n, D_HEAD, generator=generator, requires_grad=needs_grad) for _ in range(3)
    ]


def forward(attend: Attend, q: Tensor, k: Tensor, v: Tensor) -> None:
    with torch.no_grad():
        attend(q, k, v)


def forward_and_backward(attend: Attend, q: Tensor, k: Tensor, v: Tensor) -> None:
    output = attend(q, k, v)
    torch.autograd.grad(output, (q, k, v), torch.ones_like(output))


PASSES = {"forward": forward, "forward + backward": forward_and_backward}


def repeated(work: Callable[[], object]) -> Callable[[], float]:
    """A function that returns the seconds of a call, of several calls if one takes under 20 ms."""
    work()
    start = time.perf_counter()
    work()
    calls = max(1, round(0.02 / (time.perf_counter() - start)))

    def run() -> float:
        work()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        return (time.perf_counter() - start) / calls

    return run


def free_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def table_bytes(contender: Contender, n: int) -> int:
    """Memory of the tables of a contender."""
    return contender.tables * 4 * NUM_HEADS * n * n


def measure(n: int, pass_name: str, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Seconds by round and peak bytes of every contender at one length."""
    works: dict[str, Callable[[], None]] = {}
    rows: dict[str, dict[str, Any]] = {}
    qkv = inputs(n, needs_grad=pass_name != "forward")
    for name, contender in CONTENDERS.items():
        is_run = contender.is_linear or n <= options.longest_quadratic
        if not is_run or (pass_name != "forward" and not contender.has_backward):
            continue
        if contender.lengths is not None and (n not in contender.lengths or options.smoke):
            continue
        if table_bytes(contender, n) > free_memory() / 2:
            rows[name] = {"computed_bytes": table_bytes(contender, n)}
        else:
            works[name] = partial(PASSES[pass_name], contender.build(n), *qkv)
    found = interleave({name: repeated(work) for name, work in works.items()}, options.rounds)
    for name in list(works):
        work = works.pop(name)
        if CONTENDERS[name].lengths is None:  # with the plan of a mask that is made anew
            work = partial(PASSES[pass_name], CONTENDERS[name].build(n), *qkv)
        gc.collect()
        rows[name] = {"seconds": found.results[name], "bytes": memory_of(work, 0).tensors}
    return rows


def exponent(lengths: list[int], values: list[float]) -> dict[str, Any]:
    """The exponent of a power law through the values, with a 95 % interval."""
    fit = stats.linregress(np.log(lengths), np.log(values))
    half = float(stats.t.ppf(0.975, len(lengths) - 2) * fit.stderr) if len(lengths) > 2 else math.inf
    return {"exponent": float(fit.slope), "low": float(fit.slope) - half, "high": float(fit.slope) + half}


def exponents(measured: dict[int, dict[str, Any]], least: int) -> dict[str, dict[str, Any]]:
    """Exponents of time and memory of each contender, from lengths of at least ``least``."""
    found = {}
    for name in CONTENDERS:
        lengths = [n for n, rows in measured.items() if n >= least and "seconds" in rows.get(name, {})]
        if len(lengths) >= 3:
            seconds = [quartiles(measured[n][name]["seconds"]).median for n in lengths]
            found[name] = {
                "lengths": lengths,
                "time": exponent(lengths, seconds),
                "memory": exponent(lengths, [measured[n][name]["bytes"] for n in lengths]),
            }
    return found


def crossover(rounds: int, d_model: int = NUM_HEADS * D_HEAD) -> dict[str, Any]:
    """N d^2 and n^2 d: a projection of all tokens and the scores of all pairs, below, at and above n = d."""
    rows: dict[int, dict[str, float]] = {}
    weight = torch.randn(d_model, d_model)
    for n in (d_model // 2, d_model, 2 * d_model):
        x, (q, k, _) = torch.randn(n, d_model), inputs(n, needs_grad=False)
        found = interleave(
            {
                "n d^2": repeated(partial(torch.mm, x, weight)),
                "n^2 d": repeated(partial(torch.matmul, q, k.transpose(-2, -1))),
            },
            rounds,
        )
        rows[n] = {name: quartiles(seconds).median for name, seconds in found.results.items()}
    return {
        "d_model": d_model,
        "score_entries": {n: n * n for n in (1024, 4096)},
        "factor": 4096**2 / 1024**2,
        "seconds": rows,
    }


def decoding(options: argparse.Namespace) -> dict[str, dict[int, float]]:
    """Seconds of a further token with linear attention and with a window, after texts of several lengths."""
    lengths = [n for n in (1024, 4096, 16384, 65536) if n <= max(options.lengths)]
    found: dict[str, dict[int, float]] = {}
    for name, attend, window in (
        ("fused, all keys", FusedAttention(), None),
        ("fused, window", FusedAttention(), WINDOW),
        ("block-sparse, window", BlockSparseAttention(), WINDOW),
        ("linear, elu + 1", LinearAttention(), None),
        ("linear, FAVOR+", LinearAttention(feature_map="favor"), None),
    ):
        found[name] = {}
        for n in lengths:
            caches = attend.make_cache(n + 1000, window)
            mask = causal() if window is None else causal() & sliding_window(window)
            q, k, v = inputs(n, needs_grad=False)

            def step(
                q: Tensor, k: Tensor, v: Tensor, cache: Any = caches, attend: Any = attend, mask: Any = mask
            ) -> None:
                state = {"state": cache} if cache.is_state else {}
                attend(q, *cache.append(k, v), mask, **state)

            with torch.no_grad():
                if caches.is_state:
                    step(q, k, v)
                else:
                    caches.append(k, v)  # what earlier queries attended to does not matter
                one = [x[:, :, -1:] for x in (q, k, v)]
                times = []
                for _ in range(200):
                    start = time.perf_counter()
                    step(*one)
                    times.append(time.perf_counter() - start)
            found[name][n] = float(np.median(times))
    return found


def print_tables(passes: dict[str, dict[int, dict[str, Any]]], fits: dict[str, Any]) -> None:
    for pass_name, measured in passes.items():
        lengths = list(measured)
        table = Table("", *[f"{n:,}" for n in lengths], "exponent of time", "of memory", title=pass_name)
        for name in CONTENDERS:
            cells = []
            for n in lengths:
                row = measured[n].get(name)
                if row is None:
                    cells.append("")
                elif "seconds" not in row:
                    cells.append(f"not run\n{row['computed_bytes'] / 2**20:,.0f} MiB computed")
                else:
                    milliseconds = quartiles(row["seconds"]).median * 1000
                    cells.append(f"{milliseconds:,.1f} ms\n{row['bytes'] / 2**20:,.1f} MiB")
            fit = fits[pass_name].get(name)
            shown = [
                f"{fit[what]['exponent']:.2f}\n{fit[what]['low']:.2f} to {fit[what]['high']:.2f}"
                if fit
                else ""
                for what in ("time", "memory")
            ]
            table.add_row(name, *cells, *shown)
        console().print(table)


def goals(passes: dict[str, dict[int, dict[str, Any]]], fits: dict[str, Any]) -> list[str]:
    """The lines that say which goals are reached."""

    def ratio(n: int, above: str, below: str, pass_name: str) -> float | None:
        rows = passes[pass_name].get(n, {})
        if "seconds" not in rows.get(above, {}) or "seconds" not in rows.get(below, {}):
            return None
        return paired_ratio(rows[above]["seconds"], rows[below]["seconds"]).median

    wanted = [
        (4096, "flash", "fused", "forward", {"at_most": 1.3}),
        (4096, "flash", "fused", "forward + backward", {"at_most": 1.3}),
        (4096, "fused", "window", "forward", {"at_least": 3.5}),
        (4096, "fused", "window", "forward + backward", {"at_least": 3.0}),
        (4096, "FlexAttention, window", "window", "forward", {"at_least": 1.5}),
        (4096, "Longformer", "window", "forward", {"at_most": 2.0}),
        (4096, "BigBird", "window", "forward", {"at_most": 2.0}),
        (16384, "fused", "linear, elu + 1", "forward", {"at_least": 10.0}),
        (16384, "fused", "linear, FAVOR+", "forward", {}),
    ]
    lines = []
    for n, above, below, pass_name, bound in wanted:
        value = ratio(n, above, below, pass_name)
        if value is not None:
            lines.append(goal_line(f"{pass_name} at {n:,}: {above} / {below}", value, **bound))
    for name, what in (("flash", "memory"), ("window", "time"), ("window", "memory")):
        for pass_name in passes:
            if name in fits[pass_name]:
                value = fits[pass_name][name][what]["exponent"]
                off = abs(value - 1)
                label = f"{pass_name}: exponent of {what} of {name} is {value:.3f}, its distance to 1"
                lines.append(goal_line(label, off, at_most=0.1))
    n = max(
        (
            n
            for n in passes["forward + backward"]
            if "bytes" in passes["forward + backward"][n].get("flash", {})
        ),
        default=0,
    )
    for pass_name, measured in passes.items():
        if n >= 16384 and n in measured:
            tables = 4 * NUM_HEADS * n * n * (2 if pass_name == "forward" else CONTENDERS["textbook"].tables)
            value = tables / measured[n]["flash"]["bytes"]
            lines.append(
                goal_line(f"{pass_name} at {n:,}: computed memory of textbook / flash", value, at_least=50.0)
            )
    return lines


def draw(passes: dict[str, dict[int, dict[str, Any]]], file: Path) -> None:
    """Draw time and memory against the length."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.fonttype"] = "none"  # text stays text
    names = [name for name in CONTENDERS if not name.endswith("new mask")]
    figure, axes = plt.subplots(1, 3, figsize=(13, 5), layout="constrained")
    panels = [
        ("time of a forward pass, ms", "forward", "seconds", 1000.0),
        ("time of forward + backward, ms", "forward + backward", "seconds", 1000.0),
        ("peak memory of forward + backward, MiB", "forward + backward", "bytes", 2.0**-20),
    ]
    colors = dict(zip(names, plt.get_cmap("tab10").colors, strict=True))  # type: ignore[attr-defined]
    for axis, (title, pass_name, field, factor) in zip(axes, panels, strict=True):
        for name in names:
            points = [
                (n, float(np.median(rows[name][field])) * factor)
                for n, rows in passes[pass_name].items()
                if field in rows.get(name, {})
            ]
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", ms=3, label=name, color=colors[name])
        axis.set(xscale="log", yscale="log", title=title, xlabel="tokens")
        axis.set_xticks(
            list(passes[pass_name]), [f"{n:,}" for n in passes[pass_name]], rotation=45, fontsize=8
        )
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    default = [256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]
    parser.add_argument("--lengths", type=int, nargs="+", default=default)
    parser.add_argument("--longest-quadratic", type=int, default=16384)
    parser.add_argument("--fit-from", type=int, default=2048, help="shortest length of the fitted exponents")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--figure", type=Path, help="file of a figure, .svg or .png")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to test the benchmark itself")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.smoke:
        options.lengths, options.fit_from, options.rounds, timing.BUSY_SECONDS = [32, 64, 96], 32, 1, 0
    passes: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in PASSES}
    for n in sorted(options.lengths):
        for pass_name, measured in passes.items():
            measured[n] = measure(n, pass_name, options)
            print(f"{pass_name} at {n:,}: {len(measured[n])} kernels measured", flush=True)
    fits = {name: exponents(measured, options.fit_from) for name, measured in passes.items()}
    print_tables(passes, fits)
    crossing, tokens = crossover(options.rounds), decoding(options)
    entries = crossing["score_entries"]
    print(
        f"score entries of a head: {entries[1024]:,} at 1,024, {entries[4096]:,} at 4,096, "
        f"{crossing['factor']:.0f} times as many"
    )
    for n, seconds in crossing["seconds"].items():
        ratio = seconds["n^2 d"] / seconds["n d^2"]
        print(
            f"d = {crossing['d_model']}, n = {n}: n^2 d takes {ratio:.2f} times as long as n d^2, with "
            f"{n / crossing['d_model']:.1f} times as many multiplications"
        )
    for name, by_length in tokens.items():
        shown = ", ".join(f"{n:,}: {seconds * 1e6:.0f} us" for n, seconds in by_length.items())
        print(f"a further token, {name}, after {shown}")
    for line in goals(passes, fits):
        print(line)
    print(f"{machine()['processor']}, {options.threads} threads")
    if options.figure is not None:
        draw(passes, options.figure)
    results = {"passes": passes, "exponents": fits, "crossover": crossing, "decoding": tokens}
    write_json(options.json, {"heads": NUM_HEADS, "d_head": D_HEAD, "window": WINDOW, **results})


if __name__ == "__main__":
    main()
