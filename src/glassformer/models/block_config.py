"""Hyperparameters of the blocks, which all model families share, and checks of hyperparameters."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, ClassVar

from glassformer.attention import build_kernel
from glassformer.attention.pruned_attention import check_attention_kinds
from glassformer.attention.self_attention import check_dropout, check_head_sizes
from glassformer.choices import choose, split_options
from glassformer.integers import is_int
from glassformer.layers import BLOCKS, FEED_FORWARDS, NORMS
from glassformer.linear import Linear

QK_NORMS = {
    "head": "over each head, with the same weights for all heads",
    "per_head": "over each head, with weights of its own",
    "projection": "over all heads together",
}
"""Values of ``qk_norm``."""


@dataclass(frozen=True, eq=False)
class BlockConfig(Mapping[str, Any]):
    """Hyperparameters of the blocks, shared by all families. Also a mapping: ``config["d_model"]``.

    Args:
        d_model: width of the residual stream.
        num_layers: number of blocks; of an encoder-decoder, of the encoder's.
        num_heads: attention heads in each block.
        d_ff: hidden width of the feed-forward networks. Default: ``4 * d_model``.
        dropout: probability, for embeddings, attention weights and outputs of sublayers.
        norm: ``"layer"``, ``"rms"``, ``"unit_offset_rms"`` or ``"nonparametric"``; see ``layers.NORMS``.
        norm_eps: epsilon of the norms.
        norm_bias: whether layer norms have a bias. Default: ``bias``.
        input_norm: whether each sublayer has a norm before it; without one, ``output_norm`` must be true and
            ``residual`` ``"pre"`` (OLMo 2; Walsh et al. 2024, section 2).
        output_norm: whether the output of each sublayer has a norm, before it is added to the stream (Gemma
            2; Riviere et al. 2024, section 2).
        activation: of the feed-forward networks: ``"gelu"``, ``"gelu_tanh"``, ``"quick_gelu"``,
            ``"relu"``, ``"silu"``, or gated ``"swiglu"``, ``"geglu"``, ``"geglu_tanh"``, ``"reglu"``.
        residual: ``"pre"`` or ``"post"`` (norm), ``"parallel"`` or ``"parallel_shared"``; see
            ``layers.BLOCKS``.
        num_kv_heads: key and value heads; fewer than ``num_heads`` is grouped-query attention. Default:
            ``num_heads``.
        d_head: width of a head. Default: ``d_model / num_heads``.
        bias: whether projections and norms have biases.
        qkv_bias: whether the query, key and value projections have a bias. Default: ``bias``.
        out_bias: whether the output projection of attention has a bias. Default: ``bias``.
        ff_bias: whether the feed-forward networks have biases. Default: ``bias``.
        qk_norm: normalizes queries and keys before they are rotated (Henry et al. 2020): ``"head"``, over
            each head, with the same weights for all heads (Qwen3, Gemma 3); ``"per_head"``, with weights for
            each head (StableLM 2); or ``"projection"``, over all heads together (OLMo 2). Or a mapping with
            ``"kind"`` and ``"bias"``, whether layer norms have a bias. Default: none.
        attention_scale: factor of the attention scores. Default (None): ``1 / sqrt(d_head)``.
        attention_softcap: largest absolute value of a score s, which is softcap * tanh(s / softcap) then
            (Gemma 2; Riviere et al. 2024, section 2). Default: no limit.
        residual_scale: factor of the output of each sublayer (Granite). Default: 1.
        layer_scale: initial value of LayerScale's factors (Touvron et al. 2021). Default: no LayerScale.
        kernel: ``"fused"``, ``"textbook"``, ``"flash"``, ``"block_sparse"`` or ``"linear"``, or a mapping
            with ``"kind"`` and options: ``{"kind": "linear", "feature_map": "favor"}``; see
            ``attention.KERNELS``.
        gradient_checkpointing: whether to recompute each block in the backward pass, which saves memory.
        pruned_heads: removed heads by kind of attention, one list for each layer: ``{"self": [[0, 3], []]}``.
            ``num_heads`` and ``num_kv_heads`` are those before pruning. Default: none.

    Raises:
        ValueError: if sizes do not fit each other, or a name is unknown.
        TypeError: if ``pruned_heads`` is not a mapping to lists.

    """

    attention_kinds: ClassVar[tuple[str, ...]] = ("self",)
    """Keys of the model's ``attentions()`` and of ``pruned_heads``."""
    down_proj_class: ClassVar[type[Linear]] = Linear
    """Class of the last projection of the feed-forward networks."""

    d_model: int
    num_layers: int
    num_heads: int
    d_ff: int | None = None
    _: KW_ONLY
    dropout: float = 0.0
    norm: str = "layer"
    norm_eps: float = 1e-5
    activation: str = "gelu"
    residual: str = "pre"
    num_kv_heads: int | None = None
    d_head: int | None = None
    bias: bool = True
    qkv_bias: bool | None = None
    out_bias: bool | None = None
    ff_bias: bool | None = None
    attention_scale: float | None = None
    layer_scale: float | None = None
    norm_bias: bool | None = None
    input_norm: bool = True
    output_norm: bool = False
    qk_norm: str | Mapping[str, Any] | None = None
    attention_softcap: float | None = None
    residual_scale: float = 1.0
    kernel: str | Mapping[str, Any] = "fused"
    gradient_checkpointing: bool = False
    pruned_heads: Mapping[str, Sequence[Sequence[int]]] | None = None

    def __post_init__(self) -> None:
        check_head_sizes(self.d_model, self.num_heads, self.num_kv_heads, self.d_head)
        check_sizes(num_layers=self.num_layers, d_ff=self.hidden_width)
        check_dropout(self.dropout)
        if not isinstance(self.norm_eps, float | int) or not 0 < self.norm_eps < 1:
            raise ValueError(f"norm_eps must be a small number above 0, not {self.norm_eps!r}")
        build_kernel(self.kernel, self.dropout, self.attention_scale, self.attention_softcap)  # checks them
        choose(NORMS, self.norm, "norm")
        choose(FEED_FORWARDS, self.activation, "activation")
        choose(BLOCKS, self.residual, "residual scheme")
        check_attention_kinds(self.pruned_heads, self.attention_kinds)
        if not self.input_norm and not (self.output_norm and self.residual == "pre"):
            raise ValueError('input_norm=False needs output_norm=True and residual="pre"')
        if self.residual_scale != 1 and self.layer_scale is not None:
            raise ValueError("residual_scale and layer_scale cannot be combined: give one of them")
        check_factors(residual_scale=self.residual_scale)
        self._check_qk_norm()

    def _check_qk_norm(self) -> None:
        if self.qk_norm is None:
            return
        kind, options = split_options(self.qk_norm, QK_NORMS, "kind of qk_norm")
        if wrong := options.keys() - {"bias"}:
            raise ValueError(f"unknown option {min(wrong)!r} of qk_norm: there is 'bias'")
        if self.norm == "nonparametric":
            raise ValueError('qk_norm needs a norm with weights, not "nonparametric"')
        if kind == "projection" and any(
            heads for layers in (self.pruned_heads or {}).values() for heads in layers
        ):
            raise ValueError(
                "heads whose queries are normalized together cannot be pruned: with qk_norm='projection', "
                "the others depend on them"
            )

    @property
    def hidden_width(self) -> int:
        """``d_ff`` or its default."""
        return 4 * self.d_model if self.d_ff is None else self.d_ff

    @property
    def head_width(self) -> int:
        """``d_head`` or its default."""
        return self.d_model // self.num_heads if self.d_head is None else self.d_head

    def __getitem__(self, name: str) -> Any:
        if name not in self.names():
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    @classmethod
    def names(cls) -> list[str]:
        """The names of all hyperparameters."""
        return [field.name for field in fields(cls)]


