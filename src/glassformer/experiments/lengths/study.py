"""The study of lengths: which position scheme lets a model copy and reverse longer sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from glassformer.experiments.lengths.ranks import Measured, contrast, measured_runs, rank_all
from glassformer.experiments.lengths.tables import (
    accuracies_table,
    learned_table,
    mean_accuracies,
    ranks_table,
)
from glassformer.experiments.lengths.tasks import NUM_SPECIAL, answer_tokens, input_tokens
from glassformer.experiments.positions.models import parameters_without_embeddings
from glassformer.experiments.protocol import Scale
from glassformer.experiments.runs import Run
from glassformer.experiments.statistics import one_sample_t
from glassformer.experiments.study import Findings, Study, power_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REFERENCE = "none"
"""The scheme that the others are compared with."""
CONTRASTS = {"t5": "t5", "alibi": "alibi", "rotary": "rotary", "absolute": "sinusoidal"}
"""Claims by id, and the scheme that is compared."""


class LengthsStudy(Study):
    """How position schemes generalize to longer sequences."""

    def runs(self, scale: Scale) -> list[Run]:
        """One run for each seed, task and scheme, seed by seed."""
        s = scale.settings
        shared = {key: value for key, value in s.items() if key not in _OF_THE_STUDY}
        function = "glassformer.experiments.lengths.training:train_task"
        # bfloat16 is faster only from d_model 128 on, where the processor has it.
        precision = "auto" if s["d_model"] >= 128 else "float32"
        return [
            Run(
                f"{task}-{scheme}-seed-{seed}",
                function,
                {
                    **shared,
                    "task": task,
                    "scheme": scheme,
                    "learning_rate": rate,
                    "precision": precision,
                    "seed": seed,
                },
            )
            for seed in range(s["seeds"])
            for task, rates in s["learning_rates"].items()
            for scheme, rate in rates.items()
        ]

    def analyze(self, results: Mapping[str, Any], scale: Scale) -> Findings:
        """Rank the schemes of each seed, and compare none with each other one."""
        s = scale.settings
        train_to, least = s["train_to"], s["min_accuracy"]
        runs = measured_runs(results)
        ranks = rank_all(runs, train_to, least)
        by_claim, untestable = {}, {}
        for name, scheme in CONTRASTS.items():
            differences = contrast(ranks, REFERENCE, scheme)
            if len(differences) < s["min_seeds"]:
                untestable[name] = (
                    f"In {len(differences)} of {s['seeds']} seeds both {REFERENCE} and {scheme} have learned "
                    f"a task to {100 * least:g} % exact answers at the trained lengths; "
                    f"{s['min_seeds']} are needed."
                )
            else:
                by_claim[name] = list(differences.values())
        return Findings(
            {name: one_sample_t(values) for name, values in by_claim.items()},
            untestable=untestable,
            tables=[
                ranks_table(ranks, runs),
                learned_table(runs, train_to, least),
                accuracies_table(runs, train_to, s["table_lengths"]),
            ],
            power=[power_table(by_claim)] if by_claim else [],
            data={
                "train_to": train_to,
                "exact": mean_accuracies(runs, "exact"),
                "token": mean_accuracies(runs, "token"),
            },
            notes=[_unranked_note(runs, train_to, least)],
        )

    def figures(self, data: Mapping[str, Any]) -> list[tuple[Figure, str]]:
        """Exact answers and correct tokens against the length, a panel for each task."""
        from matplotlib.figure import Figure

        tasks = list(data["exact"])
        figure = Figure(figsize=(3.5 * len(tasks) + 1.5, 5.5), layout="constrained")
        axes = figure.subplots(2, len(tasks), sharex=True, sharey=True, squeeze=False)
        kinds = {"exact": "exact answers", "token": "correct tokens"}
        for row, (kind, label) in zip(axes, kinds.items(), strict=True):
            for axis, task in zip(row, tasks, strict=True):
                for number, (scheme, by_length) in enumerate(data[kind][task].items()):
                    lengths = [int(n) for n in by_length]
                    axis.plot(lengths, list(by_length.values()), color=f"C{number}", label=scheme)
                axis.axvline(data["train_to"], color="gray", lw=0.8, ls="--")
                axis.grid(alpha=0.3)
                if kind == "exact":
                    axis.set_title(task)
            row[0].set_ylabel(label)
        for axis in axes[-1]:
            axis.set_xlabel("length")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
        caption = "Means over the seeds. The dashed line is the longest trained length."
        return [(figure, caption)]

    def summarize(self, value: Any) -> dict[str, str | float | int]:
        """Exact answers at the trained and at longer lengths."""
        exact = [row["exact"] for row in value["lengths"].values()]
        longest = value["train_to"]
        return {
            "parameters": value["num_parameters"],
            f"exact, 1 to {longest}": round(float(np.mean(exact[:longest])), 4),
            f"exact, {longest + 1} to {len(exact)}": round(float(np.mean(exact[longest:])), 4),
        }

    def pilot_loss(self, value: Any) -> float:
        """Mean loss over the trained lengths."""
        losses = [row["loss"] for row in value["lengths"].values()]
        return float(np.mean(losses[: value["train_to"]]))

    def flops(self, scale: Scale) -> float:
        """6 N D of training at the mean length, with the attention to half of the context on average."""
        s = scale.settings
        parameters = parameters_without_embeddings(s["num_layers"], s["d_model"])
        parameters += (s["num_symbols"] + NUM_SPECIAL) * s["d_model"]
        total = 0.0
        for task, rates in s["learning_rates"].items():
            sizes = [input_tokens(task, n) + answer_tokens(task, n) - 1 for n in range(1, s["train_to"] + 1)]
            costs = [size * (6 * parameters + 6 * s["num_layers"] * size * s["d_model"]) for size in sizes]
            total += len(rates) * s["seeds"] * s["steps"] * s["batch_size"] * sum(costs) / len(costs)
        return total


_OF_THE_STUDY = (
    "seeds",
    "learning_rates",
    "pilot_rates",
    "pilot_seed",
    "min_accuracy",
    "min_seeds",
    "table_lengths",
)
"""Settings that are not of a run."""


def _unranked_note(runs: Sequence[Measured], train_to: int, least: float) -> str:
    """Which runs were not ranked."""
    left_out: dict[str, int] = {}
    for run in runs:
        if run.accuracy(train_to) < least:
            name = f"{run.scheme} on {run.task}"
            left_out[name] = left_out.get(name, 0) + 1
    if not left_out:
        return "All schemes have learned all tasks in every seed, so all are ranked."
    listed = ", ".join(f"{name} ({count} of the seeds)" for name, count in left_out.items())
    return f"Not ranked, since they have not learned the task at the trained lengths: {listed}."
