"""What bfloat16 costs: validation losses of the demo's model in float32 and bfloat16, for several seeds.

    python benchmarks/precision.py                       # 3 seeds, 500 updates each
    python benchmarks/precision.py --steps 2000 --source shakespeare.txt

A run with bfloat16 is one under autocast. Processors without instructions for it compute it very slowly;
there, ``--rounded`` trains in float32 with every value rounded that autocast would hold in bfloat16: operands
and results of products and of attention, rotated queries and keys, activations, and their gradients. Sums are
those of float32 in both. Runs are kept in ``--folder``, and resumed if the benchmark is started again.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch
import torch.nn.functional as F
from rich.table import Table
from timing import console, machine, write_json
from torch import Tensor

from glassformer import linear
from glassformer.cli.demo import CONFIG
from glassformer.positions import RotaryPositions
from glassformer.training import CheckpointConfig, EvaluationConfig, TrainingConfig, cross_entropy, train

PRECISIONS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")


def rounded(value: Any) -> Any:
    """A float32 tensor rounded to bfloat16, and its gradient; other values unchanged."""
    return value.bfloat16().float() if isinstance(value, Tensor) and value.is_floating_point() else value


def with_rounding(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function with arguments and result rounded."""

    def call(*args: Any, **kwargs: Any) -> Tensor:
        result: Tensor = rounded(function(*map(rounded, args), **kwargs))
        return result

    return call


@contextmanager
def rounded_products() -> Iterator[None]:
    """Round what autocast would hold in bfloat16."""
    rotate = with_rounding(RotaryPositions.rotate)
    with (
        mock.patch.object(linear, "linear", with_rounding(linear.linear)),
        mock.patch.object(F, "scaled_dot_product_attention", with_rounding(F.scaled_dot_product_attention)),
        mock.patch.object(F, "gelu", with_rounding(F.gelu)),
        mock.patch.object(RotaryPositions, "rotate", lambda self, x, positions: rotate(self, x, positions)),
        mock.patch.object(cross_entropy, "product", with_rounding(linear.product)),
        mock.patch.object(cross_entropy, "add_product", _add_rounded_product),
    ):
        yield


def _add_rounded_product(total: Tensor, a: Tensor, b: Tensor, kind: str, rows: int) -> None:
    total += rounded(linear.product(rounded(a), rounded(b), kind, rows))


def final_loss(config: TrainingConfig) -> float:
    """Train, or finish an interrupted run, and return the last validation loss in nats per token."""
    resume = (Path(config.run_folder) / "config.toml").exists()
    return float(train(config, resume=resume).metrics["validation_loss"])


def measure(config: TrainingConfig, folder: Path, seeds: list[int], rounding: bool) -> dict[str, list[float]]:
    """The final validation losses of each precision, in the order of the seeds."""
    losses: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for seed in seeds:
        for precision in PRECISIONS:
            imitated = rounding and precision == "bfloat16"
            name = f"{'rounded' if imitated else precision}-{seed}"
            run = replace(
                config,
                run_folder=str(folder / name),
                seed=seed,
                precision="float32" if imitated else precision,
            )
            with rounded_products() if imitated else nullcontext():
                losses[precision].append(final_loss(run))
    return losses


def summarize(losses: dict[str, list[float]]) -> dict[str, Any]:
    """Mean difference of the precisions, and the standard deviation of the seeds."""
    float32, bfloat16 = (losses[precision] for precision in PRECISIONS)
    differences = [b - a for a, b in zip(float32, bfloat16, strict=True)]
    return {
        "losses": losses,
        "mean_difference": statistics.mean(differences),
        "standard_deviation_of_seeds": statistics.stdev(float32) if len(float32) > 1 else None,
    }


def show(figures: dict[str, Any], seeds: list[int], note: str) -> None:
    """Print the table."""
    table = Table(title=f"Validation loss, nats per token{note}")
    for column in ("", *(f"seed {seed}" for seed in seeds), "mean"):
        table.add_column(column, justify="right" if column else "left")
    for precision, values in figures["losses"].items():
        table.add_row(precision, *(f"{value:.4f}" for value in values), f"{statistics.mean(values):.4f}")
    out = console()
    out.print(table)
    noise = figures["standard_deviation_of_seeds"]
    known = "" if noise is None else f"; standard deviation of the seeds in float32: {noise:.4f}"
    out.print(f"mean difference bfloat16 - float32: {figures['mean_difference']:+.4f}{known}")
    out.print(str(machine()))


def main() -> None:
    """Parse the options, train and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--source", default=CONFIG.data.source, help="text of the runs")
    parser.add_argument("--rounded", action="store_true", help="imitate bfloat16 by rounding")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/precision"))
    parser.add_argument("--smoke", action="store_true", help="tiny runs, to check that the benchmark works")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = replace(
        CONFIG,
        steps=2 if arguments.smoke else arguments.steps,
        data=replace(CONFIG.data, source=arguments.source, folder=str(arguments.folder / "tokens")),
        evaluation=EvaluationConfig(every=0),
        checkpoints=CheckpointConfig(every=250, keep=1),
    )
    if arguments.smoke:
        config = replace(
            config,
            batch_size=2,
            data=replace(config.data, vocab_size=300, seq_len=16),
            model=replace(config.model, preset="gpt-nano"),
        )
    figures = summarize(measure(config, arguments.folder, arguments.seeds, arguments.rounded))
    show(figures, arguments.seeds, ", bfloat16 imitated by rounding" if arguments.rounded else "")
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
