"""Hyperparameters of the model families.

Each family has one frozen dataclass, and takes its fields as keywords: ``GPTModel(vocab_size=50257, ...)``.
"""

from __future__ import annotations

import inspect
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from numbers import Integral
from typing import Any, ClassVar

from glassformer.attention import build_kernel
from glassformer.attention.pruned_attention import check_attention_kinds
from glassformer.attention.self_attention import check_dropout, check_head_sizes, check_softcap
from glassformer.choices import choose, split_options
from glassformer.layers import BLOCKS, FEED_FORWARDS, NORMS, Float32Linear
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


@dataclass(frozen=True, eq=False)
class TextConfig:
    """Hyperparameters of models that read text.

    Args:
        vocab_size: number of tokens.
        max_seq_len: longest text that the model is meant for, in tokens; rows of a learned position table.
        positions: ``"learned"``, ``"sinusoidal"``, ``"rotary"``, ``"alibi"``, ``"relative_bias"`` or
            ``"none"``, or a mapping with ``"kind"`` and options: ``{"kind": "rotary", "theta": 5e5}``. Or a
            list with ``"rotary"`` or ``"none"`` for each layer (Gemma 3, SmolLM3).
        scale_embeddings: multiply token embeddings by sqrt(d_model) (Vaswani et al. 2017, section 3.4), or by
            a number (Granite).
        pattern: pattern of sparse attention: ``"sliding_window"``, ``"dilated_window"``, ``"longformer"`` or
            ``"big_bird"``, or a mapping with ``"kind"`` and options:
            ``{"kind": "longformer", "window": 256}``; see ``attention.PATTERNS``. The kernel
            ``"block_sparse"`` saves the time of what a pattern leaves out. Default: every token attends to
            all, or in a decoder to all earlier ones.

    """

    vocab_size: int
    _: KW_ONLY
    max_seq_len: int = 1024
    positions: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] = "learned"
    pattern: str | Mapping[str, Any] | None = None
    scale_embeddings: bool | float = False

    @property
    def embedding_scale(self) -> float:
        """The factor of token embeddings."""
        if isinstance(self.scale_embeddings, bool):
            return math.sqrt(self.d_model) if self.scale_embeddings else 1.0  # type: ignore[attr-defined]
        return float(self.scale_embeddings)

    def _check_text(self) -> None:
        check_sizes(vocab_size=self.vocab_size, max_seq_len=self.max_seq_len)
        check_factors(scale_embeddings=self.embedding_scale)


@dataclass(frozen=True, eq=False)
class ImageConfig:
    """Hyperparameters of models that read images.

    Args:
        image_size: height and width, in pixels, of the images for which the position table is made.
        patch_size: height and width of a patch; divides ``image_size``.
        num_channels: 3 for RGB, 1 for grayscale.
        num_registers: learned tokens after the class token, without positions (Darcet et al. 2024).
        pixel_mean: subtracted from images in [0, 1] to get ``pixel_values``: one number, or one for each
            channel. ``forward`` takes pixel values; ``normalize`` computes them.
        pixel_std: divides the difference.

    """

    image_size: int
    patch_size: int
    _: KW_ONLY
    num_channels: int = 3
    num_registers: int = 0
    pixel_mean: float | Sequence[float] = 0.5
    pixel_std: float | Sequence[float] = 0.5

    def _check_image(self) -> None:
        check_sizes(image_size=self.image_size, patch_size=self.patch_size, num_channels=self.num_channels)
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size={self.image_size} is not a multiple of patch_size={self.patch_size}"
            )
        if not is_int(self.num_registers) or self.num_registers < 0:
            raise ValueError(f"num_registers must not be negative or fractional, got {self.num_registers!r}")


@dataclass(frozen=True, eq=False)
class HeadConfig:
    """Hyperparameters of the task head of an encoder.

    Args:
        head: ``"none"``, ``"classification"``, and of text ``"masked_lm"`` or ``"token_classification"``.
        labels: the number of classes, or their names.
        pooler: whether a tanh layer transforms the first token for classification.

    """

    _: KW_ONLY
    head: str = "none"
    labels: int | Sequence[str] = 2
    pooler: bool = False

    @property
    def num_labels(self) -> int:
        """The number of classes."""
        return self.labels if isinstance(self.labels, int) else len(self.labels)

    def _check_head(self) -> None:
        check_sizes(labels=self.num_labels)
        names = [] if isinstance(self.labels, int) else self.labels
        for name, count in Counter(names).items():
            if count > 1:
                raise ValueError(f"labels must be different names, but {name!r} occurs {count} times")


