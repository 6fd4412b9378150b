"""``glassformer ablate``: which behaviors the ablation of attention heads hurts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from glassformer.cli.arguments import Command, ModelArgument, option
from glassformer.cli.inputs import (
    DataOption,
    FileOption,
    FolderOption,
    check_data,
    check_file,
    read_paragraphs,
)
from glassformer.cli.resolve_model import check_model, load_report, model_name, name_in_reports_of_0_1
from glassformer.terminal import count_of, printable

if TYPE_CHECKING:
    from glassformer.analysis.ablation import Head
    from glassformer.analysis.behaviors import BehaviorTask, TaskItem, TaskScores
    from glassformer.analysis.head_patterns import HeadReport
    from glassformer.analysis.partial_results import PartialResults


@dataclass
class Ablate(Command):
    """Ablate heads of a language model and measure which behaviors that hurts.

    Without --heads and --named, each head is ablated alone and compared with its importance by gradient.
    """

    target: ModelArgument
    heads: Annotated[str | None, option("HEADS")] = None
    """Heads to ablate together, and each alone: LAYER.HEAD, such as 4.7,5.1 or 4.0-7; pruning does not change
    their numbers."""
    named: Annotated[str | None, option("NAMES")] = None
    """Ablate the heads that --report gives this name, such as induction; several: induction,previous."""
    report: FileOption = None
    """The heads.json of a glassformer analyze run."""
    how: Annotated[str, option("NAME", default_hint=None)] = "zero"
    """Replacement of a head's output: zero, mean (over --data) or resample (another position of --data)."""
    tasks: Annotated[tuple[str, ...], option("NAME")] = ()
    """Behaviors to measure: copying copy-1 agreement key-value control ... Default: all."""
    items: int = 32
    """Number of items in each task; control has 40 templates and varies their words beyond 40 items."""
    random_draws: int = 20
    """Number of random sets of as many heads in the same layers to compare with; they may share heads."""
    data: DataOption = "sotu"
    """Text for mean and resample: a file, a folder, a .jsonl file, or sotu."""
    max_texts: int = 100
    """Maximum number of paragraphs of it."""
    seed: int = 0
    """Seed of all random choices."""
    run_folder: FolderOption = None
    """Folder for the results; an interrupted run is resumed. Default: runs/ablate-NAME."""

    def run(self) -> None:
        """Ablate heads while the run folder is locked."""
        if self.random_draws < 0 or self.max_texts < 1:
            raise ValueError("--random-draws must be at least 0, and --max-texts at least 1")
        if (self.named is None) != (self.report is None):
            raise ValueError("give both --named and --report: a name, and the heads.json with the names")
        check_model(self.target)
        check_file(self.report)
        check_data(self.data)
        from glassformer.folder_lock import lock_folder

        name = model_name(self.target)
        folder = self.run_folder or Path("runs") / f"ablate-{name.replace('/', '-')}"
        with lock_folder(folder, "run folder"):
            self.ablate(folder)

    def ablate(self, folder: Path) -> None:
        """Measure, or resume, and write the tables and the figure."""
        from glassformer.analysis.ablation import REPLACEMENTS, ablate
        from glassformer.analysis.behaviors import BehaviorTable, build_behavior_tasks
        from glassformer.analysis.behaviors.evaluate import check_tasks
        from glassformer.analysis.partial_results import PartialResults
        from glassformer.attention.pruned_attention import original_heads
        from glassformer.choices import choose
        from glassformer.cli import ablate_results as results
        from glassformer.cli.resolve_model import can_generate, load_model_into_memory, require_tokenizer

        model: Any = load_model_into_memory(self.target)
        name = model_name(self.target, model)
        groups = self.groups(name)
        if not can_generate(model):
            raise ValueError(
                f"{self.target} holds a {type(model).__name__}, which is not a causal language model as the "
                "tasks need: glassformer analyze shows what its heads attend to; in Python, analysis.ablate "
                "ablates them and analysis.ablation_importance measures a loss of your own"
            )
        choose(REPLACEMENTS, self.how, "ablation")
        for heads in groups.values():
            with ablate(model, heads):
                pass  # raises an error for heads that do not exist
        tokenizer = require_tokenizer(model, self.target)
        tasks = build_behavior_tasks(tokenizer, self.tasks or None, self.items, self.seed)
        check_tasks(model, tasks)
        numbers = [original_heads(attention) for attention in model.attentions()["self"]]
        sets, draws, notes = choose_sets(groups, numbers, self.random_draws, self.seed)
        texts = None if self.how == "zero" else self.texts(model)
        parts = PartialResults(folder, self.settings(model, tasks, texts))
        for note in notes:
            print(printable(note), flush=True)
        all_heads, without = self.measure(model, sets, tasks, texts, parts)
        table = BehaviorTable(sets, all_heads, without, {task.name: task.unit for task in tasks})
        caption = f"ablation: {self.how}; {count_of(self.items, 'item')} in each task"
        if groups:
            results.write_groups(table, tasks, draws, folder, f"{name}: ablated heads", caption)
        else:
            gradients = results.compute_gradients(model, tasks, parts)
            results.write_every_head(table, tasks, gradients, folder, f"{name}: each head alone", caption)
        print(printable(folder))

    def groups(self, model: str) -> dict[str, list[Head]]:
        """The groups of heads to ablate, by name; empty where each head is ablated alone."""
        from glassformer.analysis.ablation import head_name, parse_heads

        groups: dict[str, list[Head]] = {}
        if self.heads is not None:
            heads = parse_heads(self.heads)
            groups[head_name(heads[0]) if len(heads) == 1 else "heads"] = heads
        if self.named is not None and self.report is not None:
            names = [name.strip() for name in self.named.split(",")]
            report = load_report(self.report)
            if report.model not in (model, name_in_reports_of_0_1(self.target)):
                raise ValueError(f"{self.report} names the heads of {report.model}, not of {model}")
            groups |= named_heads(report, self.report, names)
        return groups

    def texts(self, model: Any) -> list[list[int]]:
        """The token ids of the paragraphs of --data.

        Raises:
            ValueError: there is no text in it.
        """
        from glassformer.analysis import encode_text

        paragraphs = read_paragraphs(self.data, self.max_texts)
        if not paragraphs:
            raise ValueError(f"{self.data} has no text: --how {self.how} needs some")
        return [encode_text(model, paragraph).ids for paragraph in paragraphs]

    def settings(
        self, model: Any, tasks: Sequence[BehaviorTask], texts: Sequence[list[int]] | None
    ) -> dict[str, Any]:
        """Everything that the scores of a set of heads depend on."""
        from glassformer.analysis.partial_results import data_fingerprint, model_fingerprint

        settings = {
            "model": Path(self.target).name,
            "model_sha256": model_fingerprint(model),
            "how": self.how,
            "suites": [task.name for task in tasks],
            "items": self.items,
            "seed": self.seed,
            "items_sha256": data_fingerprint([_stored_item(item) for task in tasks for item in task.items]),
        }
        if model.config["pruned_heads"]:
            settings["head_numbers"] = "before pruning"  # in version 0.1 those after it
        if texts is None:
            return settings
        return settings | {"data": self.data, "texts": len(texts), "texts_sha256": data_fingerprint(texts)}

    def measure(
        self,
        model: Any,
        sets: Mapping[str, Sequence[Head]],
        tasks: Sequence[BehaviorTask],
        texts: Sequence[list[int]] | None,
        parts: PartialResults,
    ) -> tuple[TaskScores, dict[str, TaskScores]]:
        """Scores with all heads, and without each set: stored ones, and those still to be measured."""
        from glassformer.analysis.ablation import reference_outputs
        from glassformer.analysis.behaviors import TaskScores, evaluate_ablations
        from glassformer.data import CountProgress

        stored = {
            name: parts.read(name, lambda part: (part["heads"], TaskScores.from_json(part))) for name in sets
        }
        scores = {name: part[1] for name, part in stored.items() if part and part[0] == as_lists(sets[name])}
        done = set(scores)
        missing = {name: heads for name, heads in sets.items() if name not in done}
        reference = reference_outputs(model, texts, seed=self.seed) if texts and missing else None
        began = time.monotonic()
        measured = evaluate_ablations(model, missing, tasks, self.how, reference=reference, seed=self.seed)
        all_heads = next(measured)[1]
        blocks = len(model.blocks)
        seconds = (time.monotonic() - began) * sum(1 - min(h)[0] / blocks for h in missing.values())
        print(
            f"{count_of(len(missing), 'set')} of heads to measure: about {seconds / 60:.1f} minutes",
            flush=True,
        )
        progress = CountProgress()
        try:
            for number, (name, without) in enumerate(measured, start=1):
                assert name is not None  # only the scores with all heads have no name
                parts.write(name, {"heads": as_lists(sets[name]), **without.to_json()})
                scores[name] = without
                progress.update("sets of heads", number, len(missing))
        finally:
            progress.close()
        return all_heads, scores


