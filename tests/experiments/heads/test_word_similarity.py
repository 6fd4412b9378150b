"""Word vectors, and related words with matched controls."""

from __future__ import annotations

import random

import numpy as np
import pytest

from glassformer.experiments.heads.word_similarity import (
    RelatedWords,
    WordVectors,
    distance_range,
    word_vectors,
)

TOPICS = (
    ["ship", "sailor", "harbor", "storm", "wave", "anchor", "captain", "island"],
    ["court", "judge", "lawyer", "trial", "witness", "verdict", "crime", "prison"],
)


@pytest.fixture(scope="module")
def topics():
    """Vectors of words that occur with words of their own topic only."""
    draw = random.Random(0)
    texts = []
    for number in range(600):
        words = draw.sample(TOPICS[number % 2], 5)
        texts.append(" ".join(word for pair in zip(words, ["the"] * 5, strict=True) for word in pair))
    return word_vectors(texts, num_words=17, window=4, size=3)


def test_words_of_a_topic_have_similar_vectors(topics):
    assert np.linalg.norm(topics.vectors, axis=1) == pytest.approx(1)
    assert topics.index["the"] == 0
    for topic, other in (TOPICS, TOPICS[::-1]):
        same = topics.similarity(topic[0], topic[1:])
        different = topics.similarity(topic[0], other)
        assert same.min() > different.max() + 0.3


def test_vectors_are_those_of_the_ppmi_matrix():
    """Compare with the formula written out over dense counts."""
    draw = random.Random(1)
    texts = [" ".join(draw.choices("abcdef", k=12)) for _ in range(30)]
    found = word_vectors(texts, num_words=6, window=2, size=4)
    words = list(found.index)
    counts = np.zeros((6, 6))
    for text in texts:
        ids = [words.index(word) for word in text.split()]
        for i, a in enumerate(ids):
            for b in ids[max(0, i - 2) : i] + ids[i + 1 : i + 3]:
                counts[a, b] += 1
    contexts = counts.sum(0) ** 0.75
    expected = counts / counts.sum() / np.outer(counts.sum(1) / counts.sum(), contexts / contexts.sum())
    ppmi = np.log(np.maximum(expected, 1))
    u, s, _ = np.linalg.svd(ppmi)
    dense = u[:, :4] * np.sqrt(s[:4])
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    np.testing.assert_allclose(found.vectors @ found.vectors.T, dense @ dense.T, atol=1e-8)


def related(topics, **changes):
    settings = {"num_common": 1, "least": 0.3, "most": 0.2, "max_ratio": 3.0, "min_gap": 1, **changes}
    return RelatedWords(topics, **settings)


def test_the_related_word_is_of_the_topic_and_the_control_is_not(topics):
    assert related(topics).pairs(["judge", "the", "ship", "the", "lawyer"]) == [(4, 0, 2)]
    assert related(topics).pairs(["ship", "the", "judge", "the", "lawyer"]) == [(4, 2, 0)]


def test_without_a_control_there_is_no_pair(topics):
    assert related(topics).pairs(["judge", "the", "court", "the", "lawyer"]) == []
    rare = WordVectors(topics.index, np.where(topics.counts > 0, 100, 0), topics.vectors)
    rare.counts[rare.index["ship"]] = 2
    assert related(rare).pairs(["judge", "the", "ship", "the", "lawyer"]) == []


def test_near_words_and_forms_of_a_word_are_left_out(topics):
    assert related(topics, min_gap=3).pairs(["ship", "judge", "the", "lawyer"]) == []
    index = {**topics.index, "judges": topics.index["judge"]}
    forms = WordVectors(index, topics.counts, topics.vectors)
    assert related(forms).pairs(["judge", "the", "ship", "the", "judges"]) == []


def test_for_each_two_distances_both_words_are_nearer_equally_often(topics):
    """The related word is mostly nearer in these sentences, and no longer in the pairs."""
    finder = related(topics)
    draw = random.Random(2)
    sides: dict[tuple[int, int], list[int]] = {}
    distances = []
    for _ in range(3000):
        topic = draw.random() < 0.5
        words = [draw.choice(TOPICS[topic != (draw.random() < 0.3 + 0.1 * place)]) for place in range(6)]
        for query, near, control in finder.pairs(words):
            pair = (distance_range(query - near), distance_range(query - control))
            sides.setdefault((min(pair), max(pair)), []).append(1 if near > control else -1)
            distances.append((query - near, query - control))
    assert len(distances) > 100
    assert all(abs(sum(found)) <= 1 for found in sides.values())
    means = np.mean(distances, axis=0)
    assert means[0] == pytest.approx(means[1], abs=0.1)


def test_distances_are_in_ranges_that_double():
    assert [distance_range(d) for d in (1, 2, 3, 4, 5, 8, 9, 16, 17)] == [1, 2, 3, 4, 5, 5, 6, 6, 7]


def test_too_few_words_are_refused():
    with pytest.raises(ValueError, match="size 5 need more different words than that, got 3"):
        word_vectors(["a b c"], num_words=10, window=2, size=5)
