"""Protocols of the exchangeable parts: masks, kernels, biases, position schemes, caches, tokenizers, models.

``tests/conformance/`` has a test suite for each protocol, which every implementation must pass.

Dimensions in shapes: ``batch``, ``head``, ``kv_head`` (fewer than ``head`` in grouped-query attention),
``query`` and ``key`` (sequence lengths), ``d_head``, ``d_model``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@runtime_checkable
class Mask(Protocol):
    """An attention mask as a predicate: may the query in slot i attend to the key in slot j?

    A slot is an index into the keys, padding included. The queries are the last ``q_len`` of the ``k_len``
    key slots, as with a cache, unless the mask is bound to other slots.
    """

    def dense(self, q_len: int, k_len: int, device: torch.device | None = None) -> Tensor:
        """Return the mask as a boolean tensor, True = may attend.

        Its shape is ``(q_len, k_len)``, or ``(batch, 1, q_len, k_len)`` if rows of the batch differ.
        """
        ...


class ScoreBias(Protocol):
    """A bias of the attention scores that stays symbolic, so that a kernel can compute a part at a time."""

    def dense(self) -> Tensor:
        """Return the whole bias, ``(1 or batch, head, query, key)``."""
        ...

    def tile(self, query: slice, key: slice | Tensor, rows: slice = slice(None)) -> Tensor:
        """Return the bias of some queries and keys, given by their indices, of some rows of the batch."""
        ...

    def parameters(self) -> list[Tensor]:
        """Return the learned tensors that it is computed from."""
        ...

    def select(self, heads: Sequence[int]) -> ScoreBias:
        """Return the bias of the given heads alone."""
        ...


class Kernel(Protocol):
    """An implementation of attention: a mean of the values, weighted by queries and keys.

    The weights are softmax(q k^T * scale + bias), in all kernels but linear attention. Kernels that compute
    them a part at a time take a ``ScoreBias`` as it is. The kernel of a cache with ``is_state`` takes it as
    the keyword ``state``, and continues its sums.
    """

    scale: float | None
    """Factor of the scores; None means the kernel's default, ``1 / sqrt(d_head)`` for softmax attention."""
    softcap: float | None
    """Largest absolute value of a score s, which is softcap * tanh(s / softcap) then; None for no limit."""
    is_softmax: bool
    """Whether the weights are a softmax of scores; those of linear attention are not."""
    takes_score_bias: bool
    """Whether ``bias`` may be a ``ScoreBias``."""

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Mask | Tensor | None = None,
        bias: Tensor | ScoreBias | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute attention.

        Args:
            q: ``(..., head, query, d_head)``.
            k: ``(..., kv_head, key, d_head)``; ``head`` is a multiple of ``kv_head``.
            v: ``(..., kv_head, key, d_head)``.
            mask: a ``Mask``, or a boolean tensor that broadcasts to ``(..., head, query, key)``.
            bias: added to the scores; broadcasts to ``(..., head, query, key)``.

        Returns:
            The output ``(..., head, query, d_head)``, and the weights ``(..., head, query, key)`` before
            dropout, or None if the kernel never computes them. The output is zero for a query that may not
            attend to any key.
        """
        ...

    def weights(
        self,
        q: Tensor,
        k: Tensor,
        mask: Mask | Tensor | None = None,
        bias: Tensor | ScoreBias | None = None,
    ) -> Tensor:
        """Return the weights that the kernel stands for, ``(..., head, query, key)``, without dropout.

        The arguments are those of a call. Each row sums to one; a row that may attend to nothing is zero.
        """
        ...

    def check_takes(self, mask: Mask | None, is_biased: bool) -> None:
        """Raise ValueError if the kernel cannot compute attention with such a mask, or with a bias."""
        ...

    def make_cache(self, capacity: int, window: int | None = None) -> Cache:
        """Return an empty cache of self-attention, with room for ``capacity`` tokens.

        Args:
            capacity: largest number of tokens.
            window: number of last keys to which a query attends; None if it attends to all.
        """
        ...


class Positions(Protocol):
    """A position scheme. Each method is the identity, or None, in schemes that do not use it.

    Positions are indices of real tokens, ``(seq,)`` or ``(batch, seq)``: padding on the left does not shift
    them, and with a cache they continue.
    """

    max_positions: int | None
    """Number of positions in the scheme's table; None for a scheme without a table."""
    extrapolates: bool
    """Whether the scheme is designed for sequences longer than those of training."""
    max_cached_len: int | None
    """Length beyond which each token changes the rotation of all others, so that cached keys are outdated."""

    @property
    def has_bias(self) -> bool:
        """Whether ``bias`` returns a tensor."""
        ...

    def of_layer(self, layer: int) -> Positions:
        """Return the scheme whose ``rotate`` a layer uses: itself, unless layers differ."""
        ...

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add positions to token embeddings ``(batch, seq, d_model)``. Called once per forward pass."""
        ...

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """Return a bias of the attention scores, ``(1 or batch, head, query, key)``. Called once per pass."""
        ...

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """Rotate queries or keys ``(batch, head, seq, d_head)``. Called in every layer."""
        ...


class Cache(Protocol):
    """What one attention layer keeps of earlier tokens.

    All keys and values (``KVCache``), those of a window (``SlidingWindowCache``), or sums over them
    (``LinearStateCache``), which linear attention continues.
    """

    is_state: bool
    """Whether it holds sums instead of keys. It is then passed to the kernel as ``state``."""

    @property
    def length(self) -> int:
        """Number of tokens so far."""
        ...

    def num_keys(self, new: int) -> int:
        """Return the number of keys that ``append`` will return for ``new`` further ones: the last ones."""
        ...

    @property
    def is_filled(self) -> bool:
        """Whether the cache has all keys and values that there will be, so that none need to be projected."""
        ...

    @property
    def selected_rows(self) -> Tensor | None:
        """For each row its index at the last ``append``, ``(batch,)``; None without ``select`` since then."""
        ...

    def read(self) -> tuple[Tensor, Tensor]:
        """Return the keys and values that are kept, ``(batch, kv_head, key, d_head)``."""
        ...

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values ``(batch, kv_head, new, d_head)``.

        Returns:
            The keys and values to which the new tokens may attend, in the order of the tokens.
        """
        ...

    def select(self, rows: Tensor) -> None:
        """Replace the batch by the given rows of it, ``(new_batch,)``; rows may be repeated."""
        ...

    def clear(self) -> None:
        """Remove all keys and values, but keep the memory allocated."""
        ...


