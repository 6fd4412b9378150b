"""From a model and what it reads to the contents of a page, in one forward pass."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glassformer.analysis import EncoderDecoder, Pair, Reading, read, read_image, read_pair
from glassformer.analysis.images import ImageReading
from glassformer.analysis.images import Picture as ImageSource
from glassformer.attention import AttentionMap, attentions_of, record_attention
from glassformer.choices import choose
from glassformer.generation.streaming import evaluating
from glassformer.models import TransformerModel
from glassformer.visualization.arguments import check_finite
from glassformer.visualization.explorer.contents import Attention, Contents, Picture
from glassformer.visualization.explorer.explaining import (
    affordable,
    decompositions_of,
    flows_of,
    lens_of,
)
from glassformer.visualization.explorer.guessing import guesses_of
from glassformer.visualization.explorer.packing import Packed, pack, quantized, thumbnails
from glassformer.visualization.readable import readable, tokenizer_for
from glassformer.visualization.shortening import shortened

Text = str | Sequence[int]
LARGEST = 100_000_000
"""Bytes of a page that nobody has to ask for twice."""


def silent(words: str) -> None:
    """Nobody is told."""


@dataclass(frozen=True)
class Seen:
    """What a model is shown, and how its attention is to be labelled."""

    forward: Callable[[], Any]
    sides: Mapping[str, Side]
    """By kind of attention."""
    text: str
    notes: tuple[str, ...]
    example: Any
    """The same as the analyses take it."""
    written: Reading | None = None
    """What an encoder-decoder is to write; what a decoder reads. What comes next is compared with it."""
    picture: Picture | None = None


@dataclass(frozen=True)
class Side:
    """Who looks at whom in one kind of attention."""

    title: str
    queries: list[str]
    keys: list[str]
    row: str = "looks"


def gather(
    model: TransformerModel,
    text: Text | None = None,
    *,
    image: ImageSource | None = None,
    target_text: Text | None = None,
    kind: str | None = None,
    layers: Sequence[int] | None = None,
    name: str | None = None,
    analyses: bool = True,
    faithfulness: bool | None = None,
    force: bool = False,
    told: Callable[[str], object] = silent,
) -> Contents:
    """What a page shows of a model that reads a text, or an image.

    Args:
        model: any of ours.
        text: what it reads, or token ids.
        image: instead, as ``analysis.read_image`` takes it.
        target_text: what an encoder-decoder writes; by default what it writes by itself.
        kind: of attention; default all.
        layers: numbers; default all.
        name: what the page calls the model; by default its class.
        analyses: whether the page has logit lens, rollout and scores in parts.
        faithfulness: whether rollouts are put to a deletion test, which reads the text some hundred times.
            Default: as thorough a test as takes some seconds, if any does.
        force: whether a page of more than 100 MB is wanted.
        told: called with what is done now, in words.

    Raises:
        ValueError: what the model cannot read, a layer or kind that it does not have, or attention that would
            fill more than 100 MB.
        TypeError: a text for a model of images, or an image for one of texts.
    """
    if layers is not None and len(layers) == 0:
        raise ValueError("there are no layers to show: give at least one, or leave them out for all")
    kinds = attentions_of(model)
    if kind is not None:
        kinds = {kind: choose(kinds, kind, "kind of attention")}
    for one in kinds:
        with record_attention(model, layers, kind=one):
            pass  # refuses what does not exist before anything is computed
    seen = _seen_image(model, image) if image is not None else _seen_text(model, text, target_text)
    collector = _Collector(None if force else LARGEST)
    told("reading, and packing every head")
    with torch.no_grad(), evaluating(model), ExitStack() as stack:
        for one in kinds:
            stack.enter_context(record_attention(model, layers, kind=one, callback=collector))
        output = seen.forward()
    attention = [collector.attention(one, seen.sides[one]) for one in kinds]
    tokenizer = tokenizer_for(model, text)
    guesses = guesses_of(model, tokenizer, output, seen.written, list(kinds))
    family = type(model).__name__.removesuffix("Model")
    contents = Contents(
        title=f"{family}, {_counted(model.num_parameters())} parameters: {_extent(model, attention)}",
        text=seen.text,
        notes=list(seen.notes),
        attention=attention,
        guesses=guesses,
        picture=seen.picture,
        name=name or type(model).__name__,
    )
    if not analyses:
        return contents
    if not affordable(model, attention):
        contents.notes.append(
            "no scores in parts and no gradient-weighted rollout: these need a shorter text"
        )
    told("asking each layer what it would answer")
    lens = lens_of(model, tokenizer, seen.example, attention)
    told("following attention through all layers, and deleting what it calls relevant")
    flows = flows_of(model, seen.example, attention, faithfulness)
    told("splitting scores into their parts")
    scores = decompositions_of(model, seen.example, attention)
    return replace(contents, guesses=guesses + lens, flows=flows, decompositions=scores)


class _Collector:
    """Takes maps as they are computed, packs them, and stops where they are too many for a page."""

    def __init__(self, limit: int | None) -> None:
        self.limit, self.size = limit, 0
        self.layers: dict[str, list[tuple[int, list[int], Packed, Packed]]] = {}

    def __call__(self, seen: AttentionMap) -> None:
        check_finite(seen.weights, f"layer {seen.layer}'s attention")
        weights = seen.weights[0].float().cpu().numpy()  # (head, query, key)
        allowed = None
        if seen.allowed is not None:
            allowed = np.asarray(seen.allowed.expand_as(seen.weights)[0].cpu().numpy())
        codes = quantized(weights, allowed)
        some = None if allowed is None else np.logical_or.reduce(allowed, axis=0, keepdims=True)
        mean = quantized(weights.mean(0, keepdims=True), some)
        packed = pack(codes)
        small = pack(thumbnails(np.concatenate([codes, mean])))
        self.size += len(packed.data) + len(small.data)
        if self.limit is not None and self.size > self.limit:
            raise ValueError(
                f"the page would pass {self.limit / 1e6:.0f} MB (at layer {seen.layer}, "
                f"{weights.shape[1]:,} x {weights.shape[2]:,} tokens): choose layers, give a shorter text, "
                "or force it"
            )
        self.layers.setdefault(seen.kind, []).append((seen.layer, seen.heads, packed, small))

    def attention(self, kind: str, side: Side) -> Attention:
        layers, heads, maps, small = zip(*sorted(self.layers[kind], key=lambda item: item[0]), strict=True)
        return Attention(
            kind,
            side.title,
            side.queries,
            side.keys,
            list(layers),
            list(heads),
            list(maps),
            list(small),
            side.row,
        )


def _seen_text(model: TransformerModel, text: Text | None, target: Text | None) -> Seen:
    if text is None:
        raise ValueError(f"nothing for the {type(model).__name__} to read: give a text or an image")
    if isinstance(model, EncoderDecoder) or target is not None:
        return _seen_pair(model, read_pair(model, text, target), text, target)
    reading = readable(model, text, read(model, text))
    side = Side("the text on itself", reading.labels, reading.labels)
    ids = _batch(model, reading)
    said = _quoted(_text_of(model, text if isinstance(text, str) else None, reading), reading)
    return Seen(lambda: model(ids), {"self": side}, said, reading.notes, text, reading)


def _seen_pair(model: TransformerModel, pair: Pair, text: Text, target_text: Text | None) -> Seen:
    source = readable(model, text, pair.source)
    target, written = (readable(model, target_text, reading) for reading in (pair.target, pair.written))
    sides = {
        "encoder": Side("the source on itself", source.labels, source.labels),
        "decoder": Side("the target on itself", target.labels, target.labels),
        "cross": Side("the target on the source", written.labels, source.labels, "is written looking"),
    }
    ids = (_batch(model, pair.source), _batch(model, pair.target))
    said = (
        f"{_quoted(text, pair.source)} → {_quoted(_text_of(model, target_text, pair.written), pair.written)}"
    )
    notes = source.notes + written.notes
    return Seen(lambda: model(*ids), sides, said, notes, (text, pair.written.ids), pair.written)


def _seen_image(model: TransformerModel, image: ImageSource) -> Seen:
    reading = read_image(model, image)
    rows, columns = reading.grid
    pixels = reading.pixel_values
    before = 1 + int(model.config["num_registers"])  # the class token, and registers
    labels = [
        "class",
        *(f"register {number}" for number in range(before - 1)),
        *(f"patch {row},{column}" for row in range(rows) for column in range(columns)),
    ]
    side = Side("the image's patches on each other", labels, labels)
    picture = _picture(reading, before)
    said = f"an image of {picture.height} x {picture.width} pixels, {rows} x {columns} patches"
    return Seen(lambda: model(pixels), {"self": side}, said, reading.notes, pixels, picture=picture)


def _picture(reading: ImageReading, first: int) -> Picture:
    pixels = np.rint(reading.shown() * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    height, width = pixels.shape[:2]
    return Picture("self", source, width, height, *reading.grid, first)


def _batch(model: TransformerModel, reading: Reading) -> Tensor:
    return torch.tensor([reading.ids], device=model.device)


def _text_of(model: TransformerModel, text: Text | None, written: Reading) -> Text:
    """A target as it was given, or what the model wrote, as text where it has a tokenizer."""
    if text is not None or model.tokenizer is None:
        return written.ids if text is None else text
    end = getattr(model, "end_token", None)
    vocab_size = model.tokenizer.vocab_size
    return model.tokenizer.decode([token for token in written.ids if token != end and token < vocab_size])


def _quoted(text: Text, reading: Reading, longest: int = 300) -> str:
    if not isinstance(text, str):
        return f"{len(reading.ids)} token ids"
    return f"“{shortened(' '.join(text[: 2 * longest].split()), longest)}”"


def _counted(number: int) -> str:
    """As people say it: 22.7 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def _extent(model: TransformerModel, attention: Sequence[Attention]) -> str:
    kinds = attentions_of(model)
    parts = []
    for item in attention:
        of = len(kinds[item.kind])
        layers = (
            f"{len(item.layers)} layers" if len(item.layers) == of else f"{len(item.layers)} of {of} layers"
        )
        parts.append(f"{layers}, {sum(map(len, item.heads))} heads" + (f" ({item.kind})" * (len(kinds) > 1)))
    return "; ".join(parts)
