"""Examples dealt out to training, validation and test, so that what belongs together stays together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from glassformer.data.splits import SPLITS, checked_fractions, ends_of_splits

Item = TypeVar("Item")


def deal(
    items: Sequence[Item], group: Callable[[Item], str], fractions: Sequence[float], seed: int = 0
) -> dict[str, list[Item]]:
    """The items of each split, in their order.

    Groups are ranked by the hash of (seed, group) and the ranks dealt out by the fractions, so that the items
    of a group are all in one split, whatever their order.

    Args:
        items: what to deal out.
        group: what an item belongs to: the word it is about, the speech it comes from.
        fractions: the shares of train, validation and test, in groups.
        seed: another seed, another split.

    Raises:
        ValueError: fractions that are none, or fewer groups than splits.

    """
    fractions = checked_fractions(fractions)
    groups = sorted({group(item) for item in items}, key=lambda name: (_rank(seed, name), name))
    needed = sum(fraction > 0 for fraction in fractions)
    if len(groups) < needed:
        raise ValueError(f"{needed} splits need at least as many different examples, not {len(groups)}")
    split_of, begin = {}, 0
    for split, end in zip(SPLITS, ends_of_splits(fractions, len(groups)), strict=True):
        split_of.update(dict.fromkeys(groups[begin:end], split))
        begin = end
    dealt: dict[str, list[Item]] = {split: [] for split in SPLITS}
    for item in items:
        dealt[split_of[group(item)]].append(item)
    return dealt


def _rank(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed} {name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
