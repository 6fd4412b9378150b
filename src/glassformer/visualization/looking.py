"""What a picture of attention shows: a layer's weights on a text, and what stands beside rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.analysis import EncoderDecoder, Pair, Reading, read, read_pair
from glassformer.attention import attentions_of, record_attention
from glassformer.generation.streaming import evaluating
from glassformer.models import TransformerModel
from glassformer.visualization.arguments import Text, as_given, check_finite, whole_number
from glassformer.visualization.cells import Weights
from glassformer.visualization.heading import set_apart
from glassformer.visualization.readable import readable

Allowed = npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class Sides:
    """Who looks at whom: what stands beside the rows and columns of a picture."""

    queries: Reading
    keys: Reading
    caption: str
    notes: tuple[str, ...]
    row: str = "query: looks"
    """What a row is."""


def look(
    model: TransformerModel,
    text: Text,
    layer: int,
    heads: Sequence[int] | None = None,
    kind: str | None = None,
    target: Text | None = None,
) -> tuple[Sides, Weights, Allowed]:
    """Let a model read; the weights ``(head, query, key)`` of a layer, and what it may attend to.

    Raises:
        ValueError: a layer, head or kind that does not exist; as ``analysis.read``.
        TypeError: a target for a model that writes none, a layer that is no number; as ``analysis.read``.
    """
    text, target = as_given(text, target)
    layer = whole_number(layer, "a layer")
    heads = None if heads is None else [whole_number(head, "a head") for head in heads]
    with record_attention(model, [layer], heads, kind):
        pass  # refuses what does not exist before anything is computed
    if isinstance(model, EncoderDecoder) and kind == "encoder":
        sides = sides_of_text(model, text)
        forward = partial(model.encode, _batch(model, sides.keys))
    elif isinstance(model, EncoderDecoder) or target is not None:
        pair = read_pair(model, text, target)
        sides = _sides_of_pair(model, pair, text, target, crosses=kind == "cross")
        forward = partial(model, _batch(model, pair.source), _batch(model, pair.target))
    else:
        sides = sides_of_text(model, text)
        forward = partial(model, _batch(model, sides.keys))
    with torch.no_grad(), evaluating(model), record_attention(model, [layer], heads, kind) as recording:
        forward()
    weights, allowed = recording[layer], recording.allowed[layer]
    check_finite(weights, f"layer {layer}'s attention")
    visible = None if allowed is None else allowed.expand_as(weights)[0, 0].cpu().numpy()
    return sides, weights[0].float().cpu().numpy(), visible


def sides_of_text(model: TransformerModel, text: Text) -> Sides:
    """A text that looks at itself."""
    reading = readable(model, text, read(model, text))
    return Sides(reading, reading, quoted(model, text, reading), reading.notes)


def quoted_pair(model: TransformerModel, pair: Pair, text: Text, target: Text | None) -> str:
    """A source and what is written of it, for a caption."""
    return f"{quoted(model, text, pair.source)} → {quoted(model, target, pair.written)}"


def quoted(model: TransformerModel, text: Text | None, reading: Reading) -> str:
    """A text for a caption; ids that were given are counted, those that a model wrote are decoded."""
    tokenizer = model.tokenizer
    if text is None and tokenizer is not None:
        end = getattr(model, "end_token", None)
        known = [token for token in reading.ids if token != end and token < tokenizer.vocab_size]
        text = tokenizer.decode(known)
    return set_apart(" ".join(text.split())) if isinstance(text, str) else f"{len(reading.ids)} token ids"


def name_of(model: TransformerModel, kind: str | None = None, name: str | None = None) -> str:
    """A model for a title, with the size of one kind of its attention: ``mine: GPT, 30 layers x 9 heads``."""
    kinds = attentions_of(model)
    layers = kinds[kind or next(iter(kinds))]
    family = type(model).__name__.removesuffix("Model")
    which = f" {kind} attention" if kind is not None and len(kinds) > 1 else ""
    sizes = [attention.num_heads for attention in layers]
    heads = f"x {sizes[0]} heads" if len(set(sizes)) == 1 else f"with {sum(sizes)} heads"
    called = f"{name}: " if name else ""
    return f"{called}{family}{which}, {len(layers)} layers {heads}"


def label_of(model: TransformerModel, token: int) -> str:
    """A token for the eye; its number where there is no tokenizer, or none that knows it."""
    tokenizer = model.tokenizer
    return str(token) if tokenizer is None or token >= tokenizer.vocab_size else tokenizer.label(token)


def _sides_of_pair(
    model: TransformerModel, pair: Pair, text: Text, target: Text | None, *, crosses: bool
) -> Sides:
    source = readable(model, text, pair.source)
    begun, written = (readable(model, target, reading) for reading in (pair.target, pair.written))
    caption, notes = quoted_pair(model, pair, text, target), source.notes + written.notes
    if crosses:
        return Sides(written, source, caption, notes, "query: writes this")
    return Sides(begun, begun, caption, notes)


def _batch(model: TransformerModel, reading: Reading) -> Tensor:
    return torch.tensor([reading.ids], device=model.device)
