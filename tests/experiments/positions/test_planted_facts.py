"""Facts planted in texts."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from glassformer.experiments.positions.planted_facts import (
    FactVocabulary,
    PlantedWindows,
    draw_facts,
    recall_conditions,
    vocabulary_of,
)

FACTS = FactVocabulary(first=100, num_keys=4, num_values=5)


def read_questions(row, facts=FACTS):
    """The distance of each fact to its question in a window, after a check that the answer is right."""
    base = facts.first
    distances, values = [], {}
    for slot, token in enumerate(row.tolist()):
        number = token - base
        if 0 <= number < facts.num_keys * facts.num_values:
            values.setdefault(number // facts.num_values, (token, slot))
        elif 0 <= (key := number - facts.num_keys * facts.num_values) < facts.num_keys:
            fact, stated = values[key]
            assert row[slot + 1] == fact
            distances.append(slot - stated)
    return distances


def test_ids_of_facts_do_not_overlap():
    keys, values = np.meshgrid(np.arange(4), np.arange(5), indexing="ij")
    ids = np.concatenate([FACTS.facts(keys, values).ravel(), FACTS.questions(np.arange(4))])
    assert sorted(ids) == list(range(100, FACTS.vocab_size))
    assert vocabulary_of({"num_keys": 4, "num_values": 5}, 100) == FACTS


@pytest.mark.parametrize("n", [16, 17, 64])
def test_every_question_has_its_fact_in_the_first_half(n):
    planted = draw_facts(FACTS, 200, n, 4, 1, 1)
    rows = planted.plant(np.zeros((200, n + 1), dtype=np.int64))
    distances = [read_questions(row) for row in rows]
    assert all(len(of_row) == 4 for of_row in distances)
    assert min(min(d) for d in distances) >= 1
    assert max(max(d) for d in distances) <= n - 2
    assert (rows[:, n] == 0).all()
    assert planted.fact_slots.max() < n // 2 <= planted.question_slots.min()
    assert len(np.unique(planted.facts)) == 4 * FACTS.num_values
    assert ((rows > 0).sum(axis=1) == 12).all()


def test_conditions_ask_the_same_questions_of_the_same_text():
    n = 32
    text = np.random.default_rng(0).integers(100, size=(50, 2 * n))
    found = recall_conditions(text, FACTS, n, 3, seed=5)
    (trained, slots), (near, near_slots), (far, far_slots) = (found[k] for k in ("trained", "near", "far"))
    assert trained.shape == (50, n)
    assert near.shape == far.shape == (50, 2 * n)
    assert np.array_equal(near[:, n:], trained)
    assert np.array_equal(near[:, :n], text[:, :n])
    assert np.array_equal(near_slots, slots + n)
    assert np.array_equal(far_slots, slots + n)
    rows = np.arange(50)[:, None]
    for offset in (0, 1):  # questions and answers
        assert np.array_equal(far[rows, far_slots + offset], trained[rows, slots + offset])
    assert ((far != text).sum(axis=1) == 9).all()
    for row, other in zip(near, far, strict=True):
        assert max(read_questions(row)) <= n - 2
        assert min(read_questions(other)) > n
        assert [d + n for d in read_questions(row)] == read_questions(other)


class Text:
    """Windows of distinct numbers below 100."""

    def batch(self, step):
        return torch.arange(8 * 33).view(8, 33) % 97


def test_a_fraction_of_each_batch_has_facts():
    batches = PlantedWindows(Text(), FACTS, 0.5, 2, 3, seed=3)
    batch = batches.batch(7)
    changed = (batch != Text().batch(7)).any(dim=1)
    assert changed.tolist() == [True] * 4 + [False] * 4
    assert all(len(read_questions(row.numpy())) == 6 for row in batch[:4])
    assert torch.equal(batch, PlantedWindows(Text(), FACTS, 0.5, 2, 3, seed=3).batch(7))
    assert not torch.equal(batch, batches.batch(8))
    assert not torch.equal(batch, PlantedWindows(Text(), FACTS, 0.5, 2, 3, seed=4).batch(7))
    assert torch.equal(PlantedWindows(Text(), FACTS, 0.0, 2, 3, seed=3).batch(7), Text().batch(7))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FactVocabulary(10, 0, 4), "at least 1 key and 2 values, got 0 and 4"),
        (lambda: draw_facts(FACTS, 2, 16, 5, 1, 0), "facts of a window must be 1 to 4 (keys), got 5"),
        (
            lambda: draw_facts(FACTS, 2, 6, 2, 1, 0),
            "2 facts, each asked 1 times, do not fit into a window of 6",
        ),
        (
            lambda: draw_facts(FACTS, 2, 16, 2, 3, 0),
            "2 facts, each asked 3 times, do not fit into a window of 16",
        ),
        (lambda: draw_facts(FACTS, 2, 16, 2, 0, 0), "2 facts, each asked 0 times, do not fit"),
        (lambda: PlantedWindows(Text(), FACTS, 1.5, 2, 1, 0), "must be from 0 to 1, got 1.5"),
        (lambda: recall_conditions(np.zeros((1, 9), int), FACTS, 4, 1, 0), "must have 8 tokens, got 9"),
    ],
)
def test_bad_facts_are_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
