"""The study of position schemes: models trained on short texts, measured on longer ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from glassformer.experiments.positions.figures import draw_changes, draw_recall
from glassformer.experiments.positions.models import parameters_without_embeddings
from glassformer.experiments.positions.tables import (
    JUDGED_POLICY,
    Measured,
    by_name,
    change,
    changes_table,
    contexts_table,
    loss_at,
    perplexities_table,
    recall_of,
    recall_table,
)
from glassformer.experiments.protocol import Scale
from glassformer.experiments.runs import Run
from glassformer.experiments.statistics import Estimate, one_sample_t
from glassformer.experiments.study import Findings, Study, power_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHANGES = {
    "sinusoidal": "sinusoidal",
    "learned": JUDGED_POLICY,
    "rotary": "rotary",
    "alibi": "alibi",
    "t5": "t5",
}
"""Claims about the change at twice the trained length, by id, and the measurement that they are about."""
RECALLED = {"alibi-recall": "alibi", "t5-recall": "t5"}
"""Claims about the recall of facts beyond the trained distance, by id, and the scheme."""


class PositionsStudy(Study):
    """How position schemes predict texts longer than those of training."""

    def runs(self, scale: Scale) -> list[Run]:
        """One run for each seed and scheme, seed by seed."""
        s = scale.settings
        shared = {key: value for key, value in s.items() if key not in _OF_THE_STUDY}
        function = "glassformer.experiments.positions.training:train_scheme"
        # bfloat16 is faster only from d_model 128 on, where the processor has it.
        precision = "auto" if s["d_model"] >= 128 else "float32"
        return [
            Run(
                f"{scheme}-seed-{seed}",
                function,
                {**shared, "scheme": scheme, "learning_rate": rate, "precision": precision, "seed": seed},
            )
            for seed in range(s["seeds"])
            for scheme, rate in s["learning_rates"].items()
        ]

    def analyze(self, results: Mapping[str, Any], scale: Scale) -> Findings:
        """Compare the losses of each seed with longer and shorter contexts."""
        s = scale.settings
        n = s["seq_len"]
        measured = by_name(results)
        claims = {claim.id: claim for claim in self.protocol.claims}
        by_claim = {name: change(measured[scheme], n, 2 * n) for name, scheme in CHANGES.items()}
        by_claim |= {name: recall_of(measured[scheme], "far", "trained") for name, scheme in RECALLED.items()}
        untestable = _untestable(measured, n, s["min_gain_of_learned"], s["min_recall"])
        estimates: dict[str, Estimate] = {}
        for name, values in by_claim.items():
            threshold = claims[name].claimed if claims[name].test in ("at_least", "at_most") else None
            estimates[name] = one_sample_t(values, null=threshold or 0.0)
        return Findings(
            estimates,
            untestable=untestable,
            tables=[
                perplexities_table(measured, n),
                changes_table(measured, s["factors"], n),
                contexts_table(measured, "windows", n),
                contexts_table(measured, "sliding", n),
                recall_table(measured, s["num_values"]),
            ],
            power=[power_table(by_claim)],
            data={
                "factors": s["factors"],
                "changes": {
                    name: {str(f): change(rows, n, f * n) for f in s["factors"]}
                    for name, rows in measured.items()
                },
                "recall": {
                    name: {
                        condition: [row["recall"][condition]["accuracy"] for row in rows]
                        for condition in ("trained", "near", "far")
                    }
                    for name, rows in measured.items()
                },
                "chance": 1 / s["num_values"],
            },
            notes=[
                f"The claim about learned positions is judged with untrained rows beyond the trained {n}; "
                "the other policies are in the tables."
            ],
        )

    def figures(self, data: Mapping[str, Any]) -> list[tuple[Figure, str]]:
        """Changes against the length, and the recall of facts."""
        return [draw_changes(data), draw_recall(data)]

    def summarize(self, value: Any) -> dict[str, str | float | int]:
        """Perplexity at the trained length, its change at twice of it, and recall."""
        row = next(iter(value["measured"].values()))  # of learned positions, with the policy that is judged
        trained, twice = (row["fixed"][key] for key in list(row["fixed"])[:2])
        return {
            "parameters": value["num_parameters"],
            "perplexity": round(math.exp(next(iter(row["windows"].values()))), 3),
            "change at twice the length, nats": round(twice - trained, 4),
            **{f"recall, {key}": round(row["recall"][key]["accuracy"], 3) for key in ("trained", "far")},
        }

    def pilot_loss(self, value: Any) -> float:
        """Loss at the trained length, which is the same for all policies."""
        row = next(iter(value["measured"].values()))
        return float(next(iter(row["windows"].values())))

    def flops(self, scale: Scale) -> float:
        """6 N D of training, with the attention to half of the context on average; without measuring."""
        s = scale.settings
        parameters = parameters_without_embeddings(s["num_layers"], s["d_model"])
        parameters += s["vocab_size"] * s["d_model"]
        per_token = 6 * parameters + 6 * s["num_layers"] * s["seq_len"] * s["d_model"]
        return float(len(s["learning_rates"]) * s["seeds"] * s["tokens"] * per_token)


_OF_THE_STUDY = ("seeds", "learning_rates", "pilot_rates", "pilot_seed", "min_gain_of_learned", "min_recall")
"""Settings that are not of a run."""


def _untestable(
    measured: Mapping[str, list[Measured]], n: int, min_gain: float, min_recall: float
) -> dict[str, str]:
    """Why claims cannot be judged, by id, from the losses and the recall at the trained length alone."""
    reasons = {}
    gains = [
        none - learned
        for none, learned in zip(
            loss_at(measured["none"], n), loss_at(measured[JUDGED_POLICY], n), strict=True
        )
    ]
    gain = sum(gains) / len(gains)
    if gain < min_gain:
        reasons["learned"] = (
            f"At the trained length learned positions are {gain:.3f} nats better than none, less than "
            f"{min_gain}: they have hardly been learned."
        )
    for name, scheme in RECALLED.items():
        trained = recall_of(measured[scheme], "trained")
        accuracy = sum(trained) / len(trained)
        if accuracy < min_recall:
            reasons[name] = (
                f"At the trained length the model answers {100 * accuracy:.1f} % of the questions, less than "
                f"{100 * min_recall:g} %: it has not learned to use facts."
            )
    return reasons
