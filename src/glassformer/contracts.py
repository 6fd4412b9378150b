"""How the parts of a transformer meet: the protocols, and nothing else.

Every part that can be exchanged for another (an attention kernel, a mask, a position scheme, a cache, a
tokenizer, a language model) is named here by what it must do. ``tests/conformance/`` holds, for each
protocol, the suite that every implementation has to pass.

Letters in shapes: ``batch``, ``head``, ``kv_head`` (fewer than ``head`` under grouped-query attention),
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
    """A predicate over slots: may the query in slot i attend to the key in slot j?

    A slot is a place in the sequence of keys, padding included. The queries are the last ``q_len`` of the
    ``k_len`` key slots, which is what a cache needs, unless the mask was bound to other slots.
    """

    def dense(self, q_len: int, k_len: int, device: torch.device | None = None) -> Tensor:
        """The predicate written out: boolean, True = may attend.

        Shape ``(q_len, k_len)``, or ``(batch, 1, q_len, k_len)`` where rows of the batch differ.
        """
        ...


class Kernel(Protocol):
    """softmax(q k^T * scale + bias) v, however it is computed."""

    scale: float | None
    """What the scores are multiplied by; None stands for ``1 / sqrt(d_head)``."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Mask | Tensor | None = None, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            q: ``(..., head, query, d_head)``.
            k: ``(..., kv_head, key, d_head)``; ``head`` must be a multiple of ``kv_head``.
            v: ``(..., kv_head, key, d_head)``.
            mask: a ``Mask``, or a boolean tensor that broadcasts to ``(..., head, query, key)``.
            bias: added to the scores, broadcasts to ``(..., head, query, key)``.

        Returns:
            The output ``(..., head, query, d_head)``, and the weights ``(..., head, query, key)`` before
            dropout, or None from a kernel that never forms them. A query that may attend to nothing gets
            zeros.

        """
        ...


class Positions(Protocol):
    """One scheme that tells a transformer where its tokens are. Each method is the identity by default.

    Positions count real tokens from zero, ``(seq,)`` or ``(batch, seq)``: padding on the left does not
    shift them and a cache continues them.
    """

    max_positions: int | None
    """Positions the scheme has an entry for; None where it can be computed for any position."""
    extrapolates: bool
    """Whether the scheme was made to be used past the length that it was trained on."""

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Token embeddings ``(batch, seq, d_model)`` with positions added. The model calls it once."""
        ...

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """What is added to attention scores, ``(1 or batch, head, query, key)``. Called once per forward."""
        ...

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """Queries or keys ``(batch, head, seq, d_head)``, rotated. Attention calls it in every layer."""
        ...


class Cache(Protocol):
    """The keys and values that one attention layer has seen."""

    @property
    def length(self) -> int:
        """Slots in use."""
        ...

    @property
    def complete(self) -> bool:
        """Whether all keys there will ever be are in it: then attention projects none, and reads these."""
        ...

    @property
    def origin(self) -> Tensor | None:
        """Which row each row was at the last ``append``, ``(rows,)``; None where no row was moved since."""
        ...

    def read(self) -> tuple[Tensor, Tensor]:
        """All keys and values so far, ``(batch, kv_head, length, d_head)``."""
        ...

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Take in ``(batch, kv_head, new, d_head)`` and return all keys and values so far."""
        ...

    def select(self, rows: Tensor) -> None:
        """Keep the given rows of the batch, in the given order (repeats allowed)."""
        ...

    def clear(self) -> None:
        """Forget everything; keep the memory."""
        ...


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back. ``decode(encode(text)) == text`` unless the class says what it loses."""

    @property
    def vocab_size(self) -> int:
        """Ids are in ``range(vocab_size)``."""
        ...

    @property
    def end_of_text(self) -> int | None:
        """The id that separates documents, or None where the vocabulary has no such id."""
        ...

    @property
    def pad_token(self) -> int | None:
        """The id that fills up shorter rows, or None where the vocabulary has no such id."""
        ...

    @property
    def mask_token(self) -> int | None:
        """The id that stands for a hidden token, or None where the vocabulary has no such id."""
        ...

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without any id added around it."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` of each text, in parallel where the implementation can."""
        ...

    def spans(self, text: str) -> list[tuple[int, int]]:
        """For each id of ``encode(text)`` the characters ``[start, end)`` of the text that it covers.

        An id that is a part of a character covers that character. Starts never decrease, and neither do
        ends. A space that is only put before the text covers nothing; what the tokenizer drops of a text is
        covered by nothing.
        """
        ...

    def add_marks(self, ids: Sequence[int], pair: Sequence[int] | None = None) -> list[int]:
        """The ids of a text, or of two, with the ids around them that a model was trained to see.

        BERT: ``[CLS] ids [SEP] pair [SEP]``; T5: ``ids </s>``; Llama: ``<s> ids``; GPT-2: ``ids``.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids. Bytes that are no UTF-8 become U+FFFD."""
        ...

    def label(self, token_id: int) -> str:
        """One token for the eye: never empty, spaces and newlines made visible."""
        ...

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` into the folder; ``tokenization.load_tokenizer`` reads it back."""
        ...


class LanguageModel(Protocol):
    """What generation needs to know of a decoder-only model."""

    vocab_size: int
    max_seq_len: int

    @property
    def positions(self) -> Positions:
        """The scheme that decides what generation does past ``max_seq_len``."""
        ...

    def next_token_logits(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, cache: Sequence[Cache] | None = None
    ) -> Tensor:
        """Logits ``(batch, vocab_size)`` for the token after the last column of ``input_ids``.

        Args:
            input_ids: ``(batch, new)``: with a cache only the tokens that it has not seen.
            attention_mask: ``(batch, seen + new)``, 1 or True for a real token.
            cache: one entry a layer.

        """
        ...

    def make_cache(self, capacity: int) -> Sequence[Cache]:
        """An empty cache for every layer with room for ``capacity`` slots."""
        ...
