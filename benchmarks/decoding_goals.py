"""Goals for the speed of decoding, and whether they are reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from engines import ENGINES
from timed_generation import OURS, THEIRS, TimedTokens
from timing import Rounds, paired_ratio


class Goal(NamedTuple):
    """Bound on the time of our optimized model, divided by the time of the fastest of its peers."""

    batch_size: int
    weights: str
    kind: str
    """``"per_token"`` or ``"prefill"``."""
    peers: Sequence[str]
    at_most: float
    floor: float | None = None
    """Bound that must hold even if the goal is not reached."""


DECODING, PREFILL = "per_token", "prefill"
KINDS = {DECODING: "decoding", PREFILL: "prefill"}
GOALS = (
    Goal(1, "float32", DECODING, tuple(ENGINES), 1.05, 1.15),
    Goal(1, "int8", DECODING, tuple(ENGINES), 0.85),
    Goal(1, "float32", PREFILL, ("ONNX Runtime",), 1.1, 1.2),
    Goal(1, "int8", PREFILL, ("ONNX Runtime",), 1.2, 1.35),
)
FASTER_THAN_HUGGING_FACE = 1.3
"""Speed of decoding with a batch of more than one, relative to Hugging Face's."""


def goal_lines(turns: Rounds[TimedTokens], contenders: Mapping[str, Any], batch_size: int) -> list[str]:
    """Return a line for each goal for this batch size.

    Args:
        turns: measurements by name.
        contenders: by the same names, each with a ``library`` and ``weights``.
        batch_size: number of prompts.

    """
    lines = []
    for goal in GOALS:
        own = [name for name in contenders if name == f"{OURS}, optimized, {goal.weights}"]
        peers = [
            name
            for name, contender in contenders.items()
            if contender.library in goal.peers and contender.weights == goal.weights
        ]
        what = f"{KINDS[goal.kind]}, batch {batch_size}, {goal.weights}"
        if goal.batch_size != batch_size or not own:
            continue
        if not peers:
            lines.append(f"{what}: not measured without {' or '.join(goal.peers)}")
            continue
        times = {name: [getattr(run, goal.kind) for run in turns.results[name]] for name in (*own, *peers)}
        fastest = min(peers, key=lambda name: median(times[name]))
        ratio = paired_ratio(times[own[0]], times[fastest])
        lines.append(f"{what}: {ratio:.2f} times the time of {fastest}, {verdict(ratio.median, goal)}")
    optimized = f"{OURS}, optimized, float32"
    if batch_size > 1 and optimized in contenders:
        theirs = [run.per_token for run in turns.results[THEIRS]]
        speed = paired_ratio(theirs, [run.per_token for run in turns.results[optimized]])
        reached = "reached" if speed.median >= FASTER_THAN_HUGGING_FACE else "NOT reached"
        lines.append(
            f"decoding, batch {batch_size}, float32: {speed:.2f} times as fast as {THEIRS}, "
            f"goal at least {FASTER_THAN_HUGGING_FACE}: {reached}"
        )
    return lines


def verdict(ratio: float, goal: Goal) -> str:
    """Return whether a ratio reaches a goal, or at least its floor."""
    if ratio <= goal.at_most:
        return f"goal at most {goal.at_most}: reached"
    missed = f"goal at most {goal.at_most}: NOT reached"
    if goal.floor is None:
        return missed
    return f"{missed}, floor {goal.floor}: {'reached' if ratio <= goal.floor else 'NOT reached'}"
