"""Ablations of single heads, and of the least important ones together.

Heads are chosen on one set of items and evaluated on another, in blocks.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glassformer.analysis.ablation import Head, head_name
from glassformer.analysis.behaviors import BehaviorTask, TaskItem, TaskScores, build_behavior_tasks
from glassformer.analysis.behaviors.evaluate import evaluate_ablations
from glassformer.analysis.behaviors.tasks import item_prefix
from glassformer.analysis.head_patterns.statistics import Numbers
from glassformer.attention import all_heads, choose_kind
from glassformer.experiments.statistics import one_sample_t
from glassformer.files import atomic_write, read_json
from glassformer.models import TransformerModel

TEXT = "text"
"""Name of the task of predicting ordinary sentences."""
SPECIFIC = "copying"
"""The capability that a single head is expected to hurt."""
CONTROL = "control"
"""Predictable sentences, which a head that hurts everything hurts as well."""


def measure_ablations(
    model: TransformerModel, texts: Sequence[str], settings: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Ablate every head alone on items for selection, and the chosen ones on blocks for evaluation.

    Args:
        model: a causal language model with a tokenizer.
        texts: sentences: the first ``selection_texts`` for selection, then ``blocks`` times ``block_texts``.
        settings: ``tasks``, ``selection_items``, ``selection_texts``, ``blocks``, ``block_items``,
            ``block_texts``, ``pruned`` (fraction of heads), ``random_sets``, ``max_tokens``.
        folder: for a file per layer, which are read again by a later call.

    Returns:
        ``heads``; ``drops``: by task the mean drop of each head on the items for selection; ``p``: for each
        head the p-value of its drop on ordinary sentences; ``specific``: the head whose ablation hurts
        ``copying`` most, beyond the larger drop of ordinary and predictable sentences, with its drops in each
        block; ``pruned``: the least important heads, and the drops in each block without them; ``random``:
        the mean drop on ordinary sentences without each of as large random sets.
    """
    s, tokenizer = settings, model.tokenizer
    if tokenizer is None:
        raise ValueError("the tasks need a tokenizer: set model.tokenizer")
    heads = all_heads(choose_kind(model, None)[1])
    chosen = [*build_behavior_tasks(tokenizer, s["tasks"], s["selection_items"], seed=0)]
    chosen.append(text_task(model, texts[: s["selection_texts"]], s["max_tokens"]))
    scores = _single_ablations(model, heads, chosen, folder)
    drops = {
        task: np.stack([scores[None].score[task] - scores[head_name(head)].score[task] for head in heads])
        for task in scores[None].score
    }
    means = {task: values.mean(1) for task, values in drops.items()}  # (head,)
    specific = int((means[SPECIFIC] - np.maximum(means[TEXT], means[CONTROL])).argmax())
    order = np.argsort(means[TEXT], kind="stable")
    least = [heads[index] for index in order[: math.floor(s["pruned"] * len(heads))]]
    rest = texts[s["selection_texts"] :]
    size, count = s["block_texts"], s["blocks"] * s["block_items"]
    held_out = [*build_behavior_tasks(tokenizer, s["tasks"], count, seed=1)]
    held_out.append(text_task(model, rest[: s["blocks"] * size], s["max_tokens"]))
    draw = random.Random(0)
    sets = {"specific": [heads[specific]], "pruned": least}
    sets |= {f"random-{number}": draw.sample(heads, len(least)) for number in range(s["random_sets"])}
    evaluated = dict(evaluate_ablations(model, sets, held_out))
    blocks = {
        name: {
            task: _block_means(evaluated[None].score[task] - found.score[task], s["blocks"])
            for task in found.score
        }
        for name, found in evaluated.items()
        if name is not None
    }
    return {
        "heads": [list(head) for head in heads],
        "drops": {task: values.round(4).tolist() for task, values in means.items()},
        "p": [_p_value(values) for values in drops[TEXT]],
        "accuracy": {task: float(values.mean()) for task, values in evaluated[None].accuracy.items()},
        "specific": {"head": list(heads[specific]), "drops": blocks["specific"]},
        "pruned": {"heads": [list(head) for head in least], "drops": blocks["pruned"]},
        "random": [
            float(np.mean(found[TEXT])) for name, found in blocks.items() if name.startswith("random-")
        ],
    }


def text_task(model: TransformerModel, texts: Sequence[str], max_tokens: int) -> BehaviorTask:
    """Predicting the tokens of ordinary sentences after ``item_prefix``, as a task like the others."""
    if model.tokenizer is None:
        raise ValueError("sentences need a tokenizer: set model.tokenizer")
    prefix = item_prefix(model.tokenizer)
    first = max(1, len(prefix))  # nothing predicts the first token
    rows = [[*prefix, *model.tokenizer.encode(text)][:max_tokens] for text in texts]
    items = [
        TaskItem(tuple(ids[:-1]), tuple(range(first, len(ids))), tuple(ids[first:]))
        for ids in rows
        if len(ids) > first
    ]
    return BehaviorTask(TEXT, "ordinary sentences", 1 / model.tokenizer.vocab_size, tuple(items))


def _single_ablations(
    model: TransformerModel, heads: Sequence[Head], tasks: Sequence[BehaviorTask], folder: Path
) -> dict[str | None, TaskScores]:
    """Scores with all heads and without each, stored layer by layer."""
    folder.mkdir(parents=True, exist_ok=True)
    scores: dict[str | None, TaskScores] = {}
    for layer in sorted({layer for layer, _ in heads}):
        file = folder / f"layer-{layer}.json"
        if not file.exists():
            sets = {head_name(head): [head] for head in heads if head[0] == layer}
            found = dict(evaluate_ablations(model, sets, tasks))
            content = {name or "": value.to_json() for name, value in found.items()}
            atomic_write(file, json.dumps(content) + "\n")
        for name, value in read_json(file).items():
            scores[name or None] = TaskScores.from_json(value)
    return scores


def _block_means(values: Numbers, blocks: int) -> list[float]:
    return [float(part.mean()) for part in np.array_split(values, blocks)]


def _p_value(values: Numbers) -> float:
    return one_sample_t(values).p_value
