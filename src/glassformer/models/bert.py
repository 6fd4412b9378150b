"""BERT: a bidirectional encoder (Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.attention.patterns import AttentionPattern
from glassformer.choices import choose
from glassformer.generation.fill_mask import MaskPrediction
from glassformer.generation.fill_mask import fill_mask as fill_text_mask
from glassformer.layers import FEED_FORWARDS
from glassformer.models.base import TransformerModel
from glassformer.models.blocks import (
    build_blocks,
    build_final_norm,
    build_model_positions,
    build_norm,
    check_attention,
    score_bias,
)
from glassformer.models.config import BERTConfig
from glassformer.models.inputs import check_ids, embed_ids, positions_and_padding
from glassformer.models.presets import BERT_PRESETS
from glassformer.models.task_heads import (
    ClassificationHead,
    FirstToken,
    MaskedLMHead,
    NoHead,
    Pooler,
    TokenClassificationHead,
    label_names,
)


class BERTModel(TransformerModel):
    """head(block_L(... block_1(norm(token + token type + position)))), with bidirectional attention.

    The default hyperparameters are those of BERT, without a head.
    """

    family = "bert"
    config_class = BERTConfig
    presets = BERT_PRESETS
    config: BERTConfig

    def __init__(self, *args: Any, **hyperparameters: Any) -> None:
        config = BERTConfig(*args, **hyperparameters)
        super().__init__(config)
        self.vocab_size, self.d_model, self.max_seq_len = (
            config.vocab_size,
            config.d_model,
            config.max_seq_len,
        )
        self.num_token_types = config.num_token_types
        self.pattern = AttentionPattern(config.pattern, config.max_seq_len)
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.embedding_scale = config.embedding_scale
        self.token_type_embedding = nn.Embedding(config.num_token_types, config.d_model)
        self.positions = build_model_positions(
            config, config.max_seq_len, config.num_layers, bidirectional=True
        )
        self.embedding_norm = build_norm(config)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = build_blocks(config, config.num_layers, self.positions)
        for block in self.blocks:
            check_attention(block, self.pattern, self.positions)
        self.norm = build_final_norm(config)
        self.pooler = Pooler(config.d_model) if config.pooler else FirstToken()
        self.head = choose(HEADS, config.head, "head")(config)
        self.tie_parameters()
        self.initialize()

    @property
    def labels(self) -> list[str]:
        """The names of the classes."""
        return label_names(self.config.labels)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Compute the output of the head.

        Args:
            input_ids: ``(batch, seq)``.
            attention_mask: ``(batch, seq)``, 1 or True for a real token; padding may be left or right.
            token_type_ids: ``(batch, seq)``, the segment of each token. Default: zeros.

        Returns:
            ``(batch, seq, vocab_size)`` with a masked-LM head, ``(batch, labels)`` or
            ``(batch, seq, labels)`` with a classification head; without a head the last hidden states
            ``(batch, seq, d_model)``.

        Raises:
            ValueError: if an id is out of range, the text exceeds a learned position table, or a shape is
                another.
            TypeError: if the ids are not integers.

        """
        hidden = self.hidden_states(input_ids, attention_mask, token_type_ids)
        first = None if attention_mask is None else attention_mask.int().argmax(1)  # after left padding
        output: Tensor = self.head(hidden, partial(self.pooler, first=first))
        return output

    def hidden_states(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """The residual stream after the last block, ``(batch, seq, d_model)``; see ``forward``."""
        input_ids = check_ids(input_ids)
        token_type_ids = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        token_type_ids = check_ids(token_type_ids, "token_type_ids")
        if token_type_ids.shape != input_ids.shape:
            raise ValueError(
                f"token_type_ids must be (batch, seq) = {tuple(input_ids.shape)}, "
                f"not {tuple(token_type_ids.shape)}"
            )
        positions, padding_mask = positions_and_padding(input_ids, attention_mask)
        x = embed_ids(self.token_embedding, input_ids)
        x = x if self.embedding_scale == 1 else x * self.embedding_scale
        x = x + embed_ids(self.token_type_embedding, token_type_ids)
        x = self.dropout(self.embedding_norm(self.positions.embed(x, positions)))
        mask = self.pattern.mask(input_ids.size(1), padding_mask)
        bias = score_bias(self.blocks, self.positions, positions, positions)
        for block in self.blocks:
            x = block(x, mask, bias=bias, positions=positions)
        hidden: Tensor = self.norm(x)  # (batch, seq, d_model)
        return hidden

    def fill_mask(self, text: str, top_k: int = 5) -> list[list[MaskPrediction]]:
        """Predict each ``[MASK]`` of a text; see ``generation.fill_mask``."""
        return fill_text_mask(self, text, top_k)

    def tied_parameters(self) -> dict[str, str]:
        """The output projection of a masked-LM head is the token embedding."""
        return {"head.decoder.weight": "token_embedding.weight"} if self.task == "masked_lm" else {}

    def initialize(self) -> None:
        """Draw random weights as BERT: N(0, 0.02), biases zero (Devlin et al. 2019, published code)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)


def _masked_lm_head(config: BERTConfig) -> MaskedLMHead:
    _, activation = FEED_FORWARDS[config.activation]
    return MaskedLMHead(config.d_model, config.vocab_size, activation, build_norm(config))


HEADS: dict[str, Callable[[BERTConfig], nn.Module]] = {
    "none": lambda config: NoHead(),
    "masked_lm": _masked_lm_head,
    "classification": lambda c: ClassificationHead(c.d_model, c.num_labels, c.dropout),
    "token_classification": lambda c: TokenClassificationHead(c.d_model, c.num_labels, c.dropout),
}
"""Heads by the value of ``head``."""
