"""Word vectors from co-occurrence counts, and pairs of related words in a sentence with matched controls.

    PPMI(w, c) = max(0, log p(w, c) / (p(w) p(c)^.75 / sum of p^.75))      (Levy, Goldberg & Dagan 2015)
    vectors    = U sqrt(S) of its truncated singular value decomposition

They come from counts alone, so what is related does not depend on the models that are measured.

This module needs scipy, which the extra ``analysis`` installs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

try:
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import svds
except ImportError as error:
    raise ImportError(f"word vectors need scipy: pip install 'glassformer[analysis]' ({error})") from error

SMOOTHING = 0.75
"""Exponent of the contexts' frequencies."""
STEM = 4
"""Words with the same first letters, as many as this, count as forms of one word."""

Vectors = npt.NDArray[np.float64]
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class WordVectors:
    """Unit vectors of the most frequent words of a text."""

    index: dict[str, int]
    """Row of each word; the most frequent word is the first."""
    counts: npt.NDArray[np.int64]
    """How often each occurs."""
    vectors: Vectors
    """``(word, size)``."""

    def similarity(self, word: str, others: Sequence[str]) -> Vectors:
        """Cosine with each of ``others``; all words must have a vector."""
        rows = [self.index[other] for other in others]
        found: Vectors = self.vectors[rows] @ self.vectors[self.index[word]]
        return found


def word_vectors(texts: Iterable[str], num_words: int, window: int, size: int) -> WordVectors:
    """Compute word vectors of texts.

    Args:
        texts: words do not co-occur across them.
        num_words: the most frequent words, which get a vector.
        window: the largest distance at which words co-occur.
        size: dimension.

    Raises:
        ValueError: the texts have too few different words.
    """
    documents = [_WORD.findall(text.lower()) for text in texts]
    frequent = Counter(word for document in documents for word in document).most_common(num_words)
    if len(frequent) <= size:
        raise ValueError(f"vectors of size {size} need more different words than that, got {len(frequent)}")
    index = {word: row for row, (word, _) in enumerate(frequent)}
    rows, columns = list[npt.NDArray[np.int64]](), list[npt.NDArray[np.int64]]()
    for document in documents:
        ids = np.array([index.get(word, -1) for word in document], dtype=np.int64)
        for distance in range(1, min(window, len(ids) - 1) + 1):
            a, b = ids[:-distance], ids[distance:]
            known = (a >= 0) & (b >= 0)
            rows += [a[known], b[known]]
            columns += [b[known], a[known]]
    pairs = (np.concatenate(rows), np.concatenate(columns))
    shape = (len(index), len(index))
    both = coo_matrix((np.ones(len(pairs[0])), pairs), shape).tocsr().tocoo()  # adds equal pairs
    contexts = np.asarray(both.sum(0)).ravel() ** SMOOTHING
    words = np.asarray(both.sum(1)).ravel()
    pmi = np.log(both.data * contexts.sum() / (words[both.row] * contexts[both.col]))
    positive = coo_matrix((np.maximum(pmi, 0), (both.row, both.col)), both.shape).tocsr()
    u, s, _ = svds(positive, k=size, random_state=0)
    vectors = u * np.sqrt(s)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    counts = np.array([count for _, count in frequent])
    return WordVectors(index, counts, vectors / np.maximum(norms, 1e-12))


@dataclass
class RelatedWords:
    """Finds pairs of related words in sentences, each with a control of about the same frequency.

    For a word w, the related word r is the most similar of the earlier content words, at least ``min_gap``
    words before it. The control c is an earlier content word that is not similar to w, whose frequency is
    nearest to that of r. For each two distances, pairs in which r is nearer than c and those in which it is
    farther are kept in equal numbers, so that no preference for a distance is one for related words.

    Args:
        vectors: of the words.
        num_common: the most frequent words are no content words.
        least: smallest cosine of a related word.
        most: largest cosine of a control.
        max_ratio: largest ratio of the two frequencies.
        min_gap: smallest distance in words.
    """

    vectors: WordVectors
    num_common: int
    least: float
    most: float
    max_ratio: float
    min_gap: int
    surplus: dict[tuple[int, int], int] = field(default_factory=dict)
    """For the ranges of the smaller and the larger distance: pairs so far with r nearer than c minus those
    with r farther."""

    def pairs(self, words: Sequence[str]) -> list[tuple[int, int, int]]:
        """Triples (w, r, c) of indices of words; some are left out to keep the balance."""
        lower = [word.lower() for word in words]
        content = [i for i, word in enumerate(lower) if self.vectors.index.get(word, -1) >= self.num_common]
        found = []
        for query in content:
            earlier = [
                i for i in content if i <= query - self.min_gap and lower[i][:STEM] != lower[query][:STEM]
            ]
            if len(earlier) < 2:
                continue
            cosines = self.vectors.similarity(lower[query], [lower[i] for i in earlier])
            related = earlier[int(cosines.argmax())]
            control = self._control(lower, related, earlier, cosines)
            if cosines.max() < self.least or control is None:
                continue
            side = 1 if related > control else -1
            near, far = sorted((distance_range(query - related), distance_range(query - control)))
            surplus = self.surplus.get((near, far), 0) + side
            if abs(surplus) <= 1:
                self.surplus[near, far] = surplus
                found.append((query, related, control))
        return found

    def _control(
        self, words: Sequence[str], related: int, earlier: Sequence[int], cosines: Vectors
    ) -> int | None:
        """The index of the control for a related word, if there is one."""
        log_count = {i: np.log(self.vectors.counts[self.vectors.index[words[i]]]) for i in earlier}
        distances = {
            i: abs(log_count[i] - log_count[related])
            for i, cosine in zip(earlier, cosines, strict=True)
            if cosine <= self.most and words[i][:STEM] != words[related][:STEM]
        }
        best = min(distances, key=lambda i: (distances[i], -i), default=None)
        return best if best is not None and distances[best] <= np.log(self.max_ratio) else None


def distance_range(distance: int) -> int:
    """Distances up to four are a range each, larger ones are in ranges that double: 5 to 8, 9 to 16, ..."""
    return distance if distance <= 4 else 2 + (distance - 1).bit_length()
