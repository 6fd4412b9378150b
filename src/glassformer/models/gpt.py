"""GPT: a decoder-only language model (Radford et al. 2018, 2019)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from glassformer.attention import Mask, causal
from glassformer.attention.patterns import AttentionPattern
from glassformer.generation import generate as generate_tokens
from glassformer.generation import stream as stream_tokens
from glassformer.linear import Linear
from glassformer.models.base import TransformerModel
from glassformer.models.blocks import (
    build_blocks,
    build_final_norm,
    build_model_positions,
    build_norm,
    check_attention,
    last_keys,
    make_cache,
    score_bias,
)
from glassformer.models.config import GPTConfig
from glassformer.models.inputs import (
    check_cached_len,
    check_ids,
    embed_ids,
    last_token,
    positions_and_padding,
)
from glassformer.models.presets import GPT_PRESETS

if TYPE_CHECKING:
    from glassformer.attention.masks import Padding
    from glassformer.contracts import Cache


class GPTModel(TransformerModel):
    """logits = W_head norm(block_L(... block_1(embed(tokens)))), with causal attention.

    The default hyperparameters are those of GPT-2.
    """

    family = "gpt"
    config_class = GPTConfig
    presets = GPT_PRESETS
    task = "causal_lm"
    config: GPTConfig

    def __init__(self, *args: Any, **hyperparameters: Any) -> None:
        config = GPTConfig(*args, **hyperparameters)
        super().__init__(config)
        self.vocab_size, self.d_model, self.max_seq_len = (
            config.vocab_size,
            config.d_model,
            config.max_seq_len,
        )
        self.window = config.window
        by_window = {
            window: AttentionPattern(config.pattern, config.max_seq_len, is_causal=True, window=window)
            for window in config.windows
        }
        self.patterns = [by_window[window] for window in config.windows]
        """Of each layer; layers with the same window share one."""
        d_embedding = config.d_embedding or config.d_model
        self.token_embedding = nn.Embedding(config.vocab_size, d_embedding)
        self.embedding_scale = config.embedding_scale
        self.embedding_norm = build_norm(config) if config.embedding_norm else None
        is_factorized = d_embedding != config.d_model
        self.embedding_proj = Linear(d_embedding, config.d_model, bias=False) if is_factorized else None
        self.positions = build_model_positions(config, config.max_seq_len, config.num_layers)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = build_blocks(config, config.num_layers, self.positions)
        for block, pattern in zip(self.blocks, self.patterns, strict=True):
            check_attention(block, pattern, self.positions)
        self.norm = build_final_norm(config)
        self.head_proj = Linear(config.d_model, d_embedding, bias=False) if is_factorized else None
        self.logit_scale, self.logit_softcap = config.logit_scale, config.logit_softcap
        self.lm_head = Linear(d_embedding, config.vocab_size, bias=config.head_bias)
        self.tie_parameters()
        self.initialize()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: Sequence[Cache] | None = None,
        mask: Mask | None = None,
    ) -> Tensor:
        """Compute the logits of the next token at each position.

        Args:
            input_ids: ``(batch, seq)``; with a cache only the new tokens.
            attention_mask: ``(batch, cached + seq)``, 1 or True for a real token; padding may be left
                or right.
            cache: one entry for each layer, from ``make_cache``.
            mask: over slots, padding included, in place of the causal one and of ``pattern``; for example
                that of a prefix language model, ``causal() | prefix(40)`` (Raffel et al. 2020, section
                3.2.1).

        Returns:
            ``(batch, seq, vocab_size)``.

        Raises:
            ValueError: if a mask is given to a model with a window, whose cache would not keep what it needs,
                a token id is out of range (checked on a CPU; other devices raise their own error),
                the text exceeds a learned position table, or ``attention_mask`` has another shape.
            TypeError: if the ids are not integers.

        """
        return self.unembed(self.hidden_states(input_ids, attention_mask, cache, mask))

    def hidden_states(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: Sequence[Cache] | None = None,
        mask: Mask | None = None,
    ) -> Tensor:
        """The input of ``unembed``, ``(batch, seq, d_model)``; see ``forward``."""
        if mask is not None and any(pattern.window is not None for pattern in self.patterns):
            raise ValueError(f"mask replaces the window of {self.config.window}: build the model without one")
        input_ids = check_ids(input_ids)
        cached = 0 if cache is None else cache[0].length
        key_positions, padding_mask = positions_and_padding(input_ids, attention_mask, cached)
        check_cached_len(self.positions, cached, key_positions)
        positions = key_positions[..., cached:]  # of the new tokens: (seq,) or (batch, seq)
        x = self.dropout(self._embed(input_ids, positions))
        inputs: dict[AttentionPattern, tuple[Mask | None, Any]] = {}  # mask and bias, the same in most layers
        for layer, block in enumerate(self.blocks):
            layer_cache, pattern = None if cache is None else cache[layer], self.patterns[layer]
            if pattern not in inputs:
                keys = last_keys(layer_cache, key_positions, padding_mask, input_ids.size(1))
                inputs[pattern] = self._mask_and_bias(pattern, mask, positions, *keys)
            layer_mask, bias = inputs[pattern]
            x = block(x, layer_mask, bias=bias, positions=positions, cache=layer_cache)
        hidden: Tensor = self.norm(x)  # (batch, seq, d_model)
        return hidden

    def _embed(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        """The input of the first block: scaled, projected and normalized embeddings with positions."""
        x = embed_ids(self.token_embedding, input_ids)
        x = x if self.embedding_scale == 1 else x * self.embedding_scale
        x = x if self.embedding_proj is None else self.embedding_proj(x)
        x = self.positions.embed(x, positions)
        return x if self.embedding_norm is None else self.embedding_norm(x)

    def _mask_and_bias(
        self,
        pattern: AttentionPattern,
        mask: Mask | None,
        positions: Tensor,
        key_positions: Tensor,
        padding_mask: Padding | None,
    ) -> tuple[Mask | None, Any]:
        """Of the layers with a pattern; the bias is None for most position schemes."""
        bias = score_bias(self.blocks, self.positions, positions, key_positions)
        if mask is None:
            return pattern.mask(key_positions.size(-1), padding_mask), bias
        return mask if padding_mask is None else mask & padding_mask, bias

    def unembed(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states, ``(..., d_model) -> (..., vocab_size)``."""
        logits: Tensor = self.lm_head(self.head_input(hidden))
        cap = self.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def head_input(self, hidden: Tensor) -> Tensor:
        """The input of ``lm_head``: hidden states, projected and scaled."""
        hidden = hidden if self.head_proj is None else self.head_proj(hidden)
        return hidden if self.logit_scale == 1 else hidden * self.logit_scale

    def next_token_logits(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, cache: Sequence[Cache] | None = None
    ) -> Tensor:
        """Logits ``(batch, vocab_size)`` after the last real token of each row. See ``forward``."""
        hidden = self.hidden_states(input_ids, attention_mask, cache)
        return self.unembed(last_token(hidden, attention_mask))

    @property
    def pattern(self) -> AttentionPattern:
        """The pattern of the first layer, which is that of all layers if they have the same window."""
        return self.patterns[0]

    @property
    def causal_mask(self) -> Mask:
        """Deprecated: ``pattern.mask(length)`` is the whole mask."""
        warnings.warn(
            "GPTModel.causal_mask is deprecated: use model.pattern.mask(length)",
            DeprecationWarning,
            stacklevel=2,
        )
        return causal()

    def make_cache(self, capacity: int) -> list[Cache]:
        """An empty cache for each layer, with room for ``capacity`` tokens.

        With a window it keeps the keys of the window, with linear attention a state of constant size.
        """
        return make_cache(self.blocks, capacity, [pattern.window for pattern in self.patterns])

    generate = generate_tokens  # functions of `glassformer.generation`, with the model as first argument
    stream = stream_tokens

    def tied_parameters(self) -> dict[str, str]:
        """The output projection is the token embedding, unless untied (Press & Wolf 2017)."""
        return {"lm_head.weight": "token_embedding.weight"} if self.config.tie_embeddings else {}

    def initialize(self) -> None:
        """Draw random weights as GPT-2: standard deviation 0.02, positions 0.01, biases zero.

        Projections into the residual stream are scaled by 1 / sqrt(number of sublayers), so that its variance
        does not grow with depth (Radford et al. 2019, section 2.3).
        """
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2 or "_norm." in name:
                continue  # norms; biases are set to zero below
            std = 0.01 if name.startswith("positions.") else 0.02
            if name.endswith(("out_proj.weight", "down_proj.weight")):
                std /= math.sqrt(2 * len(self.blocks))
            nn.init.normal_(parameter, std=std)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
