"""The two halves of an encoder-decoder, and the decoder with its source read, as generation sees it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from glassformer.attention import KVCache, MemoryCache
from glassformer.models.stack import BlockPlan, run_blocks

if TYPE_CHECKING:
    from glassformer.attention.masks import Padding
    from glassformer.contracts import Cache, Mask
    from glassformer.models.t5 import T5Model
    from glassformer.positions import PositionScheme


class Stack(nn.Module):
    """norm(block_L(... block_1(x + positions))): an encoder, or a decoder that reads one.

    Args:
        plan: what its blocks are built from.
        num_layers: how many.
        positions: its own scheme, shared by its layers.
        kind: what its self-attention is called.
        cross_attention: whether the blocks read a memory.

    """

    def __init__(
        self,
        plan: BlockPlan,
        num_layers: int,
        positions: PositionScheme,
        kind: str,
        *,
        cross_attention: bool = False,
    ) -> None:
        super().__init__()
        self.positions = positions
        self.dropout = nn.Dropout(plan.dropout)
        self.blocks = plan.blocks(num_layers, positions, kind=kind, cross_attention=cross_attention)
        self.norm = plan.final_norm()

    def forward(
        self, x: Tensor, mask: Mask | None, positions: Tensor, key_positions: Tensor, **arguments: Any
    ) -> Tensor:
        """``(batch, seq, d_model) -> (batch, seq, d_model)``; other arguments as ``run_blocks``."""
        x = self.dropout(self.positions.embed(x, positions))
        bias = self.positions.bias(positions, key_positions)
        x = run_blocks(self.blocks, x, mask, bias=bias, positions=positions, **arguments)
        hidden: Tensor = self.norm(x)
        return hidden


@dataclass(frozen=True)
class Source:
    """What a decoder reads: the encoder's output, its mask of padding, each layer's keys and values of it."""

    memory: Tensor
    mask: Padding | None
    cache: list[MemoryCache]

    def repeated(self, copies: int) -> Source:
        """So many copies of each row next to each other; what was projected is not projected again."""
        rows = torch.arange(len(self.memory), device=self.memory.device).repeat_interleave(copies)
        cache = [copy(layer) for layer in self.cache]
        for layer in cache:
            layer.select(rows)
        return Source(self.memory[rows], None if self.mask is None else self.mask.select(rows), cache)


class ConditionedDecoder(nn.Module):
    """A decoder and the source that it reads: a language model of the target (``contracts.LanguageModel``).

    Rows of one source lie next to each other, row r reading source r // copies, so nothing has to be
    reordered when beams are. Each layer projects the source to keys and values once.
    """

    def __init__(self, model: T5Model, memory: Tensor, memory_mask: Padding | None) -> None:
        super().__init__()
        self.model = model
        self.vocab_size, self.max_seq_len = model.vocab_size, model.max_seq_len
        self.positions = model.decoder.positions
        self._source = Source(memory, memory_mask, [MemoryCache() for _ in model.decoder.blocks])
        self._repeated = self._source

    def next_token_logits(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, cache: Sequence[Cache] | None = None
    ) -> Tensor:
        """Logits ``(batch, vocab_size)`` for the token after the last column of targets ``(batch, new)``."""
        source = self._source_of(input_ids.size(0))
        hidden = self.model.decode(input_ids, source.memory, source.mask, attention_mask, cache, source.cache)
        logits: Tensor = self.model.lm_head(hidden[:, -1])
        return logits

    def make_cache(self, capacity: int) -> list[KVCache]:
        """An empty cache for every layer of the decoder, with room for ``capacity`` tokens."""
        return [KVCache(capacity) for _ in self._source.cache]

    def _source_of(self, rows: int) -> Source:
        """The source for so many targets, each row of it as often as there are targets of it."""
        copies = rows // len(self._source.memory)
        if copies <= 1:
            return self._source
        if len(self._repeated.memory) != copies * len(self._source.memory):
            self._repeated = self._source.repeated(copies)
        return self._repeated
