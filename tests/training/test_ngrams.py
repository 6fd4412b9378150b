"""N-gram models are probability distributions, and the ones of the formulas."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glassformer.training.ngrams as ngrams
from glassformer.training import ngram_baselines
from glassformer.training.ngrams import Bigram, Unigram, evaluate_ngram

VOCAB = 6
some_tokens = st.lists(st.integers(0, VOCAB - 1), max_size=40).map(lambda ids: np.array(ids, dtype=np.uint16))


def every_pair():
    return np.divmod(np.arange(VOCAB * VOCAB), VOCAB)


@settings(deadline=None)
@given(tokens=some_tokens, block=st.integers(1, 7), k=st.floats(0.1, 3))
def test_probabilities_sum_to_one_and_follow_the_formula(tokens, block, k):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "BLOCK", block)
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


def test_evaluation_in_blocks_is_the_mean_over_all_predicted_tokens(monkeypatch):
    monkeypatch.setattr(ngrams, "BLOCK", 5)
    random = np.random.default_rng(0)
    training, validation = random.integers(VOCAB, size=50), random.integers(VOCAB, size=23)
    model = Bigram(training, VOCAB)
    result = evaluate_ngram(model, validation, num_bytes=46)
    assert result.num_tokens == 22
    assert result.nats_per_token == pytest.approx(
        -model.log_probability(validation[:-1], validation[1:]).mean()
    )
    assert result.bits_per_byte == pytest.approx(result.nats_per_token / math.log(2) / 2)


def test_baselines_of_a_text_with_structure():
    text = np.tile(np.arange(VOCAB, dtype=np.uint16), 200)
    baselines = ngram_baselines(text, text[:100], VOCAB, num_bytes=100)
    assert baselines["unigram"].nats_per_token == pytest.approx(math.log(VOCAB), rel=1e-3)
    assert baselines["bigram"].nats_per_token < 0.01


def test_one_token_cannot_be_evaluated():
    with pytest.raises(ValueError, match="at least 2 tokens, not 1"):
        ngram_baselines(np.arange(3), np.arange(1), VOCAB)
