"""Baselines for trained models: n-gram models of text, and classifiers on word counts.

Unigram, with k added to every count: p(t) = (c(t) + k) / (N + k V).
Bigram, interpolated with it: p(t | s) = (c(s, t) + u(s) p(t)) / (c(s) + u(s)), where u(s) is the number of
distinct tokens seen after s.

Source: Witten and Bell, "The zero-frequency problem" (1991), method C, as interpolated in Chen and Goodman,
"An Empirical Study of Smoothing Techniques for Language Modeling" (1998), section 2.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassformer.training.metrics import Evaluation

Tokens = NDArray[Any]
"""Ids ``(tokens,)`` of any integer type, in memory or mapped from a file."""
BLOCK = 2**22
"""Tokens processed at a time, which bounds the memory together with the number of distinct bigrams."""


class Unigram:
    """p(t) = (c(t) + k) / (N + k V).

    Args:
        tokens: the training text.
        vocab_size: V; all ids are below it.
        k: added to every count, so that every token has a positive probability.
    """

    def __init__(self, tokens: Tokens, vocab_size: int, k: float = 1.0) -> None:
        counts = np.zeros(vocab_size, dtype=np.int64)
        for block in _blocks(tokens):
            counts += np.bincount(block, minlength=vocab_size)
        self.probability = (counts + k) / (len(tokens) + k * vocab_size)

    def log_probability(self, previous: Tokens, tokens: Tokens) -> NDArray[np.float64]:
        """Log-probability of each token; ``previous`` is not used."""
        log: NDArray[np.float64] = np.log(self.probability[tokens])
        return log


class Bigram:
    """p(t | s) = (c(s, t) + u(s) p(t)) / (c(s) + u(s)), and p(t) if s was never seen before another token."""

    def __init__(self, tokens: Tokens, vocab_size: int, k: float = 1.0) -> None:
        self.vocab_size = vocab_size
        self.unigram = Unigram(tokens, vocab_size, k)
        pairs, counts = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        for block in _blocks(tokens, overlap=1):
            new, new_counts = np.unique(self._pair_ids(block[:-1], block[1:]), return_counts=True)
            pairs, where = np.unique(np.concatenate((pairs, new)), return_inverse=True)
            counts = np.bincount(where, np.concatenate((counts, new_counts))).astype(np.int64)
        self.pairs, self.counts = pairs, counts
        first = pairs // vocab_size
        self.seen = np.bincount(first, counts, minlength=vocab_size)  # c(s)
        self.distinct = np.bincount(first, minlength=vocab_size)  # u(s)

    def log_probability(self, previous: Tokens, tokens: Tokens) -> NDArray[np.float64]:
        """Log-probability of each token given the one at the same index of ``previous``."""
        previous, tokens = previous.astype(np.int64), tokens.astype(np.int64)
        distinct, seen = self.distinct[previous], self.seen[previous]
        unigram = self.unigram.probability[tokens]
        numerator = self._count(self._pair_ids(previous, tokens)) + distinct * unigram
        denominator = seen + distinct
        probability = np.where(denominator > 0, numerator / np.maximum(denominator, 1), unigram)
        log: NDArray[np.float64] = np.log(probability)
        return log

    def _pair_ids(self, previous: Tokens, tokens: Tokens) -> NDArray[np.int64]:
        return previous.astype(np.int64) * self.vocab_size + tokens

    def _count(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        if len(self.pairs) == 0:
            return np.zeros_like(pairs)
        index = np.minimum(np.searchsorted(self.pairs, pairs), len(self.pairs) - 1)
        return np.where(self.pairs[index] == pairs, self.counts[index], 0)


def evaluate_ngram(model: Unigram | Bigram, tokens: Tokens, num_bytes: int | None = None) -> Evaluation:
    """Evaluation of an n-gram model, comparable to ``evaluate``: every token but the first is predicted.

    Raises:
        ValueError: there are fewer than two tokens.
    """
    if len(tokens) < 2:
        raise ValueError(f"evaluation needs at least 2 tokens, got {len(tokens)}")
    total = sum(float(model.log_probability(b[:-1], b[1:]).sum()) for b in _blocks(tokens, overlap=1))
    return Evaluation(-total / (len(tokens) - 1), len(tokens) - 1, num_bytes)


def ngram_baselines(
    training: Tokens, validation: Tokens, vocab_size: int, num_bytes: int | None = None
) -> dict[str, Evaluation]:
    """Unigram and bigram models of ``training``, evaluated on ``validation`` of ``num_bytes`` bytes."""
    return {
        "unigram": evaluate_ngram(Unigram(training, vocab_size), validation, num_bytes),
        "bigram": evaluate_ngram(Bigram(training, vocab_size), validation, num_bytes),
    }


def _blocks(tokens: Tokens, overlap: int = 0) -> Iterator[Tokens]:
    """Blocks of ``BLOCK`` tokens, each preceded by the last ``overlap`` tokens of the one before."""
    for start in range(0, max(len(tokens) - overlap, 0), BLOCK):
        yield np.asarray(tokens[start : start + BLOCK + overlap])


def bag_of_words_accuracy(
    texts: Sequence[str], labels: Sequence[str], test_texts: Sequence[str], test_labels: Sequence[str]
) -> float:
    """Test accuracy of logistic regression on the tf-idf features of the 20,000 most frequent words.

    The inverse penalty C is the best of 1, 10, 100 and 1000 on every tenth training text; the classifier is
    then fitted to all training texts.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: the texts contain no words.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
    except ImportError as error:
        raise ImportError("it needs scikit-learn: pip install 'glassformer[baselines]'") from error

    def accuracy(
        c: float, x: Sequence[str], y: Sequence[str], x_test: Sequence[str], y_test: Sequence[str]
    ) -> float:
        features = TfidfVectorizer(sublinear_tf=True, max_features=20_000, token_pattern=r"\w+")
        classifier = make_pipeline(features, LogisticRegression(C=c, max_iter=1000))
        return float(classifier.fit(x, y).score(x_test, y_test))

    fit_texts, fit_labels = _drop_every_tenth(texts), _drop_every_tenth(labels)
    best = 10.0
    if len(set(fit_labels)) > 1:
        best = max(
            (1.0, 10.0, 100.0, 1000.0),
            key=lambda c: accuracy(c, fit_texts, fit_labels, texts[::10], labels[::10]),
        )
    return accuracy(best, texts, labels, test_texts, test_labels)


def _drop_every_tenth(items: Sequence[str]) -> list[str]:
    return [item for index, item in enumerate(items) if index % 10]


def majority_class_accuracy(labels: Sequence[str], test_labels: Sequence[str]) -> float:
    """Test accuracy of always predicting the most frequent training label."""
    most_frequent = max(sorted(set(labels)), key=labels.count)
    return test_labels.count(most_frequent) / len(test_labels)
