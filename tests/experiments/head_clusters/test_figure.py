"""The figure of a clustering."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.spatial.distance import pdist, squareform

from glassformer.experiments.head_clusters.clustering import Clustering, cluster_heads
from glassformer.experiments.head_clusters.distances import HeadDistances
from glassformer.experiments.head_clusters.figure import draw_clusters
from glassformer.visualization import save_figure


@pytest.fixture(scope="module")
def clustering() -> Clustering:
    random = np.random.default_rng(0)
    points = random.normal(size=(48, 5)) + 4 * np.eye(5)[random.integers(3, size=48)]
    apart = squareform(pdist(points)) / 10
    heads = [(layer, head) for layer in range(4) for head in range(12)]
    return cluster_heads(HeadDistances(heads, (apart, apart), (9, 9)), null_samples=9)


def colors(figure: Figure) -> dict[str, str]:
    """Colors of the labels in the dendrogram."""
    return {text.get_text(): to_hex(text.get_color()) for text in figure.axes[0].texts}


@pytest.mark.slow
def test_every_head_is_in_the_dendrogram_in_the_color_of_its_cluster(clustering: Clustering) -> None:
    figure = draw_clusters(clustering, title="a model", caption="some texts")
    labels = colors(figure)
    assert {f"{layer}.{head}" for layer, head in clustering.heads} <= set(labels)
    assert {str(number) for number in range(clustering.num_clusters)} <= set(labels)
    seen = {(c, labels[f"{h[0]}.{h[1]}"]) for h, c in zip(clustering.heads, clustering.cluster, strict=True)}
    assert len(seen) == clustering.num_clusters == 3
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(legend) == sorted(f"cluster {c} ({clustering.cluster.count(c)})" for c in range(3))
    assert figure.get_suptitle() == "a model\nsome texts"


def test_labels_have_colors_and_heads_without_a_label_are_gray(clustering: Clustering) -> None:
    labels = {head: f"label {index % 11}" for index, head in enumerate(clustering.heads) if index < 30}
    figure = draw_clusters(clustering, labels, title="a model")
    labels = colors(figure)
    assert labels["0.0"] == labels["0.11"] != labels["0.1"]
    assert labels["3.0"] == labels["3.11"] == "#8c8c8c"
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()][-1] == "no label (18)"
    markers = {
        (h.get_facecolor().tobytes(), h.get_paths()[0].vertices.tobytes()) for h in legend.legend_handles
    }
    assert len(markers) == 12  # all labels are distinguishable


@pytest.mark.slow
def test_labels_on_the_map_do_not_overlap(clustering: Clustering) -> None:
    figure = draw_clusters(clustering, title="a model")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [text.get_window_extent().padded(-0.5) for text in figure.axes[1].texts]
    assert len(boxes) > 24
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


@pytest.mark.slow
def test_a_long_caption_fits_into_the_figure(clustering: Clustering) -> None:
    caption = "\n".join(["heads are not significantly clustered " * 4, "last line"])
    figure = draw_clusters(clustering, title="a model", caption=caption)
    figure.draw_without_rendering()
    (title,) = [text for text in figure.texts if text.get_text() == figure.get_suptitle()]
    box, (tree, _) = title.get_window_extent(), figure.axes
    assert box.x1 < figure.bbox.width
    assert tree.get_tightbbox().y1 <= box.y0
    assert figure.get_suptitle().splitlines()[-1] == "last line"


@pytest.mark.slow
def test_the_figure_can_be_saved(clustering: Clustering, tmp_path: Path) -> None:
    for suffix in ("png", "svg"):
        path = save_figure(draw_clusters(clustering, title="a model"), tmp_path / f"clusters.{suffix}")
        assert path.stat().st_size > 10_000
