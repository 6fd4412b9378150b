"""Inputs of a model, checked, encoded and labeled, and the attention that the model computes on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.analysis import EncodedText, encode_pair, encode_text
from glassformer.analysis.inputs import Text as Text
from glassformer.analysis.inputs import special_token_adder
from glassformer.attention import attentions_of, record_attention
from glassformer.contracts import Tokenizer
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel
from glassformer.terminal import count_of
from glassformer.tokenization import ByteTokenizer, encode_typed_text, token_label
from glassformer.visualization.figures.style import isolate

MAX_QUOTE = 300
"""Characters of a text that a page quotes."""


@dataclass(frozen=True)
class ModelInput:
    """A text, or a source and a target, as a model reads it."""

    source: EncodedText
    """The text, with display labels."""
    target: EncodedText | None
    """What the decoder of an encoder-decoder reads: the start token and all but the last target token."""
    predicted: EncodedText | None
    """What the decoder predicts at each position: the target."""
    caption: str
    notes: tuple[str, ...]

    @property
    def ids(self) -> Any:
        """Token ids as ``glassformer.analysis`` takes them: a list, or a pair of texts."""
        if self.source.token_type_ids is not None:
            second = self.source.token_type_ids.index(1)
            return self.source.ids[:second], self.source.ids[second:]
        return self.source.ids if self.predicted is None else (self.source.ids, self.predicted.ids)

    @property
    def decoded(self) -> EncodedText:
        """The tokens at whose positions the model makes predictions."""
        return self.source if self.target is None else self.target

    def tensors(self, device: torch.device) -> list[Tensor]:
        """Arguments of the model's forward pass, each ``(1, seq)``."""
        return [tensor for part in (self.source, self.target) if part for tensor in part.inputs(device)]


@dataclass(frozen=True)
class LabeledAttention:
    """Attention weights of some heads of a layer, with labels for a figure."""

    weights: npt.NDArray[np.floating]
    """``(head, query, key)``."""
    heads: list[int]
    """The number of each head before pruning."""
    allowed: npt.NDArray[np.bool_] | None
    """``(query, key)``, True where a query may attend to a key. None if all are."""
    queries: list[str]
    keys: list[str]
    """A label per row and per column."""
    row_label: str
    caption: str
    notes: tuple[str, ...]

    @property
    def labels(self) -> dict[str, Any]:
        """Arguments of ``draw_heads`` and ``draw_head``."""
        names = ("queries", "keys", "allowed", "row_label", "caption", "notes")
        return {name: getattr(self, name) for name in names}


def encode_input(
    model: TransformerModel,
    text: Text,
    target: Text | None = None,
    *,
    source_only: bool = False,
    quoted: Callable[[str], str] = isolate,
) -> ModelInput:
    """Encode a text for a figure or a page.

    Args:
        model: Any model of texts.
        text: A text, or token ids; or a pair of sentences.
        target: Of an encoder-decoder. Default: what the model generates.
        source_only: Whether only the encoder of an encoder-decoder runs.
        quoted: Puts a text into quotation marks for the caption.

    Raises:
        ValueError: See ``analysis.encode_text``; or the target is empty.
        TypeError: See ``analysis.encode_text``; or the model has no decoder and a target is given.
    """
    text = escape_surrogates(text)
    if target is not None:
        if len(target) == 0:
            raise ValueError("The target is empty: give at least one token, or leave it out.")
        target = escape_surrogates(target)
    if source_only or not (model.is_encoder_decoder or target is not None):
        source = with_display_labels(model, text, encode_text(model, text))
        return ModelInput(source, None, None, quote(model, text, source, quoted), source.notes)
    pair = encode_pair(model, text, target)
    source = with_display_labels(model, text, pair.source)
    decoded, predicted = (
        with_display_labels(model, target, part) for part in (pair.decoder_input, pair.decoder_target)
    )
    caption = f"{quote(model, text, source, quoted)} → {quote(model, target, predicted, quoted)}"
    return ModelInput(source, decoded, predicted, caption, source.notes + predicted.notes)


def compute_attention(
    model: TransformerModel,
    text: Text,
    layer: int,
    heads: Sequence[int] | None = None,
    kind: str | None = None,
    target: Text | None = None,
) -> LabeledAttention:
    """Compute the attention weights of a layer on a text.

    Args:
        model: Any model of texts.
        text: A text, or token ids.
        layer: Index of the layer.
        heads: Numbers of heads before pruning. Default: all.
        kind: ``"encoder"``, ``"decoder"`` or ``"cross"`` for an encoder-decoder.
        target: See ``encode_input``.

    Raises:
        ValueError: The layer, head or kind does not exist, or see ``encode_input``.
        TypeError: The layer or a head is no integer, or see ``encode_input``.
    """
    layer = check_index(layer, "layer")
    heads = None if heads is None else [check_index(head, "head") for head in heads]
    with record_attention(model, [layer], heads, kind):
        pass  # raises before anything is computed
    encoded = encode_input(model, text, target, source_only=kind == "encoder")
    forward: Any = model.encode if model.is_encoder_decoder and kind == "encoder" else model
    with torch.no_grad(), eval_mode(model), record_attention(model, [layer], heads, kind) as recording:
        forward(*encoded.tensors(model.device))
    weights, allowed = recording[layer], recording.allowed[layer]
    check_finite(weights, f"The attention of layer {layer}")
    queries, keys = encoded.decoded, encoded.decoded
    if kind == "cross" and encoded.predicted is not None:
        queries, keys = encoded.predicted, encoded.source
    return LabeledAttention(
        weights[0].float().cpu().numpy(),
        recording.map(layer).heads,
        None if allowed is None else allowed.expand_as(weights)[0, 0].cpu().numpy(),
        queries.labels,
        keys.labels,
        "predicted token (query)" if kind == "cross" else "query token",
        encoded.caption,
        encoded.notes,
    )


