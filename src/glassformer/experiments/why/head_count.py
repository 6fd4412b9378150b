"""One head against two of half the width: two keys looked up at once, read out linearly or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.experiments.why.demonstration import (
    Demonstration,
    Evidence,
    Value,
    mean,
    means_table,
    stored,
)
from glassformer.experiments.why.recall import evaluate_recall, train_recall

if TYPE_CHECKING:
    from matplotlib.figure import Figure

READOUTS = ("linear", "feed-forward")
"""What reads the output of attention: a linear layer, alone or after a feed-forward network."""


def make(settings: Mapping[str, Any], seed: int, folder: Path) -> Value:
    """Train one head and two, each with both readouts.

    With one head, the output is a weighted sum of two values. If the weights differ, the larger one names the
    value of the first role, but no linear map gives the value with the second largest weight.

    Args:
        settings: ``width``, that of all heads together, ``d_ff``, ``learning_rate``, and the settings of
            ``train_recall``.
        seed: of weights and batches, the same for all variants.
        folder: for the run folders.

    Returns:
        By variant, such as ``"2-linear"``, ``all_right``, the share of rows in which both answers are right,
        ``accuracy`` per answer, and ``num_parameters``.
    """
    found = {}
    for num_heads in (1, 2):
        for readout in READOUTS:
            name = f"{num_heads}-{readout}"
            found[name] = stored(
                folder / f"{name}.json", partial(_train, settings, seed, folder / name, num_heads, readout)
            )
    return found


def _train(settings: Mapping[str, Any], seed: int, folder: Path, num_heads: int, readout: str) -> Value:
    model = train_recall(
        settings,
        seed,
        folder,
        settings["learning_rate"],
        num_heads=num_heads,
        d_head=settings["width"] // num_heads,
        d_ff=None if readout == "linear" else settings["d_ff"],
    )
    found = evaluate_recall(model, settings, seed)
    return {
        "all_right": found["all_right"],
        "accuracy": found["accuracy"],
        "num_parameters": model.num_parameters(),
    }


def analyze(values: Sequence[Value]) -> Evidence:
    """Accuracy by number of heads and readout."""
    right = {name: [value[name]["all_right"] for value in values] for name in values[0]}
    by_claim = {
        "heads-one": right["1-linear"],
        "heads-two": right["2-linear"],
        "heads-one-feed-forward": right["1-feed-forward"],
    }
    rows = {
        _label(name): {
            "both right": right[name],
            "accuracy per answer": [value[name]["accuracy"] for value in values],
            "parameters": [value[name]["num_parameters"] for value in values],
        }
        for name in values[0]
    }
    caption = "Of rows that were not trained on. Guessing gets both right in 1 of 256 rows."
    return Evidence(by_claim, [means_table("One head and two", rows, "model", caption)], right)


def _label(name: str) -> str:
    heads, _, readout = name.partition("-")
    return f"{heads} head{'s' if heads != '1' else ''}, {readout} readout"


def draw(data: Any) -> tuple[Figure, str]:
    """Accuracy of each variant, with the seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axis = figure.subplots()
    for number, numbers in enumerate(data.values()):
        axis.bar(number, mean(numbers), color=f"C{number // 2}", alpha=0.6)
        axis.plot([number] * len(numbers), numbers, "k.", ms=4)
    axis.set_xticks(range(len(data)), [_label(name).replace(", ", "\n") for name in data])
    axis.set(ylabel="share of rows with both answers right", ylim=(0, 1.05))
    axis.grid(alpha=0.3, axis="y")
    return figure, "Share of rows with both answers right: means, and the seeds as dots."


def summarize(value: Value) -> dict[str, str | float | int]:
    """Accuracy of each variant."""
    return {f"heads: {name}": round(row["all_right"], 4) for name, row in value.items()}


HEAD_COUNT = Demonstration(make, analyze, draw, summarize)
