"""The study of heads: best heads against controls, clusters, and ablations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from glassformer.experiments.heads.contrasts import (
    ROWS,
    Contrast,
    best_pattern,
    cluster_contrast,
    few_queries,
    redundancy_contrast,
    related_contrast,
    row_contrasts,
    specific_contrast,
)
from glassformer.experiments.heads.figures import figure_data, losses_figure, rates_figure
from glassformer.experiments.heads.tables import (
    ablations_table,
    clusters_table,
    examples_table,
    related_table,
    relations_table,
    rows_table,
    specific_table,
)
from glassformer.experiments.protocol import Scale
from glassformer.experiments.runs import Run
from glassformer.experiments.statistics import one_sample_t
from glassformer.experiments.study import Findings, Study, power_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class HeadsStudy(Study):
    """What heads attend to, and what a model loses without them."""

    def runs(self, scale: Scale) -> list[Run]:
        """The published models and their ablations, the longest first, and the seeds of the small model."""
        s = scale.settings
        module = "glassformer.experiments.heads.runs"
        shared = {**s["data"], **s["ablations"], "seed": 0}
        runs = []
        for name in s["ablated"]:
            settings = {**shared, "model": name}
            runs.append(Run(f"{name}-ablations", f"{module}:ablate_published", settings, cost=8))
        for name in s["published"]:
            settings = {**s["data"], "model": name, "seed": 0}
            runs.append(
                Run(name, f"{module}:measure_published", settings, cost=8 if name in s["ablated"] else 2)
            )
        for seed in range(s["seeds"]):
            settings = {**shared, **s["small"], "seed": seed}
            runs.append(Run(f"small-seed-{seed}", f"{module}:train_and_measure", settings, cost=2))
        return runs

    def analyze(self, results: Mapping[str, Any], scale: Scale) -> Findings:
        """Compare the best heads with their controls, over blocks of texts or over seeds."""
        models = {name: [results[name]] for name in scale.settings["published"]}
        models["small"] = [value for name, value in results.items() if name.startswith("small-")]
        ablated = {name: [results[f"{name}-ablations"]] for name in scale.settings["ablated"]}
        ablated["small"] = [value["ablations"] for value in models["small"]]
        by_id = {claim.id: claim.claimed for claim in self.protocol.claims}
        claimed = {row: by_id[f"{row}-smollm2"] for row in ROWS}
        contrasts: dict[str, Contrast] = {}
        for name in scale.settings["published"]:
            value = results[name]
            rows = row_contrasts(value, claimed) | {"related": related_contrast(value)}
            contrasts |= {f"{row}-{name}": contrast for row, contrast in rows.items()}
        contrasts["clusters-small"] = cluster_contrast(models["small"])
        for name, values in ablated.items():
            contrasts[f"specific-{name}"] = specific_contrast(values)
            contrasts[f"redundant-{name}"] = redundancy_contrast(values)
        testable = {name: found for name, found in contrasts.items() if found.untestable is None}
        estimates = {
            name: replace(
                one_sample_t(found.values, null=found.null),
                repeats="seeds" if name.endswith("-small") else "blocks of texts",
            )
            for name, found in testable.items()
        }
        return Findings(
            estimates,
            {name: found.untestable for name, found in contrasts.items() if found.untestable is not None},
            tables=[
                rows_table(models, claimed),
                relations_table(models),
                examples_table(models),
                related_table(models),
                clusters_table(models),
                ablations_table(ablated),
                specific_table(ablated),
            ],
            power=[power_table({name: found.values for name, found in testable.items()})],
            notes=[note for name in scale.settings["published"] for note in few_queries(name, results[name])],
            data=figure_data(models, ablated, claimed),
        )

    def figures(self, data: Mapping[str, Any]) -> list[tuple[Figure, str]]:
        """Rates of the best heads, and the loss without each head."""
        return [rates_figure(data), losses_figure(data)]

    def summarize(self, value: Any) -> dict[str, str | float | int]:
        """The best heads for the rows of the table, or the number of ablated heads."""
        if "patterns" not in value:
            return {"heads ablated": len(value["heads"])}
        found: dict[str, str | float | int] = {}
        for row, names in ROWS.items():
            best = best_pattern(value["patterns"]["prose"], names)
            if best is not None:
                found[row] = round(float(np.mean(best["rates"])), 3)
        return found

    def flops(self, scale: Scale) -> float:
        """6 N D of the training of the small models, which is what the scale full adds."""
        s = scale.settings["small"]
        parameters = s["num_layers"] * 12 * s["d_model"] ** 2 + s["vocab_size"] * s["d_model"]
        per_token = 6 * parameters + 6 * s["num_layers"] * s["seq_len"] * s["d_model"]
        return float(scale.settings["seeds"] * s["steps"] * s["batch_size"] * s["seq_len"] * per_token)
