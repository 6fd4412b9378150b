"""Blocks, norms and positions built from a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from glassformer.attention import MultiHeadAttention, PrunedMultiHeadAttention, build_kernel
from glassformer.attention.pruned_attention import pruned_heads_by_layer, remaining_heads
from glassformer.choices import split_options
from glassformer.layers import BLOCKS, FEED_FORWARDS, NORMS, ConstantScale, LayerScale, NormPerHead
from glassformer.models.block_config import QK_NORMS, check_layers
from glassformer.positions import build_positions
from glassformer.positions.position_bias import PositionBias

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from glassformer.attention.masks import Padding
    from glassformer.attention.patterns import AttentionPattern
    from glassformer.contracts import Cache, Kernel, Positions
    from glassformer.models.block_config import BlockConfig
    from glassformer.positions import PositionScheme


def build_blocks(
    config: BlockConfig,
    num_layers: int,
    positions: Positions | None = None,
    *,
    kind: str = "self",
    cross_attention: bool = False,
) -> nn.ModuleList:
    """Build a stack of blocks.

    Args:
        config: hyperparameters of the blocks.
        num_layers: number of blocks.
        positions: scheme whose ``rotate`` is applied in self-attention, or that of each layer.
        kind: key of the self-attention in ``config.pruned_heads``.
        cross_attention: whether the blocks have cross-attention; its key is ``"cross"``.

    """
    attentions = _build_attentions(config, num_layers, kind, positions)
    crosses = _build_attentions(config, num_layers, "cross") if cross_attention else [None] * num_layers
    return nn.ModuleList(
        _build_block(config, attention, cross) for attention, cross in zip(attentions, crosses, strict=True)
    )


def _build_block(
    config: BlockConfig, attention: MultiHeadAttention, cross_attention: MultiHeadAttention | None
) -> nn.Module:
    sublayers = 2 if cross_attention is None else 3
    block_class = BLOCKS[config.residual]
    feed_forward_class, activation = FEED_FORWARDS[config.activation]
    feed_forward_bias = _or(config.ff_bias, config.bias)
    scales: list[nn.Module] | None = None
    if config.layer_scale is not None:
        scales = [LayerScale(config.d_model, config.layer_scale) for _ in range(sublayers)]
    elif config.residual_scale != 1:
        scales = [ConstantScale(config.residual_scale) for _ in range(sublayers)]
    num_norms = 1 if block_class.shares_norm else sublayers
    block = block_class(
        attention=attention,
        cross_attention=cross_attention,
        feed_forward=feed_forward_class(
            config.d_model, config.hidden_width, activation, feed_forward_bias, config.down_proj_class
        ),
        norms=[build_norm(config) if config.input_norm else nn.Identity() for _ in range(num_norms)],
        output_norms=[build_norm(config) for _ in range(sublayers)] if config.output_norm else None,
        scales=scales,
        dropout=config.dropout,
    )
    block.gradient_checkpointing = config.gradient_checkpointing
    return block


def _build_attentions(
    config: BlockConfig, num_layers: int, kind: str, positions: Positions | None = None
) -> list[MultiHeadAttention]:
    """The attention modules of one kind, one for each layer."""
    pruned = pruned_heads_by_layer(config.pruned_heads, kind, num_layers)
    for layer, heads in enumerate(pruned):
        where = f"layer {layer}" if len(config.attention_kinds) == 1 else f"layer {layer} of {kind!r}"
        remaining_heads(config.num_heads, config.num_kv_heads or config.num_heads, heads, where)
    return [
        _build_attention(config, None if positions is None else positions.of_layer(layer), heads)
        for layer, heads in enumerate(pruned)
    ]


def _build_attention(
    config: BlockConfig, positions: Positions | None, pruned_heads: Collection[int]
) -> MultiHeadAttention:
    options = {
        "num_kv_heads": config.num_kv_heads,
        "d_head": config.d_head,
        "qkv_bias": _or(config.qkv_bias, config.bias),
        "out_bias": _or(config.out_bias, config.bias),
        "kernel": build_kernel(
            config.kernel, config.dropout, config.attention_scale, config.attention_softcap
        ),
        "rotary": positions,
        "q_norm": _build_qk_norm(config, config.num_heads, pruned_heads),
        "k_norm": _build_qk_norm(config, config.num_kv_heads or config.num_heads, pruned_heads),
    }
    if not pruned_heads:
        return MultiHeadAttention(config.d_model, config.num_heads, **options)  # type: ignore[arg-type]
    return PrunedMultiHeadAttention(config.d_model, config.num_heads, pruned_heads=pruned_heads, **options)  # type: ignore[arg-type]


def _build_qk_norm(config: BlockConfig, num_heads: int, pruned_heads: Collection[int]) -> nn.Module | None:
    """The norm of queries or keys ``(..., head, d_head)``."""
    if config.qk_norm is None:
        return None
    kind, options = split_options(config.qk_norm, QK_NORMS, "kind of qk_norm")
    bias, d_head = options.get("bias", _or(config.norm_bias, config.bias)), config.head_width

    def build(*shape: int) -> nn.Module:
        return NORMS[config.norm](shape, config.norm_eps, bias)

    if kind == "head":
        return build(d_head)
    if kind == "projection":
        return build(num_heads, d_head)
    remaining = num_heads - len(pruned_heads) * num_heads // config.num_heads
    return NormPerHead([build(d_head) for _ in range(remaining)])


def build_norm(config: BlockConfig) -> nn.Module:
    """Build one norm."""
    return NORMS[config.norm](config.d_model, config.norm_eps, _or(config.norm_bias, config.bias))


def build_final_norm(config: BlockConfig) -> nn.Module:
    """Build the norm after the last block, or the identity if the blocks end with a norm."""
    return build_norm(config) if BLOCKS[config.residual].needs_final_norm else nn.Identity()


def build_model_positions(
    config: BlockConfig, max_seq_len: int, num_layers: int, *, bidirectional: bool = False
) -> PositionScheme:
    """Build the position scheme ``config["positions"]`` of a stack of blocks."""
    if not isinstance(config["positions"], str | Mapping):
        check_layers("positions", config["positions"], num_layers)
    return build_positions(
        config["positions"],
        d_model=config.d_model,
        d_head=config.head_width,
        num_heads=config.num_heads,
        max_seq_len=max_seq_len,
        bidirectional=bidirectional,
    )


def check_attention(block: nn.Module, pattern: AttentionPattern, positions: PositionScheme) -> None:
    """Raise ValueError if the kernel of a block cannot compute the pattern, or the bias of the positions."""
    kernel: Kernel = block.attention.kernel  # type: ignore[assignment, union-attr]
    kernel.check_takes(pattern.mask(pattern.max_seq_len), positions.has_bias)


def score_bias(
    blocks: nn.ModuleList, positions: PositionScheme, query_positions: Tensor, key_positions: Tensor
) -> Tensor | PositionBias | None:
    """The bias of the scores: a tensor, or symbolic for kernels that compute a tile at a time."""
    if positions.has_bias and all(kernel.takes_score_bias for kernel in _kernels(blocks)):
        return PositionBias(positions, query_positions, key_positions)
    return positions.bias(query_positions, key_positions)


def make_cache(blocks: nn.ModuleList, capacity: int, windows: Sequence[int | None]) -> list[Cache]:
    """An empty cache of self-attention for each block, with room for ``capacity`` tokens.

    Args:
        blocks: the blocks.
        capacity: number of tokens.
        windows: number of last keys that each layer keeps; None for all.

    """
    kernels = zip(_kernels(blocks), windows, strict=True)
    return [kernel.make_cache(capacity, window) for kernel, window in kernels]


def _kernels(blocks: nn.ModuleList) -> list[Kernel]:
    """The kernels of self-attention."""
    return [block.attention.kernel for block in blocks]  # type: ignore[misc, union-attr]


def last_keys(
    cache: Cache | None, key_positions: Tensor, padding_mask: Padding | None, new: int
) -> tuple[Tensor, Padding | None]:
    """Positions and padding of the keys that a layer's cache returns for ``new`` tokens: the last ones."""
    if cache is None:
        return key_positions, padding_mask
    keys = cache.num_keys(new)
    key_positions = key_positions[..., key_positions.size(-1) - keys :]
    return key_positions, None if padding_mask is None else padding_mask.last(keys)


def _or(value: bool | None, default: bool) -> bool:
    return default if value is None else value
