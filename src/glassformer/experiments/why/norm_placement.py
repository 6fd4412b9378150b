"""Post-norm against pre-norm: which of them needs a warmup of the learning rate (Xiong et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.experiments.why.byte_models import train_bytes, training_flops
from glassformer.experiments.why.demonstration import (
    Demonstration,
    Evidence,
    Value,
    mean,
    means_table,
    stored,
)
from glassformer.training import Schedule
from glassformer.training.metrics_files import JsonLines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLACEMENTS = ("post", "pre")
"""Values of a model's ``residual``."""


def make(settings: Mapping[str, Any], seed: int, folder: Path) -> Value:
    """Train a model of each kind with and without a warmup.

    Args:
        settings: ``warmups``, none and some updates, ``learning_rate``, and the settings of ``train_bytes``.
        seed: of weights and data order, the same for all variants.
        folder: for the run folders.

    Returns:
        By variant, such as ``"post-100"``, the validation ``loss``, the training loss by update (``curve``),
        and ``largest_gradient_norm``, before clipping.
    """
    found = {}
    for placement in PLACEMENTS:
        for warmup in settings["warmups"]:
            name = f"{placement}-{warmup}"
            found[name] = stored(
                folder / f"{name}.json", partial(_train, settings, seed, folder / name, placement, warmup)
            )
    return found


def _train(settings: Mapping[str, Any], seed: int, folder: Path, placement: str, warmup: int) -> Value:
    schedule = Schedule("constant", warmup)
    _, loss = train_bytes(settings, seed, folder, settings["learning_rate"], schedule, residual=placement)
    rows = JsonLines(folder / "metrics.jsonl").rows()
    return {
        "loss": loss,
        "curve": [[row["step"], round(row["loss"], 4)] for row in rows],
        "largest_gradient_norm": max(row["gradient_norm"] for row in rows),
    }


def analyze(values: Sequence[Value]) -> Evidence:
    """What the warmup changes for each kind of block."""
    none, some = sorted({int(name.partition("-")[2]) for name in values[0]})

    def losses(placement: str, warmup: int) -> list[float]:
        return [value[f"{placement}-{warmup}"]["loss"] for value in values]

    by_claim = {
        "norm-warmup-post": _differences(losses("post", none), losses("post", some)),
        "norm-warmup-pre": _differences(losses("pre", none), losses("pre", some)),
        "norm-without-warmup": _differences(losses("post", none), losses("pre", none)),
        "norm-with-warmup": _differences(losses("post", some), losses("pre", some)),
    }
    rows = {
        f"{placement}-norm, warmup {warmup}": {
            "loss": losses(placement, warmup),
            "largest gradient norm": [
                value[f"{placement}-{warmup}"]["largest_gradient_norm"] for value in values
            ],
        }
        for placement in PLACEMENTS
        for warmup in (none, some)
    }
    curves = {}
    for name in values[0]:
        points = zip(*(value[name]["curve"] for value in values), strict=True)
        curves[name] = [[rows[0][0], round(mean([loss for _, loss in rows]), 4)] for rows in points]
    caption = "Loss on the validation split in nats per byte; gradient norm before clipping to 1."
    return Evidence(by_claim, [means_table("Post-norm and pre-norm", rows, "blocks", caption)], curves)


def _differences(values: Sequence[float], reference: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(values, reference, strict=True)]


def draw(data: Any) -> tuple[Figure, str]:
    """Training loss of all variants."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for number, (name, curve) in enumerate(data.items()):
        placement, _, warmup = name.partition("-")
        style = "--" if warmup == "0" else "-"
        label = f"{placement}-norm, warmup {warmup}"
        axis.plot(*zip(*curve, strict=True), style, color=f"C{number // 2}", label=label)
    axis.set(xlabel="update", ylabel="training loss, nats per byte")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure, "Training loss, means over seeds."


def summarize(value: Value) -> dict[str, str | float | int]:
    """The loss of each variant."""
    return {f"norm: {name}": round(row["loss"], 4) for name, row in value.items()}


def flops(settings: Mapping[str, Any]) -> float:
    """Of all variants of a seed."""
    return len(PLACEMENTS) * len(settings["warmups"]) * training_flops(settings)


NORM_PLACEMENT = Demonstration(make, analyze, draw, summarize, flops)
