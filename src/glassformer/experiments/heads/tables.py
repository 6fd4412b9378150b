"""Tables of the study of heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from glassformer.experiments.heads.contrasts import (
    ROWS,
    Models,
    best_pattern,
    per_unit,
    significant,
)
from glassformer.experiments.statistics import one_sample_t
from glassformer.experiments.study import ResultTable

Cell = str | float | int | None

RELATIONS = (
    ("nsubj", "subject->verb", 0.585, 0.455),
    ("dobj", "object->verb", 0.868, 0.400),
    ("amod", "adjective->noun", 0.756, 0.683),
    ("det", "determiner->noun", 0.943, 0.517),
)
"""Label, pattern, and rates of the best head and offset of BERT-base (Clark et al. 2019, table 1)."""
REVERSED = {
    "subject->verb": "verb->subject",
    "object->verb": "verb->object",
    "adjective->noun": "noun->adjective",
    "determiner->noun": "noun->determiner",
}
DATASETS = ("prose", "grammar")


def rows_table(models: Models, claimed: Mapping[str, float | None]) -> ResultTable:
    """The claimed table row by row: best head and control of each model, on parsed and on gold labels."""
    rows: list[list[Cell]] = []
    for row, names in ROWS.items():
        for model, values in models.items():
            for dataset in DATASETS:
                best = [best_pattern(value["patterns"][dataset], names) for value in values]
                found = [b for b in best if b is not None]
                if not found:
                    continue
                controls = sorted({b["control"]["name"].split(" ")[0] for b in found})
                rows.append(
                    [
                        row,
                        model,
                        dataset,
                        heads_of(found),
                        round(float(np.mean([sum(b["queries"][1:]) for b in found]))),
                        *mean_and_interval([b["rates"] for b in found]),
                        " or ".join(controls) if len(found) > 1 else found[0]["control"]["name"],
                        round(float(np.mean([b["control"]["rates"] for b in found])), 3),
                        claimed.get(row),
                    ]
                )
    header = [
        "row",
        "model",
        "labels",
        "best head",
        "queries",
        "rate",
        "99 % interval",
        "control",
        "its rate",
        "claimed",
    ]
    caption = (
        "Rates are shares of queries whose largest weight is on the target. Prose has labels of a parser, "
        "grammar has gold labels. Intervals are over blocks of texts for a published model, over seeds for "
        "the small one."
    )
    return ResultTable("The claimed table, row by row", header, rows, caption)


def relations_table(models: Models) -> ResultTable:
    """Best head and best fixed offset of syntactic relations, beside those of BERT-base."""
    rows: list[list[Cell]] = []
    for label, pattern, best_rate, offset_rate in RELATIONS:
        for model, values in models.items():
            for dataset in DATASETS:
                for name in (pattern, REVERSED[pattern]):
                    found = [v["patterns"][dataset][name] for v in values if name in v["patterns"][dataset]]
                    if not found:
                        continue
                    rates, offsets = (
                        float(np.mean(part))
                        for part in ([f["rates"] for f in found], [f["offset"]["rates"] for f in found])
                    )
                    literature = [best_rate, offset_rate] if name == pattern else [None, None]
                    rows.append(
                        [label, name, model, dataset, round(rates, 3), round(offsets, 3), *literature]
                    )
    header = ["label", "from->to", "model", "labels", "best head", "best offset", "BERT-base", "its offset"]
    caption = "BERT-base: Clark et al. 2019, table 1. A causal model sees only earlier words."
    return ResultTable("Syntactic relations", header, rows, caption)


def examples_table(models: Models) -> ResultTable:
    """A sentence for each row and model."""
    rows: list[list[Cell]] = []
    for row, names in ROWS.items():
        for model, values in models.items():
            dataset = "grammar" if len(values) > 1 else "prose"
            best = best_pattern(values[0]["patterns"][dataset], names)
            if best is not None and best["example"] is not None:
                rows.append([row, best["name"], model, heads_of([best]), best["example"]])
    header = ["row", "from->to", "model", "head", "first short sentence of the last block with such a query"]
    return ResultTable("Examples, not selected", header, rows)


def related_table(models: Models) -> ResultTable:
    """The preference for related words."""
    rows: list[list[Cell]] = []
    for model, values in models.items():
        found = [value["related"] for value in values if value["related"] is not None]
        if found:
            queries = sum(found[0]["queries"][1:])
            target = round(float(np.mean([f["targets"] for f in found])), 3)
            difference = mean_and_interval([f["differences"] for f in found])
            rows.append([model, heads_of(found), target, *difference, queries])
    header = [
        "model",
        "head",
        "attention to the related word",
        "beyond its control",
        "99 % interval",
        "queries",
    ]
    caption = "The control has about the same frequency, and both are nearer equally often."
    return ResultTable("Related words", header, rows, caption)


def clusters_table(models: Models) -> ResultTable:
    """Silhouettes of the clusters of heads and of single clouds."""
    rows: list[list[Cell]] = []
    for model, values in models.items():
        found = [value["clusters"] for value in values]
        means = [round(float(np.mean([f[k] for f in found])), 3) for k in ("silhouette", "null", "stability")]
        rows.append([model, len(values[0]["heads"]), *means, round(max(f["p_value"] for f in found), 3)])
    header = ["model", "heads", "silhouette", "of single clouds", "Rand index of halves", "largest p"]
    caption = (
        "p: share of single clouds with as high a silhouette, without a correction; of seeds the largest."
    )
    return ResultTable("Clusters of heads", header, rows, caption)


def ablations_table(models: Models) -> ResultTable:
    """How many heads matter alone, and what the least important ones cost together."""
    rows: list[list[Cell]] = []
    for model, values in models.items():
        counts = [significant(value["p"], value["drops"]["text"]) for value in values]
        raised, lowered = (float(np.mean(part)) for part in zip(*counts, strict=True))
        rows.append(
            [
                model,
                len(values[0]["heads"]),
                round(raised, 1),
                round(lowered, 1),
                len(values[0]["pruned"]["heads"]),
                *mean_and_interval([value["pruned"]["drops"]["text"] for value in values]),
                round(float(np.mean([value["random"] for value in values])), 3),
            ]
        )
    header = [
        *("model", "heads", "raise the loss alone", "lower it alone", "removed together"),
        *("rise of the loss, nats", "99 % interval", "without as many random heads"),
    ]
    caption = (
        "Alone: p < .01 over sentences, without a correction for the number of heads, as in Michel et al. "
        "2019. Together: the fifth that matters least alone."
    )
    return ResultTable("Heads that can be removed", header, rows, caption)


def specific_table(models: Models) -> ResultTable:
    """What the head whose ablation hurts copying most does to each task."""
    rows: list[list[Cell]] = []
    for model, values in models.items():
        for task in values[0]["specific"]["drops"]:
            drops = [value["specific"]["drops"][task] for value in values]
            accuracy = float(np.mean([value["accuracy"][task] for value in values]))
            heads = heads_of([value["specific"] for value in values])
            rows.append([model, heads, task, round(accuracy, 3), *mean_and_interval(drops)])
    header = ["model", "head", "task", "accuracy with all heads", "drop, nats", "99 % interval"]
    caption = (
        "Drops of log p of copying, control and text; of log odds in agreement, brackets and key-value. The "
        "head is chosen on other items."
    )
    return ResultTable("Without the head that copies", header, rows, caption)


def mean_and_interval(values: Sequence[Sequence[float]]) -> list[Cell]:
    """The mean and its interval over blocks of the only model, or over seeds."""
    found = one_sample_t(per_unit(values))
    return [round(found.mean, 3), f"{found.low:.3f} to {found.high:.3f}"]


def heads_of(found: Sequence[Mapping[str, Any]]) -> str:
    """The heads of all seeds, written layer.head."""
    return ", ".join(dict.fromkeys(f"{layer}.{head}" for layer, head in (row["head"] for row in found)))
