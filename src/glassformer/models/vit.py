"""ViT: an image cut into patches, read like a text (Dosovitskiy et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from glassformer.attention import MultiHeadAttention
from glassformer.choices import choose
from glassformer.models.base import TransformerModel
from glassformer.models.heads import ClassificationHead, FirstToken, NoHead, Pooler, label_names
from glassformer.models.stack import BlockPlan, check_sizes, run_blocks
from glassformer.positions.grid import GridPositions

_IMAGENET = {"image_size": 224, "patch_size": 16, "labels": 1000}

PRESETS: dict[str, dict[str, Any]] = {
    "vit-tiny": {**_IMAGENET, "d_model": 192, "num_layers": 12, "num_heads": 3},
    "vit-small": {**_IMAGENET, "d_model": 384, "num_layers": 12, "num_heads": 6},
    "vit-base": {**_IMAGENET, "d_model": 768, "num_layers": 12, "num_heads": 12},
    "vit-large": {**_IMAGENET, "d_model": 1024, "num_layers": 24, "num_heads": 16},
}
"""Base and large: Dosovitskiy et al. 2021, table 1; tiny and small: Touvron et al. 2021 (DeiT), table 1."""


class ViTModel(TransformerModel):
    """head(norm(block_L(... block_1([class token; registers; patches] + positions)))).

    Every choice is one keyword. The defaults are ViT.

    Args:
        image_size: height and width in pixels of the images the position table is made for.
        patch_size: height and width of a patch, which divides ``image_size``.
        d_model: width of the residual stream.
        num_layers: blocks.
        num_heads: attention heads in each.
        d_ff: width inside the feed-forward network. Default: ``4 * d_model``.
        num_channels: 3 for colours, 1 for grey.
        dropout: probability, for embeddings, attention weights and outputs of sublayers.
        norm: ``"layer"`` or ``"rms"``.
        activation: as in ``GPTModel``.
        residual: ``"pre"``, ``"post"`` or another of ``layers.RESIDUALS``.
        bias: whether projections and norms add biases.
        qkv_bias: whether the projections of query, key and value do. Default: ``bias``.
        norm_eps: epsilon of the norms.
        layer_scale: what LayerScale's factors start as (Touvron et al. 2021, CaiT). Default: no LayerScale.
        num_registers: learned tokens beside the class token, without a position (Darcet et al. 2024).
        pooler: whether a tanh layer transforms the class token for classification.
        head: ``"classification"`` or ``"none"``.
        labels: classes: how many, or their names.
        pixel_mean: what is subtracted from images (from 0 to 1) to get ``pixel_values``: one number, or one a
            channel. The model keeps it for whoever reads images for it; ``forward`` takes pixel values.
        pixel_std: what they are divided by after that.
        kernel: ``"fused"`` or ``"textbook"``.
        gradient_checkpointing: recompute each block in the backward pass instead of keeping its inside.
        pruned_heads: numbers of the heads that are gone, a list for each layer, by kind of attention:
            ``{"self": [[0, 3], []]}``. The sizes above are those from before. Default: none.

    Raises:
        ValueError: sizes that do not fit each other, or a word that stands for nothing.

    """

    family = "vit"
    main_input_name = "pixel_values"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        d_model: int,
        num_layers: int,
        num_heads: int,
        d_ff: int | None = None,
        num_channels: int = 3,
        dropout: float = 0.0,
        norm: str = "layer",
        activation: str = "gelu",
        residual: str = "pre",
        bias: bool = True,
        qkv_bias: bool | None = None,
        norm_eps: float = 1e-6,
        layer_scale: float | None = None,
        num_registers: int = 0,
        pooler: bool = False,
        head: str = "classification",
        labels: int | Sequence[str] = 1000,
        pixel_mean: float | Sequence[float] = 0.5,
        pixel_std: float | Sequence[float] = 0.5,
        kernel: str = "fused",
        gradient_checkpointing: bool = False,
        pruned_heads: Mapping[str, Sequence[Sequence[int]]] | None = None,
    ) -> None:
        super().__init__(locals())
        check_sizes(
            image_size=image_size, patch_size=patch_size, num_channels=num_channels, num_layers=num_layers
        )
        if image_size % patch_size:
            raise ValueError(f"image_size={image_size} is no multiple of patch_size={patch_size}")
        if num_registers < 0:
            raise ValueError(f"num_registers must not be negative, not {num_registers}")
        plan = BlockPlan(
            d_model=d_model,
            num_heads=num_heads,
            d_ff=d_ff,
            norm=norm,
            norm_eps=norm_eps,
            activation=activation,
            residual=residual,
            bias=bias,
            qkv_bias=qkv_bias,
            kernel=kernel,
            layer_scale=layer_scale,
            dropout=dropout,
            pruned_heads=pruned_heads,
        )
        self.d_model, self.patch_size, self.num_channels = d_model, patch_size, num_channels
        self.gradient_checkpointing = gradient_checkpointing
        self.labels = label_names(labels)
        self.pixel_mean = _for_each_channel("pixel_mean", pixel_mean, num_channels)
        self.pixel_std = _for_each_channel("pixel_std", pixel_std, num_channels)
        if min(self.pixel_std) <= 0:
            raise ValueError(f"pixel_std must be positive, not {pixel_std}")
        self.patch_embedding = nn.Conv2d(num_channels, d_model, patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, d_model))
        self.registers = nn.Parameter(torch.zeros(1, num_registers, d_model)) if num_registers else None
        self.positions = GridPositions((image_size // patch_size, image_size // patch_size), d_model)
        self.dropout = nn.Dropout(dropout)
        self.blocks = plan.blocks(num_layers)
        self.norm = plan.final_norm()
        self.pooler = Pooler(d_model) if pooler else FirstToken()
        self.head = choose(HEADS, head, "head")(self)
        self.initialize()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """What the head makes of images.

        Args:
            pixel_values: ``(batch, channel, height, width)``; height and width are multiples of the patch
                size, and may differ from ``image_size``.

        Returns:
            ``(batch, labels)``, or without a head the last hidden states ``(batch, 1 + registers + patches,
            d_model)``: class token, registers, patches row by row.

        Raises:
            ValueError: another number of dimensions or channels, or an image that patches do not fill.
            TypeError: pixels that are not floating-point numbers.

        """
        output: Tensor = self.head(self.hidden_states(pixel_values), self.pooler)
        return output

    def hidden_states(self, pixel_values: Tensor) -> Tensor:
        """The stream after the last block and norm, ``(batch, 1 + registers + patches, d_model)``."""
        grid = self.grid(pixel_values)
        patches = self.patch_embedding(pixel_values).flatten(2).transpose(1, 2)  # (batch, patch, d_model)
        first = self.class_token.expand(len(patches), -1, -1)
        x = torch.cat((first, patches), dim=1) + self.positions(grid)
        if self.registers is not None:
            x = torch.cat((x[:, :1], self.registers.expand(len(x), -1, -1), x[:, 1:]), dim=1)
        x = run_blocks(
            self.blocks, self.dropout(x), None, recompute=self.gradient_checkpointing and self.training
        )
        hidden: Tensor = self.norm(x)  # (batch, seq, d_model)
        return hidden

    def grid(self, pixel_values: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of checked images ``(batch, channel, height, width)``."""
        if not pixel_values.is_floating_point():
            raise TypeError(f"pixel_values must be floating-point numbers, not {pixel_values.dtype}")
        if pixel_values.dim() != 4 or pixel_values.size(1) != self.num_channels:
            raise ValueError(
                f"pixel_values must be (batch, {self.num_channels} channels, height, width), "
                f"not of shape {tuple(pixel_values.shape)}"
            )
        height, width = pixel_values.shape[2:]
        if height % self.patch_size or width % self.patch_size or not height * width:
            raise ValueError(
                f"an image of {height} x {width} pixels is not filled by patches of {self.patch_size} x "
                f"{self.patch_size}: crop or resize it to a multiple"
            )
        return height // self.patch_size, width // self.patch_size

    def normalize(self, images: Tensor) -> Tensor:
        """(images - pixel_mean) / pixel_std: ``pixel_values`` of images ``(..., channel, height, width)``."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.pixel_mean, self.pixel_std))
        return (images - mean) / std

    def attentions(self) -> dict[str, list[MultiHeadAttention]]:
        """Attention of each layer, by kind."""
        return {"self": [block.attention for block in self.blocks]}  # type: ignore[misc]

    def initialize(self) -> None:
        """Random weights as in the published code of ViT, whose scale suits any width.

        Projections Xavier-uniform (Glorot & Bengio 2010), patches N(0, 1 / inputs), positions and registers
        N(0, 0.02), biases, class token and classifier zero.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.positions.table, std=0.02)
        if self.registers is not None:
            nn.init.normal_(self.registers, std=0.02)
        for name, parameter in self.head.named_parameters():
            if name.startswith("classifier."):
                nn.init.zeros_(parameter)


def _for_each_channel(name: str, value: float | Sequence[float], channels: int) -> list[float]:
    values = [float(value)] * channels if isinstance(value, int | float) else [float(v) for v in value]
    if len(values) != channels:
        raise ValueError(f"{name} must be one number, or one for each of {channels} channels, not {value!r}")
    return values


HEADS: dict[str, Callable[[ViTModel], nn.Module]] = {
    "none": lambda model: NoHead(),
    "classification": lambda m: ClassificationHead(m.d_model, len(m.labels), m.config["dropout"]),
}
"""Heads by the word that the model takes for ``head``."""
