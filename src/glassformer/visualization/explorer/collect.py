"""Collection of a page's contents from one forward pass of a model, and from its analyses."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from glassformer.analysis import EncodedText, preprocess_image
from glassformer.analysis.image_inputs import ImageSource as ImageSource
from glassformer.analysis.image_inputs import PreprocessedImage
from glassformer.attention import AttentionMap, attentions_of, record_attention
from glassformer.choices import choose
from glassformer.deprecation import renamed_arguments
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel
from glassformer.terminal import count_of
from glassformer.visualization.explorer.analyses import (
    attention_rollouts,
    fits_in_memory,
    logit_lens_predictions,
    output_predictions,
    score_decompositions,
)
from glassformer.visualization.explorer.encoding import PackedMaps, pack_maps, quantize, thumbnails
from glassformer.visualization.explorer.live import check_live, live_model
from glassformer.visualization.explorer.schema import THEMES, AttentionMaps, Contents, InputImage, Peak
from glassformer.visualization.explorer.text_pieces import Pieces, text_pieces
from glassformer.visualization.explorer.vectors import attention_vectors
from glassformer.visualization.model_input import (
    Text,
    check_finite,
    check_index,
    encode_input,
    escape_surrogates,
    quote,
    quote_start,
    tokenizer_for,
)

MAX_PAGE_SIZE = 100_000_000
"""Size of a page, in bytes, above which ``force`` is needed."""


NEARLY = 0.8
"""Share of the largest weight that a peak has at least: later queries see more of the text."""


def no_progress(message: Any) -> None:
    """Ignore progress messages, or an output."""


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """What a page shows.

    Each field is a keyword argument of ``explore`` and ``collect_contents``.
    """

    image: ImageSource | None = None
    """The input of a vision model, as ``analysis.preprocess_image`` takes it."""
    target_text: Text | None = None
    """The target of an encoder-decoder, as text or token ids. Default: what the model generates."""
    kind: str | None = None
    """The kind of attention, a key of ``model.attentions()``. Default: all kinds, to switch between."""
    layers: Sequence[int] | None = None
    """The layers, numbered from 0. Default: all."""
    name: str | None = None
    """Name of the model. Default: its class."""
    analyses: bool = True
    """Whether to add logit lens, rollout, the decomposition of scores, and queries, keys and values."""
    faithfulness: bool | None = None
    """Whether to run deletion tests of rollouts, which take some hundred forward passes. Default: with as
    many steps as take a few seconds, if any do."""
    live: bool = False
    """Whether the page embeds the model, at most 30 MB of 8-bit weights, and computes the attention of texts
    that are typed into it; see ``live.check_live``."""
    theme: str = "auto"
    """Colors of the page: "light", "dark", or "auto" for those that the reader's system prefers."""
    force: bool = False
    """Whether to allow pages of more than 100 MB."""
    on_progress: Callable[[str], object] = no_progress
    """Called with a message when each step begins."""
    on_output: Callable[[Any], object] = no_progress
    """Called with the output of the model."""


@dataclass(frozen=True)
class _Axes:
    """Labels of the tokens of one kind of attention."""

    title: str
    queries: list[str]
    keys: list[str]
    query_pieces: Pieces = ()
    key_pieces: Pieces = ()
    query_axis: str = "query"


@dataclass(frozen=True)
class _Input:
    """The input of a model, prepared for its forward pass, and as the page describes it."""

    forward: Callable[[], Any]
    axes: Mapping[str, _Axes]
    """By kind of attention."""
    description: str
    notes: tuple[str, ...]
    example: Any
    """The input as the functions of ``analysis`` take it."""
    targets: EncodedText | None = None
    """The tokens that predictions are compared with: a decoder's input, or an encoder-decoder's target."""
    image: InputImage | None = None
    tensors: Sequence[Tensor] = ()
    """Arguments of the forward pass of a language model."""


