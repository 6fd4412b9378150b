"""Attention as a soft dictionary lookup: the weight on the right key, and how many pairs a width holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from glassformer.attention import ScaledDotProductAttention
from glassformer.experiments.why.demonstration import (
    Demonstration,
    Evidence,
    Value,
    mean,
    means_table,
    stored,
)
from glassformer.experiments.why.recall import (
    EVALUATION_SEED,
    RecallModel,
    evaluate_recall,
    recall_batches,
    train_recall,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELD = 0.5
"""A width holds so many pairs that the weight on the right key is this much."""
QUERIES = 64
"""Queries over which a weight is averaged, at most."""


def make(settings: Mapping[str, Any], seed: int, folder: Path) -> Value:
    """Weights with random keys, and with keys that were trained for recall.

    Args:
        settings: ``widths`` and ``numbers`` of pairs for random keys, with ``d_value`` and ``draws``;
            ``trained_widths`` and ``trained_numbers``, and the settings of ``train_recall``.
        seed: of everything.
        folder: for the trained models.

    Returns:
        ``random`` and ``trained``: for each d_k ``weights`` on the right key by number of pairs, and
        ``capacity``. ``random`` also has ``similarity``, the cosine of output and value; ``trained`` the
        ``accuracy`` by number of pairs, and ``similarity`` at the number of pairs of training.
    """
    generator = torch.Generator().manual_seed(seed)
    return {
        "random": {
            str(d_k): random_lookup(
                d_k, settings["numbers"], settings["d_value"], settings["draws"], generator
            )
            for d_k in settings["widths"]
        },
        "trained": {
            str(d_k): stored(
                folder / f"d_k-{d_k}.json",
                partial(trained_lookup, settings, seed, folder / f"d_k-{d_k}", d_k),
            )
            for d_k in settings["trained_widths"]
        },
    }


def random_lookup(
    d_k: int, numbers: Sequence[int], d_value: int, draws: int, generator: torch.Generator
) -> Value:
    """Look up random keys of length sqrt(d_k) with themselves as queries.

    The score of the right key is then sqrt(d_k) and that of any other one has variance 1, so the weight on
    the right one of N pairs is about 1 / (1 + N e^(1/2 - sqrt(d_k))), and 1/2 at N = e^(sqrt(d_k) - 1/2).
    """
    kernel = ScaledDotProductAttention()
    weights, similarity = {}, {}
    for number in numbers:
        rows = []
        for _ in range(draws):
            keys = F.normalize(torch.randn(number, d_k, generator=generator), dim=-1) * math.sqrt(d_k)
            values = torch.randn(number, d_value, generator=generator)
            count = min(number, QUERIES)
            output, found = kernel(keys[None, :count], keys[None], values[None])
            right = found[0].diagonal().mean()
            rows.append((float(right), float(F.cosine_similarity(output[0], values[:count]).mean())))
        weights[str(number)], similarity[str(number)] = np.mean(rows, axis=0).tolist()
    return {"weights": weights, "similarity": similarity, "capacity": capacity(weights)}


def trained_lookup(settings: Mapping[str, Any], seed: int, folder: Path, d_k: int) -> Value:
    """Train keys of a width, and look up other numbers of pairs than they were trained with."""
    model = train_recall(settings, seed, folder, settings["learning_rate"], num_heads=1, d_head=d_k)
    found = {
        str(number): evaluate_recall(model, settings, seed, num_pairs=number)
        for number in settings["trained_numbers"]
    }
    weights = {number: row["weight"] for number, row in found.items()}
    return {
        "weights": weights,
        "accuracy": {number: row["accuracy"] for number, row in found.items()},
        "at_training": evaluate_recall(model, settings, seed),
        "similarity": output_similarity(model, settings, seed),
        "capacity": capacity(weights),
    }


@torch.no_grad()
def output_similarity(model: RecallModel, settings: Mapping[str, Any], seed: int) -> float:
    """Mean cosine of the output and what it is with all weight on the right key."""
    rows = recall_batches(settings, settings["num_evaluated"], seed + EVALUATION_SEED)
    batch = rows.batch(0).to(next(model.parameters()).device)
    query, pairs = model.query_and_pairs(batch)
    right = pairs[torch.arange(len(pairs)), batch.tensors["asked"][:, 0]][:, None]
    output, exact = (model.attention(query, memory)[0] for memory in (pairs, right))
    return float(F.cosine_similarity(output, exact, dim=-1).mean())


def capacity(weights: Mapping[str, float]) -> float:
    """The number of pairs at which the weight on the right key falls to a half.

    The logit of the weight is interpolated linearly in the logarithm of the number. If the weight does not
    cross a half, the result is the smallest or the largest number that was tried.
    """
    numbers = [math.log(int(number)) for number in weights]
    logits = [math.log(w / (1 - w)) for w in np.clip(list(weights.values()), 1e-12, 1 - 1e-7)]
    threshold = math.log(HELD / (1 - HELD))
    if logits[0] <= threshold:
        return math.exp(numbers[0])
    for left in range(len(numbers) - 1):
        if logits[left + 1] <= threshold:
            share = (logits[left] - threshold) / (logits[left] - logits[left + 1])
            return math.exp(numbers[left] + share * (numbers[left + 1] - numbers[left]))
    return math.exp(numbers[-1])


def analyze(values: Sequence[Value]) -> Evidence:
    """The growth of the capacity with the width, and what trained keys hold."""
    widths, trained = list(values[0]["random"]), list(values[0]["trained"])
    narrow, wide = trained[0], trained[-1]
    by_claim = {
        "lookup-capacity": [growth(value) for value in values],
        "lookup-weight": [value["trained"][wide]["at_training"]["weight"] for value in values],
        "lookup-output": [value["trained"][wide]["similarity"] for value in values],
        "lookup-width": [
            math.log2(value["trained"][wide]["capacity"] / value["trained"][narrow]["capacity"])
            for value in values
        ],
    }
    random_rows = {
        d_k: {
            "log of pairs held": [math.log(value["random"][d_k]["capacity"]) for value in values],
            "sqrt(d_k) - 1/2": [math.sqrt(int(d_k)) - 0.5] * len(values),
        }
        for d_k in widths
    }
    trained_rows = {
        d_k: {
            "pairs held": [value["trained"][d_k]["capacity"] for value in values],
            "weight on the right key": [value["trained"][d_k]["at_training"]["weight"] for value in values],
            "accuracy": [value["trained"][d_k]["at_training"]["accuracy"] for value in values],
            "cosine of output and value": [value["trained"][d_k]["similarity"] for value in values],
        }
        for d_k in trained
    }
    caption = "Pairs held: as many as leave half of the weight on the right key, at most those tried."
    return Evidence(
        by_claim,
        tables=[
            means_table("Lookup with random keys", random_rows, "d_k"),
            means_table("Lookup with trained keys", trained_rows, "d_k", caption),
        ],
        data={
            kind: {d_k: _mean_weights([value[kind][d_k]["weights"] for value in values]) for d_k in chosen}
            for kind, chosen in (("random", widths), ("trained", trained))
        },
    )


def growth(value: Value) -> float:
    """Slope of log(pairs held) over sqrt(d_k), with random keys."""
    roots = [math.sqrt(int(d_k)) for d_k in value["random"]]
    logs = [math.log(row["capacity"]) for row in value["random"].values()]
    return float(np.polyfit(roots, logs, 1)[0])


def _mean_weights(weights: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {number: mean([row[number] for row in weights]) for number in weights[0]}


def draw(data: Any) -> tuple[Figure, str]:
    """Weight on the right key against the number of pairs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axis, (kind, curves) in zip(figure.subplots(1, 2, sharey=True), data.items(), strict=True):
        for number, (d_k, weights) in enumerate(curves.items()):
            pairs = np.array([int(n) for n in weights])
            axis.plot(pairs, list(weights.values()), "o", ms=3, color=f"C{number}", label=f"d_k = {d_k}")
            if kind == "random":
                formula = 1 / (1 + pairs * math.exp(0.5 - math.sqrt(int(d_k))))
                axis.plot(pairs, formula, "-", lw=1, color=f"C{number}")
            else:
                axis.plot(pairs, list(weights.values()), "-", lw=1, color=f"C{number}")
        axis.set(xscale="log", xlabel="pairs", title=f"{kind} keys", ylim=(0, 1.02))
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
    figure.axes[0].set_ylabel("weight on the right key")
    return figure, (
        "Weight on the right key, means over seeds. Lines on the left: the formula "
        "1 / (1 + N e^(1/2 - sqrt(d_k)))."
    )


def summarize(value: Value) -> dict[str, str | float | int]:
    """Growth of the capacity, and the weight of the widest trained keys."""
    widest = list(value["trained"].values())[-1]
    return {
        "lookup: growth": round(growth(value), 4),
        "lookup: weight": round(widest["at_training"]["weight"], 4),
    }


LOOKUP = Demonstration(make, analyze, draw, summarize)
