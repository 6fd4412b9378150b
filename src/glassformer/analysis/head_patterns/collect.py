"""Sums of the attention that each head gives to the targets of each pattern.

For a head's weights A, over the queries of an item that have a visible target and a visible key that is none:

    mass    sum of A[query, key] over targets and queries
    hits    number of queries whose largest weight is at a target; tied weights count as fractions
    chance  sum of targets / visible keys over queries: the expected mass and hits, for any head, if the
            targets of each query are replaced by as many random visible keys

The model keeps its fast kernels. Each layer's attention map is reduced as soon as it is computed, so memory
is bounded by one layer of one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from glassformer.analysis.head_patterns.patterns import Batch, Item, Level, Pattern
from glassformer.attention import AttentionMap, record_attention
from glassformer.attention.recording.selection import choose_kind
from glassformer.data.batches import batch_by_length
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel

MAX_TOKENS = 4096
"""Tokens of a batch, including padding, unless a single item has more."""
MAX_PAIRS = 2**18
"""Query-key pairs of a batch, likewise."""
MAX_DISTANCE = 64
"""The largest distance of the fixed-offset baseline."""
FAR = 8
"""Attention over more than this distance counts as far."""
DESCRIPTIONS = ("distance", f"beyond {FAR}", "entropy")
TIE_TOLERANCE = 1 - 1e-5
"""Weights of at least this fraction of the largest are tied, so that rounding does not break ties."""

Sums = dict[str, Tensor]
"""Sums of each item by ``"level/quantity"``: ``mass`` and ``hits`` are ``(item, head, pattern)``, ``queries``
and ``chance`` are ``(item, pattern)``, ``offsets`` is ``(item, 2 * MAX_DISTANCE + 1, pattern)``. The sums of
descriptions are ``described/mass`` ``(item, head, description)`` and ``described/queries``
``(item, description)``."""


def collect_sums(
    model: TransformerModel,
    items: Sequence[Item],
    patterns: Sequence[Pattern],
    kind: str | None = None,
    *,
    descriptions: bool = True,
) -> Sums:
    """Run a model over items and sum up its attention, separately for each item.

    Args:
        model: a model that reads tokens.
        items: inputs; those of similar lengths are batched and padded.
        patterns: patterns of tokens and of words.
        kind: the kind of self-attention, required for an encoder-decoder.
        descriptions: whether to measure distance, far attention and entropy too.

    Raises:
        ValueError: an unknown kind, or cross-attention.
    """
    kind, attentions = choose_self_attention(model, kind)
    head_starts = [0, *accumulate(attention.num_heads for attention in attentions)]
    levels: tuple[Level, Level] = ("token", "word")
    by_level = {level: [pattern for pattern in patterns if pattern.level == level] for level in levels}
    forward = forward_function(model, kind)
    sums: Sums = {}
    with torch.no_grad(), eval_mode(model):
        lengths = [len(item.ids) for item in items]
        for numbers in batch_by_length(lengths, MAX_TOKENS, MAX_PAIRS, longest_first=True):
            batch = Batch.from_items([items[number] for number in numbers], model.device)
            reducer = AttentionReducer(batch, by_level, head_starts, descriptions=descriptions)
            with record_attention(model, kind=kind, callback=reducer):
                forward(batch.ids, batch.attention_mask)
            for name, values in reducer.sums.items():
                if name not in sums:
                    dtype = torch.float32 if values.is_floating_point() else torch.int16
                    sums[name] = torch.zeros(len(items), *values.shape[1:], dtype=dtype)
                sums[name][numbers] = values.to("cpu", sums[name].dtype)
    return sums


def choose_self_attention(model: TransformerModel, kind: str | None) -> tuple[str, Sequence[Any]]:
    """The kind of self-attention and its modules, one per layer.

    Raises:
        ValueError: cross-attention, an unknown kind, or no kind where the model has several.
        TypeError: a model that reads no tokens.
    """
    if model.main_input_name != "input_ids":
        raise TypeError(
            f"a {type(model).__name__} takes no text, which the patterns of heads are measured on"
        )
    kind, attentions = choose_kind(model, kind)
    if kind == "cross":
        raise ValueError('kind must be "encoder" or "decoder": the keys of "cross" are of another sequence')
    return kind, attentions


def forward_function(model: Any, kind: str) -> Callable[[Tensor, Tensor], object]:
    """A function that runs one kind of attention, given ids and an attention mask ``(batch, seq)``.

    The LM head is not run. The decoder of an encoder-decoder gets the ids, and the encoder the same ids
    without the start token.
    """
    if not model.is_encoder_decoder:
        return lambda ids, mask: model.hidden_states(ids, _mask_or_none(mask))
    if kind == "encoder":
        return lambda ids, mask: model.encode(ids, _mask_or_none(mask))
    return lambda ids, mask: model.hidden_states(
        ids[:, 1:], ids, _mask_or_none(mask[:, 1:]), _mask_or_none(mask)
    )


def _mask_or_none(mask: Tensor) -> Tensor | None:
    return None if bool(mask.all()) else mask


class AttentionReducer:
    """Callback of ``record_attention`` that reduces each layer's map to sums.

    Args:
        batch: the input of the model.
        patterns: by level.
        head_starts: index of each layer's first head among all heads; at the end, the number of heads.
        descriptions: whether to measure distance, far attention and entropy too.

    Raises:
        ValueError: when called with a map whose mask differs between heads or from that of earlier layers;
            all heads must be compared over the same queries and keys.
    """

    def __init__(
        self,
        batch: Batch,
        patterns: Mapping[Level, Sequence[Pattern]],
        head_starts: Sequence[int],
        *,
        descriptions: bool,
    ) -> None:
        self.sums: Sums = {}
        self._batch, self._head_starts, self._descriptions = batch, head_starts, descriptions
        self._patterns = {level: some for level, some in patterns.items() if some and batch.size(level)}
        words = torch.arange(batch.num_words, device=batch.ids.device)
        self._alignment = (batch.word_ids[:, None] == words[:, None]).float()  # (batch, word, token)
        self._allowed: Tensor | None = None
        self._visible: dict[Level, Tensor] = {}
        self._targets: dict[Level, Tensor] = {}

    def __call__(self, map: AttentionMap) -> None:
        """Add the sums of one layer."""
        if not self._visible or map.allowed is not self._allowed:
            visible = self._visible_keys(map)
            if not self._visible:
                self._compute_targets(visible, map.weights.dtype)
            elif not torch.equal(visible, self._visible["token"]):
                raise ValueError(
                    f"the mask of layer {map.layer} differs from that of earlier layers; heads can only be "
                    "compared over the same keys"
                )
            self._allowed = map.allowed
        for level, targets in self._targets.items():
            weights = map.weights
            if level == "word":
                weights = word_weights(weights, self._alignment) * self._visible["word"][:, None]
            mass, hits = mass_and_hits(weights, targets)
            self._store(f"{level}/mass", map.layer, mass)
            self._store(f"{level}/hits", map.layer, hits)
        if self._descriptions:
            described, self.sums["described/queries"] = describe(map.weights, self._visible["token"])
            self._store("described/mass", map.layer, described)

    def _visible_keys(self, map: AttentionMap) -> Tensor:
        """The keys that each query may attend to, ``(batch, query, key)``."""
        visible = self._batch.attention_mask[:, :, None] & self._batch.attention_mask[:, None, :]
        if map.allowed is None:
            return visible
        if map.allowed.dim() == 4 and not bool((map.allowed == map.allowed[:, :1]).all()):
            raise ValueError(
                f"the heads of layer {map.layer} have different masks; heads can only be compared over the "
                "same keys"
            )
        return visible & map.allowed.expand(map.weights.shape)[:, 0]

    def _compute_targets(self, visible: Tensor, dtype: torch.dtype) -> None:
        self._visible = {"token": visible}
        if "word" in self._patterns:
            self._visible["word"] = visible_words(visible, self._alignment)
        for level, patterns in self._patterns.items():
            targets = VisibleTargets.of(patterns, self._batch, self._visible[level])
            self._targets[level] = targets.targets.to(dtype)
            self.sums[f"{level}/queries"] = targets.queries
            self.sums[f"{level}/chance"] = targets.chance
            self.sums[f"{level}/offsets"] = targets.offset_hits()

    def _store(self, name: str, layer: int, values: Tensor) -> None:
        """Store values ``(batch, head of the layer, ...)`` among those of all heads."""
        if name not in self.sums:
            self.sums[name] = values.new_zeros((values.size(0), self._head_starts[-1], values.size(2)))
        self.sums[name][:, self._head_starts[layer] : self._head_starts[layer + 1]] = values


@dataclass(frozen=True)
class VisibleTargets:
    """The targets of patterns that queries of a batch may attend to."""

    targets: Tensor
    """Boolean, ``(batch, query, key, pattern)``; False for queries that see only targets."""
    queries: Tensor
    """Number of queries that have a target and another visible key, ``(batch, pattern)``."""
    chance: Tensor
    """``(batch, pattern)``."""

    @classmethod
    def of(cls, patterns: Sequence[Pattern], batch: Batch, visible: Tensor) -> VisibleTargets:
        """The targets of patterns of one level, given visible keys ``(batch, query, key)``."""
        wanted = torch.stack([pattern.targets(batch).expand_as(visible) for pattern in patterns], dim=-1)
        targets = wanted & visible[..., None]
        num_targets = targets.sum(2)  # (batch, query, pattern)
        num_keys = visible.sum(2)[..., None]
        eligible = (num_targets > 0) & (num_targets < num_keys)
        chance = (num_targets / num_keys.clamp(min=1)).masked_fill(~eligible, 0)
        return cls(targets & eligible[:, :, None], eligible.sum(1), chance.sum(1))

    def offset_hits(self) -> Tensor:
        """Queries with a target at each distance up to MAX_DISTANCE: ``(batch, distance, pattern)``."""
        items, _, _, patterns = self.targets.shape
        item, query, key, pattern = self.targets.nonzero(as_tuple=True)
        distance, width = key - query, 2 * MAX_DISTANCE + 1
        index = (item * width + distance + MAX_DISTANCE) * patterns + pattern
        counts = torch.bincount(index[distance.abs() <= MAX_DISTANCE], minlength=items * width * patterns)
        return counts.view(items, width, patterns)


def mass_and_hits(weights: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mass and hits, each ``(batch, head, pattern)``.

    Args:
        weights: ``(batch, head, query, key)``, zero at masked keys.
        targets: zeros and ones of the weights' type, ``(batch, query, key, pattern)``.
    """
    largest = (weights >= weights.amax(-1, keepdim=True) * TIE_TOLERANCE) & (weights > 0)
    shares = largest / largest.sum(-1, keepdim=True).clamp(min=1)
    both = torch.cat([weights, shares], dim=1).flatten(2)  # (batch, 2 head, query * key)
    mass, hits = (both @ targets.flatten(1, 2)).chunk(2, dim=1)
    return mass, hits


