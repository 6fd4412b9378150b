"""Rates at which each head attends to the targets of each pattern, in blocks of texts.

The best head and the baselines are chosen on the first block, so that their rates on the others are not
increased by the choice. Blocks are other texts, over which intervals for a fixed model are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.torch import load_file, save_file

from glassformer.analysis.head_patterns.collect import MAX_DISTANCE, collect_sums
from glassformer.analysis.head_patterns.patterns import Item, Pattern
from glassformer.analysis.head_patterns.statistics import safe_ratio
from glassformer.files import atomic_path
from glassformer.models import TransformerModel

Array = npt.NDArray[np.float64]
BlockSums = Sequence[Mapping[str, Array]]
"""For each part of the data the sums of ``collect_sums`` over its items."""


def block_sums(
    build: Callable[[], TransformerModel],
    blocks: Sequence[Sequence[Item]],
    patterns: Sequence[Pattern],
    folder: Path,
) -> list[dict[str, Array]]:
    """Sums over the items of each block, stored in the folder block by block.

    Args:
        build: returns the model; called only if a block is missing.
        blocks: items; the first block is for selection.
        patterns: of tokens and words.
        folder: for a file per block, which are read again by a later call.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model: TransformerModel | None = None
    for number, items in enumerate(blocks):
        file = folder / f"block-{number}.safetensors"
        if not file.exists():
            model = build() if model is None else model
            sums = collect_sums(model, items, patterns, descriptions=False)
            with atomic_path(file) as partial:
                save_file({name: values.double().sum(0) for name, values in sums.items()}, partial)
    files = (folder / f"block-{number}.safetensors" for number in range(len(blocks)))
    return [{name: values.numpy() for name, values in load_file(file).items()} for file in files]


def pattern_rates(
    model: BlockSums, random: BlockSums, patterns: Sequence[Pattern], heads: Sequence[tuple[int, int]]
) -> dict[str, dict[str, Any]]:
    """The best head of each pattern and its strongest baseline, as values for JSON.

    Args:
        model: sums of the model.
        random: sums of a model of the same shape with random weights, over the same blocks.
        patterns: those of the sums, in order.
        heads: (layer, head) of each head.

    Returns:
        For each pattern that has a query in every block: ``head``, ``selection`` (its rate on the first
        block), ``rates`` and ``masses`` of the other blocks, ``queries`` of all blocks, ``control`` with
        ``name``, ``selection`` and ``rates``, ``offset`` likewise with the best fixed offset, and
        ``by_head``, the rates of all heads over the other blocks.
    """
    found = {}
    for level in ("token", "word"):
        own = [pattern for pattern in patterns if pattern.level == level]
        for column, pattern in enumerate(own):
            if f"{level}/queries" not in model[0]:
                continue
            queries = np.array([sums[f"{level}/queries"][column] for sums in model])
            if queries.min() > 0:
                found[pattern.name] = _rates(model, random, pattern, column, queries, heads)
    return found


def _rates(
    model: BlockSums,
    random: BlockSums,
    pattern: Pattern,
    column: int,
    queries: Array,
    heads: Sequence[tuple[int, int]],
) -> dict[str, Any]:
    level = pattern.level
    rates, masses = (
        _means([sums[f"{level}/{quantity}"][:, column] for sums in model], queries)
        for quantity in ("hits", "mass")
    )
    best = int(rates[0].argmax())
    random_queries = np.array([sums[f"{level}/queries"][column] for sums in random])
    random_rates = _means([sums[f"{level}/hits"][:, column] for sums in random], random_queries)
    random_best = int(random_rates[0].argmax())
    chance = _means([sums[f"{level}/chance"][column, None] for sums in model], queries)[:, 0]
    baselines = {
        f"random weights {_name(heads[random_best])}": random_rates[:, random_best],
        "random keys": chance,
    }
    offset = None
    if not pattern.positional:
        offsets = _means([sums[f"{level}/offsets"][:, column] for sums in model], queries)
        nearest = int(offsets[0].argmax())
        offset = (f"fixed offset {nearest - MAX_DISTANCE:+d}", offsets[:, nearest])
        baselines[offset[0]] = offset[1]
    control = max(baselines.items(), key=lambda entry: float(entry[1][0]))
    overall = sum(sums[f"{level}/hits"][:, column] for sums in model[1:]) / queries[1:].sum()
    return {
        "head": list(heads[best]),
        "selection": float(rates[0, best]),
        "rates": rates[1:, best].tolist(),
        "masses": masses[1:, best].tolist(),
        "queries": queries.astype(int).tolist(),
        "control": _baseline(*control),
        "offset": None if offset is None else _baseline(*offset),
        "by_head": np.asarray(overall).round(4).tolist(),
    }


def preference(
    model: BlockSums, patterns: Sequence[Pattern], heads: Sequence[tuple[int, int]], target: str, control: str
) -> dict[str, Any] | None:
    """The head with the largest mean difference of the attention to a target and to its control.

    Args:
        model: sums of the model.
        patterns: those of the sums.
        heads: (layer, head) of each head.
        target: name of a pattern of words.
        control: another one with as many targets for the same queries.

    Returns:
        ``head``, ``selection``, and of each block ``differences``, ``targets`` (the attention to the target)
        and ``queries``; None if a block has no query.
    """
    names = [pattern.name for pattern in patterns if pattern.level == "word"]
    if "word/mass" not in model[0]:
        return None
    a, b = (np.array([s["word/mass"][:, names.index(name)] for s in model]) for name in (target, control))
    queries = [int(sums["word/queries"][names.index(target)]) for sums in model]
    if min(queries) == 0:
        return None
    counts = np.array(queries)[:, None]
    differences = (a - b) / counts
    best = int(differences[0].argmax())
    return {
        "head": list(heads[best]),
        "selection": float(differences[0, best]),
        "differences": differences[1:, best].tolist(),
        "targets": (a / counts)[1:, best].tolist(),
        "queries": queries,
    }


def _means(sums: Sequence[Array], queries: Array) -> Array:
    """Sums of each block divided by its queries, ``(block, ...)``."""
    return np.asarray(safe_ratio(np.stack(sums), queries[:, None]))


def _baseline(name: str, values: Array) -> dict[str, Any]:
    return {"name": name, "selection": float(values[0]), "rates": values[1:].tolist()}


def _name(head: tuple[int, int]) -> str:
    return f"{head[0]}.{head[1]}"


def split_blocks(items: Sequence[Item], selection: int, blocks: int) -> list[list[Item]]:
    """The first ``selection`` items, and the others in equal blocks for evaluation.

    Raises:
        ValueError: too few items.
    """
    size = (len(items) - selection) // blocks
    if size < 1:
        raise ValueError(f"{len(items)} sentences are too few for {selection} and {blocks} blocks more")
    starts = (selection + number * size for number in range(blocks))
    return [list(items[:selection]), *(list(items[start : start + size]) for start in starts)]
