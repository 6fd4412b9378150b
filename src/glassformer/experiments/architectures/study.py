"""The study of architectures: four setups at equal parameters and equal training FLOPs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from glassformer.experiments.protocol import Scale
from glassformer.experiments.runs import Run
from glassformer.experiments.statistics import one_sample_t, paired_t
from glassformer.experiments.study import Findings, ResultTable, Study, power_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PRETRAINING = "glassformer.experiments.architectures.pretraining"
"""Module of the functions of a run."""
CONTRASTS = {
    "generation": ("next", "masked", "causal"),
    "understanding": ("hidden", "causal", "masked"),
    "classification": ("accuracy", "masked", "causal"),
    "transduction": ("phoneme_error_rate", "causal", "span"),
    "prefix": ("phoneme_error_rate", "causal", "prefix"),
}
"""Measure of each claim and the two setups whose difference it is about."""
OWN = {"causal": "next", "prefix": "next", "masked": "hidden", "span": "hidden"}
"""The evaluation that is nearest to the objective of a setup."""
MEASURES = {
    "next": "next byte, nats",
    "hidden": "hidden byte, nats",
    "accuracy": "accuracy of classification",
    "phoneme_error_rate": "phoneme error rate",
}
LEAST_GAIN = 0.5
"""Nats by which a setup must beat the frequencies of bytes to count as trained."""


class ArchitecturesStudy(Study):
    """Decoder, encoder and encoder-decoder."""

    pilot_function = f"{PRETRAINING}:pretrain_and_evaluate"

    def runs(self, scale: Scale) -> list[Run]:
        """One run for each setup and seed."""
        shared = {key: value for key, value in scale.settings.items() if key not in _OF_THE_STUDY}
        return [
            Run(
                f"{name}-seed-{seed}",
                f"{PRETRAINING}:train_and_evaluate",
                {**shared, "setup": name, "learning_rate": rate, "seed": seed},
            )
            for seed in range(scale.settings["seeds"])
            for name, rate in scale.settings["learning_rates"].items()
        ]

    def analyze(self, results: Mapping[str, Any], scale: Scale) -> Findings:
        """Compare setups on the same seeds."""
        seeds = range(scale.settings["seeds"])
        values = {
            name: {
                measure: [results[f"{name}-seed-{seed}"][measure] for seed in seeds] for measure in MEASURES
            }
            for name in scale.settings["learning_rates"]
        }
        gains = {
            name: float(np.mean([_gain(results[f"{name}-seed-{seed}"], OWN[name]) for seed in seeds]))
            for name in values
        }
        untestable = {}
        for claim, (_, *pair) in CONTRASTS.items():
            if untrained := [name for name in pair if gains[name] < LEAST_GAIN]:
                untestable[claim] = (
                    f"The setup {untrained[0]} beats the frequencies of bytes by "
                    f"{gains[untrained[0]]:.2f} nats, less than {LEAST_GAIN}."
                )
        untestable |= {
            claim: reason for claim, reason in _unlearned(results).items() if claim not in untestable
        }
        estimates = {
            claim: paired_t(values[first][measure], values[second][measure])
            for claim, (measure, first, second) in CONTRASTS.items()
            if claim not in untestable
        }
        differences = {
            claim: np.subtract(values[first][measure], values[second][measure]).tolist()
            for claim, (measure, first, second) in CONTRASTS.items()
            if claim not in untestable
        }
        return Findings(
            estimates,
            untestable,
            tables=[measures_table(values), ranks_table(values), costs_table(results, gains)],
            power=[power_table(differences)] if differences else [],
            data={"values": values},
        )

    def figures(self, data: Mapping[str, Any]) -> list[tuple[Figure, str]]:
        """Each measure by setup, a point for each seed."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.4), layout="constrained")
        setups = list(data["values"])
        for axis, (measure, label) in zip(figure.subplots(1, len(MEASURES)), MEASURES.items(), strict=True):
            for number, name in enumerate(setups):
                found = data["values"][name][measure]
                axis.plot([number] * len(found), found, "o", color=f"C{number}", ms=4)
            axis.set_xticks(range(len(setups)), setups, rotation=30)
            axis.set(title=label, xlim=(-0.5, len(setups) - 0.5))
            axis.title.set_fontsize(9)
            axis.grid(axis="y", alpha=0.3)
        caption = "Every seed of every setup. Lower is better, except for the accuracy."
        return [(figure, caption)]

    def pilot_loss(self, value: Any) -> float:
        """Loss of the evaluation that is nearest to the objective of the setup."""
        return float(value[OWN[value["setup"]]])

    def summarize(self, value: Any) -> dict[str, str | float | int]:
        """The four measures."""
        return {"parameters": value["num_parameters"], **{m: round(value[m], 4) for m in MEASURES}}

    def flops(self, scale: Scale) -> float:
        """Four times those of the causal language model, for every seed."""
        s = scale.settings
        per_byte = (
            6 * 12 * s["num_layers"] * s["d_model"] ** 2 + 12 * s["num_layers"] * s["seq_len"] * s["d_model"]
        )
        return float(len(s["learning_rates"]) * s["seeds"] * s["num_bytes"] * per_byte)


