"""The logit lens as a table: a row a layer, a column a position, in each cell what the model would say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from glassformer.analysis import EncoderDecoder, LogitLens, logit_lens, read_pair
from glassformer.analysis.logit_lens import readout
from glassformer.models import TransformerModel
from glassformer.visualization.looking import Text, label_of, name_of, quoted_pair, sides_of_text
from glassformer.visualization.pictures import add_heading, printable, style, weight_colours

LONGEST = 10
"""Characters of a token in a cell."""
ROW = 0.2
"""Inches of a layer."""


MOST = 24
"""Positions that are drawn where nobody says which."""


def picture_of_lens(
    model: TransformerModel,
    text: Text,
    target: Text | None = None,
    positions: Sequence[int] | None = None,
    layers: Sequence[int] | None = None,
    name: str | None = None,
) -> Figure:
    """Look through the lens, and draw it; arguments and errors as ``AttentionVisualizer.plot_logit_lens``."""
    kind = readout(model).kind
    if isinstance(model, EncoderDecoder) or target is not None:
        pair = read_pair(model, text, target)
        labels, notes = pair.target.labels, pair.source.notes + pair.written.notes
        caption = quoted_pair(model, pair, text, target)
        example: object = (pair.source.ids, pair.written.ids)
    else:
        sides = sides_of_text(model, text)
        labels, notes, caption, example = sides.keys.labels, sides.notes, sides.caption, sides.keys.ids
    columns = _choose(positions, len(labels))
    if positions is None and len(columns) < len(labels):
        notes = (*notes, f"the last {MOST} of {len(labels)} positions")
    lens = logit_lens(model, example, 1, layers)
    return draw_logit_lens(
        lens,
        labels,
        {token: label_of(model, token) for token in set(lens.tokens.flatten().tolist())},
        title=f"{name_of(model, kind, name)}: what each layer would say",
        caption=caption,
        notes=notes,
        positions=columns,
    )


def draw_logit_lens(
    lens: LogitLens,
    labels: Sequence[str],
    names: Mapping[int, str],
    *,
    title: str,
    caption: str,
    notes: Sequence[str] = (),
    positions: Sequence[int] | None = None,
) -> Figure:
    """The likeliest token after each layer at each position; bold where it is the model's answer already.

    Args:
        lens: of a text.
        labels: of what the model reads at each position.
        names: of tokens that are said, by id.
        title: of which model.
        caption: the text.
        notes: what a reader should know.
        positions: those that are drawn. Default: all.
    """
    columns = list(range(len(labels)) if positions is None else positions)
    said = lens.tokens[:, columns, 0].cpu().numpy()
    probabilities = lens.log_probabilities[:, columns, 0].exp().cpu().numpy()
    words = {token: printable(names[token], LONGEST) for token in np.unique(said).tolist()}
    heads = [printable(labels[column], LONGEST) for column in columns]
    longest = max(map(len, (*words.values(), *heads)))
    width = max(5.0, max(0.45, 0.07 * longest + 0.08) * len(columns) + 1.7)
    height = max(1.8, ROW * len(said)) + 1.2
    with style():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        colours, norm = weight_colours()
        image = axes.imshow(probabilities, cmap=colours, norm=norm, aspect="auto", interpolation="nearest")
        for (row, column), token in np.ndenumerate(said):
            axes.text(
                column,
                row,
                words[int(token)],
                ha="center",
                va="center",
                fontsize=7,
                fontweight="bold" if token == said[-1, column] else "normal",
                color="white" if probabilities[row, column] > 0.4 else "#111111",
            )
        axes.set_xticks(range(len(columns)), heads, fontsize=7.5)
        axes.set_yticks(range(len(said)), [_name(stream) for stream in lens.layers], fontsize=7)
        axes.set_xlabel("what is read")
        axes.set_ylabel("after layer")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        length = min(1.0, 5 / height)  # the bar is at most five inches high
        bar = figure.colorbar(image, ax=axes, pad=0.01, shrink=length, aspect=25, fraction=0.4 / width)
        bar.set_label("probability (square-root scale)")
        bar.set_ticks([0, 0.05, 0.25, 0.5, 1])
        bar.outline.set_linewidth(0.4)
        add_heading(figure, title, caption, notes, "bold: what the last row says")
    return figure


def _choose(positions: Sequence[int] | None, length: int) -> list[int]:
    if positions is None:
        return list(range(max(0, length - MOST), length))
    for position in positions:
        if not -length <= position < length:
            raise ValueError(f"position {position} does not exist: positions are 0 to {length - 1}")
    if not positions:
        raise ValueError("there are no positions to draw: give at least one")
    return [position % length for position in positions]


def _name(stream: int) -> str:
    """A stream by the layer that it leaves."""
    return "embedding" if stream == 0 else str(stream - 1)
