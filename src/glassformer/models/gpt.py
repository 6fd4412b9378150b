"""GPT: a stack of causal blocks that predicts the next token (Radford et al. 2018, 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from glassformer.attention import KERNELS, KVCache, MultiHeadAttention, causal, padding
from glassformer.attention.self_attention import check_heads
from glassformer.choices import choose
from glassformer.generation import generate as generate_tokens
from glassformer.generation import stream as stream_tokens
from glassformer.layers import FEED_FORWARDS, NORMS, RESIDUALS, TransformerBlock
from glassformer.models.base import TransformerModel
from glassformer.positions import build_positions

if TYPE_CHECKING:
    from glassformer.contracts import Cache, Mask

PRESETS: dict[str, dict[str, Any]] = {
    "gpt2": {"vocab_size": 50257, "d_model": 768, "num_layers": 12, "num_heads": 12},
    "gpt2-medium": {"vocab_size": 50257, "d_model": 1024, "num_layers": 24, "num_heads": 16},
    "gpt2-large": {"vocab_size": 50257, "d_model": 1280, "num_layers": 36, "num_heads": 20},
    "gpt2-xl": {"vocab_size": 50257, "d_model": 1600, "num_layers": 48, "num_heads": 25},
    "gpt-nano": {"vocab_size": 8192, "d_model": 48, "num_layers": 3, "num_heads": 3, "max_seq_len": 256},
    "gpt-micro": {"vocab_size": 8192, "d_model": 128, "num_layers": 4, "num_heads": 4, "max_seq_len": 256},
    "gpt-mini": {"vocab_size": 8192, "d_model": 192, "num_layers": 6, "num_heads": 6, "max_seq_len": 256},
    "gpt-small": {"vocab_size": 8192, "d_model": 512, "num_layers": 6, "num_heads": 8, "max_seq_len": 512},
}
"""The four published sizes of GPT-2 (Radford et al. 2019, table 2) and small ones to learn with."""


class GPTModel(TransformerModel):
    """logits = W_head norm(block_L(... block_1(embed(tokens)))), each token seeing only what came before.

    Every choice is one keyword. The defaults are GPT-2.

    Args:
        vocab_size: number of tokens.
        d_model: width of the residual stream.
        num_layers: blocks.
        num_heads: attention heads in each.
        d_ff: width inside the feed-forward network. Default: ``4 * d_model``.
        max_seq_len: tokens the model is meant to read at once; rows of a learned position table.
        dropout: probability, for embeddings, attention weights and outputs of sublayers.
        positions: ``"learned"``, ``"sinusoidal"``, ``"rotary"``, ``"alibi"``, ``"relative_bias"`` or
            ``"none"``, or a mapping with ``"kind"`` and options: ``{"kind": "rotary", "theta": 5e5}``.
        norm: ``"layer"`` or ``"rms"``.
        activation: ``"gelu"``, ``"gelu_tanh"``, ``"relu"``, ``"swiglu"`` or ``"geglu"``.
        residual: ``"pre"``, ``"post"``, ``"parallel"`` or ``"parallel_shared"``.
        num_kv_heads: key and value heads; fewer than ``num_heads`` is grouped-query attention.
        d_head: width of a head. Default: ``d_model / num_heads``.
        bias: whether projections and norms add biases.
        norm_eps: epsilon of the norms.
        tie_embeddings: whether the output projection is the token embedding.
        kernel: ``"fused"`` or ``"textbook"``.
        gradient_checkpointing: recompute each block in the backward pass instead of keeping its inside.

    Raises:
        ValueError: sizes that do not fit each other, or a word that stands for nothing.

    """

    family = "gpt"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        num_layers: int,
        num_heads: int,
        d_ff: int | None = None,
        max_seq_len: int = 1024,
        dropout: float = 0.0,
        positions: str | Mapping[str, Any] = "learned",
        norm: str = "layer",
        activation: str = "gelu_tanh",
        residual: str = "pre",
        num_kv_heads: int | None = None,
        d_head: int | None = None,
        bias: bool = True,
        norm_eps: float = 1e-5,
        tie_embeddings: bool = True,
        kernel: str = "fused",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(locals())
        d_ff = 4 * d_model if d_ff is None else d_ff
        sizes = {"vocab_size": vocab_size, "num_layers": num_layers, "d_ff": d_ff, "max_seq_len": max_seq_len}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be positive, not {size}")
        check_heads(d_model, num_heads, num_kv_heads, d_head)
        self.vocab_size, self.d_model, self.max_seq_len = vocab_size, d_model, max_seq_len
        self.gradient_checkpointing = gradient_checkpointing
        make_kernel = choose(KERNELS, kernel, "kernel")
        make_norm = choose(NORMS, norm, "norm")
        make_feed_forward, function = choose(FEED_FORWARDS, activation, "activation")
        make_residual = choose(RESIDUALS, residual, "residual scheme")

        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.positions = build_positions(
            positions,
            d_model=d_model,
            d_head=d_head or d_model // num_heads,
            num_heads=num_heads,
            max_seq_len=max_seq_len,
        )
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                attention=MultiHeadAttention(
                    d_model,
                    num_heads,
                    num_kv_heads=num_kv_heads,
                    d_head=d_head,
                    qkv_bias=bias,
                    out_bias=bias,
                    kernel=make_kernel(dropout, None),
                    rotary=self.positions,
                ),
                feed_forward=make_feed_forward(d_model, d_ff, function, bias),
                norms=[make_norm(d_model, norm_eps, bias) for _ in range(make_residual().norms_needed(2))],
                residual=make_residual(),
                dropout=dropout,
            )
            for _ in range(num_layers)
        )
        self.norm = make_norm(d_model, norm_eps, bias) if make_residual().final_norm else nn.Identity()
        self.lm_head = nn.Linear(d_model, vocab_size, bias=False)
        self.tie_parameters()
        self.initialize()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, cache: Sequence[Cache] | None = None
    ) -> Tensor:
        """Logits for the token after each position.

        Args:
            input_ids: ``(batch, seq)``; with a cache only the tokens that it has not seen.
            attention_mask: ``(batch, seen + seq)``, 1 or True for a real token; padding may be left or right.
            cache: one entry a layer, from ``make_cache``.

        Returns:
            ``(batch, seq, vocab_size)``.

        Raises:
            ValueError: a token id out of range (on a CPU; elsewhere the device itself refuses it), a text
                past a learned table of positions, or an ``attention_mask`` of another shape.
            TypeError: ids that are not integers.

        """
        logits: Tensor = self.lm_head(self.hidden_states(input_ids, attention_mask, cache))
        return logits

    def hidden_states(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, cache: Sequence[Cache] | None = None
    ) -> Tensor:
        """What ``lm_head`` reads: the stream after the last block and norm, ``(batch, seq, d_model)``."""
        self._check_ids(input_ids)
        seen = 0 if cache is None else cache[0].length
        key_positions, mask = self._context(input_ids, attention_mask, seen)
        positions = key_positions[..., seen:]
        x = self.dropout(self.positions.embed(self.token_embedding(input_ids), positions))
        bias = self.positions.bias(positions, key_positions)
        for layer, block in enumerate(self.blocks):
            past = None if cache is None else cache[layer]
            if self.gradient_checkpointing and self.training and past is None:
                x = checkpoint(block, x, mask, bias=bias, positions=positions, use_reentrant=False)
            else:
                x = block(x, mask, bias=bias, positions=positions, cache=past)
        hidden: Tensor = self.norm(x)  # (batch, seq, d_model)
        return hidden

    def _context(self, input_ids: Tensor, attention_mask: Tensor | None, seen: int) -> tuple[Tensor, Mask]:
        """Positions of all keys, ``(key,)`` or ``(batch, key)``, and who may attend to whom."""
        keys = seen + input_ids.size(1)
        if attention_mask is None:
            return torch.arange(keys, device=input_ids.device), causal()
        if attention_mask.shape != (input_ids.size(0), keys):
            raise ValueError(
                f"attention_mask must be (batch, seq) = {(input_ids.size(0), keys)}"
                f"{f' with the {seen} slots in the cache' if seen else ''}, not {tuple(attention_mask.shape)}"
            )
        mask = padding(attention_mask)
        if not torch.compiler.is_compiling() and mask.real.all():
            return torch.arange(keys, device=input_ids.device), causal()
        counted = mask.real.cumsum(dim=1) - 1  # padding on the left shifts no position
        return counted.clamp(min=0), causal() & mask

    def _check_ids(self, input_ids: Tensor) -> None:
        if input_ids.is_floating_point() or input_ids.dtype == torch.bool:
            raise TypeError(f"token ids must be integers, not {input_ids.dtype}")
        if input_ids.dim() != 2:
            raise ValueError(f"input_ids must be (batch, seq), not of shape {tuple(input_ids.shape)}")
        if torch.compiler.is_compiling() or input_ids.device.type != "cpu":
            return  # reading values would wait for the device; its own lookup asserts
        wrong = (input_ids < 0) | (input_ids >= self.vocab_size)
        if wrong.any():
            row, position = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"token id {int(input_ids[row, position])} at position {position} of row {row} is outside "
                f"the vocabulary: ids are 0 to {self.vocab_size - 1}"
            )

    def next_token_logits(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, cache: Sequence[Cache] | None = None
    ) -> Tensor:
        """Logits ``(batch, vocab_size)`` for the token after the last column; arguments as ``forward``."""
        logits: Tensor = self.lm_head(self.hidden_states(input_ids, attention_mask, cache)[:, -1])
        return logits

    def make_cache(self, capacity: int) -> list[KVCache]:
        """An empty cache for every layer, with room for ``capacity`` tokens."""
        return [KVCache(capacity) for _ in self.blocks]

    generate = generate_tokens
    """Continue a prompt: ``glassformer.generation.generate`` with this model as its first argument."""
    stream = stream_tokens
    """The same token by token: ``glassformer.generation.stream``."""

    def tied_parameters(self) -> dict[str, str]:
        """The output projection is the token embedding, unless untied (Press & Wolf 2017)."""
        return {"lm_head.weight": "token_embedding.weight"} if self.config["tie_embeddings"] else {}

    def initialize(self) -> None:
        """GPT-2's random weights: N(0, 0.02), positions N(0, 0.01), biases zero.

        Projections back into the residual stream are scaled by 1 / sqrt(2 num_layers), so that the stream's
        variance does not grow with depth (Radford et al. 2019, section 2.3, and the published code).
        """
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue  # norms start as ones, and biases are zeroed below
            std = 0.01 if name.startswith("positions.") else 0.02
            if name.endswith(("out_proj.weight", "down_proj.weight")):
                std /= math.sqrt(2 * len(self.blocks))
            nn.init.normal_(parameter, std=std)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
