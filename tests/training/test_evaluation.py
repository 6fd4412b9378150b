"""Metrics of trained models, and baselines."""

import math
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glassformer.training.evaluation as baselines_module
from glassformer.training import Evaluation, ngram_baselines
from glassformer.training.evaluation import (
    Bigram,
    Unigram,
    bag_of_words_accuracy,
    edit_distance,
    error_rates,
    evaluate_ngram,
    majority_class_accuracy,
)

words = st.lists(st.sampled_from("abc"), max_size=6)


def brute_force(a, b):
    """Edit distance by its recursive definition."""
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return brute_force(a[1:], b[1:])
    return 1 + min(brute_force(a[1:], b), brute_force(a, b[1:]), brute_force(a[1:], b[1:]))


@given(a=words, b=words)
def test_edit_distance_equals_brute_force(a, b):
    assert edit_distance(a, b) == brute_force(a, b) == edit_distance(b, a)


def test_error_rates_use_the_nearest_reference():
    rates = error_rates([["K", "AE"], ["T"], ["S"]], [[["K", "AE", "T"], ["K", "AE"]], [["D", "T"]], [["S"]]])
    assert rates == {"symbol_error_rate": 1 / 5, "sequence_error_rate": 1 / 3}
    with pytest.raises(ValueError, match="got 2 predictions and 1 references"):
        error_rates([["a"], ["b"]], [[["a"]]])


def test_perplexity_and_bits_per_byte():
    result = Evaluation(nats_per_token=2.0, num_tokens=99, num_bytes=400)
    assert result.perplexity == pytest.approx(math.exp(2))
    assert result.bits_per_byte == pytest.approx(2 / math.log(2) / 4)
    assert result.metrics() == {
        "loss": 2.0,
        "perplexity": result.perplexity,
        "bits_per_byte": result.bits_per_byte,
    }
    assert Evaluation(2.0, 99).metrics() == {"loss": 2.0, "perplexity": result.perplexity}
    assert Evaluation(1000.0, 99).perplexity == math.inf


VOCAB = 6
some_tokens = st.lists(st.integers(0, VOCAB - 1), max_size=40).map(lambda ids: np.array(ids, dtype=np.uint16))


def every_pair():
    return np.divmod(np.arange(VOCAB * VOCAB), VOCAB)


@settings(deadline=None)
@given(tokens=some_tokens, block=st.integers(1, 7), k=st.floats(0.1, 3))
def test_ngram_probabilities_sum_to_one_and_follow_the_formula(tokens, block, k):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines_module, "BLOCK", block)
        unigram, bigram = Unigram(tokens, VOCAB, k), Bigram(tokens, VOCAB, k)
    singles, pairs = (
        Counter(tokens.tolist()),
        Counter(zip(tokens[:-1].tolist(), tokens[1:].tolist(), strict=True)),
    )
    alone = [(singles[t] + k) / (len(tokens) + k * VOCAB) for t in range(VOCAB)]
    np.testing.assert_allclose(unigram.probability, alone)
    got = np.exp(bigram.log_probability(*every_pair())).reshape(VOCAB, VOCAB)
    np.testing.assert_allclose(got.sum(axis=1), 1)
    for s in range(VOCAB):
        seen, distinct = sum(pairs[s, t] for t in range(VOCAB)), sum((s, t) in pairs for t in range(VOCAB))
        for t in range(VOCAB):
            wanted = (pairs[s, t] + distinct * alone[t]) / (seen + distinct) if seen else alone[t]
            assert got[s, t] == pytest.approx(wanted)


def test_ngram_evaluation_in_blocks_is_the_mean_over_all_predicted_tokens(monkeypatch):
    monkeypatch.setattr(baselines_module, "BLOCK", 5)
    random = np.random.default_rng(0)
    training, validation = random.integers(VOCAB, size=50), random.integers(VOCAB, size=23)
    model = Bigram(training, VOCAB)
    result = evaluate_ngram(model, validation, num_bytes=46)
    assert result.num_tokens == 22
    assert result.nats_per_token == pytest.approx(
        -model.log_probability(validation[:-1], validation[1:]).mean()
    )
    assert result.bits_per_byte == pytest.approx(result.nats_per_token / math.log(2) / 2)


def test_ngram_baselines_of_a_periodic_text():
    text = np.tile(np.arange(VOCAB, dtype=np.uint16), 200)
    baselines = ngram_baselines(text, text[:100], VOCAB, num_bytes=100)
    assert baselines["unigram"].nats_per_token == pytest.approx(math.log(VOCAB), rel=1e-3)
    assert baselines["bigram"].nats_per_token < 0.01


def test_ngram_evaluation_needs_two_tokens():
    with pytest.raises(ValueError, match="at least 2 tokens, got 1"):
        ngram_baselines(np.arange(3), np.arange(1), VOCAB)


@pytest.mark.slow
def test_bag_of_words_learns_the_words_that_determine_the_label():
    random = np.random.default_rng(0)
    filler = [" ".join(random.choice(["of", "the", "and", "to"], 12)) for _ in range(200)]
    labels = ["war" if number % 2 else "peace" for number in range(200)]
    texts = [
        f"{text} {'battle' if label == 'war' else 'treaty'}"
        for text, label in zip(filler, labels, strict=True)
    ]
    assert bag_of_words_accuracy(texts[:150], labels[:150], texts[150:], labels[150:]) == 1.0
    assert 0.2 < bag_of_words_accuracy(filler[:150], labels[:150], filler[150:], labels[150:]) < 0.8


def test_bag_of_words_without_scikit_learn_or_words(monkeypatch):
    with pytest.raises(ValueError, match="empty vocabulary"):
        bag_of_words_accuracy(["!", "?"], ["a", "b"], ["!"], ["a"])
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(ImportError, match=r"needs scikit-learn: pip install 'glassformer\[baselines\]'"):
        bag_of_words_accuracy(["a", "b"], ["a", "b"], ["a"], ["a"])


def test_bag_of_words_if_the_texts_left_out_for_the_penalty_hold_a_label_alone():
    assert bag_of_words_accuracy(["war", "peace"], ["a", "b"], ["peace"], ["b"]) == 1.0


def test_majority_class_is_the_first_of_the_most_frequent_labels():
    assert majority_class_accuracy(["b", "a", "a", "b", "c"], ["a", "b", "a", "c"]) == 0.5
