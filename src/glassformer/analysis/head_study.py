"""Measure what every head of a model does, and name those that earn it.

report = analyze_heads(model, texts)
report.names     # [{"layer": 2, "head": 9, "name": "previous", "score": 0.98, ...}, ...]

A model of the same shape with random weights is measured as a control when the model's own turn is over; the
command line lets go of the first before it builds the second.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glassformer.analysis.head_distances import HeadDistances, head_distances
from glassformer.analysis.head_report import HeadReport, Row
from glassformer.analysis.head_settings import Settings
from glassformer.analysis.kept_parts import KeptParts
from glassformer.analysis.measuring import choose_self_attention, fingerprint, measure
from glassformer.analysis.naming import (
    description_rows,
    frequency_rows,
    judge,
    rows,
)
from glassformer.analysis.patterns import Item, Material, Pattern
from glassformer.analysis.reduction import DESCRIPTIONS, REACH
from glassformer.analysis.repeated import repeated_sequences
from glassformer.analysis.scores import Totals
from glassformer.analysis.syntax import Parser
from glassformer.analysis.text_items import TextReader, items_from_rows, rows_of_items
from glassformer.data import Progress, SilentProgress
from glassformer.models import TransformerModel

PART = 512
"""Items that are kept together: what is lost when an analysis is killed."""
MATERIALS: tuple[Material, Material] = ("text", "repeated")


def analyze_heads(
    model: TransformerModel,
    texts: Iterable[str | Sequence[int]],
    settings: Settings | None = None,
    *,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> HeadReport:
    """Measure every head by every pattern, with controls, and name those that earn it.

    Args:
        model: one that reads tokens.
        texts: texts, or sequences of token ids; any number, read once.
        settings: patterns, margin, seed, ...
        folder: where the parts are kept, so that a killed analysis goes on; they stay there, and another
            margin needs no measuring. Default: nowhere.
        progress: what is told how far it is.

    Raises:
        ValueError: no text, an empty one (its number is named), settings that do not fit the model, or a
            folder with another analysis.
        TypeError: a single text instead of several, something that is neither text nor ids, or a model that
            reads no tokens.
        OSError: the folder is not writable.

    """
    settings = settings or Settings()
    data = {"sha256": digest(texts)} if isinstance(texts, list | tuple) else None
    with tempfile.TemporaryDirectory() as temporary:
        study = HeadStudy(model, settings, folder or temporary, data=data, progress=progress)
        study.read(model, texts)
        study.measure(model)
        study.measure_control(untrained(model, settings.seed))
        return study.report()


def digest(texts: Sequence[str | Sequence[int]]) -> str:
    """A hash of texts, or of ids, by which an analysis that goes on knows its data again."""
    found = hashlib.sha256()
    for text in texts:
        found.update(repr(text).encode("utf-8", "backslashreplace"))
    return found.hexdigest()[:16]


def untrained(model: TransformerModel, seed: int) -> Callable[[], TransformerModel]:
    """What builds a model of the same shape with random weights; it does not hold on to the model itself."""
    family, config, device = type(model), model.config, model.device

    def build() -> TransformerModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return family(**config).to(device).eval()

    return build


class HeadStudy:
    """An analysis in steps, each of which goes on where it was killed: read, measure, control, report.

    Args:
        model: that is to be analysed; the study does not hold on to it.
        settings: patterns, margin, seed, ...
        folder: where the parts are kept: items, and their sums, some kilobytes for each.
        name: of the model, for the report.
        data: what the texts are, compared when the study goes on.
        progress: what is told how far it is.

    Raises:
        ValueError, TypeError, OSError: as ``analyze_heads``.

    """

    def __init__(
        self,
        model: TransformerModel,
        settings: Settings,
        folder: str | Path,
        *,
        name: str = "",
        data: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.kind, attentions = choose_self_attention(model, settings.kind)
        self.heads = [
            (layer, head) for layer, attention in enumerate(attentions) for head in range(attention.num_heads)
        ]
        self.settings, self.name = settings, name or type(model).__name__
        self.progress = progress or SilentProgress()
        self.notes: list[str] = []
        self.patterns = list(settings.chosen().values())
        self.longest = min(settings.max_tokens, int(model.config["max_seq_len"]))
        self._reader = TextReader(self.kind, self.longest, self._find_parser(model))
        free = {"margin", "replicates"}
        depends = {key: value for key, value in asdict(settings).items() if key not in free}
        depends |= {"patterns": [p.name for p in self.patterns], "kind": self.kind}
        depends |= {"model": fingerprint(model), "data": dict(data or {})}
        self.parts = KeptParts(folder, depends)

    def size(self, num_texts: int) -> int:
        """Bytes that the sums of so many texts take at most, of the model and of the control.

        They are kept compressed: mostly in a third of it.
        """
        columns = len(self.patterns)
        numbers = len(self.heads) * (2 * columns + len(DESCRIPTIONS))  # mass and hits, in four bytes each
        return num_texts * 2 * (4 * numbers + 2 * (2 * REACH + 1) * columns)

    def read(self, model: TransformerModel, texts: Iterable[str | Sequence[int]]) -> None:
        """Turn texts into items, and make the sequences of repeated tokens; parts that are there are kept."""
        if self.parts.read("items") is not None:
            return
        if isinstance(texts, str):
            raise TypeError("the data set is a single text: give a list of texts")
        about: dict[str, Any] = {"sizes": {material: [] for material in MATERIALS}, "notes": []}
        about |= {"num_cut": 0, "as_bytes": False}
        sizes = about["sizes"]
        self.progress.update("reading", 0, None)
        numbered = enumerate(texts)
        while chunk := list(islice(numbered, PART)):
            name = _part("text", len(sizes["text"]))
            part = self.parts.read(name)
            if part is None:
                part = self._reader.read(model, chunk)
                self.parts.write(name, part)
            sizes["text"].append(len(part["items"]))
            about["num_cut"] += part["num_cut"]
            about["as_bytes"] |= part["as_bytes"]
            self.progress.update("reading", sum(sizes["text"]), None)
        if not sizes["text"]:
            raise ValueError("the data set is empty: give at least one text")
        self.progress.update("reading", sum(sizes["text"]), sum(sizes["text"]))
        if self._patterns_of("repeated"):
            try:
                found = repeated_sequences(model, self.settings.num_repeated, self.settings.seed)
                items = self._reader.for_kind(model, found)
                self.parts.write(_part("repeated", 0), {"items": rows_of_items(items)})
                sizes["repeated"].append(len(items))
            except ValueError as error:
                about["notes"].append(f"no induction, no duplicate tokens: {error}")
        self.parts.write("items", about)

    def measure(self, model: TransformerModel) -> None:
        """Measure the model itself."""
        self._measure("model", lambda: model)

    def measure_control(self, build: Callable[[], TransformerModel]) -> None:
        """Measure a model of the same shape with random weights, which is built if it is needed."""
        self._measure("control", build)

    def distances(self, model: TransformerModel, count: int) -> HeadDistances:
        """How differently heads look at ``count`` of the texts, evenly spaced; kept with the parts.

        Raises:
            NothingToCompareError: fewer than two texts of several tokens.
        """
        return self._distances("model", lambda: model, count)

    def control_distances(self, build: Callable[[], TransformerModel], count: int) -> HeadDistances:
        """The same of a model with random weights, which is built if it is needed."""
        return self._distances("control", build, count)

    def report(self) -> HeadReport:
        """Score, test and name, from the parts that were measured."""
        about = self._about()
        judged, plain = [], list[Row]()
        for material in MATERIALS:
            sizes = about["sizes"][material]
            if not sizes:
                continue
            model, control = (
                Totals.over(
                    (self.parts.read_tensors(_part(f"{who} {material}", part)) for part in range(len(sizes))),
                    sizes,
                    self.settings.replicates,
                    self.settings.seed,
                )
                for who in ("model", "control")
            )
            for level in ("token", "word"):
                same = [pattern for pattern in self._patterns_of(material) if pattern.level == level]
                for number, pattern in enumerate(same):
                    if not model.num_queries(level, number):
                        continue
                    judged.append(judge(pattern, number, self.heads, model, control, self.settings.margin))
                    if pattern.name == "delimiter":
                        plain += frequency_rows(pattern, number, model, self.heads)
            plain += description_rows(model, self.heads)
        found = {some.pattern.name for some in judged}
        missing = [pattern.name for pattern in self.patterns if pattern.name not in found]
        notes = [*self.notes, *about["notes"]]
        if missing:
            notes.append(f"nothing to look at, in these data or under this mask: {', '.join(missing)}")
        data = {
            "num_items": sum(about["sizes"]["text"]),
            "num_cut": about["num_cut"],
            "cut_to": self.longest,
            "as_bytes": about["as_bytes"],
            "notes": notes,
        }
        settings = asdict(self.settings) | {"patterns": sorted(found), "kind": self.kind}
        return HeadReport(self.name, settings, [*rows(judged, self.heads), *plain], data)

    def _measure(self, who: str, build: Callable[[], TransformerModel]) -> None:
        sizes = self._about()["sizes"]
        total, done = sum(map(sum, sizes.values())), 0
        model: TransformerModel | None = None
        for material in MATERIALS:
            for part, size in enumerate(sizes[material]):
                name = _part(f"{who} {material}", part)
                if not self.parts.has_tensors(name):
                    if model is None:
                        model = build()
                        self.progress.update(f"measuring the {who}", done, total)
                    items = self._read_items(material, part)
                    patterns = self._patterns_of(material)
                    sums = measure(model, items, patterns, self.kind, descriptions=material == "text")
                    self.parts.write_tensors(name, sums)
                    self.progress.update(f"measuring the {who}", done + size, total)
                done += size

    def _distances(self, who: str, build: Callable[[], TransformerModel], count: int) -> HeadDistances:
        name = f"{who} distances"
        if not self.parts.has_tensors(name):
            sizes = self._about()["sizes"]["text"]
            every = max(1, sum(sizes) // count)
            items = (item for part in range(len(sizes)) for item in self._read_items("text", part))
            found = head_distances(build(), islice(items, 0, every * count, every), self.kind)
            halves, queries = torch.from_numpy(np.stack(found.halves)), torch.tensor(found.num_queries)
            self.parts.write_tensors(name, {"halves": halves, "queries": queries})
        kept = self.parts.read_tensors(name)
        first, second = kept["halves"].numpy()
        return HeadDistances(self.heads, (first, second), tuple(kept["queries"].tolist()))

    def _read_items(self, material: Material, part: int) -> list[Item]:
        return items_from_rows(self.parts.read(_part(material, part))["items"])

    def _find_parser(self, model: TransformerModel) -> Parser | None:
        """The parser, if a pattern needs it; without one such patterns are left out, and it is said."""
        tokens_only = [pattern for pattern in self.patterns if pattern.level != "word"]
        if tokens_only == self.patterns:
            return None
        try:
            if model.tokenizer is None:
                raise ImportError("the model has no tokenizer, set model.tokenizer")
            return Parser()
        except ImportError as error:
            if not tokens_only:
                raise
            self.patterns = tokens_only
            self.notes.append(f"without patterns of syntax: {error}")
            return None

    def _patterns_of(self, material: Material) -> list[Pattern]:
        return [pattern for pattern in self.patterns if pattern.material == material]

    def _about(self) -> dict[str, Any]:
        about: dict[str, Any] = self.parts.read("items")
        return about


def _part(what: str, number: int) -> str:
    return f"{what} {number:05}"
