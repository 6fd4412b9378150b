"""Texts, pairs of texts, and data set examples as model inputs."""

from __future__ import annotations

import operator
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeGuard

import torch
from torch import Tensor

from glassformer.analysis.image_inputs import preprocess_image
from glassformer.contracts import Tokenizer
from glassformer.deprecation import renamed_arguments
from glassformer.models import TransformerModel
from glassformer.terminal import count_of
from glassformer.tokenization import ByteTokenizer, encode_typed_text, token_label

MAX_TARGET_TOKENS = 64
"""Tokens that an encoder-decoder generates at most where no target is given."""


SingleText: TypeAlias = str | Sequence[int] | Sequence[Sequence[int]] | Tensor
"""A text, or token ids ``(seq,)`` or ``(1, seq)``."""
Text: TypeAlias = SingleText | tuple[SingleText, SingleText]
"""A text, or a pair of sentences."""


@dataclass(frozen=True)
class EncodedText:
    """A text, or a pair of sentences, as the token ids that a model is given."""

    ids: list[int]
    labels: list[str]
    """Each token as display text: never empty, with visible spaces and newlines."""
    is_delimiter: list[bool]
    """Whether each token is punctuation, a line break, or the end-of-text token."""
    notes: tuple[str, ...] = ()
    """Remarks to show with a result, such as that the text was truncated or encoded as bytes."""
    token_type_ids: list[int] | None = field(default=None, kw_only=True)
    """Of a pair of sentences: 0 for each token of the first one, 1 for each of the second."""

    def inputs(self, device: torch.device) -> tuple[Tensor, ...]:
        """Arguments of a forward pass, each ``(1, seq)``: ids, and of a pair also a mask and the segments."""
        ids = torch.tensor([self.ids], device=device)
        if self.token_type_ids is None:
            return (ids,)
        return ids, torch.ones_like(ids), torch.tensor([self.token_type_ids], device=device)


@dataclass(frozen=True)
class EncodedPair:
    """A source and a target as an encoder-decoder is given them."""

    source: EncodedText
    decoder_input: EncodedText
    """The start token and the target without its last token."""
    decoder_target: EncodedText
    """The target: at each position the token that the decoder should predict."""


@renamed_arguments(longest="max_tokens")
def encode_text(
    model: TransformerModel,
    text: Text,
    max_tokens: int | None = None,
    special_tokens: bool | None = None,
) -> EncodedText:
    """Encode a text with the special tokens that its model expects, or check token ids.

    A text that is too long is truncated at its end, before the closing special tokens; of a pair of sentences
    the longer one is. Token ids are used unchanged, without special tokens.

    Args:
        model: with a tokenizer, or with a vocabulary of at least 256 tokens, which then stand for bytes.
        text: a text, or token ids ``(seq,)`` or ``(1, seq)``; for a BERT, also a tuple of two sentences.
        max_tokens: upper limit, where it is below the model's ``max_seq_len``.
        special_tokens: whether special tokens that the text spells out are special; see
            ``tokenization.encode_typed_text``.

    Raises:
        ValueError: the text is empty, an id is out of range, several texts are given, or the model has no
            tokenizer and a vocabulary too small for bytes.
        TypeError: neither a text nor integers, a pair for a model without segments, or a model of images.
    """
    if model.main_input_name != "input_ids":
        raise TypeError(f"a {type(model).__name__} takes no text: give it an image")
    sentences: tuple[Any, ...] = text if _is_pair(text) else (text,)
    if len(sentences) > 1 and getattr(model, "num_token_types", 1) < 2:
        raise TypeError(f"a {type(model).__name__} takes one text, not a pair: it has no segments")
    vocab_size = int(model.config["vocab_size"])
    is_typed = any(isinstance(sentence, str) for sentence in sentences)
    notes: list[str] = []
    if is_typed and model.tokenizer is None:
        notes.append("read as bytes: the model has no tokenizer")
    tokenizer = model.tokenizer or (_byte_fallback(vocab_size) if is_typed else None)
    parts = []
    for sentence in sentences:
        if isinstance(sentence, str) and tokenizer is not None:
            predicts_masks = model.task == "masked_lm"
            ids, remarks = encode_typed_text(
                tokenizer, sentence, special_tokens, predicts_masks=predicts_masks
            )
            notes += [remark for remark in remarks if remark not in notes]
        else:
            ids = _integers(_unbatched(sentence))
        _check_ids(ids, vocab_size)
        parts.append(ids)
    join = special_token_adder(model, tokenizer) if is_typed else _concatenate
    length, limit = len(join(*parts)), int(model.config["max_seq_len"])
    whose = "the model's " if max_tokens is None or max_tokens >= limit else ""
    limit = limit if max_tokens is None else min(limit, max_tokens)
    if length > limit:
        notes.append(f"cut to {whose}{count_of(limit, 'token')} of {length:,}")
        parts = _shorten(parts, length - limit)
    ids = join(*parts)
    labels = [token_label(tokenizer, token) for token in ids]
    delimiters = [_is_delimiter(tokenizer, token) for token in ids]
    segments = None
    if len(parts) > 1:
        pairs = zip(join(parts[0], [0]), join(parts[0], [1]), strict=True)
        second = next(index for index, (a, b) in enumerate(pairs) if a != b)  # where the second one begins
        segments = [int(index >= second) for index in range(len(ids))]
    return EncodedText(ids, labels, delimiters, tuple(notes), token_type_ids=segments)