def _gain(value: Mapping[str, float], measure: str) -> float:
    """Nats by which a setup beats the frequencies of bytes."""
    return value[f"{measure}_unigram"] - value[measure]


_OF_THE_STUDY = ("learning_rates", "seeds", "pilot_rates", "pilot_seed")
"""Settings that are not of a run."""
LEAST_ACCURACY = 0.05
"""By which one of the two setups must beat the most frequent label."""
MOST_ERRORS = 0.9
"""Phoneme error rate that one of the two setups must be below."""


def _unlearned(results: Mapping[str, Any]) -> dict[str, str]:
    """Why differences between setups in a task say nothing: neither of them has learned it."""
    reasons = {}
    for claim, (measure, *pair) in CONTRASTS.items():
        found = [value for value in results.values() if value["setup"] in pair]
        means = {name: float(np.mean([v[measure] for v in found if v["setup"] == name])) for name in pair}
        if measure == "accuracy":
            majority = float(np.mean([value["majority"] for value in found]))
            if max(means.values()) < majority + LEAST_ACCURACY:
                reasons[claim] = (
                    f"Neither setup beats the most frequent label, {majority:.3f}, by {LEAST_ACCURACY}."
                )
        if measure == "phoneme_error_rate" and min(means.values()) > MOST_ERRORS:
            reasons[claim] = f"Both setups have a phoneme error rate above {MOST_ERRORS}."
    return reasons


Values = Mapping[str, Mapping[str, Sequence[float]]]


def measures_table(values: Values) -> ResultTable:
    """Every measure of every setup with its interval."""
    rows: list[list[str | float | int | None]] = []
    for measure, label in MEASURES.items():
        for name, found in values.items():
            estimate = one_sample_t(found[measure])
            interval = f"{estimate.low:.3f} to {estimate.high:.3f}"
            rows.append([label, name, round(estimate.mean, 4), interval])
    return ResultTable("What each setup reaches", ["measure", "setup", "mean", "99 % interval"], rows)


def ranks_table(values: Values) -> ResultTable:
    """The order of the setups by each measure: the verdict depends on how they are judged."""
    rows: list[list[str | float | int | None]] = []
    for measure, label in MEASURES.items():
        sign = -1 if measure == "accuracy" else 1
        order = sorted(values, key=lambda name: sign * float(np.mean(values[name][measure])))
        rows.append([label, *order])
    header = ["measure", *(f"{number + 1}." for number in range(len(values)))]
    return ResultTable(
        "The setups in order, the best first", header, rows, "By the means alone, without a test."
    )


def costs_table(results: Mapping[str, Any], gains: Mapping[str, float]) -> ResultTable:
    """Parameters, FLOPs and bytes of each setup."""
    rows: list[list[str | float | int | None]] = []
    for name, gain in gains.items():
        value = results[f"{name}-seed-0"]
        row = [name, value["num_parameters"], value["updates"], value["bytes"], f"{value['flops']:.3e}"]
        rows.append([*row, round(gain, 3)])
    header = ["setup", "parameters", "updates", "bytes read", "training FLOPs", "nats below frequencies"]
    return ResultTable("What each setup costs", header, rows)
