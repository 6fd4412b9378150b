"""Heads that look alike: a tree of them bent into a circle, and a map beside it."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from math import cos, pi, sin

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from glassformer.analysis.ablation import Head, head_name
from glassformer.analysis.clustering import Clustering
from glassformer.visualization.pictures import style

UNNAMED = "no name"
_GREY = "#8c8c8c"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a5a00", "#4b0092")
_MARKERS = "osD^vP"
_FONT, _LEAF = 6.0, 0.105
"""Points of a label, and inches of the circle that a leaf gets."""

Array = npt.NDArray[np.float64]
Look = tuple[str, str]


def draw_clusters(
    clustering: Clustering, names: Mapping[Head, str] | None = None, *, title: str, caption: str = ""
) -> Figure:
    """The tree of heads, distances growing towards the middle, and the map; each head as layer.head.

    The ring around the tree shows the clusters, by number. Colours show names, or else the clusters. On the
    map a label that has no room is left out; its head is found in the tree.

    Args:
        clustering: what was found.
        names: of some of the heads.
        title: of which model.
        caption: what clusters there are, and how far they are to be believed; lines are wrapped.
    """
    groups = [
        f"cluster {cluster}" if names is None else names.get(head, UNNAMED)
        for head, cluster in zip(clustering.heads, clustering.cluster, strict=True)
    ]
    looks = _looks(groups, clustering)
    radius = max(2.1, _LEAF * len(groups) / (2 * pi))
    side = 2 * radius + 1.5
    size = max(9, 0.8 * side)
    room = int(2 * side * 72 / (0.6 * size))
    heading = [title, *(line for said in caption.splitlines() for line in textwrap.wrap(said, room))]
    with style():
        figure = Figure(figsize=(2 * side, side + 0.7 + len(heading) * size / 60), layout="constrained")
        tree, plane = figure.subplots(1, 2)
        _draw_tree(tree, clustering, [looks[group][0] for group in groups], radius)
        _draw_map(plane, clustering, [looks[group] for group in groups], side - 0.6)
        for group, (colour, marker) in looks.items():
            label = f"{group} ({groups.count(group)})"
            plane.scatter([], [], s=26, color=colour, marker=marker, linewidths=0, label=label)
        figure.legend(
            loc="outside lower center",
            ncols=min(len(looks), max(3, int(side))),
            fontsize=max(7.5, 0.7 * side),
        )
        figure.suptitle("\n".join(heading), fontsize=size, x=0.01, ha="left")
    return figure


def _looks(groups: Sequence[str], clustering: Clustering) -> dict[str, Look]:
    """A colour and a marker for each group: the largest first, grey for heads without a name."""
    kinds = sorted(Counter(groups).items(), key=lambda item: (-item[1], item[0]))
    named = [group for group, _ in kinds if group != UNNAMED]
    looks = {
        group: (_COLOURS[number % len(_COLOURS)], _MARKERS[number // len(_COLOURS) % len(_MARKERS)])
        for number, group in enumerate(named)
    }
    return looks | ({UNNAMED: (_GREY, ".")} if UNNAMED in groups else {})


def _draw_tree(axes: Axes, clustering: Clustering, colours: Sequence[str], radius: float) -> None:
    from scipy.cluster.hierarchy import dendrogram  # clustering says what to do where it is missing

    drawn = dendrogram(clustering.tree, no_plot=True)
    total, highest = len(colours), max(float(clustering.tree[:, 2].max()), 1e-12)
    turn = 2 * pi / (10 * total)  # leaves stand at 5, 15, 25, ...
    lines = [
        _bent(np.array(across) * turn, radius * (1 - np.array(up) / highest))
        for across, up in zip(drawn["icoord"], drawn["dcoord"], strict=True)
    ]
    axes.add_collection(LineCollection(lines, colors="#666666", linewidths=0.7))
    leaves = drawn["leaves"]
    for place, leaf in enumerate(leaves):
        angle = (10 * place + 5) * turn
        left = pi / 2 < angle < 3 * pi / 2
        axes.text(
            (radius + 0.05) * cos(angle),
            (radius + 0.05) * sin(angle),
            head_name(clustering.heads[leaf]),
            rotation=np.degrees(angle) + (180 if left else 0),
            rotation_mode="anchor",
            ha="right" if left else "left",
            va="center",
            fontsize=_FONT,
            color=colours[leaf],
        )
    place = 0
    for number, run in groupby(clustering.cluster[leaf] for leaf in leaves):
        size = len(list(run))
        angles = np.linspace((10 * place + 1.5) * turn, (10 * (place + size) - 1.5) * turn, 9 * size)
        axes.plot(*_points(angles, radius + 0.42), color="#444444", lw=1.4, solid_capstyle="butt")
        x, y = _points(angles.mean(keepdims=True), radius + 0.55)
        axes.text(x[0], y[0], str(number), ha="center", va="center", fontsize=7)
        place += size
    axes.set(xlim=(-radius - 0.7, radius + 0.7), ylim=(-radius - 0.7, radius + 0.7), aspect="equal")
    axes.set_axis_off()
    axes.set_title("tree of Jensen-Shannon distances (Ward), clusters around it")


def _bent(angles: Array, radii: Array) -> Array:
    """The three sides of a link as one line: inwards, around, and outwards again."""
    around = np.linspace(angles[1], angles[2], 40)
    return np.column_stack(
        _points(
            np.concatenate([angles[:1], around, angles[3:]]),
            np.concatenate([radii[:1], np.full(40, radii[1]), radii[3:]]),
        )
    )


def _points(angles: Array, radii: Array | float) -> tuple[Array, Array]:
    return radii * np.cos(angles), radii * np.sin(angles)


def _draw_map(axes: Axes, clustering: Clustering, looks: Sequence[Look], inches: float) -> None:
    places = clustering.places
    middle = (places.max(0) + places.min(0)) / 2
    reach = max(float(np.ptp(places, axis=0).max()) / 2, 1e-6) * 1.06
    for (x, y), (colour, marker) in zip(places, looks, strict=True):
        axes.scatter(x, y, s=16, color=colour, marker=marker, linewidths=0)
    texts = [head_name(head) for head in clustering.heads]
    for index, shift, anchor in _with_room((places - middle) * (inches / 2 / reach), texts):
        axes.annotate(
            texts[index],
            places[index],
            xytext=(72 * shift[0], 72 * shift[1]),
            textcoords="offset points",
            ha=anchor,
            va="center",
            fontsize=_FONT - 0.5,
            color=looks[index][0],
        )
    axes.set(
        xlim=(middle[0] - reach, middle[0] + reach),
        ylim=(middle[1] - reach, middle[1] + reach),
        aspect="equal",
    )
    axes.tick_params(labelsize=6)
    axes.set_title(f"map of the same distances (stress {clustering.stress:.2f})")


def _with_room(places: Array, texts: Sequence[str]) -> Iterator[tuple[int, tuple[float, float], str]]:
    """Which labels fit without covering a point or another label: index, shift in inches, alignment."""
    half, dot = 0.045, 0.03
    taken = [(x - dot, y - dot, x + dot, y + dot) for x, y in places]
    for index, ((x, y), text) in enumerate(zip(places, texts, strict=True)):
        width = 0.047 * len(text)
        for shift, anchor, start in [
            ((0.05, 0.0), "left", 0.05),
            ((-0.05, 0.0), "right", -0.05 - width),
            ((0.0, 0.085), "center", -width / 2),
            ((0.0, -0.085), "center", -width / 2),
        ]:
            low = y + shift[1] - half
            box = (x + start, low, x + start + width, low + 2 * half)
            others = taken[:index] + taken[index + 1 :]
            if not any(a < box[2] and c > box[0] and b < box[3] and d > box[1] for a, b, c, d in others):
                taken.append(box)
                yield index, shift, anchor
                break
