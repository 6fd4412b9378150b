"""The clustering study of a head analysis, and its figure: a circular dendrogram and a map."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from math import cos, pi, sin
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from glassformer.analysis.ablation import Head, head_name
from glassformer.analysis.head_patterns.report import HeadReport
from glassformer.experiments.head_clusters.clustering import (
    Clustering,
    agreement,
    best_silhouette,
    cluster_heads,
)
from glassformer.experiments.head_clusters.distances import HeadDistances
from glassformer.visualization import save_figure
from glassformer.visualization.figures.style import figure_style

SIGNIFICANCE = 0.05
"""The largest p-value at which heads are reported as clustered."""
UNLABELED = "no label"
_GRAY = "#8c8c8c"
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a5a00", "#4b0092")
_MARKERS = "osD^vP"
_FONT_SIZE, _LEAF_WIDTH = 6.0, 0.105
"""Of the labels of heads: size in points, and inches along the circle."""

Array = npt.NDArray[np.float64]
Marker = tuple[str, str]
"""Color and marker."""


def write_cluster_study(
    report: HeadReport, distances: HeadDistances, baseline: HeadDistances, path: str | Path
) -> list[str]:
    """Cluster the heads of a report, save the figure, and return a summary as lines of text.

    Args:
        report: of the head analysis.
        distances: of the model's heads, at least three.
        baseline: of a model with random weights.
        path: of the figure.
    """
    clusters = cluster_heads(distances)
    labels = {(row["layer"], row["head"]): row["name"] for row in report.names if row["main"]}
    comparison = "are not" if clusters.p_value > SIGNIFICANCE else "are"
    summary = [
        f"heads {comparison} significantly clustered: {clusters.num_clusters} clusters have silhouette "
        f"{clusters.silhouette:.3f}, null models without clusters {clusters.null_silhouette:.3f} "
        f"(p = {clusters.p_value:.3f}), random weights (seed {report.settings['seed']}) "
        f"{best_silhouette(baseline.all):.3f}",
        f"adjusted Rand index of the clusters on the two halves of the sentences: {clusters.stability:.3f}",
    ]
    if len(labels) > 1:
        agrees = agreement(clusters, labels)
        summary.append(
            f"adjusted Rand index of the clusters and the labels of heads: {agrees.rand_index:.3f} "
            f"(permutation test: p = {agrees.rand_p_value:.3f})"
        )
    figure = draw_clusters(clusters, labels or None, title=report.model, caption="\n".join(summary))
    save_figure(figure, path)
    return summary


def draw_clusters(
    clustering: Clustering, labels: Mapping[Head, str] | None = None, *, title: str, caption: str = ""
) -> Figure:
    """Draw the dendrogram of heads, with the root in the center, and the map; heads are written layer.head.

    The ring around the dendrogram shows the numbers of the clusters. Colors show labels, or else clusters. A
    head on the map whose text would overlap another is drawn without text.

    Args:
        clustering: the clusters.
        labels: labels of some of the heads.
        title: the name of the model.
        caption: a summary of the clusters; lines are wrapped.
    """
    groups = [
        f"cluster {cluster}" if labels is None else labels.get(head, UNLABELED)
        for head, cluster in zip(clustering.heads, clustering.cluster, strict=True)
    ]
    markers = _markers(groups)
    radius = max(2.1, _LEAF_WIDTH * len(groups) / (2 * pi))
    side = 2 * radius + 1.5
    size = max(9, 0.8 * side)
    line_length = int(2 * side * 72 / (0.6 * size))
    heading = [title, *(part for line in caption.splitlines() for part in textwrap.wrap(line, line_length))]
    with figure_style():
        figure = Figure(figsize=(2 * side, side + 0.7 + len(heading) * size / 60), layout="constrained")
        tree_axes, map_axes = figure.subplots(1, 2)
        _draw_tree(tree_axes, clustering, [markers[group][0] for group in groups], radius)
        _draw_map(map_axes, clustering, [markers[group] for group in groups], side - 0.6)
        for group, (color, marker) in markers.items():
            label = f"{group} ({groups.count(group)})"
            map_axes.scatter([], [], s=26, color=color, marker=marker, linewidths=0, label=label)
        figure.legend(
            loc="outside lower center",
            ncols=min(len(markers), max(3, int(side))),
            fontsize=max(7.5, 0.7 * side),
        )
        figure.suptitle("\n".join(heading), fontsize=size, x=0.01, ha="left")
    return figure


def _markers(groups: Sequence[str]) -> dict[str, Marker]:
    """A color and a marker for each group, the largest group first; gray for heads without a label."""
    by_size = sorted(Counter(groups).items(), key=lambda item: (-item[1], item[0]))
    labeled = [group for group, _ in by_size if group != UNLABELED]
    markers = {
        group: (_COLORS[number % len(_COLORS)], _MARKERS[number // len(_COLORS) % len(_MARKERS)])
        for number, group in enumerate(labeled)
    }
    return markers | ({UNLABELED: (_GRAY, ".")} if UNLABELED in groups else {})


def _draw_tree(axes: Axes, clustering: Clustering, colors: Sequence[str], radius: float) -> None:
    from scipy.cluster.hierarchy import dendrogram

    drawn = dendrogram(clustering.tree, no_plot=True)
    total, highest = len(colors), max(float(clustering.tree[:, 2].max()), 1e-12)
    turn = 2 * pi / (10 * total)  # scipy places leaves at 5, 15, 25, ...
    lines = [
        _link_line(np.array(across) * turn, radius * (1 - np.array(up) / highest))
        for across, up in zip(drawn["icoord"], drawn["dcoord"], strict=True)
    ]
    axes.add_collection(LineCollection(lines, colors="#666666", linewidths=0.7))
    leaves = drawn["leaves"]
    for index, leaf in enumerate(leaves):
        angle = (10 * index + 5) * turn
        left = pi / 2 < angle < 3 * pi / 2
        axes.text(
            (radius + 0.05) * cos(angle),
            (radius + 0.05) * sin(angle),
            head_name(clustering.heads[leaf]),
            rotation=np.degrees(angle) + (180 if left else 0),
            rotation_mode="anchor",
            ha="right" if left else "left",
            va="center",
            fontsize=_FONT_SIZE,
            color=colors[leaf],
        )
    start = 0
    for number, run in groupby(clustering.cluster[leaf] for leaf in leaves):
        size = len(list(run))
        angles = np.linspace((10 * start + 1.5) * turn, (10 * (start + size) - 1.5) * turn, 9 * size)
        axes.plot(*_to_cartesian(angles, radius + 0.42), color="#444444", lw=1.4, solid_capstyle="butt")
        x, y = _to_cartesian(angles.mean(keepdims=True), radius + 0.55)
        axes.text(x[0], y[0], str(number), ha="center", va="center", fontsize=7)
        start += size
    axes.set(xlim=(-radius - 0.7, radius + 0.7), ylim=(-radius - 0.7, radius + 0.7), aspect="equal")
    axes.set_axis_off()
    axes.set_title("dendrogram of Jensen-Shannon distances (Ward), clusters around it")


def _link_line(angles: Array, radii: Array) -> Array:
    """The three sides of a link in polar coordinates as one line: inwards, around, and outwards."""
    arc = np.linspace(angles[1], angles[2], 40)
    return np.column_stack(
        _to_cartesian(
            np.concatenate([angles[:1], arc, angles[3:]]),
            np.concatenate([radii[:1], np.full(40, radii[1]), radii[3:]]),
        )
    )


def _to_cartesian(angles: Array, radii: Array | float) -> tuple[Array, Array]:
    return radii * np.cos(angles), radii * np.sin(angles)


def _draw_map(axes: Axes, clustering: Clustering, markers: Sequence[Marker], inches: float) -> None:
    points = clustering.points
    center = (points.max(0) + points.min(0)) / 2
    extent = max(float(np.ptp(points, axis=0).max()) / 2, 1e-6) * 1.06
    for (x, y), (color, marker) in zip(points, markers, strict=True):
        axes.scatter(x, y, s=16, color=color, marker=marker, linewidths=0)
    texts = [head_name(head) for head in clustering.heads]
    for index, shift, anchor in _fitting_labels((points - center) * (inches / 2 / extent), texts):
        axes.annotate(
            texts[index],
            points[index],
            xytext=(72 * shift[0], 72 * shift[1]),
            textcoords="offset points",
            ha=anchor,
            va="center",
            fontsize=_FONT_SIZE - 0.5,
            color=markers[index][0],
        )
    axes.set(
        xlim=(center[0] - extent, center[0] + extent),
        ylim=(center[1] - extent, center[1] + extent),
        aspect="equal",
    )
    axes.tick_params(labelsize=6)
    axes.set_title(f"map of the same distances (stress {clustering.stress:.2f})")


def _fitting_labels(points: Array, texts: Sequence[str]) -> Iterator[tuple[int, tuple[float, float], str]]:
    """Labels that overlap no point and no other label: index, shift in inches, alignment."""
    half, dot = 0.045, 0.03
    taken = [(x - dot, y - dot, x + dot, y + dot) for x, y in points]
    for index, ((x, y), text) in enumerate(zip(points, texts, strict=True)):
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
