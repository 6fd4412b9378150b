"""Backends: how a model of each task encodes a text and predicts tokens for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from glassformer.analysis import EncodedText, encode_text
from glassformer.analysis.inputs import special_token_adder
from glassformer.contracts import Cache, LanguageModel
from glassformer.models import TransformerModel
from glassformer.terminal import count_of
from glassformer.tokenization import MASK, ByteTokenizer, encode_typed_text

MAX_QUOTED = 40
"""Characters of the end of a truncated text that a note quotes."""


@dataclass(frozen=True)
class TokenLimit:
    """Maximum number of tokens of a text."""

    max_tokens: int
    """Of the server; at most that of the model."""
    max_seq_len: int
    """Of the model."""

    def __str__(self) -> str:
        if self.max_tokens >= self.max_seq_len:
            return f"the model accepts at most {count_of(self.max_seq_len, 'token')}"
        return (
            f"this server accepts at most {count_of(self.max_tokens, 'token')} (--max-tokens), "
            f"the model {self.max_seq_len:,}"
        )


@dataclass(frozen=True)
class TruncatedText(EncodedText):
    """The token ids of a text, truncated to the limit."""

    truncated: tuple[int, ...] = ()
    """Token ids that were cut off."""
    cut_at: int = 0
    """Index in ``ids`` at which they were cut off."""


class Predictor(Protocol):
    """Next-token or masked-token logits for one text."""

    def logits(self, generated: list[int]) -> Tensor | None:
        """``(vocab_size,)`` for the token after the generated ones; None if there is no place for one."""
        ...

    def use_output(self, generated: list[int], output: Tensor) -> None:
        """Take the logits from the model's output ``(1, seq, vocab_size)`` for text and generated tokens."""
        ...


class Backend:
    """Interface of a model to the page, shared by all tasks.

    Args:
        model: a model of texts.
        limit: maximum number of tokens.

    Raises:
        ValueError: a model without a tokenizer whose vocabulary is too small for bytes.
    """

    predicts: ClassVar[str] = ""
    """What is predicted, in words; empty for a model without a language modeling head."""
    example: ClassVar[str] = "The cat sat on the mat because"
    """The text that the page starts with."""
    has_chat_template: bool = False
    """Whether a text can be a message in a conversation."""

    def __init__(self, model: Any, limit: TokenLimit) -> None:
        self.model, self.limit, self.max_tokens = model, limit, limit.max_tokens
        self.tokenizer = model.tokenizer or ByteTokenizer()
        self.add_special_tokens = special_token_adder(model, model.tokenizer)
        self.notes = encode_text(model, "a").notes if model.tokenizer is None else ()
        self.mask: int | None = self.tokenizer.mask_token if model.task == "masked_lm" else None

    def encode(self, text: str) -> TruncatedText:
        """Encode and truncate a text. See ``tokenization.encode_typed_text`` for special tokens in it.

        Raises:
            ValueError: an empty text.
        """
        ids, notes = encode_typed_text(self.tokenizer, text, predicts_masks=self.mask is not None)
        return self._truncate(encode_text(self.model, text, self.max_tokens), ids, notes)

    def encode_chat(self, message: str) -> TruncatedText:
        """Encode a message of the user by the model's chat template, up to the beginning of the answer.

        Raises:
            ValueError: no chat template, or one that refuses the message; or the message is too long.
        """
        raise ValueError("this model has no chat template")

    def predictor(self, source: list[int]) -> Predictor:
        """A predictor for a text; it caches, so all its calls must ablate the same heads.

        Args:
            source: token ids of the text.
        """
        raise NotImplementedError

    def max_generated(self, source: list[int]) -> int:
        """Number of generated tokens that fit beside the text."""
        return self.max_tokens - len(source)

    def full_message(self, encoded: TruncatedText) -> str:
        """Why no further token can be predicted."""
        return f"No token can be added: {self.limit}."

    def explorer_inputs(self, source: list[int], generated: list[int]) -> dict[str, Any]:
        """Keyword arguments of the explorer for the text and the generated tokens."""
        return {"text": source + generated}

    def last_hidden_states(self, source: list[int]) -> Tensor:
        """Output of the last layer, ``(seq, d_model)``."""
        hidden: Tensor = self.model.hidden_states(torch.tensor([source], device=self.model.device))
        return hidden[0]

    def _truncate(self, encoded: EncodedText, ids: list[int], notes: Sequence[str]) -> TruncatedText:
        """Note what was cut off.

        Args:
            encoded: the text, truncated, with special tokens.
            ids: token ids of the whole text, without special tokens.
            notes: remarks on the text.
        """
        length = len(self.add_special_tokens(ids))
        kept = len(ids) - max(0, length - self.max_tokens)
        if kept == len(ids):
            return TruncatedText(encoded.ids, encoded.labels, encoded.is_delimiter, encoded.notes)
        kept = max(0, kept)
        truncated = tuple(ids[kept:])
        masks = "" if self.mask not in truncated else f" (with {truncated.count(self.mask)} {MASK})"
        end = _last_words(self.tokenizer.decode(ids[:kept]))
        note = f"{len(truncated):,} of {length:,} tokens{masks} were truncated after “{end}”: {self.limit}"
        # The special tokens before the text: the common prefix of two different texts.
        pairs = zip(self.add_special_tokens([0]), self.add_special_tokens([1]), strict=False)
        prefix = next((index for index, (a, b) in enumerate(pairs) if a != b), 0)
        notes = (*self.notes, note, *notes)
        return TruncatedText(
            encoded.ids, encoded.labels, encoded.is_delimiter, notes, truncated, prefix + kept
        )