@renamed_arguments(told="on_progress")
def collect_contents(model: TransformerModel, text: Text | None = None, **options: Any) -> Contents:
    """Run a model on a text or an image, and collect what a page shows of it.

    Args:
        model: any model.
        text: the input, as text or token ids.
        options: fields of ``PageOptions``.

    Raises:
        ValueError: if the model cannot read the input, a layer or kind does not exist, or the attention maps
            take more than 100 MB.
        TypeError: if a vision model is given a text, or a language model an image.
    """
    page = PageOptions(**options)
    if page.image is not None and (text is not None or page.target_text is not None):
        raise ValueError("text and image exclude each other: give one of them.")
    choose(dict.fromkeys(THEMES), page.theme, "theme")
    layers = page.layers
    if layers is not None:
        if len(layers) == 0:
            raise ValueError("layers is empty: give at least one layer, or None for all.")
        layers = [check_index(layer, "layer") for layer in layers]
    if page.live:
        check_live(model)
    kinds = attentions_of(model)
    if page.kind is not None:
        kinds = {page.kind: choose(kinds, page.kind, "kind of attention")}
    for kind in kinds:
        with record_attention(model, layers, kind=kind):
            pass  # raises for layers that do not exist, before anything is computed
    inputs = (
        _image_input(model, page.image)
        if page.image is not None
        else _text_input(model, text, page.target_text)
    )
    collector = _MapCollector(inputs.axes, None if page.force else MAX_PAGE_SIZE)
    page.on_progress("recording attention")
    with torch.no_grad(), eval_mode(model), ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(record_attention(model, layers, kind=kind, callback=collector))
        output = inputs.forward()
    page.on_output(output)
    attention = [collector.attention(kind) for kind in kinds]
    tokenizer = tokenizer_for(model, text)
    family = type(model).__name__.removesuffix("Model")
    contents = Contents(
        title=f"{family}, {_with_unit(model.num_parameters())} parameters: {_num_layers(model, attention)}",
        text=inputs.description,
        notes=list(inputs.notes),
        attention=attention,
        predictions=output_predictions(model, tokenizer, output, inputs.targets, list(kinds)),
        image=inputs.image,
        name=page.name or model.name or type(model).__name__,
        theme=page.theme,
    )
    if page.live:
        page.on_progress("rounding the weights to 8 bits")
        contents = replace(contents, live=live_model(model, inputs.tensors))
    if not page.analyses:
        return contents
    if not fits_in_memory(model, attention):
        contents.notes.append(
            "no decomposition of scores and no gradient-weighted rollout: the text is too long"
        )
    page.on_progress("computing the logit lens")
    lens = logit_lens_predictions(model, tokenizer, inputs.example, attention)
    page.on_progress("computing rollout and testing its faithfulness")
    rollouts = attention_rollouts(model, inputs.example, attention, page.faithfulness)
    page.on_progress("decomposing attention scores")
    decompositions = score_decompositions(model, inputs.example, attention)
    vectors = attention_vectors(model, inputs.example, attention)
    return replace(
        contents,
        predictions=contents.predictions + lens,
        rollouts=rollouts,
        decompositions=decompositions,
        vectors=vectors,
    )


class _MapCollector:
    """A callback of ``record_attention`` that encodes the maps of each layer as soon as it is computed.

    Args:
        axes: by kind of attention.
        limit: maximum total size, in bytes.
    """

    def __init__(self, axes: Mapping[str, _Axes], limit: int | None) -> None:
        self.axes, self.limit, self.size = axes, limit, 0
        self.layers: dict[str, list[tuple[int, list[int], PackedMaps, PackedMaps, list[Peak]]]] = {}

    def __call__(self, recorded: AttentionMap) -> None:
        check_finite(recorded.weights, f"layer {recorded.layer}'s attention")
        weights = recorded.weights[0].float().cpu().numpy()  # (head, query, key)
        allowed = mean_allowed = None
        if recorded.allowed is not None:
            allowed = np.asarray(recorded.allowed.expand_as(recorded.weights)[0].cpu().numpy())
            mean_allowed = np.logical_or.reduce(allowed, axis=0, keepdims=True)
        codes = quantize(weights, allowed)
        mean = quantize(weights.mean(0, keepdims=True), mean_allowed)
        maps, small = pack_maps(codes), pack_maps(thumbnails(np.concatenate([codes, mean])))
        self.size += len(maps.data) + len(small.data)
        if self.limit is not None and self.size > self.limit:
            raise ValueError(
                f"The page would be larger than {self.limit / 1e6:.0f} MB (at layer {recorded.layer}, "
                f"{weights.shape[1]:,} x {weights.shape[2]:,} tokens): choose fewer layers, a shorter text, "
                "or force."
            )
        axes = self.axes[recorded.kind]
        peaks = [peak_of(head, axes.key_pieces, is_self=recorded.kind != "cross") for head in weights]
        self.layers.setdefault(recorded.kind, []).append((recorded.layer, recorded.heads, maps, small, peaks))

    def attention(self, kind: str) -> AttentionMaps:
        axes = self.axes[kind]
        collected = sorted(self.layers[kind], key=lambda item: item[0])
        layers, heads, maps, small, peaks = (list(column) for column in zip(*collected, strict=True))
        return AttentionMaps(
            kind,
            axes.title,
            axes.queries,
            axes.keys,
            layers,
            heads,
            maps,
            small,
            axes.query_axis,
            list(axes.query_pieces),
            list(axes.key_pieces),
            peaks,
        )


