"""The demonstrations by name, and the function of a run that makes some of them for one seed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from glassformer.experiments.why.demonstration import Demonstration, stored
from glassformer.experiments.why.feed_forwards import FEED_FORWARD
from glassformer.experiments.why.head_count import HEAD_COUNT
from glassformer.experiments.why.induction import INDUCTION
from glassformer.experiments.why.lookup import LOOKUP
from glassformer.experiments.why.norm_placement import NORM_PLACEMENT
from glassformer.experiments.why.permutation import PERMUTATION
from glassformer.experiments.why.rank_collapse import RANK_COLLAPSE
from glassformer.experiments.why.score_scaling import SCORE_SCALING
from glassformer.experiments.why.sinks import PUBLISHED_SINKS, SMALL_SINKS

DEMONSTRATIONS: Mapping[str, Demonstration] = {
    "lookup": LOOKUP,
    "score_scaling": SCORE_SCALING,
    "permutation": PERMUTATION,
    "norm_placement": NORM_PLACEMENT,
    "head_count": HEAD_COUNT,
    "induction": INDUCTION,
    "published_sinks": PUBLISHED_SINKS,
    "small_sinks": SMALL_SINKS,
    "rank_collapse": RANK_COLLAPSE,
    "feed_forwards": FEED_FORWARD,
}
"""The demonstrations by the name of their settings, in the order of the report."""


def demonstrate(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make demonstrations for one seed; continues where an earlier call was stopped.

    Args:
        settings: ``seed``, and ``demonstrations``, the settings of each by its name.
        folder: each has a folder in it; token files are shared with the other runs.

    Returns:
        The value of each demonstration by its name.
    """
    tokens = str(folder.parent.parent / "tokens")
    return {
        name: stored(
            folder / f"{name}.json",
            partial(DEMONSTRATIONS[name].make, {**own, "tokens": tokens}, settings["seed"], folder / name),
        )
        for name, own in settings["demonstrations"].items()
    }
