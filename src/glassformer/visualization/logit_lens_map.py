"""The logit lens as a table: a row a layer, a column a position, in each cell what the model would say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from glassformer.analysis import EncoderDecoder, LogitLens, logit_lens, read_pair
from glassformer.analysis.logit_lens import readout
from glassformer.attention.heads import numbers
from glassformer.models import TransformerModel
from glassformer.visualization.arguments import Text, as_given, check_finite
from glassformer.visualization.bars import HEIGHT, draw_bar
from glassformer.visualization.glyphs import dress, printable
from glassformer.visualization.heading import Heading, Sign, signs_in
from glassformer.visualization.inks import ink_on
from glassformer.visualization.looking import label_of, name_of, quoted_pair, sides_of_text
from glassformer.visualization.measuring import width_of
from glassformer.visualization.pictures import style, weight_colours
from glassformer.visualization.readable import mark_names, readable, tokenizer_for
from glassformer.visualization.sheet import SMALL, TITLE, WIDEST, Sheet

LONGEST = 10
"""Characters of a token in a cell."""
ROW = 0.145
"""Inches of a layer."""
MOST = 16
"""Positions that are drawn where nobody says which, if they have room."""
NARROWEST = 0.34
"""Inches of a position."""


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
    text, target = as_given(text, target)
    layers = None if layers is None else numbers(layers, "layer")
    if layers is not None and not layers:
        raise ValueError("there are no layers to draw: give at least one, or leave them out for all")
    if isinstance(model, EncoderDecoder) or target is not None:
        pair = read_pair(model, text, target)
        labels, notes = readable(model, target, pair.target).labels, pair.source.notes + pair.written.notes
        caption = quoted_pair(model, pair, text, target)
        example: object = (pair.source.ids, pair.written.ids)
    else:
        sides = sides_of_text(model, text)
        labels, notes, caption, example = sides.keys.labels, sides.notes, sides.caption, sides.keys.ids
    columns = _choose(positions, len(labels))
    lens = logit_lens(model, example, 1, layers)
    check_finite(lens.log_probabilities, "what the layers would say")
    names = mark_names(model, tokenizer_for(model, text))
    return draw_logit_lens(
        lens,
        labels,
        {token: names.get(token, label_of(model, token)) for token in set(lens.tokens.flatten().tolist())},
        title=f"{name_of(model, kind, name)}: what each layer would say",
        caption=caption,
        notes=notes,
        positions=columns if positions is not None else None,
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
        positions: those that are drawn, however wide that is. Default: the last ones that fit on a page.
    """
    columns, known = _fitting(labels) if positions is None else (list(positions), ())
    said = lens.tokens[:, columns, 0].cpu().numpy()
    probabilities = lens.log_probabilities[:, columns, 0].exp().cpu().numpy()
    words = {token: printable(names[token], LONGEST) for token in np.unique(said).tolist()}
    heads = [printable(labels[column], LONGEST) for column in columns]
    streams = [_name(stream) for stream in lens.layers]
    room = WIDEST - LEFT - 0.1
    cell = max(NARROWEST, *(width_of(word, SMALL, "bold") + 0.06 for word in (*words.values(), *heads)))
    cell = cell if positions is not None else max(NARROWEST, min(cell, room / len(columns)))
    across, high = cell * len(columns), ROW * len(said)
    signs = [Sign("bold: what the last row says"), *signs_in([*words.values(), *heads])]
    heading = Heading(max(4.2, LEFT + across + 0.1), title, caption, (*notes, *known), signs)
    with style():
        sheet = Sheet(heading.width, heading.height + high + 0.42 + HEIGHT)
        heading.draw(sheet)
        axes = sheet.axes(LEFT, heading.height, across, high)
        colours, norm = weight_colours()
        image = axes.imshow(probabilities, cmap=colours, norm=norm, aspect="auto", interpolation="none")
        for (row, column), token in np.ndenumerate(said):
            axes.text(
                column,
                row,
                _squeezed(words[int(token)], cell),
                ha="center",
                va="center",
                fontsize=SMALL,
                fontweight="bold" if token == said[-1, column] else "normal",
                color=ink_on(colours(norm(probabilities[row, column]))),
            )
        axes.set_xticks(range(len(columns)), [_squeezed(head, cell) for head in heads], fontsize=SMALL)
        axes.set_yticks(range(len(said)), streams, fontsize=SMALL)
        axes.set_xlabel("what is read", fontsize=TITLE)
        axes.set_ylabel("after layer", fontsize=TITLE)
        top = heading.height + high + 0.42
        width = max(1.5, min(3.2, heading.width - LEFT - 2.1))
        draw_bar(sheet, LEFT, top, width, image, "probability (square-root scale)")
        dress(sheet.figure)
    return sheet.figure


LEFT = 0.82
"""Inches of the names of layers."""


def _fitting(labels: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
    """The last positions that fit on a page, and a note where these are not all."""
    count = min(MOST, len(labels))
    known = (f"the last {count} of {len(labels)} positions",) if count < len(labels) else ()
    return list(range(len(labels) - count, len(labels))), known


def _squeezed(word: str, width: float) -> str:
    """A word that fits into a cell, without its middle if need be."""
    for longest in range(len(word), 2, -1):
        short = printable(word, longest)
        if width_of(short, SMALL, "bold") <= width - 0.03:
            return short
    return printable(word, 3)


def _choose(positions: Sequence[int] | None, length: int) -> list[int]:
    if positions is None:
        return list(range(length))
    positions = numbers(positions, "position")
    for position in positions:
        if not -length <= position < length:
            raise ValueError(f"position {position} does not exist: positions are 0 to {length - 1}")
    if not positions:
        raise ValueError("there are no positions to draw: give at least one")
    return [position % length for position in positions]


def _name(stream: int) -> str:
    """A stream by the layer that it leaves."""
    return "embedding" if stream == 0 else str(stream - 1)
