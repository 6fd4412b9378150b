"""What an answer was made of: of a text a bar for each token's share; of an image the shares laid over."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glassformer.analysis import EncoderDecoder, read_image, read_pair
from glassformer.analysis.images import ReadsImages
from glassformer.models import TransformerModel
from glassformer.visualization.arguments import Text, as_given, whole_number
from glassformer.visualization.glyphs import dress, printable
from glassformer.visualization.heading import HATCHED, Heading, Sign, forward, signs_in
from glassformer.visualization.image_maps import caption_of_image, draw_image_relevances
from glassformer.visualization.inks import written
from glassformer.visualization.looking import name_of, quoted_pair, sides_of_text
from glassformer.visualization.measuring import width_of, wrapped
from glassformer.visualization.pictures import style
from glassformer.visualization.readable import readable
from glassformer.visualization.relevances import Explanation, Relevance, explain
from glassformer.visualization.sheet import LABEL, SMALL, TITLE, WIDEST, Sheet

ROW = 0.118
"""Inches a token takes where each is labelled."""
MOST_LABELS = 64
"""Tokens that are all labelled; of longer texts, those are that matter most."""
LARGEST = 20
"""So many of them."""
WHICH = "those with the largest shares, and the one that is read from"
GAP = 0.2
"""Inches between columns."""
LINE = 0.115
"""Inches of a line of labels."""


def picture_of_rollout(
    model: TransformerModel,
    example: Any,
    position: int | None = None,
    target: Text | None = None,
    faithfulness: bool | None = None,
    name: str | None = None,
) -> Figure:
    """Explain a model's answer, and draw it; arguments and errors as ``AttentionVisualizer.plot_rollout``."""
    position = None if position is None else whole_number(position, "a position")
    if isinstance(model, ReadsImages):
        image = read_image(model, example)
        found = explain(model, image.pixel_values, position, faithfulness)
        notes = (*image.notes, *found.notes)
        return draw_image_relevances(
            found.relevances,
            image.shown(),
            image.grid,
            title=_title(model, found, name),
            caption=caption_of_image(example, image),
            notes=notes,
        )
    example, target = as_given(example, target)
    if isinstance(model, EncoderDecoder) or target is not None:
        pair = read_pair(model, example, target)
        source, notes = readable(model, example, pair.source), pair.source.notes + pair.written.notes
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
        unseen: tokens that the answer cannot depend on; their rows are hatched.
    """
    length = len(labels)
    whole = length <= MOST_LABELS
    named = range(length) if whole else _worth_naming(relevances, position)
    shown = [forward(printable(label)) for label in labels]
    left = max(width_of(shown[place], LABEL, "bold") for place in named) + (0.36 if whole else 0.66)
    high = max(ROW * min(length, MOST_LABELS), 0.5)
    across = min(3.0, (WIDEST - left) / len(relevances) - GAP)
    signs = [Sign("bold: read here")] * (position in named) + [
        Sign("cannot be seen from here", HATCHED)
    ] * bool(unseen)
    known = () if whole else (f"{len(named)} of {length} tokens are named: {WHICH}",)
    over = max(len(_lines(relevance, across)) for relevance in relevances) * LINE + 0.04
    heading = Heading(
        max(4.2, left + len(relevances) * (across + GAP)),
        title,
        caption,
        (*notes, *known),
        [*signs, *signs_in(labels[place] for place in named)],
    )
    with style():
        sheet = Sheet(heading.width, heading.height + over + high + 0.42)
        heading.draw(sheet)
        top = heading.height + over
        for number, relevance in enumerate(relevances):
            axes = sheet.axes(left + number * (across + GAP), top, across, high)
            _draw_bars(axes, relevance, named if not whole else None)
            axes.set_title("\n".join(_lines(relevance, across)), fontsize=LABEL, pad=3, loc="left")
            for token in unseen:
                axes.axhspan(token - 0.5, token + 0.5, zorder=0, **HATCHED)
            axes.set_ylim(length - 0.5, -0.5)
            axes.set_yticks(named, [])
            if number == 0:
                _name_tokens(axes, named, shown, position, high / length, beside=not whole)
        sheet.text(0.08, top + high / 2, "input token", fontsize=TITLE, rotation=90, va="center")
        dress(sheet.figure)
    return sheet.figure


def _worth_naming(relevances: Sequence[Relevance], position: int | None) -> list[int]:
    """The tokens with the largest shares of either kind, and the one that is read from."""
    highest = [relevance.shares / (relevance.shares.max() or 1.0) for relevance in relevances]
    order = np.argsort(-np.max(highest, axis=0), kind="stable")[:LARGEST].tolist()
    return sorted({*order, *([] if position is None else [position])})


def _name_tokens(
    axes: Axes,
    named: Sequence[int],
    labels: Sequence[str],
    position: int | None,
    pitch: float,
    *,
    beside: bool,
) -> None:
    """Labels at the left of bars; where only some have one, they are moved apart, with a line to the bar."""
    weights = ["bold" if place == position else "normal" for place in named]
    if not beside:
        axes.set_yticks(named, [labels[place] for place in named], fontsize=LABEL)
        for text, weight in zip(axes.get_yticklabels(), weights, strict=True):
            text.set_fontweight(weight)
        return
    axes.tick_params(axis="y", length=2)
    across = axes.get_yaxis_transform()
    inches = axes.get_position().width * axes.figure.get_size_inches()[0]  # type: ignore[union-attr]
    for place, middle, weight in zip(
        named, _apart(named, LINE / pitch, len(labels) - 1), weights, strict=True
    ):
        axes.plot(
            [-0.03 / inches, -0.26 / inches],
            [place, middle],
            lw=0.4,
            color="#888888",
            transform=across,
            clip_on=False,
        )
        axes.text(
            -0.28 / inches,
            middle,
            labels[place],
            transform=across,
            ha="right",
            va="center",
            fontsize=LABEL,
            fontweight=weight,
        )


def _apart(places: Sequence[int], least: float, lowest: float) -> list[float]:
    """The places themselves, or others near to them with so much between neighbours, the last not too low."""
    apart: list[float] = []
    for place in places:
        apart.append(max(float(place), apart[-1] + least) if apart else float(place))
    below = math.inf
    for number in reversed(range(len(apart))):
        apart[number] = below = min(apart[number], below, lowest)
        below -= least
    return apart


def _title(model: TransformerModel, found: Explanation, name: str | None) -> str:
    return f"{name_of(model, found.kind, name)}: what {found.answer} was made of"


def _lines(relevance: Relevance, width: float) -> list[str]:
    return [line for said in relevance.said.splitlines() for line in wrapped(said, width, LABEL)]


def _draw_bars(axes: Axes, relevance: Relevance, named: Sequence[int] | None) -> None:
    """A bar for each share; with its number where it is named, or where all are."""
    shares = relevance.shares
    highest = float(shares.max()) or 1.0
    axes.barh(range(len(shares)), shares, height=0.75 if named is None else 1.0, color="#0072b2", lw=0)
    axes.set_xscale("function", functions=(_root, np.square))
    axes.set_xlim(0, 1.4 * highest)
    axes.set_xticks(_ticks(highest))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}".removeprefix("0") or "0")
    axes.set_xlabel("share (square-root scale)", fontsize=TITLE)
    axes.spines["left"].set_visible(True)
    axes.spines["bottom"].set_visible(True)
    axes.tick_params(axis="x", length=2, labelsize=LABEL)
    if named is None:
        for token, share in enumerate(shares):
            if share > 0:
                axes.annotate(
                    written(float(share)),
                    (share, token),
                    (2, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=SMALL,
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
