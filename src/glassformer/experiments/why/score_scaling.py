"""Attention scores with and without the division by sqrt(d_k): saturation and training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glassformer.attention import ScaledDotProductAttention
from glassformer.experiments.why.demonstration import (
    Demonstration,
    Evidence,
    Value,
    mean,
    means_table,
    stored,
)
from glassformer.experiments.why.recall import evaluate_recall, train_recall
from glassformer.training.metrics_files import JsonLines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VARIANTS = {"divided": True, "not divided": False}
"""Whether scores are divided by sqrt(d_k)."""


def make(settings: Mapping[str, Any], seed: int, folder: Path) -> Value:
    """Measures of the softmax of random scores, and of trained models, for each d_k and variant.

    Args:
        settings: ``widths``, ``num_queries`` and ``num_scores``, ``learning_rates`` by variant, and the
            settings of ``train_recall``.
        seed: of everything.
        folder: for the trained models.

    Returns:
        By d_k and variant the measures of ``softmax_measures``, ``loss`` and ``accuracy`` of the trained
        model, and ``curve``, the training loss by update.
    """
    generator = torch.Generator().manual_seed(seed)
    found: Value = {}
    for d_k in settings["widths"]:
        q = torch.randn(1, settings["num_queries"], d_k, generator=generator)
        k = torch.randn(1, settings["num_scores"], d_k, generator=generator)
        found[str(d_k)] = {}
        for variant, divide in VARIANTS.items():
            weights = ScaledDotProductAttention(scale=None if divide else 1.0).weights(q, k)[0]
            name = f"d_k-{d_k}-{variant.replace(' ', '-')}"
            trained = stored(
                folder / f"{name}.json", partial(_train, settings, seed, folder / name, d_k, variant)
            )
            found[str(d_k)][variant] = softmax_measures(weights) | trained
    return found


def softmax_measures(weights: Tensor) -> dict[str, float]:
    """Saturation of rows of attention weights ``(query, key)``.

    Returns:
        ``entropy`` as a share of log(number of keys) and ``largest`` weight, means over rows; ``jacobian``,
        the median of the Frobenius norm of diag(p) - p p^T, the derivative of the weights p in the scores.
    """
    weights = weights.double()
    squares = (weights**2).sum(-1)
    # |diag(p) - p p^T|^2 = sum p^2 - 2 sum p^3 + (sum p^2)^2
    jacobian = (squares - 2 * (weights**3).sum(-1) + squares**2).clamp(min=0).sqrt()
    entropy = torch.special.entr(weights).sum(-1) / math.log(weights.size(-1))
    return {
        "entropy": float(entropy.mean()),
        "largest": float(weights.max(-1).values.mean()),
        "jacobian": float(jacobian.median()),
    }


def _train(settings: Mapping[str, Any], seed: int, folder: Path, d_k: int, variant: str) -> Value:
    model = train_recall(
        settings,
        seed,
        folder,
        settings["learning_rates"][variant],
        num_heads=1,
        d_head=d_k,
        divide=VARIANTS[variant],
    )
    found = evaluate_recall(model, settings, seed)
    rows = JsonLines(folder / "metrics.jsonl").rows()
    return {
        "loss": found["loss"],
        "accuracy": found["accuracy"],
        "curve": [[row["step"], round(row["loss"], 4)] for row in rows],
    }


def analyze(values: Sequence[Value]) -> Evidence:
    """Saturation and loss without the division, against those with it."""
    widths = list(values[0])

    def numbers(d_k: str, variant: str, measure: str) -> list[float]:
        return [value[d_k][variant][measure] for value in values]

    by_claim: dict[str, list[float]] = {}
    for d_k in widths:
        pairs = {
            measure: list(zip(*(numbers(d_k, variant, measure) for variant in VARIANTS), strict=True))
            for measure in ("jacobian", "loss")
        }
        by_claim[f"scaling-largest-{d_k}"] = numbers(d_k, "not divided", "largest")
        by_claim[f"scaling-jacobian-{d_k}"] = [math.log10(b / a) for a, b in pairs["jacobian"]]
        by_claim[f"scaling-loss-{d_k}"] = [b - a for a, b in pairs["loss"]]
    measures = {
        "entropy": "entropy / log n",
        "largest": "largest weight",
        "jacobian": "Jacobian",
        "loss": "loss",
        "accuracy": "accuracy",
    }
    rows = {
        f"{d_k}, {variant}": {label: numbers(d_k, variant, key) for key, label in measures.items()}
        for d_k in widths
        for variant in VARIANTS
    }
    caption = (
        "The first three of random queries and keys of unit variance; Jacobian: the median Frobenius norm. "
        "The last two of recall after training, at the best learning rate of each variant."
    )
    return Evidence(
        by_claim,
        tables=[means_table("Scores with and without division by sqrt(d_k)", rows, "d_k", caption)],
        data={
            f"{d_k}, {variant}": _mean_curve([value[d_k][variant]["curve"] for value in values])
            for d_k in widths
            for variant in VARIANTS
        },
    )


def _mean_curve(curves: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    return [
        [points[0][0], round(mean([loss for _, loss in points]), 4)] for points in zip(*curves, strict=True)
    ]


def draw(data: Any) -> tuple[Figure, str]:
    """Training loss with and without the division."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for number, (name, curve) in enumerate(data.items()):
        style = "--" if "not" in name else "-"
        axis.plot(*zip(*curve, strict=True), style, color=f"C{number // 2}", label=f"d_k = {name}")
    axis.set(xlabel="update", ylabel="training loss of recall, nats")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure, "Training loss of key-value recall, means over seeds."


def summarize(value: Value) -> dict[str, str | float | int]:
    """Loss without the division minus loss with it, for each d_k."""
    return {
        f"scaling: loss difference, d_k {d_k}": round(row["not divided"]["loss"] - row["divided"]["loss"], 4)
        for d_k, row in value.items()
    }


SCORE_SCALING = Demonstration(make, analyze, draw, summarize)
