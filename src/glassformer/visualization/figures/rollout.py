"""Bars of the shares that input tokens have in a model's answer, by attention rollout."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glassformer.analysis import preprocess_image
from glassformer.models import TransformerModel
from glassformer.visualization.attributions import Attribution, Explanation, explain
from glassformer.visualization.figures.image_maps import draw_image_attributions, image_caption
from glassformer.visualization.figures.layout import (
    LABEL_SIZE,
    NUMBER_SIZE,
    PAGE_WIDTH,
    TITLE_SIZE,
    Canvas,
    Heading,
    LegendEntry,
    text_width,
    whitespace_legend,
    wrap,
)
from glassformer.visualization.figures.style import (
    BLUE,
    HATCHED,
    drawable_label,
    figure_style,
    format_weight,
    left_to_right,
    set_fonts,
)
from glassformer.visualization.model_input import Text, check_index, encode_input, model_title

MAX_LABELED_TOKENS = 64
"""Tokens up to which all are labeled; of a longer text, only those with the largest shares."""
NUM_LARGEST = 20
"""The number of those."""
ROW_HEIGHT, LINE_HEIGHT = 0.118, 0.115
"""Inches of a labeled token, and of a line of text."""
GAP = 0.2
"""Inches between columns."""


def rollout_of_input(
    model: TransformerModel,
    example: Any,
    position: int | None = None,
    target: Text | None = None,
    faithfulness: bool | None = None,
    name: str | None = None,
) -> Figure:
    """Attribute a model's answer to its input and draw it. See ``AttentionVisualizer.plot_rollout``."""
    position = None if position is None else check_index(position, "position")
    if model.main_input_name == "pixel_values":
        image = preprocess_image(model, example)
        explanation = explain(model, image.pixel_values, position, faithfulness)
        return draw_image_attributions(
            explanation.attributions,
            image.to_rgb(),
            image.grid,
            title=_title(explanation),
            caption=image_caption(example, image),
            notes=(model_title(model, explanation.kind, name), *image.notes, *explanation.notes),
        )
    encoded = encode_input(model, example, target)
    explanation = explain(model, encoded.ids, position, faithfulness)
    length, answer_position = len(encoded.source.ids), explanation.outcome.position
    visible = {answer_position, *explanation.outcome.depends_on(length)}
    return draw_rollout(
        explanation.attributions,
        encoded.source.labels,
        title=_title(explanation),
        caption=encoded.caption,
        notes=(model_title(model, explanation.kind, name), *encoded.notes, *explanation.notes),
        position=answer_position,
        hidden=sorted(set(range(length)) - visible),
    )


def draw_rollout(
    attributions: Sequence[Attribution],
    labels: Sequence[str],
    *,
    title: str,
    caption: str,
    notes: Sequence[str] = (),
    position: int | None = None,
    hidden: Collection[int] = (),
) -> Figure:
    """Draw bars from top to bottom in the order of the text, one column per attribution.

    Args:
        attributions: Each with a share per token.
        labels: A label per token.
        title: What is explained.
        caption: The text.
        notes: What a reader should know.
        position: The token at whose position the answer is given; its label is bold.
        hidden: Tokens that the answer cannot depend on; their rows are hatched.
    """
    length = len(labels)
    all_labeled = length <= MAX_LABELED_TOKENS
    labeled = list(range(length)) if all_labeled else _most_important(attributions, position)
    shown = [left_to_right(drawable_label(labels[token])) for token in labeled]
    left = max(text_width(label, LABEL_SIZE, "bold") for label in shown) + (0.36 if all_labeled else 0.66)
    height = max(ROW_HEIGHT * min(length, MAX_LABELED_TOKENS), 0.5)
    width = min(3.0, (PAGE_WIDTH - left) / len(attributions) - GAP)
    legend = [LegendEntry("bold: position of the answer")] * (position in labeled)
    legend += [LegendEntry("not visible from there", HATCHED)] * bool(hidden)
    if not all_labeled:
        which = "those with the largest shares, and the position of the answer"
        notes = (*notes, f"{len(labeled)} of {length} tokens are labeled: {which}")
    titles = [
        [line for text in attribution.summary.splitlines() for line in wrap(text, width, LABEL_SIZE)]
        for attribution in attributions
    ]
    heading = Heading(
        max(4.2, left + len(attributions) * (width + GAP)),
        title,
        caption,
        notes,
        [*legend, *whitespace_legend(labels[token] for token in labeled)],
    )
    with figure_style():
        top = heading.height + max(map(len, titles)) * LINE_HEIGHT + 0.04
        canvas = Canvas(heading.width, top + height + 0.42)
        heading.draw(canvas)
        for number, attribution in enumerate(attributions):
            axes = canvas.axes(left + number * (width + GAP), top, width, height)
            _draw_bars(axes, attribution.shares, with_numbers=all_labeled)
            axes.set_title("\n".join(titles[number]), fontsize=LABEL_SIZE, pad=3, loc="left")
            for token in hidden:
                axes.axhspan(token - 0.5, token + 0.5, zorder=0, **HATCHED)
            axes.set_ylim(length - 0.5, -0.5)
            axes.set_yticks(labeled, [])
            if number == 0:
                weights = ["bold" if token == position else "normal" for token in labeled]
                if all_labeled:
                    axes.set_yticks(labeled, shown, fontsize=LABEL_SIZE)
                    for text, weight in zip(axes.get_yticklabels(), weights, strict=True):
                        text.set_fontweight(weight)
                else:
                    spacing = LINE_HEIGHT * length / height
                    _label_beside(axes, labeled, shown, weights, _spread(labeled, spacing, length - 1), width)
        canvas.text(0.08, top + height / 2, "input token", fontsize=TITLE_SIZE, rotation=90, va="center")
        return set_fonts(canvas.figure)


