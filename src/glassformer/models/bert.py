"""BERT: an encoder in which every token sees every other (Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from glassformer.attention import MultiHeadAttention
from glassformer.choices import choose
from glassformer.generation.fill_mask import Guess
from glassformer.generation.fill_mask import fill_mask as fill_text_mask
from glassformer.layers import FEED_FORWARDS, NORMS
from glassformer.models.base import TransformerModel
from glassformer.models.heads import (
    ClassificationHead,
    FirstToken,
    MaskedLMHead,
    NoHead,
    Pooler,
    TokenClassificationHead,
    label_names,
)
from glassformer.models.inputs import check_ids, read_mask
from glassformer.models.stack import BlockPlan, check_sizes, run_blocks

PRESETS: dict[str, dict[str, Any]] = {
    "bert-base-uncased": {"vocab_size": 30522, "d_model": 768, "num_layers": 12, "num_heads": 12},
    "bert-base-cased": {"vocab_size": 28996, "d_model": 768, "num_layers": 12, "num_heads": 12},
    "bert-large-uncased": {"vocab_size": 30522, "d_model": 1024, "num_layers": 24, "num_heads": 16},
    "minilm-l6": {"vocab_size": 30522, "d_model": 384, "num_layers": 6, "num_heads": 12},
    "bert-mini": {"vocab_size": 8192, "d_model": 192, "num_layers": 6, "num_heads": 6, "max_seq_len": 128},
}
"""BERT's published sizes (Devlin et al. 2019, section 3), all-MiniLM-L6-v2's, and a small one of our own."""


class BERTModel(TransformerModel):
    """head(block_L(... block_1(norm(token + token type + position)))), each token seeing all others.

    Every choice is one keyword. The defaults are BERT without a head.

    Args:
        vocab_size: number of tokens.
        d_model: width of the residual stream.
        num_layers: blocks.
        num_heads: attention heads in each.
        d_ff: width inside the feed-forward network. Default: ``4 * d_model``.
        max_seq_len: tokens the model is meant to read at once; rows of a learned position table.
        dropout: probability, for embeddings, attention weights and outputs of sublayers.
        num_token_types: kinds of segments (first and second sentence).
        positions: as in ``GPTModel``.
        norm: ``"layer"`` or ``"rms"``.
        activation: as in ``GPTModel``.
        residual: ``"post"``, ``"pre"``, or another of ``layers.RESIDUALS``.
        bias: whether projections and norms add biases.
        norm_eps: epsilon of the norms.
        pooler: whether a tanh layer transforms the first token for classification.
        head: ``"none"``, ``"masked_lm"``, ``"classification"`` or ``"token_classification"``.
        labels: classes of the two last: how many, or their names.
        kernel: ``"fused"`` or ``"textbook"``.
        gradient_checkpointing: recompute each block in the backward pass instead of keeping its inside.
        pruned_heads: numbers of the heads that are gone, a list for each layer, by kind of attention:
            ``{"self": [[0, 3], []]}``. The sizes above are those from before. Default: none.

    Raises:
        ValueError: sizes that do not fit each other, or a word that stands for nothing.

    """

    family = "bert"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        num_layers: int,
        num_heads: int,
        d_ff: int | None = None,
        max_seq_len: int = 512,
        dropout: float = 0.0,
        num_token_types: int = 2,
        positions: str | Mapping[str, Any] = "learned",
        norm: str = "layer",
        activation: str = "gelu",
        residual: str = "post",
        bias: bool = True,
        norm_eps: float = 1e-12,
        pooler: bool = True,
        head: str = "none",
        labels: int | Sequence[str] = 2,
        kernel: str = "fused",
        gradient_checkpointing: bool = False,
        pruned_heads: Mapping[str, Sequence[Sequence[int]]] | None = None,
    ) -> None:
        super().__init__(locals())
        check_sizes(
            vocab_size=vocab_size,
            num_layers=num_layers,
            max_seq_len=max_seq_len,
            num_token_types=num_token_types,
        )
        plan = BlockPlan(
            d_model=d_model,
            num_heads=num_heads,
            d_ff=d_ff,
            norm=norm,
            norm_eps=norm_eps,
            activation=activation,
            residual=residual,
            bias=bias,
            kernel=kernel,
            dropout=dropout,
            pruned_heads=pruned_heads,
        )
        self.vocab_size, self.d_model, self.max_seq_len = vocab_size, d_model, max_seq_len
        self.num_token_types, self.gradient_checkpointing = num_token_types, gradient_checkpointing
        self.labels = label_names(labels)
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.token_type_embedding = nn.Embedding(num_token_types, d_model)
        self.positions = plan.positions(positions, max_seq_len, bidirectional=True)
        self.embedding_norm = NORMS[norm](d_model, norm_eps, bias)
        self.dropout = nn.Dropout(dropout)
        self.blocks = plan.blocks(num_layers, self.positions)
        self.norm = plan.final_norm()
        self.pooler = Pooler(d_model) if pooler else FirstToken()
        self.head = choose(HEADS, head, "head")(self)
        self.tie_parameters()
        self.initialize()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """What the head makes of the text.

        Args:
            input_ids: ``(batch, seq)``.
            attention_mask: ``(batch, seq)``, 1 or True for a real token; padding may be left or right.
            token_type_ids: ``(batch, seq)``, the segment of each token; zeros by default.

        Returns:
            ``(batch, seq, vocab_size)`` from a head for masked tokens, ``(batch, labels)`` or
            ``(batch, seq, labels)`` from one for classes; without a head the last hidden states
            ``(batch, seq, d_model)``.

        Raises:
            ValueError: an id out of range, a text past a learned table of positions, or another shape.
            TypeError: ids that are not integers.

        """
        hidden = self.hidden_states(input_ids, attention_mask, token_type_ids)
        first = None if attention_mask is None else attention_mask.int().argmax(1)  # behind padding
        output: Tensor = self.head(hidden, partial(self.pooler, first=first))
        return output

    def hidden_states(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """The stream after the last block, ``(batch, seq, d_model)``; arguments as ``forward``."""
        check_ids(input_ids, self.vocab_size)
        token_type_ids = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        check_ids(token_type_ids, self.num_token_types, "token_type_ids")
        if token_type_ids.shape != input_ids.shape:
            raise ValueError(
                f"token_type_ids must be (batch, seq) = {tuple(input_ids.shape)}, "
                f"not {tuple(token_type_ids.shape)}"
            )
        positions, mask = read_mask(input_ids, attention_mask)
        x = self.token_embedding(input_ids) + self.token_type_embedding(token_type_ids)
        x = self.dropout(self.embedding_norm(self.positions.embed(x, positions)))
        x = run_blocks(
            self.blocks,
            x,
            mask,
            bias=self.positions.bias(positions, positions),
            positions=positions,
            recompute=self.gradient_checkpointing and self.training,
        )
        hidden: Tensor = self.norm(x)  # (batch, seq, d_model)
        return hidden

    def attentions(self) -> dict[str, list[MultiHeadAttention]]:
        """Attention of each layer, by kind."""
        return {"self": [block.attention for block in self.blocks]}  # type: ignore[misc]

    def fill_mask(self, text: str, top_k: int = 5) -> list[list[Guess]]:
        """What each ``[MASK]`` of a text may hide: ``generation.fill_mask`` with this model."""
        return fill_text_mask(self, text, top_k)

    def tied_parameters(self) -> dict[str, str]:
        """A head over the vocabulary shares the token embedding."""
        tied = {"head.decoder.weight": "token_embedding.weight"}
        return tied if isinstance(self.head, MaskedLMHead) else {}

    def initialize(self) -> None:
        """BERT's random weights: N(0, 0.02), biases zero (Devlin et al. 2019, published code)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)


def _masked_lm(model: BERTModel) -> MaskedLMHead:
    config = model.config
    _, function = FEED_FORWARDS[config["activation"]]
    norm = NORMS[config["norm"]](model.d_model, config["norm_eps"], config["bias"])
    return MaskedLMHead(model.d_model, model.vocab_size, function, norm)


HEADS: dict[str, Callable[[BERTModel], nn.Module]] = {
    "none": lambda model: NoHead(),
    "masked_lm": _masked_lm,
    "classification": lambda m: ClassificationHead(m.d_model, len(m.labels), m.config["dropout"]),
    "token_classification": lambda m: TokenClassificationHead(m.d_model, len(m.labels), m.config["dropout"]),
}
"""Heads by the word that the model takes for ``head``."""