def describe(weights: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Descriptions without a target, summed over queries that see more than one key.

    distance is the sum of A[i, j] |i - j|; beyond FAR, that of A[i, j] over |i - j| > FAR; entropy, that of
    -A[i, j] log A[i, j], divided by the logarithm of the number of visible keys.

    Args:
        weights: ``(batch, head, query, key)``.
        visible: boolean, ``(batch, query, key)``.

    Returns:
        ``(batch, head, description)`` in the order of ``DESCRIPTIONS``, and queries ``(batch, description)``.
    """
    num_keys = visible.sum(-1)  # (batch, query)
    has_choice = num_keys > 1
    index = torch.arange(weights.size(-1), device=weights.device)
    distance = (index[:, None] - index).abs()
    measures = torch.stack([distance, distance > FAR], dim=-1).to(weights.dtype)  # (query, key, 2)
    chosen = weights * has_choice[:, None, :, None]
    distances = chosen.flatten(2) @ measures.flatten(0, 1)  # (batch, head, 2)
    max_entropy = num_keys.clamp(min=2).log().to(weights.dtype)
    entropy = (torch.special.entr(chosen).sum(-1) / max_entropy[:, None]).sum(-1, keepdim=True)
    queries = has_choice.sum(-1, keepdim=True).expand(-1, len(DESCRIPTIONS))
    return torch.cat([distances, entropy], dim=-1), queries


def word_weights(weights: Tensor, alignment: Tensor) -> Tensor:
    """Attention between words: summed over the key's tokens, averaged over the query's (Clark et al. 2019).

    Args:
        weights: ``(batch, head, query, key)`` of tokens.
        alignment: ones where a token is part of a word, ``(batch, word, token)``.

    Returns:
        ``(batch, head, word, word)``.
    """
    to_words = weights @ alignment.transpose(1, 2)[:, None]
    return (alignment / alignment.sum(-1, keepdim=True).clamp(min=1))[:, None] @ to_words


def visible_words(visible: Tensor, alignment: Tensor) -> Tensor:
    """Whether all tokens of a key word are visible to all tokens of a query word, ``(batch, word, word)``."""
    length = alignment.sum(-1)
    pairs = length[:, :, None] * length[:, None, :]
    return (alignment @ visible.to(alignment) @ alignment.transpose(1, 2) == pairs) & (pairs > 0)