def _title(explanation: Explanation) -> str:
    return f"Attribution of {explanation.answer} to the input"


def _most_important(attributions: Sequence[Attribution], position: int | None) -> list[int]:
    """The tokens with the largest shares in any attribution, and the position of the answer."""
    relative = [attribution.shares / (attribution.shares.max() or 1.0) for attribution in attributions]
    largest = np.argsort(-np.max(relative, axis=0), kind="stable")[:NUM_LARGEST].tolist()
    return sorted({*largest, *([] if position is None else [position])})


def _label_beside(
    axes: Axes,
    tokens: Sequence[int],
    labels: Sequence[str],
    weights: Sequence[str],
    places: Sequence[float],
    width: float,
) -> None:
    """Draw labels at the given places, each with a line to the bar of its token."""
    axes.tick_params(axis="y", length=2)
    transform = axes.get_yaxis_transform()
    for token, label, weight, place in zip(tokens, labels, weights, places, strict=True):
        ends = [-0.03 / width, -0.26 / width]
        axes.plot(ends, [token, place], lw=0.4, color="#888888", transform=transform, clip_on=False)
        axes.text(
            -0.28 / width,
            place,
            label,
            transform=transform,
            ha="right",
            va="center",
            fontsize=LABEL_SIZE,
            fontweight=weight,
        )


def _spread(places: Sequence[int], spacing: float, last: float) -> list[float]:
    """Move places apart to a least spacing, staying as near as possible and not beyond ``last``."""
    spread: list[float] = []
    for place in places:
        spread.append(max(float(place), spread[-1] + spacing) if spread else float(place))
    limit = last
    for number in reversed(range(len(spread))):
        spread[number] = min(spread[number], limit)
        limit = spread[number] - spacing
    return spread


def _draw_bars(axes: Axes, shares: np.ndarray[Any, np.dtype[np.float64]], *, with_numbers: bool) -> None:
    highest = float(shares.max()) or 1.0
    axes.barh(range(len(shares)), shares, height=0.75 if with_numbers else 1.0, color=BLUE, lw=0)
    axes.set_xscale("function", functions=(lambda values: np.sqrt(np.maximum(values, 0)), np.square))
    axes.set_xlim(0, 1.4 * highest)
    axes.set_xticks(_ticks(highest))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}".removeprefix("0") or "0")
    axes.set_xlabel("share (square-root scale)", fontsize=TITLE_SIZE)
    axes.spines["left"].set_visible(True)
    axes.spines["bottom"].set_visible(True)
    axes.tick_params(axis="x", length=2, labelsize=LABEL_SIZE)
    if not with_numbers:
        return
    for token, share in enumerate(shares.tolist()):
        if share > 0:
            axes.annotate(
                format_weight(share),
                (share, token),
                (2, 0),
                textcoords="offset points",
                va="center",
                fontsize=NUMBER_SIZE,
            )


def _ticks(highest: float) -> list[float]:
    """Round numbers that are far enough apart on a square-root scale."""
    ticks = [0.0]
    for exponent in range(-5, 1):
        for tick in (float(f"{digit}e{exponent}") for digit in (1, 2.5, 5)):
            distance = math.sqrt(tick / highest) - math.sqrt(ticks[-1] / highest)
            if tick <= min(1.0, highest) and distance > 0.16:
                ticks.append(tick)
    return ticks