@runtime_checkable
class Tokenizer(Protocol):
    """A two-way mapping of text and token ids.

    ``decode(encode(text)) == text``, unless the class documents what is lost.
    """

    @property
    def vocab_size(self) -> int:
        """Ids are in ``range(vocab_size)``."""
        ...

    @property
    def end_of_text(self) -> int | None:
        """Id of the token that separates documents; None if there is none."""
        ...

    @property
    def pad_token(self) -> int | None:
        """Id of the padding token; None if there is none."""
        ...

    @property
    def mask_token(self) -> int | None:
        """Id of the mask token; None if there is none."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens around it."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode each text, in parallel if the implementation can."""
        ...

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return for each id of ``encode(text)`` the characters ``[start, end)`` that it covers.

        An id for a part of a character covers that character. Starts never decrease, and neither do ends. A
        space that the tokenizer adds before the text covers nothing.
        """
        ...

    def add_special_tokens(self, ids: Sequence[int], pair: Sequence[int] | None = None) -> list[int]:
        """Add the special tokens that the model expects around one text, or around two.

        BERT: ``[CLS] ids [SEP] pair [SEP]``; T5: ``ids </s>``; Llama: ``<s> ids``; GPT-2: ``ids``.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids. Invalid UTF-8 becomes U+FFFD."""
        ...

    def label(self, token_id: int) -> str:
        """Return a nonempty, printable label of one token; spaces and newlines become visible symbols."""
        ...

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` into the folder, for ``tokenization.load_tokenizer``."""
        ...


class LanguageModel(Protocol):
    """What text generation needs of a model that predicts the next token."""

    vocab_size: int
    max_seq_len: int

    @property
    def positions(self) -> Positions:
        """The position scheme, which decides what generation does beyond ``max_seq_len``."""
        ...

    def next_token_logits(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, cache: Sequence[Cache] | None = None
    ) -> Tensor:
        """Return logits ``(batch, vocab_size)`` for the token after the last real one of each row.

        Args:
            input_ids: ``(batch, new)``: with a cache, only the tokens that are not in it.
            attention_mask: ``(batch, cached + new)``, 1 or True for a real token.
            cache: one cache per layer.
        """
        ...

    def make_cache(self, capacity: int) -> Sequence[Cache]:
        """Return an empty cache for each layer, with room for ``capacity`` tokens."""
        ...