class Encoder(Backend):
    """An encoder without masked-LM head: only its attention and its hidden states are shown."""


class Decoder(Backend):
    """A decoder: predicts the token after the text."""

    predicts = "the next token"

    def __init__(self, model: Any, limit: TokenLimit) -> None:
        super().__init__(model, limit)
        self.has_chat_template = bool(getattr(self.tokenizer, "chat_templates", None))
        self._chat_ids = lru_cache(maxsize=1)(self._apply_chat_template)

    def encode_chat(self, message: str) -> TruncatedText:
        """Encode a message, up to the beginning of the answer."""
        if not self.has_chat_template:
            return super().encode_chat(message)
        if len(ids := self._chat_ids(message)) > self.max_tokens:
            raise ValueError(f"with the chat template, the message has {len(ids):,} tokens, but {self.limit}")
        encoded, notes = encode_text(self.model, ids), encode_typed_text(self.tokenizer, message)[1]
        return TruncatedText(encoded.ids, encoded.labels, encoded.is_delimiter, (*encoded.notes, *notes))

    def _apply_chat_template(self, message: str) -> list[int]:
        tokenizer: Any = self.tokenizer
        messages = [{"role": "user", "content": message}]
        ids: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        return ids

    def predictor(self, source: list[int]) -> Predictor:
        """Continue the text."""
        return CausalPredictor(self.model, source, self.max_tokens, self.model.device)


class Seq2Seq(Backend):
    """An encoder-decoder: predicts the next token of a target for the text."""

    predicts = "the next token of the target"

    def predictor(self, source: list[int]) -> Predictor:
        """Continue the target from its start token."""
        device = self.model.device
        decoder = self.model.conditioned_on(torch.tensor([source], device=device))
        return CausalPredictor(decoder, [self.model.start_token], self.max_tokens, device)

    def max_generated(self, source: list[int]) -> int:
        """Maximum length of the target, which does not depend on the source."""
        return self.max_tokens

    def explorer_inputs(self, source: list[int], generated: list[int]) -> dict[str, Any]:
        """Source and target."""
        return {"text": source, "target_text": generated or None}


class MaskedLM(Backend):
    """An encoder with masked-LM head: predicts the first [MASK], filling them from left to right."""

    predicts = f"the first {MASK}"
    example = f"The cat sat on the {MASK}."

    mask: int

    def predictor(self, source: list[int]) -> Predictor:
        """Fill the masks of the text."""
        return MaskPredictor(self.model, source, self.mask)

    def max_generated(self, source: list[int]) -> int:
        """Number of masks."""
        return source.count(self.mask)

    def full_message(self, encoded: TruncatedText) -> str:
        """Whether all masks are filled, or some were truncated."""
        if self.mask not in encoded.truncated:
            return f"No {MASK} is left: write one into the text where a token is to be predicted."
        which = f"The next {MASK}" if self.mask in encoded.ids else f"The {MASK}"
        return f"{which} was truncated: {self.limit}."

    def explorer_inputs(self, source: list[int], generated: list[int]) -> dict[str, Any]:
        """The text with its first masks filled."""
        return {"text": fill_masks(source, generated, self.mask)}


