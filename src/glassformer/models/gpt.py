"""GPT: a decoder-only language model (Radford et al. 2018, 2019)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
        self.pattern = AttentionPattern(
            config.pattern, config.max_seq_len, is_causal=True, window=config.window
        )
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = build_model_positions(config, config.max_seq_len)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = build_blocks(config, config.num_layers, self.positions)
        check_attention(self.blocks, self.pattern, self.positions)
        self.norm = build_final_norm(config)
        self.lm_head = Linear(config.d_model, config.vocab_size, bias=False)
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
        logits: Tensor = self.lm_head(self.hidden_states(input_ids, attention_mask, cache, mask))
        return logits

    def hidden_states(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: Sequence[Cache] | None = None,
        mask: Mask | None = None,
    ) -> Tensor:
        """The input of ``lm_head``, ``(batch, seq, d_model)``; see ``forward``."""
        if mask is not None and self.pattern.window is not None:
            raise ValueError(
                f"mask replaces the window of {self.pattern.window}: build the model without one"
            )
        input_ids = check_ids(input_ids)
        cached = 0 if cache is None else cache[0].length
        key_positions, padding_mask = positions_and_padding(input_ids, attention_mask, cached)
        check_cached_len(self.positions, cached, key_positions)
        positions = key_positions[..., cached:]  # of the new tokens: (seq,) or (batch, seq)
        x = self.dropout(self.positions.embed(embed_ids(self.token_embedding, input_ids), positions))
        key_positions, padding_mask = last_keys(cache, key_positions, padding_mask, input_ids.size(1))
        if mask is None:
            mask = self.pattern.mask(key_positions.size(-1), padding_mask)
        elif padding_mask is not None:
            mask = mask & padding_mask
        bias = score_bias(self.blocks, self.positions, positions, key_positions)  # None for most schemes
        for layer, block in enumerate(self.blocks):
            layer_cache = None if cache is None else cache[layer]
            x = block(x, mask, bias=bias, positions=positions, cache=layer_cache)
        hidden: Tensor = self.norm(x)  # (batch, seq, d_model)
        return hidden

    def next_token_logits(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, cache: Sequence[Cache] | None = None
    ) -> Tensor:
        """Logits ``(batch, vocab_size)`` after the last real token of each row. See ``forward``."""
        hidden = self.hidden_states(input_ids, attention_mask, cache)
        logits: Tensor = self.lm_head(last_token(hidden, attention_mask))
        return logits

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
        return make_cache(self.blocks, capacity, self.pattern.window)

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
            if parameter.dim() < 2:
                continue  # norms; biases are set to zero below
            std = 0.01 if name.startswith("positions.") else 0.02
            if name.endswith(("out_proj.weight", "down_proj.weight")):
                std /= math.sqrt(2 * len(self.blocks))
            nn.init.normal_(parameter, std=std)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
