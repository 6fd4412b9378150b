"""Tables of the logit lens: the most likely token after each layer at each position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from glassformer.analysis import LogitLens, logit_lens
from glassformer.analysis.logit_lens import readout
from glassformer.attention.recording.selection import as_ints
from glassformer.models import TransformerModel
from glassformer.tokenization import encode_typed_text
from glassformer.visualization.figures.layout import (
    COLORBAR_HEIGHT,
    NUMBER_SIZE,
    PAGE_WIDTH,
    TITLE_SIZE,
    Canvas,
    Heading,
    LegendEntry,
    text_width,
    whitespace_legend,
)
from glassformer.visualization.figures.style import (
    drawable_label,
    figure_style,
    format_weight,
    isolate,
    set_fonts,
    text_color,
    weight_colors,
)
from glassformer.visualization.model_input import (
    Text,
    check_finite,
    encode_input,
    model_title,
    token_labels,
    tokenizer_for,
)

MAX_LABEL = 10
"""Characters of a token in a cell."""
MAX_POSITIONS = 16
"""Positions that are drawn by default."""
ROW_HEIGHT, MIN_CELL_WIDTH, MIN_HEIGHT = 0.145, 0.34, 0.6
"""Inches; the height is that of the name of the axis."""
LEFT, TABLE_TITLE = 0.82, 0.2
"""Inches of the names of layers, and of the title of a table of probabilities."""


def logit_lens_of_text(
    model: TransformerModel,
    text: Text,
    target: Text | None = None,
    positions: Sequence[int] | None = None,
    layers: Sequence[int] | None = None,
    name: str | None = None,
    follow: Sequence[int | str] | None = None,
) -> Figure:
    """Compute the logit lens of a text and draw it. See ``AttentionVisualizer.plot_logit_lens``."""
    kind = readout(model).kind
    layers = None if layers is None else as_ints(layers, "layer")
    if layers is not None and not layers:
        raise ValueError("layers must not be empty; leave them out for all layers.")
    encoded = encode_input(model, text, target)
    labels = encoded.decoded.labels
    columns = None if positions is None else _check_positions(positions, len(labels))
    followed = token_ids(model, text, follow or ())
    lens = logit_lens(model, encoded.ids, 1, layers, followed)
    check_finite(lens.log_probabilities, "The logit lens")
    tokens = sorted({*lens.tokens.flatten().tolist(), *followed})
    return draw_logit_lens(
        lens,
        labels,
        dict(zip(tokens, token_labels(model, tokenizer_for(model, text), tokens), strict=True)),
        title="The most likely token after each layer",
        caption=encoded.caption,
        notes=[model_title(model, kind, name), *encoded.notes],
        positions=columns,
        follow=followed,
    )


def token_ids(model: TransformerModel, text: Text, tokens: Sequence[int | str]) -> list[int]:
    """Ids of tokens that are given as ids, or as texts of a single token.

    Raises:
        ValueError: A text is no single token.
    """
    tokenizer, ids = tokenizer_for(model, text), list[int]()
    for token in tokens:
        if not isinstance(token, str):
            ids.append(token)
            continue
        encoded = [] if tokenizer is None else encode_typed_text(tokenizer, token, True)[0]
        if len(encoded) != 1:
            pieces = ", ".join(token_labels(model, tokenizer, encoded)) or "none, without a tokenizer"
            raise ValueError(f"{token!r} must be a single token to be followed (it is: {pieces})")
        ids += encoded
    return list(dict.fromkeys(ids))


def draw_logit_lens(
    lens: LogitLens,
    labels: Sequence[str],
    names: Mapping[int, str],
    *,
    title: str,
    caption: str,
    notes: Sequence[str] = (),
    positions: Sequence[int] | None = None,
    follow: Sequence[int] = (),
) -> Figure:
    """Draw the most likely token after each layer at each position, bold if it is the last layer's already.

    Below that table, one for each token to follow has its probabilities.

    Args:
        lens: Of a text.
        labels: A label per position.
        names: Labels of the predicted tokens, by id.
        title: What is shown.
        caption: The text.
        notes: What a reader should know.
        positions: Those to be drawn, however wide that is. Default: the last ones that fit on a page.
        follow: Ids of the tokens of ``lens.followed``.
    """
    columns = list(range(len(labels)))[-MAX_POSITIONS:] if positions is None else list(positions)
    if positions is None and len(columns) < len(labels):
        notes = (*notes, f"the last {len(columns)} of {len(labels)} positions")
    tokens = lens.tokens[:, columns, 0].cpu().numpy()
    probabilities = lens.log_probabilities[:, columns, 0].exp().cpu().numpy()
    predicted = {token: drawable_label(names[token], MAX_LABEL) for token in np.unique(tokens).tolist()}
    inputs = [drawable_label(labels[column], MAX_LABEL) for column in columns]
    cell = max(text_width(word, NUMBER_SIZE, "bold") + 0.06 for word in (*predicted.values(), *inputs))
    if positions is None:
        cell = min(cell, (PAGE_WIDTH - LEFT - 0.1) / len(columns))
    cell = max(MIN_CELL_WIDTH, cell)
    width, height = cell * len(columns), max(MIN_HEIGHT, ROW_HEIGHT * len(tokens))
    shown = [labels[column] for column in columns] + [names[token] for token in predicted]
    legend = [LegendEntry("bold: same as after the last layer"), *whitespace_legend(shown)]
    heading = Heading(max(4.2, LEFT + width + 0.1), title, caption, notes, legend)
    labels_of_columns = [_fit_label(label, cell) for label in inputs]
    labels_of_rows = ["embedding" if layer == 0 else str(layer - 1) for layer in lens.layers]
    words = np.vectorize(lambda token: _fit_label(predicted[int(token)], cell), otypes=[object])(tokens)
    tables = [("", probabilities, words, tokens == tokens[-1])]
    for index, token in enumerate(follow if lens.followed is not None else ()):
        assert lens.followed is not None
        values = lens.followed[:, columns, index].exp().cpu().numpy()
        numbers = np.vectorize(format_weight, otypes=[object])(values)
        title_of_table = f"probability of {isolate(names[token])}"
        tables.append((title_of_table, values, numbers, np.zeros_like(values, dtype=bool)))
    pitch = height + 0.42
    with figure_style():
        total = heading.height + len(tables) * pitch + (len(tables) - 1) * TABLE_TITLE
        canvas = Canvas(heading.width, total + COLORBAR_HEIGHT)
        heading.draw(canvas)
        for number, (table_title, values, texts, bold) in enumerate(tables):
            top = heading.height + number * (pitch + TABLE_TITLE)
            axes = canvas.axes(LEFT, top, width, height)
            image = _draw_table(axes, values, texts, bold)
            axes.set_title(table_title, fontsize=TITLE_SIZE, pad=3, loc="left")
            axes.set_xticks(range(len(columns)), labels_of_columns, fontsize=NUMBER_SIZE)
            axes.set_yticks(range(len(tokens)), labels_of_rows, fontsize=NUMBER_SIZE)
            axes.set_xlabel("input token", fontsize=TITLE_SIZE)
            axes.set_ylabel("after layer", fontsize=TITLE_SIZE)
        bar = max(1.5, min(3.2, heading.width - LEFT - 2.1))
        canvas.colorbar(LEFT, total, bar, image, "probability (square-root scale)")
        return set_fonts(canvas.figure)


def _draw_table(axes: Axes, values: Any, texts: Any, bold: Any) -> AxesImage:
    """Draw probabilities as colors, with a text in each cell; all are ``(row, column)``."""
    colors, norm = weight_colors()
    image = axes.imshow(values, cmap=colors, norm=norm, aspect="auto", interpolation="none")
    for (row, column), text in np.ndenumerate(texts):
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=NUMBER_SIZE,
            fontweight="bold" if bold[row, column] else "normal",
            color=text_color(colors(norm(values[row, column]))),
        )
    return image


def _fit_label(label: str, width: float) -> str:
    """Shorten a label to the width of a cell; its middle goes first."""
    for max_length in range(len(label), 2, -1):
        shortened = drawable_label(label, max_length)
        if text_width(shortened, NUMBER_SIZE, "bold") <= width - 0.03:
            return shortened
    return drawable_label(label, 3)


def _check_positions(positions: Sequence[int], length: int) -> list[int]:
    positions = as_ints(positions, "position")
    for position in positions:
        if not -length <= position < length:
            raise ValueError(f"position {position} does not exist: positions are 0 to {length - 1}")
    if not positions:
        raise ValueError("positions must not be empty; leave them out for the last ones.")
    return [position % length for position in positions]