def named_heads(report: HeadReport, path: Path, names: Sequence[str]) -> dict[str, list[Head]]:
    """The heads that a report gives each of the names.

    Raises:
        ValueError: no head has the name (lists the names).
    """
    from collections import Counter

    from glassformer.choices import suggestion

    known = Counter(row["name"] for row in report.names)
    groups = {}
    for name in names:
        if name not in known:
            listed = ", ".join(f"{count} {word}" for word, count in known.items()) or "none"
            raise ValueError(f"{path} has no head named {name!r}{suggestion(name, known)} (it has {listed})")
        groups[name] = [(int(row["layer"]), int(row["head"])) for row in report.names if row["name"] == name]
    return groups


def choose_sets(
    groups: Mapping[str, Sequence[Head]], heads_in_layer: Sequence[Sequence[int]], draws: int, seed: int
) -> tuple[dict[str, tuple[Head, ...]], dict[str, list[str]], list[str]]:
    """Choose the sets of heads to ablate.

    Args:
        groups: heads by name; empty for each head alone.
        heads_in_layer: the numbers of the heads of each layer.
        draws: number of random sets for each group.
        seed: of the draws.

    Returns:
        All sets by name, the names of each group's random sets, and notes to print.
    """
    from collections import Counter

    from glassformer.analysis.ablation import head_name, random_heads

    if not groups:
        every = [(layer, head) for layer, numbers in enumerate(heads_in_layer) for head in numbers]
        return {head_name(head): (head,) for head in every}, {}, []
    sets = {name: tuple(heads) for name, heads in groups.items()}
    random_sets: dict[str, list[str]] = {}
    notes = []
    for group, heads in groups.items():
        sets |= {head_name(head): (head,) for head in heads}
        in_layer = Counter(layer for layer, _ in heads)
        whole = [layer for layer, numbers in enumerate(heads_in_layer) if in_layer[layer] == len(numbers)]
        notes += [
            f"{group}: every head of layer {n} is ablated; its attention adds only the bias" for n in whole
        ]
        try:
            others = random_heads(heads, heads_in_layer, draws, seed) if draws else []
        except ValueError as error:
            notes.append(f"{group}: {error}")
            others = []
        random_sets[group] = [f"{group} random {number}" for number in range(len(others))]
        sets |= dict(zip(random_sets[group], others, strict=True))
    return sets, random_sets, notes


def as_lists(heads: Sequence[Head]) -> list[list[int]]:
    """Heads as JSON values."""
    return [list(head) for head in heads]


def _stored_item(item: TaskItem) -> str:
    """An item as run folders of all versions hash it."""
    fields = {"ids": item.ids, "positions": item.positions, "right": item.correct, "wrong": item.incorrect}
    return f"Item({', '.join(f'{name}={values!r}' for name, values in fields.items())})"
