"""Hyperparameters of the model families.

Each family has one frozen dataclass, and takes its fields as keywords: ``GPTModel(vocab_size=50257, ...)``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from glassformer.attention.self_attention import check_softcap
from glassformer.integers import is_int
from glassformer.layers import Float32Linear
from glassformer.models.block_config import BlockConfig, check_factors, check_layers, check_sizes


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
            return [self.window] * self.num_layers
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