def check_sizes(**sizes: int) -> None:
    """Raise TypeError if a size is not an int, ValueError if it is not positive or exceeds 64 bits."""
    for name, size in sizes.items():
        if not is_int(size):
            raise TypeError(f"{name} must be an int, not {size!r}")
        if size < 1:
            raise ValueError(f"{name} must be positive, not {size}")
        if size >= 2**63:
            raise ValueError(f"{name} must be below 2**63, not {size}")


def check_factors(**factors: float) -> None:
    """Raise TypeError if a factor is not a number, ValueError if it is not positive and finite."""
    for name, factor in factors.items():
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            raise TypeError(f"{name} must be a number, not {factor!r}")
        if not 0 < factor < math.inf:
            raise ValueError(f"{name} must be positive, not {factor}")


def check_layers(name: str, values: Any, num_layers: int) -> list[Any]:
    """A list with one value for each layer.

    Raises:
        TypeError: if it is not a list.
        ValueError: if its length is another.

    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{name} must be one value, or a list of one for each layer, not {values!r:.200}")
    if len(values) != num_layers:
        raise ValueError(f"{name} must have {num_layers} values, one for each layer, not {len(values)}")
    return list(values)


def document_arguments(docstring: str | None, config_class: type[BlockConfig]) -> str:
    """Append the arguments of a config class, as its own and its bases' docstrings describe them."""
    descriptions: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
        for entry in re.split(r"^    (?=\w+: )", section, flags=re.MULTILINE)[1:]:
            descriptions[entry.partition(":")[0]] = entry.rstrip()
    arguments = [
        descriptions[name] for name in inspect.signature(config_class).parameters if name in descriptions
    ]
    return "\n    ".join([inspect.cleandoc(docstring or ""), "", "Args:", *arguments]).replace(
        "\n    Args", "\nArgs"
    )
