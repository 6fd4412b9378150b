"""From attention maps to sums: how much of each head's attention goes where each pattern points.

For a head's weights A and a pattern's targets, over the queries of an item that have a visible target, and a
choice (something visible that is none):

    mass   sum of A[query, key] over the targets, summed over queries
    hits   how many of the largest A[query, .] are targets; where several are largest, each counts its share
    chance sum of targets / visible keys: what both are worth, in expectation, once each query's targets are
           exchanged for as many random visible keys, whatever the head (rows of A sum to at most one)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glassformer.analysis.patterns import Batch, Level, Pattern
from glassformer.attention import AttentionMap

REACH = 64
"""The largest distance that is tried as a fixed offset."""
BEYOND = 8
"""Attention beyond so many places is counted as far."""
DESCRIPTIONS = ("distance", f"beyond {BEYOND}", "entropy")
TIED = 1 - 1e-5
"""Weights that are at least so much of the largest are as large: rounding alone breaks no tie."""

Sums = dict[str, Tensor]
"""From ``"level/what"`` to ``(item, ...)``: mass and hits ``(item, head, pattern)``, queries and chance
``(item, pattern)``, offsets ``(item, 2 * REACH + 1, pattern)``; the same of descriptions: ``described/mass``
``(item, head, description)`` and ``described/queries`` ``(item, description)``."""


@dataclass(frozen=True)
class Aims:
    """What patterns point at in a batch, among what is visible."""

    targets: Tensor
    """Boolean, ``(batch, query, key, pattern)``; False for queries without a choice."""
    queries: Tensor
    """How many have a target and a choice, ``(batch, pattern)``."""
    chance: Tensor
    """``(batch, pattern)``."""

    @classmethod
    def of(cls, patterns: Sequence[Pattern], batch: Batch, visible: Tensor) -> Aims:
        """Lay patterns of one level over what is visible, boolean ``(batch, query, key)``."""
        wanted = torch.stack([pattern.targets(batch).expand_as(visible) for pattern in patterns], dim=-1)
        targets = wanted & visible[..., None]
        found = targets.sum(2)  # (batch, query, pattern)
        choices = visible.sum(2)[..., None]
        eligible = (found > 0) & (found < choices)
        share = (found / choices.clamp(min=1)).masked_fill(~eligible, 0)
        return cls(targets & eligible[:, :, None], eligible.sum(1), share.sum(1))

    def offset_hits(self) -> Tensor:
        """Queries with a target at each distance, -REACH to REACH: ``(batch, 2 * REACH + 1, pattern)``."""
        items, _, _, patterns = self.targets.shape
        item, query, key, pattern = self.targets.nonzero(as_tuple=True)
        distance, width = key - query, 2 * REACH + 1
        place = (item * width + distance + REACH) * patterns + pattern
        counts = torch.bincount(place[distance.abs() <= REACH], minlength=items * width * patterns)
        return counts.view(items, width, patterns)


def mass_and_hits(weights: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over queries and targets.

    Args:
        weights: ``(batch, head, query, key)``, zero where nothing is visible.
        targets: zeros and ones of the weights' type, ``(batch, query, key, pattern)``.

    Returns:
        Mass and hits, each ``(batch, head, pattern)``.

    """
    largest = (weights >= weights.amax(-1, keepdim=True) * TIED) & (weights > 0)
    shares = largest / largest.sum(-1, keepdim=True).clamp(min=1)
    looks = torch.cat([weights, shares], dim=1).flatten(2)  # (batch, 2 head, query * key)
    mass, hits = (looks @ targets.flatten(1, 2)).chunk(2, dim=1)
    return mass, hits


