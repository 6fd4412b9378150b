"""What counting words can tell of a text: logistic regression on a bag of words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WORD = re.compile(r"\w+")


class BagOfWords(nn.Module):
    """logits = W x + b, where x are the words' tf-idf: (1 + log count) * log(texts / texts with the word).

    Rows have length one (Salton & Buckley 1988). Trained by L-BFGS on the mean cross-entropy plus ``decay``
    times the squared length of W.

    Args:
        texts: training texts.
        labels: the number of each text's label.
        num_words: the commonest words that are counted.
        decay: strength of the penalty.

    """

    def __init__(
        self, texts: Sequence[str], labels: Sequence[int], num_words: int = 20_000, decay: float = 1e-6
    ) -> None:
        super().__init__()
        documents = Counter(word for text in texts for word in dict.fromkeys(_words(text)))
        self.places = {word: place for place, (word, _) in enumerate(documents.most_common(num_words))}
        frequencies = [documents[word] / len(texts) for word in self.places]
        self.rarity = -torch.tensor(frequencies).log()
        self.layer = nn.Linear(len(self.places), 1 + max(labels))
        self._fit(self.features(texts), torch.tensor(labels), decay)

    def features(self, texts: Sequence[str]) -> Tensor:
        """The texts' rows, sparse, ``(text, word)``."""
        rows: list[int] = []
        columns: list[int] = []
        values: list[float] = []
        for row, text in enumerate(texts):
            counts = Counter(place for word in _words(text) if (place := self.places.get(word)) is not None)
            weights = [(1 + np.log(count)) * float(self.rarity[place]) for place, count in counts.items()]
            length = np.sqrt(np.square(weights).sum()) or 1.0
            rows += [row] * len(counts)
            columns += counts
            values += [weight / length for weight in weights]
        shape = (len(texts), len(self.places))
        features = torch.sparse_coo_tensor(
            torch.tensor([rows, columns]),
            torch.tensor(values, dtype=torch.float32),
            shape,
            check_invariants=True,
        )
        return features.coalesce()

    def forward(self, features: Tensor) -> Tensor:
        """``(text, word) -> (text, labels)``."""
        logits: Tensor = torch.sparse.mm(features, self.layer.weight.T) + self.layer.bias
        return logits

    def _fit(self, features: Tensor, labels: Tensor, decay: float) -> None:
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        optimizer = torch.optim.LBFGS(self.parameters(), max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            penalty = decay * self.layer.weight.square().sum()
            value = F.cross_entropy(self(features), labels) + penalty
            value.backward()  # type: ignore[no-untyped-call]
            return value

        with torch.enable_grad():
            optimizer.step(loss)  # type: ignore[no-untyped-call]


def bag_of_words_accuracy(
    texts: Sequence[str], labels: Sequence[str], test_texts: Sequence[str], test_labels: Sequence[str]
) -> float:
    """The part of the test texts whose label a bag of words tells, trained on the others.

    The penalty is the best of 1e-4, 1e-5, 1e-6 and 1e-7 on every tenth training text, which is left out
    for it.
    """
    names = sorted(set(labels))
    numbers = [names.index(label) for label in labels]
    kept = [place for place in range(len(texts)) if place % 10]
    left_out = [place for place in range(len(texts)) if not place % 10]

    def accuracy(decay: float) -> float:
        model = BagOfWords([texts[p] for p in kept], [numbers[p] for p in kept], decay=decay)
        found = model(model.features([texts[p] for p in left_out])).argmax(-1)
        return float((found == torch.tensor([numbers[p] for p in left_out])).float().mean())

    best = max((1e-4, 1e-5, 1e-6, 1e-7), key=accuracy) if kept else 1e-6
    model = BagOfWords(texts, numbers, decay=best)
    found = model(model.features(test_texts)).argmax(-1).tolist()
    right = sum(names[place] == label for place, label in zip(found, test_labels, strict=True))
    return float(right) / len(test_labels)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
