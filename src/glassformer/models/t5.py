"""T5 and the Transformer of 2017: an encoder reads the source, a decoder writes the target.

Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer";
Vaswani et al. 2017, "Attention Is All You Need".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from glassformer.attention import MultiHeadAttention, causal
from glassformer.generation import generate as generate_tokens
from glassformer.generation.prompts import Prompt, check_sequences, is_single, read_prompt
from glassformer.generation.streaming import evaluating
from glassformer.models.base import TransformerModel
from glassformer.models.encoder_decoder import ConditionedDecoder, Stack
from glassformer.models.inputs import check_ids, read_mask
from glassformer.models.stack import BlockPlan, check_sizes
from glassformer.models.t5_presets import PRESETS

if TYPE_CHECKING:
    from glassformer.attention.masks import Padding
    from glassformer.contracts import Cache, Mask


class T5Model(TransformerModel):
    """p(target | source): logits = W_head decoder(embed(target), encoder(embed(source))).

    Every choice is one keyword. The defaults are T5 1.0; with ``positions="sinusoidal"``,
    ``residual="post"``, ``norm="layer"``, biases and scaled embeddings it is the Transformer of 2017 (see
    ``PRESETS``).

    Args:
        vocab_size: number of tokens, shared by source and target.
        d_model: width of the residual streams.
        num_layers: blocks of the encoder.
        num_heads: attention heads in each.
        num_decoder_layers: blocks of the decoder. Default: ``num_layers``.
        d_ff: width inside the feed-forward networks. Default: ``4 * d_model``.
        d_head: width of a head. Default: ``d_model / num_heads``.
        max_seq_len: tokens that encoder and decoder are meant to read; rows of a learned position table.
        dropout: probability, for embeddings, attention weights and outputs of sublayers.
        positions: as in ``GPTModel``. With ``"relative_bias"`` the encoder's and the decoder's layers each
            share one table; cross-attention has none (section 2.1).
        norm: ``"rms"`` or ``"layer"``.
        activation: as in ``GPTModel``; T5 1.0 has ``"relu"``, 1.1 ``"geglu_tanh"``.
        residual: ``"pre"`` or ``"post"``, or one of ``layers.RESIDUALS``.
        bias: whether projections and norms add biases.
        norm_eps: epsilon of the norms.
        attention_scale: what scores are multiplied by; 1 is T5, None is 1 / sqrt(d_head) (2017).
        tie_embeddings: whether the output projection is the token embedding.
        scale_embeddings: multiply embeddings by sqrt(d_model) (Vaswani et al. 2017, section 3.4).
        scale_logits: divide what the output projection reads by sqrt(d_model) (T5 1.0, whose embeddings are
            tied and large).
        start_token: what the decoder reads first.
        end_token: what ends a target.
        pad_token: what fills up shorter rows.
        kernel: ``"fused"`` or ``"textbook"``.
        gradient_checkpointing: recompute each block in the backward pass instead of keeping its inside.
        pruned_heads: numbers of the heads that are gone, a list for each layer, by kind of attention:
            ``"encoder"``, ``"decoder"``, ``"cross"``. The sizes above are those from before. Default: none.

    Raises:
        ValueError: sizes that do not fit each other, or a word that stands for nothing.

    """

    family = "t5"
    task = "seq2seq_lm"
    is_encoder_decoder = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        num_layers: int,
        num_heads: int,
        num_decoder_layers: int | None = None,
        d_ff: int | None = None,
        d_head: int | None = None,
        max_seq_len: int = 512,
        dropout: float = 0.0,
        positions: str | Mapping[str, Any] = "relative_bias",
        norm: str = "rms",
        activation: str = "relu",
        residual: str = "pre",
        bias: bool = False,
        norm_eps: float = 1e-6,
        attention_scale: float | None = 1.0,
        tie_embeddings: bool = True,
        scale_embeddings: bool = False,
        scale_logits: bool = True,
        start_token: int = 0,
        end_token: int = 1,
        pad_token: int = 0,
        kernel: str = "fused",
        gradient_checkpointing: bool = False,
        pruned_heads: Mapping[str, Sequence[Sequence[int]]] | None = None,
    ) -> None:
        super().__init__(locals())
        decoder_layers = num_layers if num_decoder_layers is None else num_decoder_layers
        check_sizes(
            vocab_size=vocab_size,
            num_layers=num_layers,
            num_decoder_layers=decoder_layers,
            max_seq_len=max_seq_len,
        )
        for name, token in (("start", start_token), ("end", end_token), ("pad", pad_token)):
            if not 0 <= token < vocab_size:
                raise ValueError(
                    f"{name}_token {token} is not in the vocabulary: ids are 0 to {vocab_size - 1}"
                )
        plan = BlockPlan(
            d_model=d_model,
            num_heads=num_heads,
            d_head=d_head,
            d_ff=d_ff,
            norm=norm,
            norm_eps=norm_eps,
            activation=activation,
            residual=residual,
            bias=bias,
            kernel=kernel,
            attention_scale=attention_scale,
            dropout=dropout,
            pruned_heads=pruned_heads,
            kinds=("encoder", "decoder", "cross"),
        )
        self.vocab_size, self.d_model, self.max_seq_len = vocab_size, d_model, max_seq_len
        self.start_token, self.end_token, self.pad_token = start_token, end_token, pad_token
        self.gradient_checkpointing = gradient_checkpointing
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.embedding_scale = math.sqrt(d_model) if scale_embeddings else 1.0
        both_ways = plan.positions(positions, max_seq_len, bidirectional=True)
        backwards = plan.positions(positions, max_seq_len)
        self.encoder = Stack(plan, num_layers, both_ways, "encoder")
        self.decoder = Stack(plan, decoder_layers, backwards, "decoder", cross_attention=True)
        self.logit_scale = d_model**-0.5 if scale_logits else 1.0
        self.lm_head = nn.Linear(d_model, vocab_size, bias=False)
        self.tie_parameters()
        self.initialize()

    def forward(
        self,
        input_ids: Tensor,
        decoder_input_ids: Tensor,
        attention_mask: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Logits for the target's token after each position (teacher forcing: the target is given).

        Args:
            input_ids: the source, ``(batch, source seq)``.
            decoder_input_ids: the target shifted right, ``(batch, target seq)``: ``start_token`` comes first.
            attention_mask: ``(batch, source seq)``, 1 or True for a real token.
            decoder_attention_mask: ``(batch, target seq)``; targets padded on the right need none.

        Returns:
            ``(batch, target seq, vocab_size)``.

        Raises:
            ValueError: an empty source, an id out of range, or a mask of another shape.
            TypeError: ids that are not integers.

        """
        logits: Tensor = self.lm_head(
            self.hidden_states(input_ids, decoder_input_ids, attention_mask, decoder_attention_mask)
        )
        return logits

    def hidden_states(
        self,
        input_ids: Tensor,
        decoder_input_ids: Tensor,
        attention_mask: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        """What ``lm_head`` reads, ``(batch, target seq, d_model)``; arguments as ``forward``."""
        memory, memory_mask = self.encode(input_ids, attention_mask)
        return self.decode(decoder_input_ids, memory, memory_mask, decoder_attention_mask)

    def encode(
        self, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Padding | None]:
        """The source as the decoder reads it, ``(batch, source seq, d_model)``, and its mask of padding."""
        check_ids(input_ids, self.vocab_size)
        positions, mask = read_mask(input_ids, attention_mask)
        if input_ids.size(1) == 0 or (mask is not None and not mask.real.any(dim=1).all()):
            raise ValueError("a source sequence is empty: give each row at least one real token")
        x = self.token_embedding(input_ids) * self.embedding_scale
        memory = self.encoder(x, mask, positions, positions, recompute=self._recomputes())
        return memory, mask

    def decode(
        self,
        decoder_input_ids: Tensor,
        memory: Tensor,
        memory_mask: Mask | None = None,
        decoder_attention_mask: Tensor | None = None,
        cache: Sequence[Cache] | None = None,
        memory_cache: Sequence[Cache] | None = None,
    ) -> Tensor:
        """What ``lm_head`` reads for each token of the target, ``(batch, target seq, d_model)``.

        Args:
            decoder_input_ids: ``(batch, target seq)``; with a cache only the tokens that it has not seen.
            memory: from ``encode``.
            memory_mask: from ``encode``.
            decoder_attention_mask: ``(batch, seen + target seq)``.
            cache: one entry a layer for the target's keys and values.
            memory_cache: one entry a layer for the memory's.

        """
        check_ids(decoder_input_ids, self.vocab_size, "decoder_input_ids")
        if len(decoder_input_ids) != len(memory):
            raise ValueError(f"{len(decoder_input_ids)} targets do not belong to {len(memory)} sources")
        seen = 0 if cache is None else cache[0].length
        positions, real = read_mask(decoder_input_ids, decoder_attention_mask, seen, "decoder_attention_mask")
        x = self.token_embedding(decoder_input_ids) * self.embedding_scale
        hidden: Tensor = self.decoder(
            x,
            causal() if real is None else causal() & real,
            positions[..., seen:],
            positions,
            cache=cache,
            memory=memory,
            memory_mask=memory_mask,
            memory_cache=memory_cache,
            recompute=self._recomputes(),
        )
        return hidden * self.logit_scale

    def conditioned_on(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> ConditionedDecoder:
        """The decoder with its source read, a language model of the target: what generation needs."""
        return ConditionedDecoder(self, *self.encode(input_ids, attention_mask))

    @torch.no_grad()
    def generate(
        self, input_ids: Prompt, max_new_tokens: int, *, attention_mask: Tensor | None = None, **options: Any
    ) -> Any:
        """Write targets for sources: ``generation.generate`` behind ``start_token``.

        Args:
            input_ids: sources: a tensor ``(batch, seq)`` or ``(seq,)``, a list of lists, or one flat list.
            max_new_tokens: tokens of the target at most.
            attention_mask: with a tensor ``(batch, seq)``: 1 or True for a real token.
            options: as in ``generation.generate``: sampling, ``num_beams``, ``num_return_sequences``. Rows
                end with ``end_token`` unless ``stop_tokens`` says otherwise.

        Returns:
            The targets alone, without ``start_token``: a tensor ``(rows, new)`` for a tensor, filled up with
            ``pad_token``, else lists.

        """
        if isinstance(input_ids, Tensor) and attention_mask is not None:
            source, mask = input_ids, attention_mask  # may be padded on either side
        else:
            batch = read_prompt(input_ids, None, self.vocab_size)
            columns = torch.arange(batch.ids.size(1))
            source, mask = batch.ids, columns >= torch.tensor(batch.padding)[:, None]
        check_sequences(input_ids, options.get("num_return_sequences", 1))
        options = {"stop_tokens": [self.end_token], "pad_id": self.pad_token, **options}
        with evaluating(self):
            decoder = self.conditioned_on(source.to(self.device), mask.to(self.device))
            start = torch.full((source.size(0), 1), self.start_token, device=self.device)
            if isinstance(input_ids, Tensor):
                targets = generate_tokens(decoder, start, max_new_tokens, **options)[:, 1:]
                return targets[0] if input_ids.dim() == 1 else targets
            rows = generate_tokens(decoder, start.tolist(), max_new_tokens, **options)
        lists = [row[1:] for row in rows]
        return lists[0] if is_single(input_ids) else lists

    def attentions(self) -> dict[str, list[MultiHeadAttention]]:
        """Attention of each layer, by kind; ``cross`` is the decoder's on the encoder."""
        return {
            "encoder": [block.attention for block in self.encoder.blocks],  # type: ignore[misc]
            "decoder": [block.attention for block in self.decoder.blocks],  # type: ignore[misc]
            "cross": [block.cross_attention for block in self.decoder.blocks],  # type: ignore[misc]
        }

    def tied_parameters(self) -> dict[str, str]:
        """The output projection is the token embedding, unless untied (Press & Wolf 2017)."""
        return {"lm_head.weight": "token_embedding.weight"} if self.config["tie_embeddings"] else {}

    def initialize(self) -> None:
        """Random weights with which every sum starts with a variance near one.

        A matrix is N(0, 1 / inputs); that of queries is made smaller by what the scores are not scaled by.
        Embeddings are N(0, 1), before they are multiplied by sqrt(d_model) if they are (the published code
        of T5; Raffel et al. 2020 do not say).
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                std = self.d_model**-0.5 if name.endswith("positions.embedding") else 1 / self.embedding_scale
                nn.init.normal_(module.weight, std=std)
        for attention in (attention for kind in self.attentions().values() for attention in kind):
            if attention.kernel.scale is not None:
                with torch.no_grad():
                    attention.q_proj.weight.div_(math.sqrt(attention.d_head) * attention.kernel.scale)
        if not self.config["tie_embeddings"]:
            nn.init.normal_(self.lm_head.weight, std=self.d_model**-0.5 / self.logit_scale)
        else:
            nn.init.normal_(self.token_embedding.weight, std=1 / self.embedding_scale)

    def _recomputes(self) -> bool:
        return self.gradient_checkpointing and self.training
