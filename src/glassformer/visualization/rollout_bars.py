"""What an answer was made of: of a text a bar for each token's share; of an image the shares laid over."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glassformer.analysis import EncoderDecoder, read_image, read_pair
from glassformer.analysis.images import ReadsImages
from glassformer.models import TransformerModel
from glassformer.visualization.heat_maps import MOST_LABELS, token_places
from glassformer.visualization.image_maps import draw_image_relevances
from glassformer.visualization.looking import Text, name_of, quoted_pair, sides_of_text
from glassformer.visualization.pictures import MASKED, add_heading, style
from glassformer.visualization.relevances import Explanation, Relevance, explain

ROW = 0.155
"""Inches a token takes where each is labelled."""


def picture_of_rollout(
    model: TransformerModel,
    example: Any,
    position: int | None = None,
    target: Text | None = None,
    faithfulness: bool | None = None,
    name: str | None = None,
) -> Figure:
    """Explain a model's answer, and draw it; arguments and errors as ``AttentionVisualizer.plot_rollout``."""
    if isinstance(model, ReadsImages):
        image = read_image(model, example)
        found = explain(model, image.pixel_values, position, faithfulness)
        notes = (*image.notes, *found.notes)
        return draw_image_relevances(
            found.relevances,
            image.shown(),
            image.grid,
            title=_title(model, found, name),
            caption=f"{_called(example)} in {image.grid[0]} x {image.grid[1]} patches",
            notes=notes,
        )
    if isinstance(model, EncoderDecoder) or target is not None:
        pair = read_pair(model, example, target)
        source, notes = pair.source, pair.source.notes + pair.written.notes
        caption = quoted_pair(model, pair, example, target)
        found = explain(model, (pair.source.ids, pair.written.ids), position, faithfulness)
    else:
        sides = sides_of_text(model, example)
        source, caption, notes = sides.keys, sides.caption, sides.notes
        found = explain(model, source.ids, position, faithfulness)
    length, read_at = len(source.ids), found.outcome.position
    return draw_rollout(
        found.relevances,
        source.labels,
        title=_title(model, found, name),
        caption=caption,
        notes=(*notes, *found.notes),
        position=read_at,
        unseen=sorted(set(range(length)) - {read_at, *found.outcome.depends_on(length)}),
    )


def draw_rollout(
    relevances: Sequence[Relevance],
    labels: Sequence[str],
    *,
    title: str,
    caption: str,
    notes: Sequence[str] = (),
    position: int | None = None,
    unseen: Collection[int] = (),
) -> Figure:
    """Bars from top to bottom in the order of the text, a column for each relevance.

    Args:
        relevances: each with a share for each token.
        labels: of the tokens.
        title: what is explained.
        caption: the text.
        notes: what a reader should know.
        position: the token that the answer is read from; its label is bold.
        unseen: tokens that the answer cannot depend on; their rows are grey.
    """
    length = len(labels)
    with style():
        size = (2.7 * len(relevances) + 1.6, ROW * min(length, MOST_LABELS) + 2.1)
        figure = Figure(figsize=(max(6.4, size[0]), max(2.8, size[1])), layout="constrained")
        columns = figure.subplots(1, len(relevances), squeeze=False, sharey=True)[0]
        for axes, relevance in zip(columns, relevances, strict=True):
            _draw_bars(axes, relevance)
            for token in unseen:
                axes.axhspan(token - 0.5, token + 0.5, color=MASKED, lw=0)
        places, shown = token_places(labels)
        columns[0].set_yticks(places, shown, fontsize=7)
        columns[0].set_ylim(length - 0.5, -0.5)
        columns[0].set_ylabel("input token")
        for place, text in zip(places, columns[0].get_yticklabels(), strict=True):
            text.set_fontweight("bold" if place == position else "normal")
        bold = "bold: read here" if position in places else ""
        grey = "grey: not seen from here" if unseen else ""
        add_heading(figure, title, caption, notes, "; ".join(said for said in (bold, grey) if said))
    return figure


def _title(model: TransformerModel, found: Explanation, name: str | None) -> str:
    return f"{name_of(model, found.kind, name)}: what {found.answer} was made of"


def _called(image: Any) -> str:
    return Path(image).name if isinstance(image, str | Path) else "an image"


def _draw_bars(axes: Axes, relevance: Relevance) -> None:
    shares = relevance.shares
    highest = float(shares.max()) or 1.0
    thickness = 0.75 if len(shares) <= MOST_LABELS else 1.0
    axes.barh(range(len(shares)), shares, height=thickness, color="#0072b2", lw=0)
    axes.set_title(relevance.said, fontsize=8)
    axes.set_xscale("function", functions=(_root, np.square))
    axes.set_xlim(0, 1.4 * highest)
    axes.set_xticks(_ticks(highest))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("share (square-root scale)")
    axes.tick_params(axis="y", length=0)
    if len(shares) <= MOST_LABELS:
        for token, share in enumerate(shares):
            if share > 0:
                said = f"{share:.3f}".removeprefix("0") if share >= 0.0005 else "<.001"
                axes.annotate(
                    said, (share, token), (2, 0), textcoords="offset points", va="center", fontsize=6
                )


def _ticks(highest: float) -> list[float]:
    """Round numbers along a square-root scale, far enough from each other to be read."""
    ticks = [0.0]
    for exponent in range(-5, 1):
        for tick in (float(f"{digit}e{exponent}") for digit in (1, 2.5, 5)):
            if (
                tick <= min(1.0, highest)
                and math.sqrt(tick / highest) - math.sqrt(ticks[-1] / highest) > 0.16
            ):
                ticks.append(tick)
    return ticks


def _root(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> object:
    return np.sqrt(np.maximum(values, 0))
