"""The clustering study of a head analysis: clusters, null models, agreement with labels, and the figure."""

from __future__ import annotations

from pathlib import Path

from glassformer.analysis.head_patterns.report import HeadReport
from glassformer.experiments.head_clusters.clustering import agreement, best_silhouette, cluster_heads
from glassformer.experiments.head_clusters.distances import HeadDistances
from glassformer.experiments.head_clusters.figure import draw_clusters
from glassformer.visualization import save_figure

SIGNIFICANCE = 0.05
"""The largest p-value at which heads are reported as clustered."""


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
