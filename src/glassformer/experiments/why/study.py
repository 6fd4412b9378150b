"""The study of why transformers work: runs, estimates of all demonstrations, and their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from glassformer.choices import choose
from glassformer.experiments.protocol import Scale
from glassformer.experiments.runs import Run
from glassformer.experiments.statistics import Estimate, equivalence, one_sample_t
from glassformer.experiments.study import Findings, Study, power_table
from glassformer.experiments.why.demonstrate import DEMONSTRATIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from glassformer.experiments.claims import Claim


class WhyStudy(Study):
    """Demonstrations of what the parts of a transformer do."""

    def runs(self, scale: Scale) -> list[Run]:
        """One run for each group of demonstrations and seed.

        Raises:
            ValueError: a group names an unknown demonstration, or settings of one are missing.
        """
        s = scale.settings
        function = "glassformer.experiments.why.demonstrate:demonstrate"
        runs = []
        for group in s["groups"]:
            names = group["demonstrations"]
            for name in names:
                choose(DEMONSTRATIONS, name, "demonstration")
                if name not in s:
                    raise ValueError(f"the settings of the scale {scale.name!r} have no {name!r}")
            for seed in range(group["seeds"]):
                settings = {"seed": seed, "demonstrations": {name: s[name] for name in names}}
                runs.append(Run(f"{group['name']}-seed-{seed}", function, settings, group["minutes"]))
        return runs

    def analyze(self, results: Mapping[str, Any], scale: Scale) -> Findings:
        """Analyze each demonstration over its seeds."""
        evidence = {
            name: demonstration.analyze([value[name] for value in results.values() if name in value])
            for name, demonstration in DEMONSTRATIONS.items()
        }
        claims = {claim.id: claim for claim in self.protocol.claims}
        by_claim = {
            claim: list(numbers) for found in evidence.values() for claim, numbers in found.by_claim.items()
        }
        return Findings(
            estimates={name: estimate(claims[name], numbers) for name, numbers in by_claim.items()},
            untestable={
                name: reason for found in evidence.values() for name, reason in found.untestable.items()
            },
            tables=[table for found in evidence.values() for table in found.tables],
            power=[power_table(by_claim)],
            data={name: found.data for name, found in evidence.items()},
            notes=[note for found in evidence.values() for note in found.notes],
        )

    def figures(self, data: Mapping[str, Any]) -> list[tuple[Figure, str]]:
        """The figure of each demonstration that has data; its caption begins with the name."""
        figures = []
        for name, demonstration in DEMONSTRATIONS.items():
            if data[name] is not None:
                figure, caption = demonstration.draw(data[name])
                figures.append((figure, f"{name.replace('_', ' ').capitalize()}. {caption}"))
        return figures

    def summarize(self, value: Any) -> dict[str, str | float | int]:
        """The most important numbers of each demonstration of the run."""
        return {
            key: number
            for name, own in value.items()
            for key, number in DEMONSTRATIONS[name].summarize(own).items()
        }

    def flops(self, scale: Scale) -> float:
        """Of all trained models, without those of key-value recall, which are few."""
        return sum(
            int(group["seeds"]) * DEMONSTRATIONS[name].flops(scale.settings[name])
            for group in scale.settings["groups"]
            for name in group["demonstrations"]
        )


def estimate(claim: Claim, numbers: Sequence[float]) -> Estimate:
    """The estimate of a claim's mean that its test needs."""
    if claim.test == "equivalence":
        return equivalence(numbers, claim.margin or 0.0, null=claim.claimed or 0.0)
    threshold = claim.claimed if claim.test in ("at_least", "at_most") else 0.0
    return one_sample_t(numbers, null=threshold or 0.0)
