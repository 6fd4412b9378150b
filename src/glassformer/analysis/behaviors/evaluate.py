"""Evaluation of which behaviors each ablation hurts.

    drop = score of an item with all heads - its score without a set of heads

Items are paired, so that differences between easy and hard items cancel. Intervals are 95 % bootstrap
intervals over items: where the mean drop of other generated items would lie. Each interval is for its row
alone, not for the largest of many rows.

A group of heads is compared with

    random      other sets of as many heads in the same layers: is the effect specific to these heads?
    control     the control task: is the effect specific to the behavior?
    parts       each head alone: do the drops add up, or are heads redundant?
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glassformer.analysis.ablation import Head, ReferenceOutputs, ablate, head_name
from glassformer.analysis.behaviors.scoring import ItemBatch
from glassformer.analysis.behaviors.tasks import BehaviorTask
from glassformer.analysis.head_patterns.statistics import Numbers, bootstrap_difference, bootstrap_interval
from glassformer.attention import attentions_of
from glassformer.data.batches import batch_by_length
from glassformer.eval_mode import eval_mode
from glassformer.files import save_table


@dataclass(frozen=True)
class TaskScores:
    """Scores of a model, for each task an array ``(item,)``."""

    score: dict[str, Numbers]
    """Mean log p(correct), or log p(correct) - log p(incorrect), in nats."""
    accuracy: dict[str, Numbers]
    """Fraction of an item's positions at which the correct id is the most probable, or more probable than
    the incorrect one."""

    def to_json(self) -> dict[str, Any]:
        """The scores as JSON values; stored results call the accuracy ``"correct"``."""
        parts = (("score", self.score), ("correct", self.accuracy))
        return {key: {task: values.tolist() for task, values in part.items()} for key, part in parts}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TaskScores:
        """The inverse of ``to_json``.

        Raises:
            ValueError, TypeError, LookupError, AttributeError: other content.
        """
        score, accuracy = (
            {task: np.array(values, dtype=np.float64) for task, values in content[key].items()}
            for key in ("score", "correct")
        )
        return cls(score, accuracy)


@dataclass(frozen=True)
class BehaviorTable:
    """Scores with all heads, and without each set of heads."""

    sets: dict[str, tuple[Head, ...]]
    all_heads: TaskScores
    without: dict[str, TaskScores]
    units: dict[str, str]
    """Of the score in each task: ``BehaviorTask.unit``."""

    @property
    def tasks(self) -> list[str]:
        """Their names, in order."""
        return list(self.all_heads.score)

    def drops(self, name: str, task: str) -> Numbers:
        """The drop of each item without a set of heads, ``(item,)``."""
        return self.all_heads.score[task] - self.without[name].score[task]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each set of heads and task; the task is in the column ``"suite"``."""
        for name, heads in self.sets.items():
            for task in self.tasks:
                drops = self.drops(name, task)
                low, high = bootstrap_interval(drops)
                yield {
                    "set": name,
                    "heads": " ".join(map(head_name, heads)),
                    "suite": task,
                    "unit": self.units[task],
                    "items": len(drops),
                    "score": float(self.all_heads.score[task].mean()),
                    "score_without": float(self.without[name].score[task].mean()),
                    "drop": float(drops.mean()),
                    "low": _none_if_nan(low),
                    "high": _none_if_nan(high),
                    "accuracy": float(self.all_heads.accuracy[task].mean()),
                    "accuracy_without": float(self.without[name].accuracy[task].mean()),
                }

    def save(self, path: str | Path) -> None:
        """Write the rows with ``save_table``."""
        save_table(list(self.rows()), path)


def behavior_table(
    model: Any,
    sets: Mapping[str, Sequence[Head]],
    tasks: Sequence[BehaviorTask],
    how: str = "zero",
    **options: Any,
) -> BehaviorTable:
    """Score tasks with all heads and without each set of heads, as ``evaluate_ablations`` does.

    Args:
        model: a causal language model.
        sets: heads to be ablated together, by a name for them: ``{"4.7": [(4, 7)], "induction": [...]}``.
        tasks: from ``build_behavior_tasks``.
        how: as in ``ablate``.
        options: further arguments of ``evaluate_ablations``.

    Raises:
        ValueError: as ``evaluate_ablations``.
        TypeError: as ``evaluate_ablations``.
    """
    scores = dict(evaluate_ablations(model, sets, tasks, how, **options))
    return BehaviorTable(
        {name: tuple(heads) for name, heads in sets.items()},
        scores[None],
        {name: scores[name] for name in sets},
        {task.name: task.unit for task in tasks},
    )


