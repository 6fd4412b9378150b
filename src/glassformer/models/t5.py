"""Encoder-decoders: T5 (Raffel et al. 2020) and the Transformer (Vaswani et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import Tensor, nn

from glassformer.attention import CrossAttentionCache, MultiHeadAttention
from glassformer.attention.patterns import AttentionPattern
from glassformer.eval_mode import eval_mode
from glassformer.generation import GenerationOptions
from glassformer.generation import generate as generate_tokens
from glassformer.generation.options import documents_options
from glassformer.generation.prompts import Prompt, batch_prompts, check_num_return_sequences, is_single
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
from glassformer.models.config import T5Config
from glassformer.models.inputs import (
    check_cached_len,
    check_ids,
    embed_ids,
    last_token,
    positions_and_padding,
)
from glassformer.models.presets import T5_PRESETS
from glassformer.tracing import is_tracing

if TYPE_CHECKING:
    from glassformer.attention.masks import Padding
    from glassformer.contracts import Cache, Mask


class Stack(nn.Module):
    """norm(block_L(... block_1(x + positions))): an encoder, or a decoder with cross-attention.

    Args:
        config: hyperparameters of the model.
        num_layers: number of blocks.
        kind: kind of its self-attention: ``"encoder"`` or ``"decoder"``.

    """

    def __init__(self, config: T5Config, num_layers: int, kind: str) -> None:
        super().__init__()
        is_decoder = kind == "decoder"
        self.positions = build_model_positions(
            config, config.max_seq_len, num_layers, bidirectional=not is_decoder
        )
        self.pattern = AttentionPattern(config.pattern, config.max_seq_len, is_causal=is_decoder)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = build_blocks(config, num_layers, self.positions, kind=kind, cross_attention=is_decoder)
        for block in self.blocks:
            check_attention(block, self.pattern, self.positions)
        self.norm = build_final_norm(config)

    def forward(
        self,
        x: Tensor,
        mask: Mask | None,
        positions: Tensor,
        key_positions: Tensor,
        *,
        cache: Sequence[Cache] | None = None,
        memory: Tensor | None = None,
        memory_mask: Mask | None = None,
        memory_cache: Sequence[Cache] | None = None,
    ) -> Tensor:
        """Apply the blocks, ``(batch, seq, d_model) -> (batch, seq, d_model)``; see ``TransformerBlock``."""
        x = self.dropout(self.positions.embed(x, positions))
        bias = score_bias(self.blocks, self.positions, positions, key_positions)
        for layer, block in enumerate(self.blocks):
            x = block(
                x,
                mask,
                bias=bias,
                positions=positions,
                cache=None if cache is None else cache[layer],
                memory=memory,
                memory_mask=memory_mask,
                memory_cache=None if memory_cache is None else memory_cache[layer],
            )
        hidden: Tensor = self.norm(x)
        return hidden


class T5Model(TransformerModel):
    """p(target | source): logits = W_head decoder(embed(target), encoder(embed(source))).

    The default hyperparameters are those of T5 1.0. The preset ``"transformer-base"`` is the Transformer of
    2017: sinusoidal positions, post-norm, layer norm, biases and scaled embeddings.
    """

    family = "t5"
    config_class = T5Config
    presets = T5_PRESETS
    task = "seq2seq_lm"
    is_encoder_decoder = True
    config: T5Config

    def __init__(self, *args: Any, **hyperparameters: Any) -> None:
        config = T5Config(*args, **hyperparameters)
        super().__init__(config)
        self.vocab_size, self.d_model, self.max_seq_len = (
            config.vocab_size,
            config.d_model,
            config.max_seq_len,
        )
        self.start_token, self.end_token = config.start_token, config.end_token
        self.pad_token = config.pad_token
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.embedding_scale = config.embedding_scale
        self.encoder = Stack(config, config.num_layers, "encoder")
        self.decoder = Stack(config, config.num_decoder_layers or config.num_layers, "decoder")
        self.logit_scale = config.d_model**-0.5 if config.scale_logits else 1.0
        self.lm_head = Linear(config.d_model, config.vocab_size, bias=False)
        self.tie_parameters()
        self.initialize()

    def forward(
        self,
        input_ids: Tensor,
        decoder_input_ids: Tensor,
        attention_mask: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Compute the logits of the target's next token at each position (teacher forcing).

        Args:
            input_ids: the source, ``(batch, source seq)``.
            decoder_input_ids: the target shifted right, ``(batch, target seq)``; begins with ``start_token``.
            attention_mask: ``(batch, source seq)``, 1 or True for a real token.
            decoder_attention_mask: ``(batch, target seq)``; targets padded on the right need none.

        Returns:
            ``(batch, target seq, vocab_size)``.

        Raises:
            ValueError: if a source is empty, an id is out of range, or a mask has another shape.
            TypeError: if the ids are not integers.

        """
        return self.unembed(
            self.hidden_states(input_ids, decoder_input_ids, attention_mask, decoder_attention_mask)
        )

    def unembed(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states, ``(..., d_model) -> (..., vocab_size)``."""
        logits: Tensor = self.lm_head(hidden)
        return logits

    def hidden_states(
        self,
        input_ids: Tensor,
        decoder_input_ids: Tensor,
        attention_mask: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        """The input of ``unembed``, ``(batch, target seq, d_model)``; see ``forward``."""
        memory, memory_mask = self.encode(input_ids, attention_mask)
        return self.decode(decoder_input_ids, memory, memory_mask, decoder_attention_mask)

    def encode(
        self, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Padding | None]:
        """Encode the source: hidden states ``(batch, source seq, d_model)`` and the padding mask."""
        input_ids = check_ids(input_ids)
        positions, padding_mask = positions_and_padding(input_ids, attention_mask)
        if input_ids.size(1) == 0 or (
            padding_mask is not None and not is_tracing() and not padding_mask.attention_mask.any(1).all()
        ):
            raise ValueError("a source sequence is empty: give each row at least one real token")
        x = embed_ids(self.token_embedding, input_ids) * self.embedding_scale
        mask = self.encoder.pattern.mask(input_ids.size(1), padding_mask)
        return self.encoder(x, mask, positions, positions), padding_mask

    def decode(
        self,
        decoder_input_ids: Tensor,
        memory: Tensor,
        memory_mask: Mask | None = None,
        decoder_attention_mask: Tensor | None = None,
        cache: Sequence[Cache] | None = None,
        memory_cache: Sequence[Cache] | None = None,
    ) -> Tensor:
        """Decode: the input of ``unembed`` for each token of the target, ``(batch, target seq, d_model)``.

        Args:
            decoder_input_ids: ``(batch, target seq)``; with a cache only the new tokens.
            memory: from ``encode``.
            memory_mask: from ``encode``.
            decoder_attention_mask: ``(batch, cached + target seq)``.
            cache: of self-attention, one entry for each layer.
            memory_cache: of cross-attention, one entry for each layer.

        """
        decoder_input_ids = check_ids(decoder_input_ids, "decoder_input_ids")
        if decoder_input_ids.size(0) != memory.size(0):
            raise ValueError(f"got {decoder_input_ids.size(0)} targets for {memory.size(0)} sources")
        cached = 0 if cache is None else cache[0].length
        key_positions, padding_mask = positions_and_padding(
            decoder_input_ids, decoder_attention_mask, cached, "decoder_attention_mask"
        )
        check_cached_len(self.decoder.positions, cached, key_positions)
        positions = key_positions[..., cached:]
        new, of_layer = decoder_input_ids.size(1), None if cache is None else cache[0]
        key_positions, padding_mask = last_keys(of_layer, key_positions, padding_mask, new)
        x = embed_ids(self.token_embedding, decoder_input_ids) * self.embedding_scale
        hidden: Tensor = self.decoder(
            x,
            self.decoder.pattern.mask(key_positions.size(-1), padding_mask),
            positions,
            key_positions,
            cache=cache,
            memory=memory,
            memory_mask=memory_mask,
            memory_cache=memory_cache,
        )
        return hidden * self.logit_scale

    def conditioned_on(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> ConditionedDecoder:
        """The decoder conditioned on encoded sources: a language model of the target, for generation."""
        return ConditionedDecoder(self, *self.encode(input_ids, attention_mask))

    @documents_options
    @torch.no_grad()
    def generate(self, input_ids: Prompt, max_new_tokens: int, **options: Unpack[GenerationOptions]) -> Any:
        """Generate targets for sources; see ``generation.generate``.

        Args:
            input_ids: sources: a tensor ``(batch, seq)`` or ``(seq,)``, a list of lists, or one flat list.
            max_new_tokens: maximum length of the target.
            options: the fields of ``GenerationConfig``.

        Returns:
            The targets without ``start_token``: a tensor ``(rows, new)`` padded with ``pad_token`` if the
            sources are a tensor, otherwise lists. By default, a target ends with one of ``stop_tokens``, or
            with ``end_token`` if there are none.

        """
        attention_mask = options.pop("attention_mask", None)
        if isinstance(input_ids, Tensor) and attention_mask is not None:
            source, mask = input_ids, attention_mask  # padding may be on either side
        else:
            batch = batch_prompts(input_ids, None, self.vocab_size)
            columns = torch.arange(batch.ids.size(1))
            source, mask = batch.ids, columns >= torch.tensor(batch.padding)[:, None]
        check_num_return_sequences(input_ids, options.get("num_return_sequences", 1))
        defaults: Any = {"stop_tokens": self.stop_tokens or [self.end_token], "pad_id": self.pad_token}
        options = {**defaults, **options}
        with eval_mode(self):
            decoder = self.conditioned_on(source.to(self.device), mask.to(self.device))
            start = torch.full((source.size(0), 1), self.start_token, device=self.device)
            if isinstance(input_ids, Tensor):
                targets = generate_tokens(decoder, start, max_new_tokens, **options)[:, 1:]
                return targets[0] if input_ids.dim() == 1 else targets
            rows = generate_tokens(decoder, start.tolist(), max_new_tokens, **options)
        lists = [row[1:] for row in rows]
        return lists[0] if is_single(input_ids) else lists

    def attentions(self) -> dict[str, list[MultiHeadAttention]]:
        """The attention modules by kind, one for each layer; ``cross`` is the decoder's cross-attention."""
        return {
            "encoder": [block.attention for block in self.encoder.blocks],  # type: ignore[misc]
            "decoder": [block.attention for block in self.decoder.blocks],  # type: ignore[misc]
            "cross": [block.cross_attention for block in self.decoder.blocks],  # type: ignore[misc]
        }

    def tied_parameters(self) -> dict[str, str]:
        """The output projection is the token embedding, unless untied (Press & Wolf 2017)."""
        return {"lm_head.weight": "token_embedding.weight"} if self.config.tie_embeddings else {}

    def initialize(self) -> None:
        """Draw random weights such that sums start with a variance near one.

        Matrices are N(0, 1 / inputs); those of queries are divided by the missing scale of the scores.
        Embeddings are N(0, 1), after the multiplication by sqrt(d_model) if there is one (the published code
        of T5; Raffel et al. 2020 do not describe it).
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
        if not self.config.tie_embeddings:
            nn.init.normal_(self.lm_head.weight, std=self.d_model**-0.5 / self.logit_scale)
        else:
            nn.init.normal_(self.token_embedding.weight, std=1 / self.embedding_scale)


@dataclass(frozen=True)
class EncodedSource:
    """The encoder's output, its padding mask, and each decoder layer's keys and values of it."""

    memory: Tensor
    mask: Padding | None
    cache: list[CrossAttentionCache]

    def repeat(self, copies: int) -> EncodedSource:
        """Repeat each row ``copies`` times, with its cached keys and values."""
        rows = torch.arange(len(self.memory), device=self.memory.device).repeat_interleave(copies)
        cache = [copy(layer) for layer in self.cache]
        for layer in cache:
            layer.select(rows)
        return EncodedSource(self.memory[rows], None if self.mask is None else self.mask.select(rows), cache)


class ConditionedDecoder(nn.Module):
    """A decoder with encoded sources: a language model of the target (``contracts.LanguageModel``).

    Rows of one source are adjacent: row r belongs to source r // copies, so that reordering beams moves no
    sources. Each layer computes the keys and values of the sources once.
    """

    def __init__(self, model: T5Model, memory: Tensor, memory_mask: Padding | None) -> None:
        super().__init__()
        self.model = model
        self.vocab_size, self.max_seq_len = model.vocab_size, model.max_seq_len
        self.positions = model.decoder.positions
        self._source = EncodedSource(
            memory, memory_mask, [CrossAttentionCache() for _ in model.decoder.blocks]
        )
        self._repeated = self._source

    def next_token_logits(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, cache: Sequence[Cache] | None = None
    ) -> Tensor:
        """Logits ``(batch, vocab_size)`` after the last real token of each target ``(batch, new)``."""
        source = self._source_for(input_ids.size(0))
        hidden = self.model.decode(input_ids, source.memory, source.mask, attention_mask, cache, source.cache)
        return self.model.unembed(last_token(hidden, attention_mask))

    def make_cache(self, capacity: int) -> list[Cache]:
        """An empty cache for each layer of the decoder, with room for ``capacity`` tokens."""
        decoder = self.model.decoder
        return make_cache(decoder.blocks, capacity, [decoder.pattern.window] * len(decoder.blocks))

    def _source_for(self, rows: int) -> EncodedSource:
        """The sources, repeated to the given number of target rows."""
        copies = rows // len(self._source.memory)
        if copies <= 1:
            return self._source
        if len(self._repeated.memory) != copies * len(self._source.memory):
            self._repeated = self._source.repeat(copies)
        return self._repeated
