"""Transformer blocks: pre-norm, post-norm and parallel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from glassformer.attention.self_attention import check_dropout
from glassformer.linear import cast_once

if TYPE_CHECKING:
    from glassformer.attention import MultiHeadAttention
    from glassformer.contracts import Cache, Mask


class TransformerBlock(nn.Module):
    """Base class of the blocks: self-attention, optional cross-attention, and a feed-forward network.

    The forward of a block takes ``x``, and optionally ``mask`` and, by keyword, the other inputs:

    - ``x``: the residual stream, ``(batch, seq, d_model)``;
    - ``mask``: of self-attention;
    - ``bias``: added to the scores of self-attention, ``(1 or batch, head, query, key)``;
    - ``positions``: of the tokens in ``x``, ``(seq,)`` or ``(batch, seq)``;
    - ``cache``: keys and values of this layer's self-attention;
    - ``memory``: the encoder's output, read by cross-attention, ``(batch, memory seq, d_model)``; required
      with cross-attention, unless ``memory_cache`` is filled;
    - ``memory_mask``: of cross-attention;
    - ``memory_cache``: keys and values of this layer's cross-attention;

    and returns the residual stream ``(batch, seq, d_model)``. It raises ValueError if required memory is
    missing.

    Args:
        attention: self-attention.
        feed_forward: ``(batch, seq, d_model) -> (batch, seq, d_model)``, applied to each position.
        norms: norm1 to norm3, one for each sublayer in order; a single one if ``shares_norm``.
        output_norms: one for each sublayer, applied to its output before it is added to the stream (Gemma 2;
            with ``nn.Identity`` as ``norms``, OLMo 2).
        cross_attention: attention to ``memory``.
        scales: one module for each sublayer, applied to its output, after the output norm (LayerScale;
            Touvron et al. 2021).
        dropout: probability of dropping an element of a sublayer's output during training.

    Raises:
        ValueError: if the number of norms, output norms or scales is not the number of sublayers, or dropout
            is outside [0, 1).

    """

    norm1: nn.Module
    norm2: nn.Module
    norm3: nn.Module
    needs_final_norm: ClassVar[bool] = True
    """Whether a model ends with one more norm, because the residual stream itself is not normalized."""
    resid_mid_name: ClassVar[str | None] = None
    """Attribute of the module whose input is the stream between attention and feed-forward network."""
    shares_norm: ClassVar[bool] = False
    """Whether one norm serves all sublayers."""

    def __init__(
        self,
        attention: MultiHeadAttention,
        feed_forward: nn.Module,
        norms: Sequence[nn.Module],
        cross_attention: MultiHeadAttention | None = None,
        scales: Sequence[nn.Module] | None = None,
        output_norms: Sequence[nn.Module] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sublayers = 2 if cross_attention is None else 3
        num_norms = 1 if self.shares_norm else sublayers
        if len(norms) != num_norms:
            raise ValueError(f"{sublayers} sublayers need {num_norms} norms here, not {len(norms)}")
        for name, parts in (("scales", scales), ("output norms", output_norms)):
            if parts is not None and len(parts) != sublayers:
                raise ValueError(f"{sublayers} sublayers need {sublayers} {name}, not {len(parts)}")
        self.attention = attention
        self.cross_attention = cross_attention
        self.feed_forward = feed_forward
        for number, norm in enumerate(norms, start=1):
            self.add_module(f"norm{number}", norm)
        self.output_norms = None if output_norms is None else nn.ModuleList(output_norms)
        self.scales = None if scales is None else nn.ModuleList(scales)
        self.dropout = nn.Dropout(check_dropout(dropout))
        self.gradient_checkpointing = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the block; with gradient checkpointing and no cache, recompute it in the backward pass."""
        if self.gradient_checkpointing and self.training and kwargs.get("cache") is None:
            return checkpoint(super().__call__, *args, use_reentrant=False, **kwargs)
        return super().__call__(*args, **kwargs)

    @property
    def last_norm(self) -> nn.Module:
        """The norm of the feed-forward network."""
        if self.shares_norm:
            return self.norm1
        return self.norm2 if self.cross_attention is None else self.norm3

    @property
    def resid_mid_reader(self) -> nn.Module | None:
        """The module whose input ``record_activations`` records as ``resid_mid``, if there is one."""
        return None if self.resid_mid_name is None else getattr(self, self.resid_mid_name)

    def _attend(
        self,
        x: Tensor,
        mask: Mask | Tensor | None,
        bias: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Cache | None = None,
        memory: Tensor | None = None,
        memory_mask: Mask | Tensor | None = None,
        memory_cache: Cache | None = None,
    ) -> Tensor:
        """Self-attention; takes all inputs of a block, so that an unknown one raises TypeError."""
        output, _ = self.attention(cast_once(x), mask=mask, bias=bias, positions=positions, cache=cache)
        return self._finish(output, sublayer=0)

    def _cross_attend(
        self, x: Tensor, memory: Any = None, memory_mask: Any = None, memory_cache: Any = None, **_: Any
    ) -> Tensor:
        if memory is None and not (memory_cache is not None and memory_cache.is_filled):
            raise ValueError(
                "a block with cross-attention needs memory, the encoder's output (batch, memory seq, d_model)"
            )
        memory = None if memory is None else cast_once(memory)
        output, _ = self.cross_attention(x, memory, mask=memory_mask, cache=memory_cache)  # type: ignore[misc]
        return self._finish(output, sublayer=1)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self._finish(self.feed_forward(x), sublayer=-1)  # the last one

    def _finish(self, output: Tensor, sublayer: int) -> Tensor:
        """What a sublayer adds to the stream: its output, normalized, scaled and dropped."""
        output = output if self.output_norms is None else self.output_norms[sublayer](output)
        output = output if self.scales is None else self.scales[sublayer](output)
        return self.dropout(output) if self.training else output


