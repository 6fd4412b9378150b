"""Evaluation of trained models: metrics, and baselines to compare them with.

The baselines of language models are n-gram models. Unigram, with k added to every count:
p(t) = (c(t) + k) / (N + k V). Bigram, interpolated with it:
p(t | s) = (c(s, t) + u(s) p(t)) / (c(s) + u(s)), where u(s) is the number of distinct tokens seen after s.

Source: Witten and Bell, "The zero-frequency problem" (1991), method C, as interpolated in Chen and Goodman,
"An Empirical Study of Smoothing Techniques for Language Modeling" (1998), section 2.4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from glassformer.data.batches import Batch
from glassformer.data.text_datasets import LabeledText
from glassformer.data.token_files import TokenFile
from glassformer.eval_mode import eval_mode
from glassformer.training.task import Objective, loss_sum

Tokens = NDArray[Any]
"""Ids ``(tokens,)`` of any integer type, in memory or mapped from a file."""
BLOCK = 2**22
"""Tokens processed at a time, which bounds the memory together with the number of distinct bigrams."""


@dataclass(frozen=True)
class Evaluation:
    """Mean loss of a language model over ``num_tokens`` predicted tokens."""

    nats_per_token: float
    num_tokens: int
    num_bytes: int | None = None
    """UTF-8 bytes of the text, if known."""

    @property
    def perplexity(self) -> float:
        """exp(nats per token)."""
        return math.exp(self.nats_per_token) if self.nats_per_token < 700 else math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """nats/token * tokens / (bytes * log 2), which is comparable between tokenizers.

        The first token of the text is not predicted; it is counted with the mean loss of the others.
        """
        if not self.num_bytes:
            return None
        return self.nats_per_token * (self.num_tokens + 1) / (self.num_bytes * math.log(2))

    def metrics(self) -> dict[str, float]:
        """``loss``, ``perplexity`` and, if the bytes are known, ``bits_per_byte``."""
        bits = self.bits_per_byte
        metrics = {"loss": self.nats_per_token, "perplexity": self.perplexity}
        return metrics if bits is None else metrics | {"bits_per_byte": bits}


@torch.no_grad()
def mean_loss(model: Any, objective: Objective, batches: Iterable[Batch]) -> float:
    """Exact mean of an objective over the targets of all batches, without dropout.

    Raises:
        ValueError: the batches contain no target.
    """
    total, count = 0.0, 0
    with eval_mode(model):
        for batch in batches:
            total += float(loss_sum(objective, model, batch.to(model.device)))
            count += objective.count(batch)
    if count == 0:
        raise ValueError("evaluation needs at least one target, but the batches have none")
    return total / count


def edit_distance(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Levenshtein distance: the least number of insertions, deletions and substitutions between them."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def error_rates(
    predictions: Sequence[Sequence[Any]], references: Sequence[Sequence[Sequence[Any]]]
) -> dict[str, float]:
    """Symbol and sequence error rates, each prediction compared with its nearest reference.

    symbol_error_rate = sum of edit distances / sum of reference lengths (for phonemes: PER);
    sequence_error_rate = fraction of predictions that equal no reference (for words: WER).

    Args:
        predictions: one sequence per source.
        references: for each source its correct sequences, at least one.

    Raises:
        ValueError: there are no predictions, or their number differs from that of the references.
    """
    if not predictions or len(predictions) != len(references):
        raise ValueError(
            "error rates need at least one prediction and as many references,"
            f" got {len(predictions)} predictions"
            f" and {len(references)} references"
        )
    errors = symbols = wrong = 0
    for prediction, known in zip(predictions, references, strict=True):
        distance, length = min((edit_distance(prediction, reference), len(reference)) for reference in known)
        errors, symbols, wrong = errors + distance, symbols + length, wrong + (distance > 0)
    return {"symbol_error_rate": errors / max(symbols, 1), "sequence_error_rate": wrong / len(predictions)}


class Unigram:
    """p(t) = (c(t) + k) / (N + k V).

    Args:
        tokens: the training text.
        vocab_size: V; all ids are below it.
        k: added to every count, so that every token has a positive probability.
    """

    def __init__(self, tokens: Tokens | TokenFile, vocab_size: int, k: float = 1.0) -> None:
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

    def __init__(self, tokens: Tokens | TokenFile, vocab_size: int, k: float = 1.0) -> None:
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


def evaluate_ngram(
    model: Unigram | Bigram, tokens: Tokens | TokenFile, num_bytes: int | None = None
) -> Evaluation:
    """Evaluation of an n-gram model, comparable to ``evaluate``: every token but the first is predicted.

    Raises:
        ValueError: there are fewer than two tokens.
    """
    if len(tokens) < 2:
        raise ValueError(f"evaluation needs at least 2 tokens, got {len(tokens)}")
    total = sum(float(model.log_probability(b[:-1], b[1:]).sum()) for b in _blocks(tokens, overlap=1))
    return Evaluation(-total / (len(tokens) - 1), len(tokens) - 1, num_bytes)


def ngram_baselines(
    training: Tokens | TokenFile,
    validation: Tokens | TokenFile,
    vocab_size: int,
    num_bytes: int | None = None,
) -> dict[str, Evaluation]:
    """Unigram and bigram models of ``training``, evaluated on ``validation`` of ``num_bytes`` bytes."""
    return {
        "unigram": evaluate_ngram(Unigram(training, vocab_size), validation, num_bytes),
        "bigram": evaluate_ngram(Bigram(training, vocab_size), validation, num_bytes),
    }


def _blocks(tokens: Tokens | TokenFile, overlap: int = 0) -> Iterator[Tokens]:
    """Blocks of ``BLOCK`` tokens, each preceded by the last ``overlap`` tokens of the one before."""
    for start in range(0, max(len(tokens) - overlap, 0), BLOCK):
        yield np.asarray(tokens[start : start + BLOCK + overlap])


def baseline_accuracies(
    training: Sequence[LabeledText], test: Sequence[LabeledText], console: Console
) -> dict[str, float]:
    """Test accuracies of the bag-of-words and majority-class baselines.

    A bag-of-words baseline that cannot be computed is left out, and the reason is printed.
    """
    labels, test_labels = [text.label for text in training], [text.label for text in test]
    accuracies = {"commonest_label_accuracy": majority_class_accuracy(labels, test_labels)}
    try:
        accuracies["bag_of_words_accuracy"] = bag_of_words_accuracy(
            [text.text for text in training], labels, [text.text for text in test], test_labels
        )
    except (ImportError, ValueError) as error:
        console.print(f"skipped the bag-of-words baseline: {error}", markup=False, highlight=False)
    return accuracies


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
