"""TransformerBlock: one block for every family, built from parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from glassformer.attention.self_attention import checked_probability
from glassformer.layers.residual import PreNorm, Residual, Sublayer

if TYPE_CHECKING:
    from glassformer.attention import MultiHeadAttention
    from glassformer.contracts import Cache, Mask


class TransformerBlock(nn.Module):
    """Attention, then (in a decoder that reads an encoder) cross-attention, then feed-forward.

    Encoder or decoder, pre-norm, post-norm or parallel, with or without LayerScale: that is how a block is
    built, not another class.

    Args:
        attention: self-attention.
        feed_forward: ``(batch, seq, d_model) -> (batch, seq, d_model)``, each position by itself.
        norms: one for each sublayer in their order (registered as norm1, norm2, norm3), or a single one
            for ``Parallel(shared_norm=True)``.
        cross_attention: attends to ``memory``.
        residual: how sublayers join the stream.
        scales: one module for each sublayer, applied to its output (LayerScale, Touvron et al. 2021).
        dropout: probability of dropping an element of a sublayer's output while training.

    Raises:
        ValueError: another number of norms or scales than of sublayers; a dropout outside [0, 1).

    """

    def __init__(
        self,
        attention: MultiHeadAttention,
        feed_forward: nn.Module,
        norms: Sequence[nn.Module],
        cross_attention: MultiHeadAttention | None = None,
        residual: Residual | None = None,
        scales: Sequence[nn.Module] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.cross_attention = cross_attention
        self.feed_forward = feed_forward
        self.residual = PreNorm() if residual is None else residual
        sublayers = 2 if cross_attention is None else 3
        needed = self.residual.norms_needed(sublayers)
        if len(norms) != needed:
            raise ValueError(f"{sublayers} sublayers need {needed} norms here, not {len(norms)}")
        if scales is not None and len(scales) != sublayers:
            raise ValueError(f"{sublayers} sublayers need {sublayers} scales, not {len(scales)}")
        for number, norm in enumerate(norms, start=1):
            self.add_module(f"norm{number}", norm)
        self._norms = [f"norm{number}" for number in range(1, needed + 1)]
        self.scales = None if scales is None else nn.ModuleList(scales)
        self.dropout = nn.Dropout(checked_probability(dropout))

    def forward(
        self,
        x: Tensor,
        mask: Mask | Tensor | None = None,
        *,
        bias: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Cache | None = None,
        memory: Tensor | None = None,
        memory_mask: Mask | Tensor | None = None,
        memory_cache: Cache | None = None,
    ) -> Tensor:
        """Pass a residual stream through the block.

        Args:
            x: ``(batch, seq, d_model)``.
            mask: who may attend to whom in self-attention.
            bias: added to the scores of self-attention, ``(1 or batch, head, query, key)``.
            positions: of the tokens in ``x``, ``(seq,)`` or ``(batch, seq)``.
            cache: this layer's keys and values of earlier calls.
            memory: what cross-attention reads, ``(batch, memory seq, d_model)``.
            memory_mask: who may attend to what in memory.
            memory_cache: the memory's keys and values in this layer, once they were computed.

        Returns:
            ``(batch, seq, d_model)``.

        """

        def attend(h: Tensor) -> Tensor:
            return self.attention(h, mask=mask, bias=bias, positions=positions, cache=cache)[0]  # type: ignore[no-any-return]

        def attend_to_memory(h: Tensor) -> Tensor:
            return self.cross_attention(h, memory, mask=memory_mask, cache=memory_cache)[0]  # type: ignore[misc,no-any-return]

        middle = [] if self.cross_attention is None else [attend_to_memory]
        sublayers: list[Sublayer] = [attend, *middle, self.feed_forward]
        outputs = [self._finished(sublayer, number) for number, sublayer in enumerate(sublayers)]
        return self.residual(x, outputs, [getattr(self, name) for name in self._norms])

    @property
    def reads_middle(self) -> nn.Module | None:
        """The part that the stream enters between attention and the feed-forward network, if it does."""
        return self.residual.reads_before(self.feed_forward, getattr(self, self._norms[-1]))

    def _finished(self, sublayer: Sublayer, number: int) -> Sublayer:
        """The sublayer with its scale and dropout behind it, where there are any."""
        scale = None if self.scales is None else self.scales[number]
        if scale is None and not (self.training and self.dropout.p):
            return sublayer
        return lambda h: self.dropout(sublayer(h) if scale is None else scale(sublayer(h)))
