"""Texts, pairs of texts, and data set examples as model inputs."""

from __future__ import annotations

import operator
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

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


@dataclass(frozen=True)
class EncodedText:
    """A text as the token ids that a model is given."""

    ids: list[int]
    labels: list[str]
    """Each token as display text: never empty, with visible spaces and newlines."""
    is_delimiter: list[bool]
    """Whether each token is punctuation, a line break, or the end-of-text token."""
    notes: tuple[str, ...] = ()
    """Remarks to show with a result, such as that the text was truncated or encoded as bytes."""


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
    text: str | Sequence[int],
    max_tokens: int | None = None,
    special_tokens: bool | None = None,
) -> EncodedText:
    """Encode a text with the special tokens that its model expects, or check token ids.

    A text that is too long is truncated at its end, before the closing special tokens. Token ids are used
    unchanged, without special tokens.

    Args:
        model: with a tokenizer, or with a vocabulary of at least 256 tokens, which then stand for bytes.
        text: a text, or token ids.
        max_tokens: upper limit, where it is below the model's ``max_seq_len``.
        special_tokens: whether special tokens that the text spells out are special; see
            ``tokenization.encode_typed_text``.

    Raises:
        ValueError: the text is empty, an id is out of range, or the model has no tokenizer and a vocabulary
            too small for bytes.
        TypeError: neither a text nor integers, or a model of images.
    """
    if model.main_input_name != "input_ids":
        raise TypeError(f"a {type(model).__name__} takes no text: give it an image")
    vocab_size = int(model.config["vocab_size"])
    tokenizer, notes = model.tokenizer, []
    if isinstance(text, str):
        if tokenizer is None:
            tokenizer = _byte_fallback(vocab_size)
            notes.append("read as bytes: the model has no tokenizer")
        ids, remarks = encode_typed_text(
            tokenizer, text, special_tokens, predicts_masks=model.task == "masked_lm"
        )
        notes += remarks
    else:
        ids = _integers(text)
    if not ids:
        raise ValueError("the text is empty: give at least one token")
    for position, token in enumerate(ids):
        if not 0 <= token < vocab_size:
            raise ValueError(f"token id {token} at position {position}: ids are 0 to {vocab_size - 1}")
    add_special_tokens = special_token_adder(model, tokenizer) if isinstance(text, str) else list
    length, limit = len(add_special_tokens(ids)), int(model.config["max_seq_len"])
    whose = "the model's " if max_tokens is None or max_tokens >= limit else ""
    limit = limit if max_tokens is None else min(limit, max_tokens)
    if length > limit:
        notes.append(f"cut to {whose}{count_of(limit, 'token')} of {length:,}")
        ids = ids[: max(0, limit - (length - len(ids)))]
    ids = add_special_tokens(ids)
    labels = [token_label(tokenizer, token) for token in ids]
    delimiters = [_is_delimiter(tokenizer, token) for token in ids]
    return EncodedText(ids, labels, delimiters, tuple(notes))


def encode_pair(
    model: TransformerModel, text: str | Sequence[int], target: str | Sequence[int] | None = None
) -> EncodedPair:
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
        example: a text or token ids; for an encoder-decoder a pair (source, target) of them, or a source
            alone, whose target the model generates; for a model of images what ``preprocess_image`` takes.

    Raises:
        ValueError: an empty text, an id out of range, or an image of another shape.
        TypeError: the model does not take this type of example.
    """
    if model.main_input_name == "pixel_values":
        return (preprocess_image(model, example).pixel_values.to(model.device),)
    if model.is_encoder_decoder:
        pair = encode_pair(model, *(example if _is_pair(example) else [example]))
        return _batch_of_one(model, pair.source.ids), _batch_of_one(model, pair.decoder_input.ids)
    return (_batch_of_one(model, encode_text(model, example).ids),)


def special_token_adder(
    model: TransformerModel, tokenizer: Tokenizer | None
) -> Callable[[list[int]], list[int]]:
    """A function that puts the model's special tokens around the ids of a text.

    An encoder-decoder's texts end with its end token, whatever the tokenizer.
    """
    if model.is_encoder_decoder:
        encoder_decoder: Any = model
        return lambda ids: [*ids, encoder_decoder.end_token]
    return list if tokenizer is None else tokenizer.add_special_tokens


def _is_pair(example: Any) -> bool:
    """Whether an example is two texts or two sequences of ids, and not the ids of one text."""
    return isinstance(example, tuple) and len(example) == 2 and not isinstance(example[0], int)


def _batch_of_one(model: TransformerModel, ids: Sequence[int]) -> Tensor:
    return torch.tensor([ids], device=model.device)  # (1, seq)


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