class PreNormBlock(TransformerBlock):
    """x = x + f(norm(x)) for each sublayer f in turn (GPT-2; Xiong et al. 2020)."""

    resid_mid_name = "last_norm"

    def forward(self, x: Tensor, mask: Mask | Tensor | None = None, **inputs: Any) -> Tensor:
        """Apply the block; see ``TransformerBlock``."""
        x = x + self._attend(self.norm1(x), mask, **inputs)
        if self.cross_attention is not None:
            x = x + self._cross_attend(self.norm2(x), **inputs)
        return x + self._feed_forward(self.last_norm(x))


class PostNormBlock(TransformerBlock):
    """x = norm(x + f(x)) for each sublayer f in turn (Vaswani et al. 2017, section 3.1; BERT)."""

    needs_final_norm = False
    resid_mid_name = "feed_forward"

    def forward(self, x: Tensor, mask: Mask | Tensor | None = None, **inputs: Any) -> Tensor:
        """Apply the block; see ``TransformerBlock``."""
        x = self.norm1(x + self._attend(x, mask, **inputs))
        if self.cross_attention is not None:
            x = self.norm2(x + self._cross_attend(x, **inputs))
        return self.last_norm(x + self._feed_forward(x))  # type: ignore[no-any-return]


class ParallelBlock(TransformerBlock):
    """x = x + f(norm1(x)) + g(norm2(x)): all sublayers read the same stream (GPT-NeoX)."""

    def forward(self, x: Tensor, mask: Mask | Tensor | None = None, **inputs: Any) -> Tensor:
        """Apply the block; see ``TransformerBlock``."""
        output = self._attend(self.norm1(x), mask, **inputs)
        if self.cross_attention is not None:
            output = output + self._cross_attend(self.norm2(x), **inputs)
        return x + (output + self._feed_forward(self.last_norm(x)))  # in the order of the published code


class SharedNormParallelBlock(TransformerBlock):
    """x = x + f(norm1(x)) + g(norm1(x)): a parallel block with one norm (GPT-J, PaLM)."""

    shares_norm = True

    def forward(self, x: Tensor, mask: Mask | Tensor | None = None, **inputs: Any) -> Tensor:
        """Apply the block; see ``TransformerBlock``."""
        h = cast_once(self.norm1(x))
        output = self._attend(h, mask, **inputs)
        if self.cross_attention is not None:
            output = output + self._cross_attend(h, **inputs)
        return x + (output + self._feed_forward(h))  # in the order of the published code


BLOCKS: dict[str, type[TransformerBlock]] = {
    "pre": PreNormBlock,
    "post": PostNormBlock,
    "parallel": ParallelBlock,
    "parallel_shared": SharedNormParallelBlock,
}
"""Block classes by the value of a model's ``residual``."""
