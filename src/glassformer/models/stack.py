"""How every family stacks its blocks: parts chosen by words, blocks built, and run one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from glassformer.attention import KERNELS, MultiHeadAttention
from glassformer.attention.pruned_heads import check_kinds, heads_left, pruned_by_layer
from glassformer.attention.self_attention import check_heads
from glassformer.choices import choose
from glassformer.layers import FEED_FORWARDS, NORMS, RESIDUALS, LayerScale, TransformerBlock
from glassformer.positions import build_positions

if TYPE_CHECKING:
    from glassformer.contracts import Cache, Mask, Positions
    from glassformer.positions import PositionScheme


@dataclass(frozen=True, kw_only=True)
class BlockPlan:
    """Sizes and words from which the blocks of a model are built; the families' keywords of the same names.

    Raises:
        ValueError: sizes that do not fit each other, or a word that stands for nothing.

    """

    d_model: int
    num_heads: int
    num_kv_heads: int | None = None
    d_head: int | None = None
    d_ff: int | None = None
    """None is 4 * d_model."""
    norm: str = "layer"
    norm_eps: float = 1e-5
    activation: str = "gelu"
    residual: str = "pre"
    bias: bool = True
    qkv_bias: bool | None = None
    """Of the projections of query, key and value; None is ``bias``."""
    out_bias: bool | None = None
    """Of attention's output projection."""
    ff_bias: bool | None = None
    """Of the feed-forward network."""
    kernel: str = "fused"
    attention_scale: float | None = None
    """What attention scores are multiplied by; None is 1 / sqrt(d_head)."""
    layer_scale: float | None = None
    """What LayerScale's factors start as; None is a model without."""
    dropout: float = 0.0
    pruned_heads: Mapping[str, Sequence[Sequence[int]]] | None = None
    """By kind of attention, the heads of each layer that are gone; a kind that is left out has all."""
    kinds: Sequence[str] = ("self",)
    """Of attention: the keys of the model's ``attentions()``."""

    def __post_init__(self) -> None:
        check_heads(self.d_model, self.num_heads, self.num_kv_heads, self.d_head)
        check_sizes(d_ff=self.width_inside)
        if not isinstance(self.norm_eps, float | int) or not 0 < self.norm_eps < 1:
            raise ValueError(f"norm_eps must be a small number above 0, not {self.norm_eps!r}")
        choose(KERNELS, self.kernel, "kernel")
        choose(NORMS, self.norm, "norm")
        choose(FEED_FORWARDS, self.activation, "activation")
        choose(RESIDUALS, self.residual, "residual scheme")
        check_kinds(self.pruned_heads, self.kinds)

    @property
    def width_inside(self) -> int:
        """d_ff, chosen or not."""
        return 4 * self.d_model if self.d_ff is None else self.d_ff

    def positions(
        self, spec: str | Mapping[str, Any], max_seq_len: int, *, bidirectional: bool = False
    ) -> PositionScheme:
        """The position scheme that fits these sizes."""
        return build_positions(
            spec,
            d_model=self.d_model,
            d_head=self.d_head or self.d_model // self.num_heads,
            num_heads=self.num_heads,
            max_seq_len=max_seq_len,
            bidirectional=bidirectional,
        )

    def blocks(
        self,
        num_layers: int,
        rotary: Positions | None = None,
        *,
        kind: str = "self",
        cross_attention: bool = False,
    ) -> nn.ModuleList:
        """As many blocks, each with parts of its own.

        Args:
            num_layers: how many.
            rotary: what turns queries and keys in self-attention.
            kind: what self-attention is called in ``pruned_heads``.
            cross_attention: whether the blocks read a memory too; that is ``"cross"`` there.

        """
        attentions = self._attentions(kind, num_layers, rotary)
        across = self._attentions("cross", num_layers) if cross_attention else [None] * num_layers
        return nn.ModuleList(map(self._block, attentions, across))

    def final_norm(self) -> nn.Module:
        """What follows the last block: a norm, or nothing where the blocks end with one."""
        return self._norm() if RESIDUALS[self.residual]().final_norm else nn.Identity()

    def _block(
        self, attention: MultiHeadAttention, cross_attention: MultiHeadAttention | None
    ) -> TransformerBlock:
        residual = RESIDUALS[self.residual]()
        network, function = FEED_FORWARDS[self.activation]
        sublayers = 2 if cross_attention is None else 3
        scales = None
        if self.layer_scale is not None:
            scales = [LayerScale(self.d_model, self.layer_scale) for _ in range(sublayers)]
        return TransformerBlock(
            attention=attention,
            cross_attention=cross_attention,
            feed_forward=network(self.d_model, self.width_inside, function, _chosen(self.ff_bias, self.bias)),
            norms=[self._norm() for _ in range(residual.norms_needed(sublayers))],
            residual=residual,
            scales=scales,
            dropout=self.dropout,
        )

    def _attentions(
        self, kind: str, num_layers: int, rotary: Positions | None = None
    ) -> list[MultiHeadAttention]:
        """Attention of one kind for each layer, without the heads that are gone."""
        pruned = pruned_by_layer(self.pruned_heads, kind, num_layers)
        for layer, gone in enumerate(pruned):
            where = f"layer {layer}" if len(self.kinds) == 1 else f"layer {layer} of {kind!r}"
            heads_left(self.num_heads, self.num_kv_heads or self.num_heads, gone, where)
        return [
            MultiHeadAttention(
                self.d_model,
                self.num_heads,
                num_kv_heads=self.num_kv_heads,
                d_head=self.d_head,
                qkv_bias=_chosen(self.qkv_bias, self.bias),
                out_bias=_chosen(self.out_bias, self.bias),
                kernel=KERNELS[self.kernel](self.dropout, self.attention_scale),
                rotary=rotary,
                pruned=gone,
            )
            for gone in pruned
        ]

    def _norm(self) -> nn.Module:
        return NORMS[self.norm](self.d_model, self.norm_eps, self.bias)


def _chosen(value: bool | None, default: bool) -> bool:
    return default if value is None else value


def run_blocks(
    blocks: Iterable[nn.Module],
    x: Tensor,
    mask: Mask | None,
    *,
    bias: Tensor | None = None,
    positions: Tensor | None = None,
    cache: Sequence[Cache] | None = None,
    memory: Tensor | None = None,
    memory_mask: Mask | None = None,
    memory_cache: Sequence[Cache] | None = None,
    recompute: bool = False,
) -> Tensor:
    """Pass ``(batch, seq, d_model)`` through the blocks; arguments as ``TransformerBlock.forward``.

    Args:
        blocks: one after the other.
        x: the stream.
        mask: of self-attention.
        bias: of self-attention, the same for every layer.
        positions: of the tokens in ``x``.
        cache: one entry a layer.
        memory: what cross-attention reads.
        memory_mask: of cross-attention.
        memory_cache: one entry a layer.
        recompute: compute each block again in the backward pass instead of keeping its inside.

    """
    for layer, block in enumerate(blocks):
        arguments: dict[str, Any] = {
            "bias": bias,
            "positions": positions,
            "cache": None if cache is None else cache[layer],
            "memory": memory,
            "memory_mask": memory_mask,
            "memory_cache": None if memory_cache is None else memory_cache[layer],
        }
        if recompute and cache is None:
            x = checkpoint(block, x, mask, use_reentrant=False, **arguments)
        else:
            x = block(x, mask, **arguments)
    return x


def check_sizes(**sizes: int) -> None:
    """Refuse sizes that are not positive, with a ValueError that names them."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be positive, not {size}")