def describe(weights: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over queries with a choice of what is measured without a target.

    distance is the sum of A[i, j] |i - j|; far, that of A[i, j] over |i - j| > BEYOND; entropy, that of
    -A[i, j] log A[i, j], over the logarithm of the number of visible keys.

    Args:
        weights: ``(batch, head, query, key)``.
        visible: boolean, ``(batch, query, key)``.

    Returns:
        ``(batch, head, description)`` in the order of ``DESCRIPTIONS``, and queries ``(batch, description)``.

    """
    choices = visible.sum(-1)  # (batch, query)
    choosing = choices > 1
    place = torch.arange(weights.size(-1), device=weights.device)
    distance = (place[:, None] - place).abs()
    measures = torch.stack([distance, distance > BEYOND], dim=-1).to(weights.dtype)  # (query, key, 2)
    chosen = weights * choosing[:, None, :, None]
    near_and_far = chosen.flatten(2) @ measures.flatten(0, 1)  # (batch, head, 2)
    most = choices.clamp(min=2).log().to(weights.dtype)
    entropy = (torch.special.entr(chosen).sum(-1) / most[:, None]).sum(-1, keepdim=True)
    queries = choosing.sum(-1, keepdim=True).expand(-1, len(DESCRIPTIONS))
    return torch.cat([near_and_far, entropy], dim=-1), queries


def word_weights(weights: Tensor, alignment: Tensor) -> Tensor:
    """Attention between words: to a word summed over its tokens, from a word averaged (Clark et al. 2019).

    Args:
        weights: ``(batch, head, query, key)`` of tokens.
        alignment: ones where a token is part of a word, ``(batch, word, token)``.

    Returns:
        ``(batch, head, word, word)``.

    """
    to_words = weights @ alignment.transpose(1, 2)[:, None]
    return (alignment / alignment.sum(-1, keepdim=True).clamp(min=1))[:, None] @ to_words


def visible_words(visible: Tensor, alignment: Tensor) -> Tensor:
    """A word is visible from a word if each of its tokens is from each of the other's: boolean."""
    length = alignment.sum(-1)
    pairs = length[:, :, None] * length[:, None, :]
    return (alignment @ visible.to(alignment) @ alignment.transpose(1, 2) == pairs) & (pairs > 0)


class BatchSums:
    """Takes the maps of one forward pass, layer by layer, and keeps sums for each item.

    All heads are compared over the same queries and keys, so all layers have to see the same.

    Args:
        batch: what the model reads.
        patterns: by level.
        heads: for each layer, where its heads begin among all heads; at the end, how many there are.
        descriptions: whether distance, far and entropy are measured too.

    Raises:
        ValueError: when it is called with a map whose mask is not that of the maps before, or not that of
            all its heads.

    """

    def __init__(
        self,
        batch: Batch,
        patterns: Mapping[Level, Sequence[Pattern]],
        heads: Sequence[int],
        *,
        descriptions: bool,
    ) -> None:
        self.sums: Sums = {}
        self._batch, self._heads, self._descriptions = batch, heads, descriptions
        self._patterns = {level: some for level, some in patterns.items() if some and batch.size(level)}
        words = torch.arange(batch.num_words, device=batch.ids.device)
        self._alignment = (batch.word_of_token[:, None] == words[:, None]).float()  # (batch, word, token)
        self._allowed: Tensor | None = None
        self._visible: dict[Level, Tensor] = {}
        self._targets: dict[Level, Tensor] = {}

    def __call__(self, map: AttentionMap) -> None:
        """Add one layer."""
        if not self._visible or map.allowed is not self._allowed:
            visible = self._seen_in(map)
            if not self._visible:
                self._lay_patterns_over(visible, map.weights.dtype)
            elif not torch.equal(visible, self._visible["token"]):
                raise ValueError(
                    f"layer {map.layer} sees other keys than the layers before: heads are compared where "
                    "all see the same"
                )
            self._allowed = map.allowed
        weights = map.weights
        for level, targets in self._targets.items():
            looks = weights
            if level == "word":
                looks = word_weights(weights, self._alignment) * self._visible["word"][:, None]
            mass, hits = mass_and_hits(looks, targets)
            self._put(f"{level}/mass", map.layer, mass)
            self._put(f"{level}/hits", map.layer, hits)
        if self._descriptions:
            described, self.sums["described/queries"] = describe(weights, self._visible["token"])
            self._put("described/mass", map.layer, described)

    def _seen_in(self, map: AttentionMap) -> Tensor:
        """What there is to be seen; the layers of a model share one mask, so mostly asked once a batch."""
        visible = self._batch.real[:, :, None] & self._batch.real[:, None, :]
        if map.allowed is None:
            return visible
        allowed = map.allowed.expand(map.weights.shape)
        if map.allowed.dim() == 4 and not bool((map.allowed == map.allowed[:, :1]).all()):
            raise ValueError(
                f"heads of layer {map.layer} see other keys than its first: heads are compared where all see "
                "the same"
            )
        return visible & allowed[:, 0]

    def _lay_patterns_over(self, visible: Tensor, dtype: torch.dtype) -> None:
        self._visible = {"token": visible}
        if "word" in self._patterns:
            self._visible["word"] = visible_words(visible, self._alignment)
        for level, patterns in self._patterns.items():
            aims = Aims.of(patterns, self._batch, self._visible[level])
            self._targets[level] = aims.targets.to(dtype)
            self.sums[f"{level}/queries"] = aims.queries
            self.sums[f"{level}/chance"] = aims.chance
            self.sums[f"{level}/offsets"] = aims.offset_hits()

    def _put(self, name: str, layer: int, values: Tensor) -> None:
        """Values ``(batch, head of the layer, ...)`` at the place of the layer's heads."""
        if name not in self.sums:
            self.sums[name] = values.new_zeros((values.size(0), self._heads[-1], values.size(2)))
        self.sums[name][:, self._heads[layer] : self._heads[layer + 1]] = values