def choose_backend(model: TransformerModel, limit: TokenLimit) -> Backend:
    """Choose the backend of a model by its task.

    Args:
        model: a model of texts.
        limit: maximum number of tokens.
    """
    if model.is_encoder_decoder:
        return Seq2Seq(model, limit)
    if model.task == "causal_lm":
        return Decoder(model, limit)
    has_mask = model.tokenizer is not None and model.tokenizer.mask_token is not None
    return (MaskedLM if model.task == "masked_lm" and has_mask else Encoder)(model, limit)


class CausalPredictor:
    """Next-token logits with a cache that is kept as long as the text grows at its end.

    Args:
        model: a language model.
        prefix: token ids before the generated ones.
        max_tokens: maximum number of tokens in all.
        device: of the model.
    """

    def __init__(
        self, model: LanguageModel, prefix: list[int], max_tokens: int, device: torch.device
    ) -> None:
        self.model, self.prefix, self.max_tokens, self.device = model, prefix, max_tokens, device
        self._cached: list[int] = []
        self._cache: Sequence[Cache] | None = None
        self._logits: Tensor | None = None

    def logits(self, generated: list[int]) -> Tensor | None:
        """Logits of the token after the generated ones, None at the limit."""
        ids = self.prefix + generated
        if len(ids) > self.max_tokens:
            return None
        if ids == self._cached:
            return self._logits
        length, cache = len(self._cached), self._cache
        limit = self.model.positions.max_cached_len
        is_outdated = limit is not None and len(ids) > limit
        if cache is None or is_outdated or ids[:length] != self._cached:
            length, cache = 0, self.model.make_cache(self.max_tokens)
        self._cached, self._cache = [], None  # a cancelled forward pass leaves a partly filled cache
        new = torch.tensor([ids[length:]], device=self.device)
        self._logits = self.model.next_token_logits(new, cache=cache)[0]
        self._cached, self._cache = ids, cache
        return self._logits

    def use_output(self, generated: list[int], output: Tensor) -> None:
        """Take the logits of the last position, if they are new; keys and values are computed when needed."""
        ids = self.prefix + generated
        if ids != self._cached:
            # A copy, since a view would keep the logits of the whole text in memory.
            self._cached, self._cache, self._logits = ids, None, output[0, -1].clone()


class MaskPredictor:
    """Logits of the first mask that is not filled; later masks stay masked."""

    def __init__(self, model: Any, source: list[int], mask: int) -> None:
        self.model, self.source, self.mask = model, source, mask
        self._cached: list[int] = []
        self._logits: Tensor | None = None

    def logits(self, generated: list[int]) -> Tensor | None:
        """Logits of the next mask, None if all are filled."""
        ids = fill_masks(self.source, generated, self.mask)
        if self.mask not in ids:
            return None
        if ids != self._cached:
            self.use_output(generated, self.model(torch.tensor([ids], device=self.model.device)))
        return self._logits

    def use_output(self, generated: list[int], output: Tensor) -> None:
        """Take the logits of the first mask that is not filled, if there is one."""
        ids = fill_masks(self.source, generated, self.mask)
        self._cached = ids
        self._logits = output[0, ids.index(self.mask)].clone() if self.mask in ids else None


def fill_masks(source: list[int], generated: list[int], mask: int) -> list[int]:
    """Replace the first masks by the generated tokens."""
    tokens = iter(generated)
    return [next(tokens, mask) if token == mask else token for token in source]


def _last_words(text: str) -> str:
    """The last words of a text, at most ``MAX_QUOTED`` characters."""
    words = text.rstrip("\ufffd").split()
    taken = words[-1:]
    for word in reversed(words[:-1]):
        if len(" ".join([word, *taken])) > MAX_QUOTED:
            break
        taken.insert(0, word)
    whole = len(taken) == len(words)
    end = " ".join(taken)
    if len(end) > MAX_QUOTED:
        end, whole = end[-MAX_QUOTED:], False
    return end if whole else f"… {end}"
