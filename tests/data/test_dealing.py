"""Groups are dealt out whole, by the fractions, whatever their order."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.data.dealing import deal


@given(
    groups=st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=60),
    seed=st.integers(0, 3),
    order=st.randoms(use_true_random=False),
)
def test_a_group_is_in_one_split_and_every_item_is_somewhere(groups, seed, order):
    items = list(enumerate(groups))
    fractions = (0.5, 0.25, 0.25) if len(set(groups)) >= 3 else (1.0, 0.0, 0.0)
    dealt = deal(items, lambda item: item[1], fractions, seed)
    where = {split: {group for _, group in part} for split, part in dealt.items()}
    assert not where["train"] & where["validation"]
    assert not where["train"] & where["test"]
    assert not where["validation"] & where["test"]
    assert sorted(item for part in dealt.values() for item in part) == items
    shuffled = random.Random(order.random()).sample(items, len(items))
    again = deal(shuffled, lambda item: item[1], fractions, seed)
    assert {split: {group for _, group in part} for split, part in again.items()} == where


def test_shares_are_those_asked_for_and_depend_on_the_seed():
    words = [f"word{number}" for number in range(1000)]
    dealt = deal(words, str, (0.8, 0.05, 0.15), 0)
    assert [len(dealt[split]) for split in ("train", "validation", "test")] == [
        799,
        50,
        151,
    ]  # one each, the others by the shares
    assert deal(words, str, (0.8, 0.05, 0.15), 1)["test"] != dealt["test"]


def test_too_few_groups():
    with pytest.raises(ValueError, match="3 splits need at least as many different examples, not 2"):
        deal(["a", "b", "a"], str, (0.8, 0.1, 0.1))
    with pytest.raises(ValueError, match="three shares"):
        deal(["a", "b", "a"], str, (0.8, 0.1, 0.2))