@dataclass(frozen=True, eq=False, kw_only=True)
class GPTConfig(BlockConfig, TextConfig):
    """Hyperparameters of ``GPTModel``.

    Args:
        tie_embeddings: whether the output projection is the token embedding (Press & Wolf 2017).
        window: attend to the last ``window`` tokens only, including the query's own (Mistral; Jiang et al.
            2023); or a list with a window or None for each layer (Gemma 2). Default: all.
        d_embedding: width of the token embeddings, which a matrix maps to ``d_model`` and back before the
            output projection (OPT-350M; Zhang et al. 2022). Default: ``d_model``.
        embedding_norm: whether the sum of the embeddings has a norm (BLOOM).
        head_bias: whether the output projection has a bias (Phi, GPT-J).
        logit_scale: factor of the logits (Granite). Default: 1.
        logit_softcap: largest absolute value of a logit, as ``attention_softcap`` (Gemma 2). Default: no
            limit.

    """

    activation: str = "gelu_tanh"
    tie_embeddings: bool = True
    window: int | Sequence[int | None] | None = None
    d_embedding: int | None = None
    embedding_norm: bool = False
    head_bias: bool = False
    logit_scale: float = 1.0
    logit_softcap: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_text()
        is_one = self.window is None or is_int(self.window)
        for window in [self.window] if is_one else self.windows:
            if window is not None:
                check_sizes(window=window)  # type: ignore[arg-type]
        if self.d_embedding is not None:
            check_sizes(d_embedding=self.d_embedding)
        check_factors(logit_scale=self.logit_scale)
        check_softcap(self.logit_softcap)

    @property
    def windows(self) -> list[int | None]:
        """The window of each layer."""
        if self.window is None or is_int(self.window):
            return [self.window] * self.num_layers  # type: ignore[list-item]
        return check_layers("window", self.window, self.num_layers)


@dataclass(frozen=True, eq=False, kw_only=True)
class BERTConfig(BlockConfig, HeadConfig, TextConfig):
    """Hyperparameters of ``BERTModel``.

    Args:
        num_token_types: number of segment ids (first and second sentence).

    """

    max_seq_len: int = 512
    residual: str = "post"
    norm_eps: float = 1e-12
    pooler: bool = True
    num_token_types: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_text()
        self._check_head()
        check_sizes(num_token_types=self.num_token_types)


@dataclass(frozen=True, eq=False, kw_only=True)
class T5Config(BlockConfig, TextConfig):
    """Hyperparameters of ``T5Model``.

    Args:
        num_decoder_layers: blocks of the decoder. Default: ``num_layers``.
        tie_embeddings: whether the output projection is the token embedding (Press & Wolf 2017).
        scale_logits: divide the input of the output projection by sqrt(d_model) (T5 1.0, whose embeddings are
            tied and large).
        start_token: first token of the decoder's input.
        end_token: last token of a target.
        pad_token: pads shorter rows.

    """

    attention_kinds = ("encoder", "decoder", "cross")
    down_proj_class = Float32Linear  # the outputs of the published models exceed float16

    max_seq_len: int = 512
    positions: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] = "relative_bias"
    norm: str = "rms"
    norm_eps: float = 1e-6
    activation: str = "relu"
    bias: bool = False
    attention_scale: float | None = 1.0
    num_decoder_layers: int | None = None
    tie_embeddings: bool = True
    scale_logits: bool = True
    start_token: int = 0
    end_token: int = 1
    pad_token: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_text()
        if self.norm == "nonparametric":
            raise ValueError('norm must have weights, whose type is that of a layer, not "nonparametric"')
        if self.num_decoder_layers is not None:
            check_sizes(num_decoder_layers=self.num_decoder_layers)
        for name in ("start_token", "end_token", "pad_token"):
            token = getattr(self, name)
            if not is_int(token) or not 0 <= token < self.vocab_size:
                raise ValueError(
                    f"{name} must be an id of the vocabulary, 0 to {self.vocab_size - 1}, not {token!r}"
                )


@dataclass(frozen=True, eq=False, kw_only=True)
class ViTConfig(BlockConfig, HeadConfig, ImageConfig):
    """Hyperparameters of ``ViTModel``."""

    norm_eps: float = 1e-6
    head: str = "classification"
    labels: int | Sequence[str] = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_image()
        self._check_head()


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


def is_int(value: object) -> bool:
    """Whether a value is an integer and not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


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
