"""What each head looks at, in six numbers, over any amount of text.

For weights A of a head, each number is a mean over queries i (of all texts):

    previous   A[i, i-1]
    current    A[i, i]
    first      A[i, 0]
    delimiter  sum of A[i, j] over j that are delimiters
    distance   sum of A[i, j] |i - j|, in tokens
    entropy    -sum of A[i, j] log A[i, j], over log of the number of keys that i may attend to

The first query of a text is left out: it has no previous token, and in a causal model no choice. These are
descriptions, not explanations: a large number says where a head looks, not what it is for.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.analysis.reading import read
from glassformer.attention import Recording, attentions_of, record_attention
from glassformer.files import atomic_write
from glassformer.generation.streaming import evaluating
from glassformer.models import TransformerModel

PATTERNS = ("previous", "current", "first", "delimiter", "distance", "entropy")


@dataclass(frozen=True)
class HeadPatterns:
    """The table: for each pattern an array ``(layer, head)``."""

    values: dict[str, npt.NDArray[np.float64]]
    num_texts: int
    num_queries: int
    """Queries that each number is a mean over."""
    num_cut: int = 0
    """Texts that were longer than the model reads, and were cut."""
    as_bytes: bool = False
    """Whether texts were read as bytes, because the model has no tokenizer."""

    def rows(self) -> Iterator[dict[str, float | int]]:
        """One row a head, layer by layer."""
        layers, heads = next(iter(self.values.values())).shape
        for layer in range(layers):
            for head in range(heads):
                numbers = {name: float(array[layer, head]) for name, array in self.values.items()}
                yield {"layer": layer, "head": head, **numbers}

    def save(self, path: str | Path) -> None:
        """Write the rows as CSV or JSON, by the suffix.

        Raises:
            ValueError: another suffix.
        """
        path = Path(path)
        if path.suffix == ".json":
            atomic_write(path, json.dumps(list(self.rows()), indent=1) + "\n")
        elif path.suffix == ".csv":
            text = io.StringIO()
            writer = csv.DictWriter(text, ["layer", "head", *self.values], lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows())
            atomic_write(path, text.getvalue())
        else:
            raise ValueError(f"a table is saved as .csv or .json, not {path.suffix or path.name!r}")


def head_patterns(model: TransformerModel, dataset: Iterable[str | Sequence[int]]) -> HeadPatterns:
    """Measure every head of a model over a data set, one text at a time.

    Args:
        model: one that reads a text, causally or in both directions.
        dataset: texts, or sequences of token ids; any number, read once.

    Raises:
        ValueError: no text, an empty one (its number is named), none with more than one token, or a pruned
            model whose layers differ in their number of heads.
        TypeError: a single text instead of several, something that is neither text nor ids, or a model that
            reads more than a text.
    """
    kinds = attentions_of(model)
    if len(kinds) > 1:
        raise TypeError(f"patterns are of models that read one text, not of a {type(model).__name__}")
    if len({attention.num_heads for attentions in kinds.values() for attention in attentions}) > 1:
        raise ValueError("layers of a pruned model differ in their heads: analyze_heads measures them")
    if isinstance(dataset, str):
        raise TypeError("the data set is a single text: give a list of texts")
    as_bytes = False
    sums: Tensor | None = None
    num_texts = num_queries = num_cut = 0
    with torch.no_grad(), evaluating(model):
        for number, text in enumerate(dataset):
            try:
                reading = read(model, text)
            except ValueError as error:
                raise ValueError(f"text {number}: {error}") from error
            except TypeError as error:
                raise TypeError(f"text {number}: {error}") from error
            ids = torch.tensor([reading.ids], device=model.device)
            with record_attention(model) as recording:
                model(ids)
            delimiters = torch.tensor(reading.is_delimiter, device=model.device)
            values = [
                pattern_values(recording[layer][0], delimiters, _allowed(recording, layer))
                for layer in sorted(recording)
            ]
            stacked = torch.stack(values)  # (layer, head, pattern, query)
            total = stacked.sum(-1).cpu().double()
            sums = total if sums is None else sums + total
            num_texts, num_queries = num_texts + 1, num_queries + stacked.size(-1)
            num_cut += any("cut" in note for note in reading.notes)
            as_bytes |= isinstance(text, str) and model.tokenizer is None
    if sums is None:
        raise ValueError("the data set is empty: give at least one text")
    if num_queries == 0:
        raise ValueError("every text is a single token: no head has anything to choose from")
    means = (sums / num_queries).numpy()
    arrays = {name: means[:, :, index] for index, name in enumerate(PATTERNS)}
    return HeadPatterns(arrays, num_texts, num_queries, num_cut, as_bytes)


def _allowed(recording: Recording, layer: int) -> Tensor:
    """What each query of the only text in a recording may attend to, ``(seq, seq)``."""
    weights, allowed = recording[layer], recording.allowed[layer]
    everything = torch.ones_like(weights[0, 0], dtype=torch.bool)
    return everything if allowed is None else allowed.expand_as(weights)[0, 0]


def pattern_values(weights: Tensor, is_delimiter: Tensor, allowed: Tensor | None = None) -> Tensor:
    """The six numbers for each head and query of one text.

    Args:
        weights: ``(head, seq, seq)``, rows sum to one.
        is_delimiter: boolean, ``(seq,)``.
        allowed: what each query may attend to, boolean, ``(seq, seq)``. Default: itself and what came before.

    Returns:
        ``(head, pattern, seq - 1)``: queries from the second on, patterns as in ``PATTERNS``; float64, or
        float32 on a device that has no other.
    """
    exact = torch.float32 if weights.device.type == "mps" else torch.float64
    weights = weights.to(exact)[:, 1:]  # (head, query, key), without the first query
    query = torch.arange(1, weights.size(-1), device=weights.device)
    key = torch.arange(weights.size(-1), device=weights.device)
    distance = (query[:, None] - key).abs()
    choices = query + 1 if allowed is None else allowed[1:].sum(-1).clamp(min=2)  # one: the entropy is 0
    entropy = torch.special.entr(weights).sum(-1) / torch.log(choices.to(exact))
    return torch.stack(
        [
            weights.gather(-1, (query - 1).expand(len(weights), -1)[..., None])[..., 0],
            weights.gather(-1, query.expand(len(weights), -1)[..., None])[..., 0],
            weights[..., 0],
            (weights * is_delimiter).sum(-1),
            (weights * distance).sum(-1),
            entropy,
        ],
        dim=1,
    )
