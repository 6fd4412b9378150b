"""Vision Transformer, ViT (Dosovitskiy et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.choices import choose
from glassformer.models.base import TransformerModel
from glassformer.models.blocks import build_blocks, build_final_norm
from glassformer.models.config import ViTConfig
from glassformer.models.presets import VIT_PRESETS
from glassformer.models.task_heads import ClassificationHead, FirstToken, NoHead, Pooler, label_names
from glassformer.positions.grid import GridPositions


class ViTModel(TransformerModel):
    """head(norm(block_L(... block_1([class token; registers; patches] + positions)))).

    The default hyperparameters are those of ViT.
    """

    family = "vit"
    config_class = ViTConfig
    presets = VIT_PRESETS
    main_input_name = "pixel_values"
    config: ViTConfig

    def __init__(self, *args: Any, **hyperparameters: Any) -> None:
        config = ViTConfig(*args, **hyperparameters)
        super().__init__(config)
        d_model, patch_size, num_channels = config.d_model, config.patch_size, config.num_channels
        self.d_model, self.patch_size, self.num_channels = d_model, patch_size, num_channels
        self.pixel_mean = _per_channel("pixel_mean", config.pixel_mean, num_channels)
        self.pixel_std = _per_channel("pixel_std", config.pixel_std, num_channels)
        if min(self.pixel_std) <= 0:
            raise ValueError(f"pixel_std must be positive, not {config.pixel_std}")
        self.patch_embedding = nn.Conv2d(num_channels, d_model, patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, d_model))
        registers = nn.Parameter(torch.zeros(1, config.num_registers, d_model))
        self.registers = registers if config.num_registers else None
        side = config.image_size // patch_size
        self.positions = GridPositions((side, side), d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = build_blocks(config, config.num_layers)
        self.norm = build_final_norm(config)
        self.pooler = Pooler(d_model) if config.pooler else FirstToken()
        self.head = choose(HEADS, config.head, "head")(config)
        self.initialize()

    @property
    def labels(self) -> list[str]:
        """The names of the classes."""
        return label_names(self.config.labels)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Compute the output of the head.

        Args:
            pixel_values: ``(batch, channel, height, width)``; height and width must be multiples of the patch
                size and may differ from ``image_size``.

        Returns:
            ``(batch, labels)``; without a head the last hidden states ``(batch, 1 + registers + patches,
            d_model)``: class token, registers, patches row by row.

        Raises:
            ValueError: if the number of dimensions or channels is another, or patches do not fill the image.
            TypeError: if the pixels are not floating-point numbers.

        """
        output: Tensor = self.head(self.hidden_states(pixel_values), self.pooler)
        return output

    def hidden_states(self, pixel_values: Tensor) -> Tensor:
        """The residual stream after the last norm, ``(batch, 1 + registers + patches, d_model)``."""
        grid = self.grid(pixel_values)
        patches = self.patch_embedding(pixel_values).flatten(2).transpose(1, 2)  # (batch, patch, d_model)
        first = self.class_token.expand(patches.size(0), -1, -1)
        x = torch.cat((first, patches), dim=1) + self.positions(grid)
        if self.registers is not None:
            x = torch.cat((x[:, :1], self.registers.expand(x.size(0), -1, -1), x[:, 1:]), dim=1)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        hidden: Tensor = self.norm(x)  # (batch, seq, d_model)
        return hidden

    def grid(self, pixel_values: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of images ``(batch, channel, height, width)``, which are checked."""
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
                f"the image has {height} x {width} pixels, no multiple of the patch size {self.patch_size}: "
                "crop or resize it"
            )
        return height // self.patch_size, width // self.patch_size

    def normalize(self, images: Tensor) -> Tensor:
        """Compute pixel values (images - pixel_mean) / pixel_std of images in [0, 1], ``(..., c, h, w)``."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.pixel_mean, self.pixel_std))
        return (images - mean) / std

    def initialize(self) -> None:
        """Draw random weights as in the published code of ViT.

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


def _per_channel(name: str, value: float | Sequence[float], channels: int) -> list[float]:
    values = [float(value)] * channels if isinstance(value, int | float) else [float(v) for v in value]
    if len(values) != channels:
        raise ValueError(
            f"{name} must be one number, or one for each of {channels} channels, not {value!r:.100}"
        )
    return values


HEADS: dict[str, Callable[[ViTConfig], nn.Module]] = {
    "none": lambda config: NoHead(),
    "classification": lambda c: ClassificationHead(c.d_model, c.num_labels, c.dropout),
}
"""Heads by the value of ``head``."""
