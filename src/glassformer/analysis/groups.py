"""Is a group of heads what its name says? Against random heads, against the control, and against its parts.

random      as many other heads of the same layers, drawn many times: is it these heads, or any?
control     another suite: is it this capability, or the language model as a whole?
parts       each head alone: do they add up, or does one stand in for another (redundancy)?
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from glassformer.analysis.ablation import Head, head_name
from glassformer.analysis.capability import RESAMPLES, CapabilityTable, bootstrap_interval


def random_heads(
    heads: Sequence[Head], heads_in_layer: Sequence[int], draws: int, seed: int = 0
) -> list[tuple[Head, ...]]:
    """Different sets of as many heads of the same layers, none of them in ``heads``.

    Where a layer has fewer others than the group has in it (``short_layers``), the rest comes from the layers
    nearest to it.

    Args:
        heads: the group.
        heads_in_layer: how many heads each layer has.
        draws: how many sets; fewer come where there are no more.
        seed: of the draws.

    Raises:
        ValueError: the model has fewer other heads than the group.
    """
    wanted = Counter(layer for layer, _ in heads)
    others = [
        [(layer, head) for head in range(size) if (layer, head) not in heads]
        for layer, size in enumerate(heads_in_layer)
    ]
    if sum(map(len, others)) < len(heads):
        raise ValueError("there are not as many other heads as the group has, so none can be compared with")
    draw, found = random.Random(seed), dict[tuple[Head, ...], None]()  # a dictionary keeps the order
    for _ in range(100 * draws):  # of few heads there are few sets, and most draws repeat one
        chosen = [
            head
            for layer in sorted(wanted)
            for head in draw.sample(others[layer], min(wanted[layer], len(others[layer])))
        ]
        for layer, missing in short_layers(heads, heads_in_layer).items():
            left = [head for layer in others for head in layer if head not in chosen]
            draw.shuffle(left)
            chosen += sorted(left, key=lambda head, layer=layer: abs(head[0] - layer))[:missing]  # type: ignore[misc]
        found[tuple(sorted(chosen))] = None
        if len(found) == draws:
            break
    return list(found)


def short_layers(heads: Sequence[Head], heads_in_layer: Sequence[int]) -> dict[int, int]:
    """The layers that have fewer other heads than the group has in them: by how many."""
    wanted = Counter(layer for layer, _ in heads)
    missing = {layer: 2 * wanted[layer] - heads_in_layer[layer] for layer in sorted(wanted)}
    return {layer: number for layer, number in missing.items() if number > 0}


def group_rows(
    table: CapabilityTable,
    group: str,
    draws: Sequence[str] = (),
    control: str = "control",
) -> Iterator[dict[str, Any]]:
    """What the table says about a group, suite by suite, as tidy rows with 95 % intervals.

    The measures: ``drop``; ``drop - drop in control``; ``random``, the mean drop of the draws;
    ``drop - random``; ``draws as harmful``, the part of the draws that drop at least as much; ``sum of
    single drops``; ``joint - sum``, above zero where heads stand in for one another (together they hurt more
    than one by one), below where they hurt in the same way. Intervals of what compares with draws are over
    items and draws; ``draws as harmful`` has none.

    Args:
        table: with the group, its draws, and for redundancy each of its heads alone, named as ``head_name``.
        group: its name in the table.
        draws: names of the random sets in the table.
        control: the suite to compare with, where the table has it.
    """
    singles = [head_name(head) for head in table.sets[group]]
    for suite in table.suites:
        joint = table.drops(group, suite)
        values = {"drop": (float(joint.mean()), *bootstrap_interval(joint))}
        if control in table.suites and suite != control:
            values[f"drop - drop in {control}"] = _difference(joint, table.drops(group, control))
        if draws:
            drawn = np.stack([table.drops(name, suite) for name in draws])  # (draw, item)
            more = float((drawn.mean(1) >= joint.mean()).mean())
            values["random"] = (float(drawn.mean()), *bootstrap_interval(drawn))
            values["drop - random"] = (float((joint - drawn).mean()), *bootstrap_interval(joint - drawn))
            values["draws as harmful"] = (more, math.nan, math.nan)
        if len(singles) > 1 and all(name in table.without for name in singles):
            summed = np.sum([table.drops(name, suite) for name in singles], axis=0)
            values["sum of single drops"] = (float(summed.mean()), *bootstrap_interval(summed))
            values["joint - sum"] = (float((joint - summed).mean()), *bootstrap_interval(joint - summed))
        for measure, (value, low, high) in values.items():
            yield {
                "group": group,
                "suite": suite,
                "measure": measure,
                "value": value,
                "low": None if math.isnan(low) else low,
                "high": None if math.isnan(high) else high,
            }


def _difference(a: Any, b: Any) -> tuple[float, float, float]:
    """The difference of two means over different items, with its interval."""
    draw = np.random.default_rng(0)
    means = [draw.choice(values, (RESAMPLES, len(values))).mean(1) for values in (a, b)]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return float(a.mean() - b.mean()), float(low), float(high)
