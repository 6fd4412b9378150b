"""GPT: a stack of causal blocks that predicts the next token (Radford et al. 2018, 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from glassformer.attention import KVCache, MultiHeadAttention, causal, sliding_window
from glassformer.generation import generate as generate_tokens
from glassformer.generation import stream as stream_tokens
from glassformer.models.base import TransformerModel
from glassformer.models.gpt_presets import PRESETS
from glassformer.models.inputs import check_ids, read_mask
from glassformer.models.stack import BlockPlan, check_sizes, run_blocks

if TYPE_CHECKING:
    from glassformer.attention import Mask
    from glassformer.contracts import Cache


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
        activation: ``"gelu"``, ``"gelu_tanh"``, ``"swiglu"`` or another of
            ``layers.FEED_FORWARDS``.
        residual: ``"pre"``, ``"post"``, ``"parallel"`` or ``"parallel_shared"``.
        num_kv_heads: key and value heads; fewer than ``num_heads`` is grouped-query attention.
        d_head: width of a head. Default: ``d_model / num_heads``.
        bias: whether projections and norms add biases.
        qkv_bias: whether the projections of query, key and value do. Default: ``bias``.
        out_bias: whether attention's output projection does. Default: ``bias``.
        ff_bias: whether the feed-forward network does. Default: ``bias``.
        norm_eps: epsilon of the norms.
        tie_embeddings: whether the output projection is the token embedding.
        window: see only the last so many tokens, itself included (Mistral; Jiang et al. 2023). Default: all.
        kernel: ``"fused"`` or ``"textbook"``.
        gradient_checkpointing: recompute each block in the backward pass instead of keeping its inside.
        pruned_heads: numbers of the heads that are gone, a list for each layer, by kind of attention:
            ``{"self": [[0, 3], []]}``. The sizes above are those from before. Default: none.

    Raises:
        ValueError: sizes that do not fit each other, or a word that stands for nothing.

    """

    family = "gpt"
    task = "causal_lm"
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
        qkv_bias: bool | None = None,
        out_bias: bool | None = None,
        ff_bias: bool | None = None,
        norm_eps: float = 1e-5,
        tie_embeddings: bool = True,
        window: int | None = None,
        kernel: str = "fused",
        gradient_checkpointing: bool = False,
        pruned_heads: Mapping[str, Sequence[Sequence[int]]] | None = None,
    ) -> None:
        super().__init__(locals())
        check_sizes(vocab_size=vocab_size, num_layers=num_layers, max_seq_len=max_seq_len)
        if window is not None:
            sliding_window(window)  # refuses one below 1
        plan = BlockPlan(
            d_model=d_model,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            d_head=d_head,
            d_ff=d_ff,
            norm=norm,
            norm_eps=norm_eps,
            activation=activation,
            residual=residual,
            bias=bias,
            qkv_bias=qkv_bias,
            out_bias=out_bias,
            ff_bias=ff_bias,
            kernel=kernel,
            dropout=dropout,
            pruned_heads=pruned_heads,
        )
        self.vocab_size, self.d_model, self.max_seq_len = vocab_size, d_model, max_seq_len
        self.window, self.gradient_checkpointing = window, gradient_checkpointing
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.positions = plan.positions(positions, max_seq_len)
        self.dropout = nn.Dropout(dropout)
        self.blocks = plan.blocks(num_layers, self.positions)
        self.norm = plan.final_norm()
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
        check_ids(input_ids, self.vocab_size)
        seen = 0 if cache is None else cache[0].length
        positions, real = read_mask(input_ids, attention_mask, seen)
        x = self.dropout(self.positions.embed(self.token_embedding(input_ids), positions[..., seen:]))
        x = run_blocks(
            self.blocks,
            x,
            self._visible() if real is None else self._visible() & real,
            bias=self.positions.bias(positions[..., seen:], positions),
            positions=positions[..., seen:],
            cache=cache,
            recompute=self.gradient_checkpointing and self.training,
        )
        hidden: Tensor = self.norm(x)  # (batch, seq, d_model)
        return hidden

    def _visible(self) -> Mask:
        """What each token may see: what came before it, or the last ``window`` tokens of that."""
        return causal() if self.window is None else causal() & sliding_window(self.window)

    def next_token_logits(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, cache: Sequence[Cache] | None = None
    ) -> Tensor:
        """Logits ``(batch, vocab_size)`` for the token after the last column; arguments as ``forward``."""
        logits: Tensor = self.lm_head(self.hidden_states(input_ids, attention_mask, cache)[:, -1])
        return logits

    def make_cache(self, capacity: int) -> list[KVCache]:
        """An empty cache for every layer, with room for ``capacity`` tokens."""
        return [KVCache(capacity) for _ in self.blocks]

    def attentions(self) -> dict[str, list[MultiHeadAttention]]:
        """Attention of each layer, by kind."""
        return {"self": [block.attention for block in self.blocks]}  # type: ignore[misc]

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
