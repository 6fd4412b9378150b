"""The study of scaling laws: runs, fits, and what they say about the claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from glassformer.experiments.protocol import Scale
from glassformer.experiments.runs import Run
from glassformer.experiments.scaling.fits import ScalingLaw
from glassformer.experiments.scaling.model_comparison import is_at_an_end
from glassformer.experiments.scaling.tables import (
    COUNTS,
    claimed_table,
    columns_of,
    design_table,
    fits_table,
    identification,
    intervals_table,
    joint_law,
    losses_table,
    means,
)
from glassformer.experiments.statistics import equivalence, one_sample_t
from glassformer.experiments.study import Findings, Study, power_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ScalingStudy(Study):
    """How loss falls with size and data."""

    def runs(self, scale: Scale) -> list[Run]:
        """One run for each size and seed, the largest first; each makes all budgets."""
        s = scale.settings
        shared = {key: s[key] for key in _SHARED}
        function = "glassformer.experiments.scaling.training:train_size"
        runs = []
        for num_layers, d_model in reversed([*s["sizes"], s["held_out"]]):
            for seed in range(s["seeds"]):
                # bfloat16 is faster only from d_model 128 on, where the processor has it.
                size = {
                    "num_layers": num_layers,
                    "d_model": d_model,
                    "num_heads": s["heads"][str(d_model)],
                    "learning_rate": s["learning_rates"][str(d_model)],
                    "precision": "auto" if d_model >= 128 else "float32",
                    "seed": seed,
                }
                cost = num_layers * (12 * d_model**2 + 2 * s["seq_len"] * d_model) + 10_000 * num_layers
                name = f"{num_layers}x{d_model}-seed-{seed}"
                runs.append(Run(name, function, {**shared, **size}, cost))
        return runs

    def analyze(self, results: Mapping[str, Any], scale: Scale) -> Findings:
        """Fit the laws for each seed, and to all."""
        settings = scale.settings
        held_out = "x".join(map(str, settings["held_out"]))
        points = [
            {
                "size": name.split("-")[0],
                "seed": int(name.rpartition("-")[2]),
                **{count: value[count] for count in COUNTS.values()},
                "tokens": row["tokens"],
                "loss": row["loss"],
            }
            for name, value in results.items()
            for row in value["budgets"]
        ]
        fitted = [point for point in points if point["size"] != held_out]
        seeds = sorted({point["seed"] for point in points})
        laws = [joint_law([p for p in fitted if p["seed"] == seed]) for seed in seeds]
        most = max(point["tokens"] for point in points)
        slopes = [_slope([p for p in fitted if p["seed"] == seed and p["tokens"] == most]) for seed in seeds]
        errors = [
            p["loss"] - float(law.predict(p["num_parameters"], p["tokens"]))
            for law, seed in zip(laws, seeds, strict=True)
            for p in points
            if (p["size"], p["seed"], p["tokens"]) == (held_out, seed, most)
        ]
        claims = {claim.id: claim for claim in self.protocol.claims}
        by_claim = {"alpha": [law.alpha for law in laws], "held-out": errors}
        undetermined = {}
        if any(is_at_an_end(law.alpha) or law.A == 0 for law in laws):
            undetermined["alpha"] = "The runs of a seed do not determine alpha: its fit is at a bound."
        estimates = {
            name: equivalence(values, claims[name].margin or 0.0, null=claims[name].claimed or 0.0)
            for name, values in by_claim.items()
            if name not in undetermined
        }
        return Findings(
            estimates={**estimates, "slope": one_sample_t(slopes)},
            untestable={
                **undetermined,
                "perplexity": "The models predict bytes of speeches: no perplexity of words can be compared.",
                "time": "Hours depend on the machine; the FLOPs of these sizes are computed in a table.",
            },
            tables=[
                losses_table(points),
                *(fits_table(fitted, label, count) for label, count in COUNTS.items()),
                intervals_table(fitted),
                claimed_table(),
            ],
            power=[
                power_table({**by_claim, "slope": slopes}),
                design_table(fitted, len(seeds)),
            ],
            data={"points": points, "held_out": held_out, "law": _coefficients(joint_law(means(fitted)))},
            notes=[identification(fitted).reason],
        )

    def figures(self, data: Mapping[str, Any]) -> list[tuple[Figure, str]]:
        """Loss against parameters, one line for each budget, with the law."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axis = figure.subplots()
        law = ScalingLaw(**data["law"])
        budgets = sorted({point["tokens"] for point in data["points"]})
        sizes = np.geomspace(*_range([point["num_parameters"] for point in data["points"]]), 50)
        for number, tokens in enumerate(budgets):
            color = f"C{number}"
            for is_held_out, marker in ((False, "o"), (True, "^")):
                chosen = [
                    point
                    for point in data["points"]
                    if point["tokens"] == tokens and (point["size"] == data["held_out"]) == is_held_out
                ]
                axis.plot(
                    [p["num_parameters"] for p in chosen],
                    [p["loss"] for p in chosen],
                    marker,
                    ms=4,
                    color=color,
                )
            label = f"{round(tokens / 1e6, 1):g} M tokens"
            axis.plot(sizes, law.predict(sizes, tokens), color=color, label=label)
        axis.set(xscale="log", xlabel="parameters", ylabel="loss, nats per byte")
        counts = sorted({point["num_parameters"] for point in data["points"]})
        axis.set_xticks(counts, [f"{count:,}" for count in counts], rotation=30, fontsize=8)
        axis.minorticks_off()
        axis.legend(frameon=False)
        axis.grid(alpha=0.3)
        caption = (
            "Loss on the validation split of every run, and the law fitted to the circles. "
            "Triangles are the held-out size."
        )
        return [(figure, caption)]

    def summarize(self, value: Any) -> dict[str, str | float | int]:
        """Parameters and final losses."""
        losses = {f"loss at {row['tokens']:,}": round(row["loss"], 4) for row in value["budgets"]}
        return {"parameters": value["num_parameters"], **losses}

    def flops(self, scale: Scale) -> float:
        """6 N D for all tokens that are trained, with the attention to half of the context on average."""
        s, total = scale.settings, 0.0
        decays = s["decay_fraction"] * sum(s["budgets"][:-1])
        for num_layers, d_model in [*s["sizes"], s["held_out"]]:
            parameters = num_layers * 12 * d_model**2 + 256 * d_model
            per_token = 6 * parameters + 6 * num_layers * s["seq_len"] * d_model
            total += s["seeds"] * per_token * (max(s["budgets"]) + decays)
        return total


_SHARED = (
    "source",
    "budgets",
    "seq_len",
    "batch_size",
    "warmup_steps",
    "decay_fraction",
    "max_validation_tokens",
)


def _coefficients(law: ScalingLaw) -> dict[str, float | None]:
    return {"E": law.E, "A": law.A, "alpha": law.alpha, "B": law.B, "beta": law.beta}


def _slope(points: Sequence[Mapping[str, Any]]) -> float:
    """-d log L / d log N by least squares."""
    sizes, _, losses = columns_of(points)
    return -float(np.polyfit(np.log(sizes), np.log(losses), 1)[0])


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)