def encode_pair(model: TransformerModel, text: Text, target: Text | None = None) -> EncodedPair:
    """Encode a source and a target for an encoder-decoder.

    Args:
        model: an encoder-decoder.
        text: the source: a text, or token ids.
        target: a text, or token ids without the start token. Default: what the model generates greedily.

    Raises:
        ValueError: as ``encode_text``.
        TypeError: as ``encode_text``, or the model is not an encoder-decoder.
    """
    if not model.is_encoder_decoder:
        raise TypeError(f"a {type(model).__name__} takes no target text: it is not an encoder-decoder")
    encoder_decoder: Any = model
    source, notes = encode_text(model, text), []
    if target is None:
        max_new_tokens = min(MAX_TARGET_TOKENS, int(model.config["max_seq_len"]))
        target = encoder_decoder.generate(source.ids, max_new_tokens, temperature=0)
        notes = ["the target is generated by the model"]
    decoder_target = encode_text(model, target)
    notes += [f"target {note}" for note in decoder_target.notes]
    decoder_target = replace(decoder_target, notes=tuple(notes))
    start = encode_text(model, [encoder_decoder.start_token])
    decoder_input = EncodedText(
        [*start.ids, *decoder_target.ids[:-1]],
        [*start.labels, *decoder_target.labels[:-1]],
        [*start.is_delimiter, *decoder_target.is_delimiter[:-1]],
        decoder_target.notes,
    )
    return EncodedPair(source, decoder_input, decoder_target)


def model_inputs(model: TransformerModel, example: Any) -> tuple[Tensor, ...]:
    """Tensors for ``model(*inputs)``: one example as a batch of one, without padding.

    Args:
        model: of any family.
        example: a text or token ids ``(seq,)`` or ``(1, seq)``; for an encoder-decoder a pair (source,
            target) of them, or a source alone, whose target the model generates; for a BERT also a pair of
            sentences; for a model of images what ``preprocess_image`` takes.

    Raises:
        ValueError: an empty text, several texts, an id out of range, or an image of another shape.
        TypeError: the model does not take this type of example.
    """
    if model.main_input_name == "pixel_values":
        return (preprocess_image(model, example).pixel_values.to(model.device),)
    if model.is_encoder_decoder:
        pair = encode_pair(model, *(example if _is_pair(example) else [example]))
        return *pair.source.inputs(model.device), *pair.decoder_input.inputs(model.device)
    return encode_text(model, example).inputs(model.device)


def special_token_adder(model: TransformerModel, tokenizer: Tokenizer | None) -> Callable[..., list[int]]:
    """A function that puts the model's special tokens around the ids of a text, or of two sentences.

    An encoder-decoder's texts end with its end token, whatever the tokenizer.
    """
    if model.is_encoder_decoder:
        encoder_decoder: Any = model
        return lambda ids: [*ids, encoder_decoder.end_token]
    return _concatenate if tokenizer is None else tokenizer.add_special_tokens


def _concatenate(*parts: Sequence[int]) -> list[int]:
    return [token for part in parts for token in part]


def _is_pair(example: Any) -> TypeGuard[tuple[Any, Any]]:
    """Whether an example is two texts or two sequences of ids, and not the ids of one text."""
    return isinstance(example, tuple) and len(example) == 2 and _is_sequence(example[0])


def _is_sequence(value: Any) -> bool:
    """Whether a value has items; tensors and arrays of no dimension have none."""
    return bool(value.ndim) if hasattr(value, "ndim") else isinstance(value, Iterable)


def _unbatched(ids: Any) -> Any:
    """Token ids without a batch dimension of 1."""
    if not _is_sequence(ids) or not len(ids := ids if hasattr(ids, "ndim") else list(ids)):
        return ids
    if not _is_sequence(ids[0]) or isinstance(ids[0], str):
        return ids
    if len(ids) > 1:
        raise ValueError(f"give one text at a time, not a batch of {len(ids)}")
    if any(_is_sequence(token) for token in ids[0]):
        raise ValueError("token ids must be (seq,) or (1, seq), not of more dimensions")
    return ids[0]


def _check_ids(ids: Sequence[int], vocab_size: int) -> None:
    if not ids:
        raise ValueError("the text is empty: give at least one token")
    for position, token in enumerate(ids):
        if not 0 <= token < vocab_size:
            raise ValueError(f"token id {token} at position {position}: ids are 0 to {vocab_size - 1}")


def _shorten(parts: Sequence[list[int]], count: int) -> list[list[int]]:
    """The parts without the last ``count`` tokens, each taken from the part that is longest then."""
    lengths = [len(part) for part in parts]
    for _ in range(min(count, sum(lengths))):
        longest = max(range(len(parts)), key=lambda part: (lengths[part], part))
        lengths[longest] -= 1
    return [part[:length] for part, length in zip(parts, lengths, strict=True)]


def _integers(ids: Sequence[int]) -> list[int]:
    if not isinstance(ids, Iterable):
        raise TypeError(f"give a text or a sequence of token ids, not {ids!r}")
    integers = []
    for position, token in enumerate(ids):
        try:
            integers.append(operator.index(token))
        except TypeError:
            raise TypeError(f"token id {token!r} at position {position} is not an integer") from None
    return integers


def _byte_fallback(vocab_size: int) -> Tokenizer:
    if vocab_size < 256:
        raise ValueError(
            f"the model has no tokenizer, and its vocabulary of {vocab_size} has no room for bytes: "
            "set model.tokenizer, put its tokenizer.json into the model's folder, or pass token ids"
        )
    return ByteTokenizer()


def _is_delimiter(tokenizer: Tokenizer | None, token: int) -> bool:
    """Whether a token is only punctuation, line breaks and spaces (not only spaces), or the end of text."""
    if tokenizer is None or token >= tokenizer.vocab_size:
        return False
    if token == tokenizer.end_of_text:
        return True
    text = tokenizer.decode([token])
    delimiters = [char for char in text if char == "\n" or unicodedata.category(char).startswith("P")]
    return bool(delimiters) and all(char in delimiters or char.isspace() for char in text)