def tokenizer_for(model: TransformerModel, text: object) -> Tokenizer | None:
    """The tokenizer that encodes a text or labels ids: bytes if a text is given and the model has none."""
    is_typed = any(isinstance(part, str) for part in (text if isinstance(text, tuple) else (text,)))
    return ByteTokenizer() if model.tokenizer is None and is_typed else model.tokenizer


def token_labels(model: TransformerModel, tokenizer: Tokenizer | None, tokens: Iterable[int]) -> list[str]:
    """Labels of token ids, with names for unprintable start and end tokens. See ``tokenization.token_label``.

    Args:
        model: The model that the tokens are inputs or outputs of.
        tokenizer: From ``tokenizer_for``.
        tokens: Token ids.
    """
    pair: Any = model
    names = {pair.start_token: "⟨start⟩", pair.end_token: "⟨end⟩"} if model.is_encoder_decoder else {}
    return [token_label(tokenizer, token, names) for token in tokens]


def with_display_labels(model: TransformerModel, text: object, encoded: EncodedText) -> EncodedText:
    """Label special tokens readably, and note the last word of a text that was cut.

    Args:
        model: The model that ``encoded`` is an input of.
        text: The text, or ids, that was encoded.
        encoded: Its tokens.
    """
    tokenizer = tokenizer_for(model, text)
    notes = encoded.notes + _truncation_notes(model, tokenizer, text, encoded)
    return replace(encoded, labels=token_labels(model, tokenizer, encoded.ids), notes=notes)


def quote(
    model: TransformerModel,
    text: Text | None,
    encoded: EncodedText,
    quoted: Callable[[str], str] = isolate,
) -> str:
    """Quote a text in a caption.

    Args:
        model: The model that ``encoded`` is an input of.
        text: The text; ids, which are counted; or None for ids that the model generated, which are decoded.
        encoded: Its tokens.
        quoted: Puts a text into quotation marks.
    """
    tokenizer = model.tokenizer
    if text is None and tokenizer is not None:
        end = getattr(model, "end_token", None)
        known = [token for token in encoded.ids if token != end and token < tokenizer.vocab_size]
        text = tokenizer.decode(known)
    texts = text if isinstance(text, tuple) else (text,)
    if all(isinstance(part, str) for part in texts):
        return " and ".join(quoted(" ".join(str(part).split())) for part in texts)
    return count_of(len(encoded.ids), "token id")


def quote_start(text: str) -> str:
    """The first ``MAX_QUOTE`` characters of a text in quotation marks."""
    return f"“{truncate(text, MAX_QUOTE)}”"


def truncate(text: str, max_length: int) -> str:
    """Cut a text to ``max_length`` characters, between words unless that would lose half of it."""
    if len(text) <= max_length:
        return text
    end = text.rfind(" ", max_length // 2, max_length - 1)
    return f"{text[:end]} …" if end > 0 else f"{text[: max_length - 1]}…"


def model_title(model: TransformerModel, kind: str | None = None, name: str | None = None) -> str:
    """A model for a title, with its size: ``mine: GPT, 30 layers x 9 heads``.

    Args:
        model: Any model.
        kind: The kind of attention whose layers and heads are counted. Default: the first one.
        name: What the model is called.
    """
    kinds = attentions_of(model)
    layers = kinds[kind or next(iter(kinds))]
    family = type(model).__name__.removesuffix("Model")
    attention = f" {kind} attention" if kind is not None and len(kinds) > 1 else ""
    sizes = [layer.num_heads for layer in layers]
    same = len(set(sizes)) == 1
    heads = f"x {count_of(sizes[0], 'head')}" if same else f"with {count_of(sum(sizes), 'head')}"
    prefix = f"{name}: " if name else ""
    return f"{prefix}{family}{attention}, {count_of(len(layers), 'layer')} {heads}"


def _truncation_notes(
    model: TransformerModel, tokenizer: Tokenizer | None, text: object, encoded: EncodedText
) -> tuple[str, ...]:
    if tokenizer is None or not isinstance(text, str):
        return ()
    ids, _ = encode_typed_text(tokenizer, text, predicts_masks=model.task == "masked_lm")
    remaining = len(encoded.ids) - len(special_token_adder(model, tokenizer)([]))
    words = tokenizer.decode(ids[:remaining]).split() if remaining < len(ids) else []
    return (f"the last word read is “{words[-1][-40:]}”",) if words else ()


# Checks


def check_index(value: object, name: str) -> int:
    """Return the index of a layer, a head or a position as an int.

    Raises:
        TypeError: The value is no integer, or it is a bool.
    """
    if not isinstance(value, bool):
        try:
            return index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise TypeError(f"{name} must be an int, got {value!r}.")


def check_finite(values: Tensor, name: str) -> None:
    """Raise a ValueError if a model computed infinities or NaN."""
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{name} is not finite: the model's weights are broken or diverged.")


def escape_surrogates(text: Any) -> Any:
    r"""Write lone surrogates, which UTF-8 cannot encode, as escapes such as ``\ud800``."""
    if isinstance(text, tuple):
        return tuple(map(escape_surrogates, text))
    return text.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(text, str) else text
