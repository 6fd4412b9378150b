"""Measure the attention patterns of all heads of a model, and label heads with them.

    report = analyze_heads(model, texts)
    report.names     # [{"layer": 2, "head": 9, "name": "previous", "score": 0.98, ...}, ...]

A model of the same shape with random weights is measured as a baseline, after the model itself. The command
line releases the first model before it builds the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from glassformer.analysis.head_patterns.collect import (
    DESCRIPTIONS,
    MAX_DISTANCE,
    choose_self_attention,
    collect_sums,
)
from glassformer.analysis.head_patterns.inputs import (
    TextEncoder,
    checked_summary,
    items_from_json,
    items_to_json,
    repeated_sequences,
)
from glassformer.analysis.head_patterns.patterns import (
    PATTERN_GROUPS,
    Dataset,
    Item,
    Pattern,
    all_patterns,
    select_patterns,
)
from glassformer.analysis.head_patterns.report import (
    HeadReport,
    Row,
    description_rows,
    frequency_rows,
    pattern_rows,
    test_pattern,
)
from glassformer.analysis.head_patterns.statistics import SplitSums
from glassformer.analysis.head_patterns.syntax import Parser
from glassformer.analysis.partial_results import PartialResults, data_fingerprint, model_fingerprint
from glassformer.attention import all_heads
from glassformer.data import Progress, SilentProgress
from glassformer.files import temporary_folder
from glassformer.folder_lock import lock_folder
from glassformer.models import TransformerModel

ITEMS_PER_PART = 512
"""Items of one partial result: the work that is lost when an analysis is interrupted."""
DATASETS: tuple[Dataset, Dataset] = ("text", "repeated")
MODEL, BASELINE = "model", "control"
"""Names of the two models in partial results."""


@dataclass(frozen=True, kw_only=True)
class HeadAnalysisSettings:
    """All that a head analysis depends on besides the model and the texts."""

    patterns: Sequence[str] = tuple(PATTERN_GROUPS)
    """Names of patterns or of ``PATTERN_GROUPS``."""
    kind: str | None = None
    """Kind of self-attention; for an encoder-decoder ``"encoder"`` or ``"decoder"``."""
    margin: float = 0.1
    """Minimum margin over every baseline."""
    seed: int = 0
    """Of the halves, the bootstrap, the repeated tokens and the random weights."""
    max_tokens: int = 256
    """Longer texts are truncated."""
    num_repeated: int = 256
    """Number of sequences of repeated random tokens."""
    replicates: int = 1000
    """Number of bootstrap replicates."""

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 1:
            raise ValueError(f"margin must be at least 0 and below 1, not {self.margin}")
        for name, least in (("max_tokens", 2), ("num_repeated", 2), ("replicates", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not select_patterns(self.patterns):
            raise ValueError(f"no patterns: choose from {', '.join([*PATTERN_GROUPS, *all_patterns()])}")


def analyze_heads(
    model: TransformerModel,
    texts: Iterable[str | Sequence[int]],
    settings: HeadAnalysisSettings | None = None,
    *,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> HeadReport:
    """Measure every head of a model for every pattern, with baselines, and label heads.

    Args:
        model: a model that reads tokens.
        texts: texts or sequences of token ids; any number, iterated once.
        settings: patterns, margin, seed, ...
        folder: where partial results are stored, so that an interrupted analysis can be resumed. They are not
            deleted, so the margin can be changed without measuring again. Default: a temporary folder.
        progress: shows the progress.

    Raises:
        ValueError: no text, an empty text, unsuitable settings, or a folder of another analysis.
        TypeError: a single text instead of several, an item that is neither a text nor ids, or a model that
            reads no tokens.
        OSError: the folder is not writable.
    """
    settings = settings or HeadAnalysisSettings()
    data = {"sha256": data_fingerprint(texts)} if isinstance(texts, list | tuple) else None
    with temporary_folder() as temporary, lock_folder(folder or temporary, "run folder"):
        analysis = HeadAnalysis(model, settings, folder or temporary, data=data, progress=progress)
        analysis.encode(model, texts)
        analysis.measure_model(model)
        analysis.measure_baseline(random_weights_builder(model, settings.seed))
        return analysis.report()


def random_weights_builder(model: TransformerModel, seed: int) -> Callable[[], TransformerModel]:
    """A builder of models of the same shape with random weights, without a reference to the model."""
    family, config, device = type(model), model.config, model.device

    def build() -> TransformerModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return family(**config).to(device).eval()

    return build


class HeadAnalysis:
    """A head analysis in steps that can each be resumed: encode, measure model and baseline, report.

    Args:
        model: the model to be analyzed; no reference to it is kept.
        settings: patterns, margin, seed, ...
        folder: where partial results are stored, a few kilobytes per item; see ``PartialResults``.
        name: of the model, for the report.
        data: description of the texts, compared when the analysis is resumed.
        progress: shows the progress.

    Raises:
        ValueError, TypeError, OSError: see ``analyze_heads``.
    """

    def __init__(
        self,
        model: TransformerModel,
        settings: HeadAnalysisSettings,
        folder: str | Path,
        *,
        name: str = "",
        data: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.kind, attentions = choose_self_attention(model, settings.kind)
        self.heads = all_heads(attentions)
        self.settings, self.name = settings, name or type(model).__name__
        self.progress = progress or SilentProgress()
        self.notes: list[str] = []
        self.patterns = list(select_patterns(settings.patterns).values())
        self.max_tokens = min(settings.max_tokens, int(model.config["max_seq_len"]))
        self._encoder = TextEncoder(self.kind, self.max_tokens, self._find_parser(model))
        stored = {
            key: value for key, value in asdict(settings).items() if key not in ("margin", "replicates")
        }
        stored |= {"patterns": [p.name for p in self.patterns], "kind": self.kind}
        stored |= {"model": model_fingerprint(model), "data": dict(data or {})}
        self.partial_results = PartialResults(folder, stored)

    def max_bytes(self, num_texts: int) -> int:
        """Upper bound of the size of the partial results; compressed, they mostly take a third of it."""
        columns = len(self.patterns)
        floats = len(self.heads) * (2 * columns + len(DESCRIPTIONS))  # mass and hits, four bytes each
        integers = (2 * MAX_DISTANCE + 1) * columns  # two bytes each
        return num_texts * 2 * (4 * floats + 2 * integers)

    def encode(self, model: TransformerModel, texts: Iterable[str | Sequence[int]]) -> None:
        """Encode texts as items, and generate sequences of repeated tokens."""
        if self.partial_results.read("items") is not None:
            return
        if isinstance(texts, str):
            raise TypeError("the data set must be a list of texts, got a single text")
        summary: dict[str, Any] = {"sizes": {dataset: [] for dataset in DATASETS}, "notes": []}
        summary |= {"num_cut": 0, "as_bytes": False}
        sizes = summary["sizes"]
        self.progress.update("encoding", 0, None)
        numbered = enumerate(texts)
        while chunk := list(islice(numbered, ITEMS_PER_PART)):
            name = _part_name("text", len(sizes["text"]))
            part = self.partial_results.read(name)
            if part is None:
                part = self._encoder.encode(model, chunk)
                self.partial_results.write(name, part)
            sizes["text"].append(len(part["items"]))
            summary["num_cut"] += part["num_cut"]
            summary["as_bytes"] |= part["as_bytes"]
            self.progress.update("encoding", sum(sizes["text"]), None)
        if not sizes["text"]:
            raise ValueError("the data set is empty: give at least one text")
        self.progress.update("encoding", sum(sizes["text"]), sum(sizes["text"]))
        if self._patterns_of("repeated"):
            try:
                sequences = repeated_sequences(model, self.settings.num_repeated, self.settings.seed)
                items = self._encoder.add_start_token(model, sequences)
                self.partial_results.write(_part_name("repeated", 0), {"items": items_to_json(items)})
                sizes["repeated"].append(len(items))
            except ValueError as error:
                summary["notes"].append(f"induction and duplicate tokens were not measured: {error}")
        self.partial_results.write("items", summary)

    def measure_model(self, model: TransformerModel) -> None:
        """Measure the model."""
        self._measure(MODEL, lambda: model)

    def measure_baseline(self, build: Callable[[], TransformerModel]) -> None:
        """Measure the model with random weights, which is built only if needed."""
        self._measure(BASELINE, build)

    def num_texts(self) -> int:
        """Number of encoded texts."""
        return sum(self._summary()["sizes"]["text"])

    def text_items(self) -> Iterator[Item]:
        """The encoded texts."""
        for part in range(len(self._summary()["sizes"]["text"])):
            yield from self._read_items("text", part)

    def report(self) -> HeadReport:
        """Evaluate the partial results: scores, tests and labels."""
        summary = self._summary()
        results, untested = [], list[Row]()
        for dataset in DATASETS:
            sizes = summary["sizes"][dataset]
            if not sizes:
                continue
            model, baseline = (
                SplitSums.from_parts(
                    (
                        self.partial_results.read_tensors(_part_name(f"{role} {dataset}", part))
                        for part in range(len(sizes))
                    ),
                    sizes,
                    self.settings.replicates,
                    self.settings.seed,
                )
                for role in (MODEL, BASELINE)
            )
            for level in ("token", "word"):
                same_level = [pattern for pattern in self._patterns_of(dataset) if pattern.level == level]
                for index, pattern in enumerate(same_level):
                    if not model.num_queries(level, index):
                        continue
                    results.append(
                        test_pattern(pattern, index, self.heads, model, baseline, self.settings.margin)
                    )
                    if pattern.name == "delimiter":
                        untested += frequency_rows(pattern, index, model, self.heads)
            untested += description_rows(model, self.heads)
        measured = {result.pattern.name for result in results}
        missing = [pattern.name for pattern in self.patterns if pattern.name not in measured]
        notes = [*self.notes, *summary["notes"]]
        if missing:
            notes.append(f"no query has a visible target for: {', '.join(missing)}")
        data = {
            "num_items": sum(summary["sizes"]["text"]),
            "num_cut": summary["num_cut"],
            "cut_to": self.max_tokens,
            "as_bytes": summary["as_bytes"],
            "notes": notes,
        }
        settings = asdict(self.settings) | {"patterns": sorted(measured), "kind": self.kind}
        return HeadReport(self.name, settings, [*pattern_rows(results, self.heads), *untested], data)

    def _measure(self, role: str, build: Callable[[], TransformerModel]) -> None:
        stage = "measuring the model" if role == MODEL else "measuring the random weights"
        sizes = self._summary()["sizes"]
        total, done = sum(map(sum, sizes.values())), 0
        model: TransformerModel | None = None
        for dataset in DATASETS:
            for part, size in enumerate(sizes[dataset]):
                name = _part_name(f"{role} {dataset}", part)
                if not self.partial_results.has_tensors(name):
                    if model is None:
                        model = build()
                        self.progress.update(stage, done, total)
                    items = self._read_items(dataset, part)
                    patterns = self._patterns_of(dataset)
                    sums = collect_sums(model, items, patterns, self.kind, descriptions=dataset == "text")
                    self.partial_results.write_tensors(name, sums)
                    self.progress.update(stage, done + size, total)
                done += size

    def _read_items(self, dataset: Dataset, part: int) -> list[Item]:
        name = _part_name(dataset, part)
        return list(self.partial_results.read(name, lambda content: items_from_json(content["items"])))

    def _find_parser(self, model: TransformerModel) -> Parser | None:
        """The parser if a pattern needs it; if it is missing, such patterns are dropped with a note."""
        token_patterns = [pattern for pattern in self.patterns if pattern.level != "word"]
        if token_patterns == self.patterns:
            return None
        try:
            if model.tokenizer is None:
                raise ImportError("the model has no tokenizer, set model.tokenizer")
            return Parser()
        except ImportError as error:
            if not token_patterns:
                raise
            self.patterns = token_patterns
            self.notes.append(f"without patterns of syntax: {error}")
            return None

    def _patterns_of(self, dataset: Dataset) -> list[Pattern]:
        return [pattern for pattern in self.patterns if pattern.dataset == dataset]

    def _summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = self.partial_results.read("items", checked_summary)
        return summary


def _part_name(name: str, part: int) -> str:
    return f"{name} {part:05}"
