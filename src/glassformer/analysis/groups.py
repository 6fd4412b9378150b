"""Is a group of heads what its name says? Against random heads, against the control, and against its parts.

random      other sets of as many heads of the same layers, drawn many times: is it these heads, or any?
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
from glassformer.analysis.capability import RESAMPLES, CapabilityTable, bootstrap_interval, or_none


def random_heads(
    heads: Sequence[Head], heads_in_layer: Sequence[int], draws: int, seed: int = 0
) -> list[tuple[Head, ...]]:
    """Different sets of as many heads in each of the same layers, drawn evenly from all but ``heads`` itself.

    A set may share heads with the group. So if the group is a set like any other, it is as likely as each of
    the draws to be the most harmful, which is what the p of ``group_rows`` rests on; sets without any of its
    heads would be picked to be unlike it. Of a layer all of whose heads are in the group, each set has all.

    Args:
        heads: the group.
        heads_in_layer: how many heads each layer has.
        draws: how many sets; fewer come where there are no more.
        seed: of the draws.

    Raises:
        ValueError: there is no other set, because the group has every head of its layers.
    """
    wanted = sorted(Counter(layer for layer, _ in heads).items())
    others = math.prod(math.comb(heads_in_layer[layer], number) for layer, number in wanted) - 1
    if not others:
        raise ValueError("it has every head of its layers, so that there is no other set to compare with")
    group, draw = tuple(sorted(heads)), random.Random(seed)
    found = dict[tuple[Head, ...], None]()  # a dictionary keeps the order
    while len(found) < min(draws, others):
        chosen = tuple(
            (layer, head)
            for layer, number in wanted
            for head in sorted(draw.sample(range(heads_in_layer[layer]), number))
        )
        if chosen != group:
            found[chosen] = None
    return list(found)


def group_rows(
    table: CapabilityTable,
    group: str,
    draws: Sequence[str] = (),
    control: str = "control",
) -> Iterator[dict[str, Any]]:
    """What the table says about a group, suite by suite, as tidy rows with 95 % intervals.

    The measures: ``drop``; ``drop - drop in control``; ``random``, the mean drop of the draws;
    ``drop - random``; ``p``; ``sum of single drops``; ``joint - sum``, above zero where heads stand in for
    one another (together they hurt more than one by one), below where they hurt in the same way. Intervals of
    what compares with draws are over items and draws; ``p`` has none, nor has what compares with one draw.

    p = (1 + draws that drop at least as much) / (1 + draws): how often a set that is picked blindly from all
    of as many heads in these layers would stand out as much (Phipson & Smyth 2010). It is about the items at
    hand, and about each suite by itself: of many suites, some fall below 0.05 by chance.

    Args:
        table: with the group, its draws, and for redundancy each of its heads alone, named as ``head_name``.
        group: its name in the table.
        draws: names of the random sets in the table.
        control: the suite to compare with, where the table has it; only for suites with scores in its unit.
    """
    singles = [head_name(head) for head in table.sets[group]]
    for suite in table.suites:
        joint = table.drops(group, suite)
        values = {"drop": (float(joint.mean()), *bootstrap_interval(joint))}
        if control in table.suites and suite != control and table.units[suite] == table.units[control]:
            values[f"drop - drop in {control}"] = _difference(joint, table.drops(group, control))
        if draws:
            drawn = np.stack([table.drops(name, suite) for name in draws])  # (draw, item)
            as_harmful = int((drawn.mean(1) >= joint.mean()).sum())
            values["random"] = (float(drawn.mean()), *bootstrap_interval(drawn))
            values["drop - random"] = (float((joint - drawn).mean()), *bootstrap_interval(joint - drawn))
            values["p"] = ((1 + as_harmful) / (1 + len(draws)), math.nan, math.nan)
        if len(singles) > 1 and all(name in table.without for name in singles):
            summed = np.sum([table.drops(name, suite) for name in singles], axis=0)
            values["sum of single drops"] = (float(summed.mean()), *bootstrap_interval(summed))
            values["joint - sum"] = (float((joint - summed).mean()), *bootstrap_interval(joint - summed))
        for measure, (value, low, high) in values.items():
            yield {
                "group": group,
                "suite": suite,
                "measure": measure,
                "unit": None if measure == "p" else table.units[suite],
                "value": value,
                "low": or_none(low),
                "high": or_none(high),
                "draws": len(draws),
            }


def _difference(a: Any, b: Any) -> tuple[float, float, float]:
    """The difference of two means over different items, with its interval."""
    draw = np.random.default_rng(0)
    means = [draw.choice(values, (RESAMPLES, len(values))).mean(1) for values in (a, b)]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return float(a.mean() - b.mean()), float(low), float(high)