def peak_of(weights: npt.NDArray[np.floating], key_pieces: Pieces, *, is_self: bool) -> Peak:
    """How visible the pattern of a head is; see ``Peak``.

    Args:
        weights: ``(query, key)``.
        key_pieces: ``text_pieces`` of the keys; those without one are left out, unless all are.
        is_self: whether queries and keys are the same tokens.
    """
    rest = weights.copy()
    if any(piece is not None for piece in key_pieces):
        rest[:, [piece is None for piece in key_pieces]] = 0
    if is_self:
        rest[:, 0] = 0
        np.fill_diagonal(rest, 0)
    largest = rest.max(1)
    query = int(np.flatnonzero(largest >= NEARLY * largest.max())[-1])
    return Peak(round(float(largest.mean()), 4), query, int(rest[query].argmax()))


def _text_input(model: TransformerModel, text: Text | None, target: Text | None) -> _Input:
    if text is None:
        raise ValueError(f"No input for the {type(model).__name__}: give a text or an image.")
    encoded = encode_input(model, text, target, quoted=quote_start)
    source, decoded, predicted = encoded.source, encoded.target, encoded.predicted
    tokenizer = tokenizer_for(model, text)

    def pieces(part: EncodedText, given: Text | None) -> Pieces:
        return text_pieces(tokenizer, part.ids, typed_texts(given))

    read = pieces(source, text)
    if decoded is None or predicted is None:
        axes = {"self": _Axes("the text on itself", source.labels, source.labels, read, read)}
        description = encoded.caption if typed_texts(text) else quote(model, None, source, quote_start)
    else:
        written = pieces(decoded, target)
        axes = {
            "encoder": _Axes("the source on itself", source.labels, source.labels, read, read),
            "decoder": _Axes("the target on itself", decoded.labels, decoded.labels, written, written),
            "cross": _Axes(
                "the target on the source",
                predicted.labels,
                source.labels,
                pieces(predicted, target),
                read,
                "query (predicts this token)",
            ),
        }
        description = encoded.caption
    inputs = encoded.tensors(model.device)
    return _Input(
        lambda: model(*inputs),
        axes,
        description,
        encoded.notes,
        encoded.ids,
        predicted or source,
        tensors=inputs,
    )


def typed_texts(text: Text | None) -> tuple[str, ...]:
    """The text, or the two sentences, if they are given as texts; otherwise none."""
    text = escape_surrogates(text)
    parts: tuple[Any, ...] = text if isinstance(text, tuple) else (text,)
    return parts if all(isinstance(part, str) for part in parts) else ()


def _image_input(model: TransformerModel, image: ImageSource) -> _Input:
    encoded = preprocess_image(model, image)
    rows, columns = encoded.grid
    pixels = encoded.pixel_values
    first_patch = 1 + int(model.config["num_registers"])  # after the class token and the registers
    labels = [
        "class",
        *(f"register {number}" for number in range(first_patch - 1)),
        *(f"patch {row},{column}" for row in range(rows) for column in range(columns)),
    ]
    axes = _Axes("the image's patches on each other", labels, labels)
    shown = _png(encoded, first_patch)
    description = f"an image of {shown.height} x {shown.width} pixels, {rows} x {columns} patches"
    return _Input(lambda: model(pixels), {"self": axes}, description, encoded.notes, pixels, image=shown)


def _png(encoded: PreprocessedImage, first_patch: int) -> InputImage:
    pixels = np.rint(encoded.to_rgb() * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    height, width = pixels.shape[:2]
    return InputImage("self", source, width, height, *encoded.grid, first_patch)


def _with_unit(number: int) -> str:
    """Three digits and a unit: "22.7 M"."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def _num_layers(model: TransformerModel, attention: Sequence[AttentionMaps]) -> str:
    """Numbers of layers and heads on the page: "2 of 12 layers, 24 heads"."""
    kinds = attentions_of(model)
    parts = []
    for item in attention:
        shown, total = len(item.layers), len(kinds[item.kind])
        layers = count_of(shown, "layer") if shown == total else f"{shown} of {count_of(total, 'layer')}"
        heads = count_of(sum(map(len, item.heads)), "head")
        parts.append(f"{layers}, {heads}" + f" ({item.kind})" * (len(kinds) > 1))
    return "; ".join(parts)