@torch.no_grad()
def evaluate_ablations(
    model: Any,
    sets: Mapping[str, Sequence[Head]],
    tasks: Sequence[BehaviorTask],
    how: str = "zero",
    *,
    reference: ReferenceOutputs | None = None,
    seed: int = 0,
    batch_tokens: int = 1024,
) -> Iterator[tuple[str | None, TaskScores]]:
    """Yield the scores with all heads, under None, and then those without each set, as they are computed.

    Sets come in the order of their lowest layers, so that the forward pass below is reused.

    Args:
        model: a causal language model.
        sets: heads to be ablated together, by name.
        tasks: from ``build_behavior_tasks``.
        how: as in ``ablate``.
        reference: as in ``ablate``.
        seed: as in ``ablate``.
        batch_tokens: upper limit of the tokens in a batch with padding; a longer item is a batch of its own.

    Raises:
        ValueError: an empty set, one for which ``ablate`` raises an error, or as ``check_tasks``.
        TypeError: as ``check_tasks``.
    """
    check_tasks(model, tasks)
    for name, heads in sets.items():
        if not heads:
            raise ValueError(f"the set {name!r} has no heads")
        with ablate(model, heads, how, reference=reference, seed=seed):
            pass  # raises errors before the long work
    items = [item for task in tasks for item in task.items]
    with eval_mode(model):
        batches = [
            ItemBatch(model, [items[n] for n in numbers], numbers)
            for numbers in batch_by_length([len(item.ids) for item in items], batch_tokens)
        ]
        yield None, _task_scores(tasks, [(b.numbers, b.score(b.forward.hidden)) for b in batches])
        for name, heads in sorted(sets.items(), key=lambda entry: min(entry[1])[0]):
            for batch in batches:
                batch.forward.advance_to(min(heads)[0])
            with ablate(model, heads, how, reference=reference, seed=seed):
                scored = [(b.numbers, b.score(b.forward.finish())) for b in batches]
            yield name, _task_scores(tasks, scored)


def check_tasks(model: Any, tasks: Sequence[BehaviorTask]) -> None:
    """Raise an error if a model cannot be evaluated on tasks.

    Raises:
        ValueError: no tasks, or an item with more tokens or other ids than the model takes.
        TypeError: not a causal language model, or the result of ``torch.compile``.
    """
    attentions_of(model)
    if model.task != "causal_lm":
        raise TypeError(
            f"a {type(model).__name__} is not a causal language model, which the tasks need: ablate its "
            "heads with analysis.ablate, and measure a loss with analysis.ablation_importance"
        )
    if not tasks:
        raise ValueError("there are no tasks: give at least one")
    limit, vocab_size = int(model.max_seq_len), int(model.vocab_size)
    for task in tasks:
        longest = max(len(item.ids) for item in task.items)
        if longest > limit:
            raise ValueError(
                f"the task {task.name} has an item of {longest} tokens, and the model's limit is {limit}: "
                "leave the task out"
            )
        largest = max(max(*item.ids, *item.correct, *item.incorrect) for item in task.items)
        if largest >= vocab_size:
            raise ValueError(
                f"the task {task.name} has the id {largest}, and the model's ids are 0 to {vocab_size - 1}"
            )


def _task_scores(
    tasks: Sequence[BehaviorTask], scored: Sequence[tuple[Sequence[int], tuple[Numbers, Numbers]]]
) -> TaskScores:
    """Scores of batches, given with the indices of their items, as scores of tasks."""
    values = np.empty((2, sum(len(task.items) for task in tasks)))
    for numbers, scores in scored:
        values[:, list(numbers)] = scores
    ends = np.cumsum([len(task.items) for task in tasks])[:-1]
    names = [task.name for task in tasks]
    score, accuracy = (dict(zip(names, np.split(row, ends), strict=True)) for row in values)
    return TaskScores(score, accuracy)


def compare_group(
    table: BehaviorTable, group: str, draws: Sequence[str] = (), control: str = "control"
) -> Iterator[dict[str, Any]]:
    """Compare a group of heads with random heads, the control task and its parts, as tidy rows.

    The measures are ``drop``; ``drop - drop in control``; ``random``, the mean drop of the random sets;
    ``drop - random``; ``p``; ``sum of single drops``; and ``joint - sum``, which is above zero where heads
    are redundant and below where their effects overlap. Intervals of comparisons with random sets are over
    items and sets; a comparison with a single set has none, and neither has ``p``.

    p = (1 + random sets with at least the same drop) / (1 + random sets) is the probability that a random
    choice among all sets would stand out as much (Phipson & Smyth 2010). It holds for these items and for
    each task by itself: of many tasks, some fall below 0.05 by chance.

    Args:
        table: with the group, its random sets, and, for redundancy, each of its heads under ``head_name``.
        group: its name in the table.
        draws: names of the random sets in the table, from ``random_heads``.
        control: the task to compare with; used only for tasks with scores in the same unit.
    """
    singles = [head_name(head) for head in table.sets[group]]
    for task in table.tasks:
        joint = table.drops(group, task)
        values = {"drop": (float(joint.mean()), *bootstrap_interval(joint))}
        if control in table.tasks and task != control and table.units[task] == table.units[control]:
            values[f"drop - drop in {control}"] = bootstrap_difference(joint, table.drops(group, control))
        if draws:
            drawn = np.stack([table.drops(name, task) for name in draws])  # (draw, item)
            as_harmful = int((drawn.mean(1) >= joint.mean()).sum())
            values["random"] = (float(drawn.mean()), *bootstrap_interval(drawn))
            values["drop - random"] = (float((joint - drawn).mean()), *bootstrap_interval(joint - drawn))
            values["p"] = ((1 + as_harmful) / (1 + len(draws)), math.nan, math.nan)
        if len(singles) > 1 and all(name in table.without for name in singles):
            summed = np.sum([table.drops(name, task) for name in singles], axis=0)
            values["sum of single drops"] = (float(summed.mean()), *bootstrap_interval(summed))
            values["joint - sum"] = (float((joint - summed).mean()), *bootstrap_interval(joint - summed))
        for measure, (value, low, high) in values.items():
            yield {
                "group": group,
                "suite": task,
                "measure": measure,
                "unit": None if measure == "p" else table.units[task],
                "value": value,
                "low": _none_if_nan(low),
                "high": _none_if_nan(high),
                "draws": len(draws),
            }


def _none_if_nan(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if math.isnan(value) else value
