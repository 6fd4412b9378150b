"""Unigram and bigram models: what counting alone can predict of the tokens a network is trained on.

Unigram, with k added to every count: p(t) = (c(t) + k) / (N + k V).
Bigram, interpolated with it: p(t | s) = (c(s, t) + u(s) p(t)) / (c(s) + u(s)), where u(s) is the number of
distinct tokens seen after s.

Source: Witten and Bell, "The zero-frequency problem" (1991), method C, as interpolated in Chen and Goodman,
"An Empirical Study of Smoothing Techniques for Language Modeling" (1998), section 2.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassformer.training.evaluation import Evaluation

Tokens = NDArray[Any]
"""Ids ``(tokens,)`` of any integer type, in memory or mapped from a file."""
BLOCK = 2**22
"""Tokens looked at together; what bounds the memory, besides the distinct pairs."""


class Unigram:
    """p(t) = (c(t) + k) / (N + k V).

    Args:
        tokens: what to count.
        vocab_size: V; ids are below it.
        k: added to every count, so that no token is impossible.
    """

    def __init__(self, tokens: Tokens, vocab_size: int, k: float = 1.0) -> None:
        counts = np.zeros(vocab_size, dtype=np.int64)
        for block in _blocks(tokens):
            counts += np.bincount(block, minlength=vocab_size)
        self.probability = (counts + k) / (len(tokens) + k * vocab_size)

    def log_probability(self, previous: Tokens, following: Tokens) -> NDArray[np.float64]:
        """Log-probability of each token of ``following``; what stands before it makes no difference."""
        log: NDArray[np.float64] = np.log(self.probability[following])
        return log


class Bigram:
    """p(t | s) = (c(s, t) + u(s) p(t)) / (c(s) + u(s)); p(t) after a token never seen before another."""

    def __init__(self, tokens: Tokens, vocab_size: int, k: float = 1.0) -> None:
        self.vocab_size = vocab_size
        self.unigram = Unigram(tokens, vocab_size, k)
        pairs, counts = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        for block in _blocks(tokens, overlap=1):
            new, new_counts = np.unique(self._pairs(block[:-1], block[1:]), return_counts=True)
            pairs, where = np.unique(np.concatenate((pairs, new)), return_inverse=True)
            counts = np.bincount(where, np.concatenate((counts, new_counts))).astype(np.int64)
        self.pairs, self.counts = pairs, counts
        first = pairs // vocab_size
        self.seen = np.bincount(first, counts, minlength=vocab_size)  # c(s)
        self.distinct = np.bincount(first, minlength=vocab_size)  # u(s)

    def log_probability(self, previous: Tokens, following: Tokens) -> NDArray[np.float64]:
        """Log-probability of each token of ``following`` after the one at the same place in ``previous``."""
        previous, following = previous.astype(np.int64), following.astype(np.int64)
        distinct, seen = self.distinct[previous], self.seen[previous]
        alone = self.unigram.probability[following]
        shared = self._count(self._pairs(previous, following)) + distinct * alone
        known = seen + distinct
        log: NDArray[np.float64] = np.log(np.where(known > 0, shared / np.maximum(known, 1), alone))
        return log

    def _pairs(self, previous: Tokens, following: Tokens) -> NDArray[np.int64]:
        """One number for each pair."""
        return previous.astype(np.int64) * self.vocab_size + following

    def _count(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        if len(self.pairs) == 0:
            return np.zeros_like(pairs)
        place = np.minimum(np.searchsorted(self.pairs, pairs), len(self.pairs) - 1)
        return np.where(self.pairs[place] == pairs, self.counts[place], 0)


def evaluate_ngram(model: Unigram | Bigram, tokens: Tokens, num_bytes: int | None = None) -> Evaluation:
    """What ``evaluate`` gives for a network: every token but the first is predicted.

    Raises:
        ValueError: there are fewer than two tokens.
    """
    if len(tokens) < 2:
        raise ValueError(f"evaluation needs at least 2 tokens, not {len(tokens)}")
    total = sum(float(model.log_probability(b[:-1], b[1:]).sum()) for b in _blocks(tokens, overlap=1))
    return Evaluation(-total / (len(tokens) - 1), len(tokens) - 1, num_bytes)


def ngram_baselines(
    training: Tokens, validation: Tokens, vocab_size: int, num_bytes: int | None = None
) -> dict[str, Evaluation]:
    """A unigram and a bigram model of ``training``, evaluated on ``validation`` of ``num_bytes`` bytes."""
    return {
        "unigram": evaluate_ngram(Unigram(training, vocab_size), validation, num_bytes),
        "bigram": evaluate_ngram(Bigram(training, vocab_size), validation, num_bytes),
    }


def _blocks(tokens: Tokens, overlap: int = 0) -> Iterator[Tokens]:
    """Pieces of ``BLOCK`` tokens; each begins with the last ``overlap`` tokens of the one before."""
    for start in range(0, max(len(tokens) - overlap, 0), BLOCK):
        yield np.asarray(tokens[start : start + BLOCK + overlap])
