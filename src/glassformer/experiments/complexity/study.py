"""The study of costs: exponents of time and memory against the formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from glassformer.experiments.protocol import Scale
from glassformer.experiments.runs import Run
from glassformer.experiments.statistics import Estimate, equivalence, one_sample_t
from glassformer.experiments.study import Findings, ResultTable, Study, power_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kernels = Mapping[str, Mapping[str, Mapping[str, float]]]


class ComplexityStudy(Study):
    """How time and memory of attention grow."""

    def runs(self, scale: Scale) -> list[Run]:
        """One run for each repeat."""
        sizes = {key: value for key, value in scale.settings.items() if key not in ("repeats", "factor")}
        function = "glassformer.experiments.complexity.measure:measure_costs"
        return [
            Run(f"repeat-{number}", function, {**sizes, "repeat": number})
            for number in range(scale.settings["repeats"])
        ]

    def analyze(self, results: Mapping[str, Any], scale: Scale) -> Findings:
        """Fit an exponent within each run, and take intervals over the runs."""
        values = list(results.values())
        by_claim = {
            "textbook-time": [exponent_in_n(v["kernels"]["textbook"], "seconds") for v in values],
            "textbook-memory": [exponent_in_n(v["kernels"]["textbook"], "bytes") for v in values],
            "factor": [time_ratio(v["kernels"]["textbook"], *scale.settings["factor"]) for v in values],
            "scores-in-d": [layer_exponent(v["layer"], "scores and mixing", "d") for v in values],
            "projections-in-n": [layer_exponent(v["layer"], "projections", "n") for v in values],
            "projections-in-d": [layer_exponent(v["layer"], "projections", "d") for v in values],
            "flash-memory": [exponent_in_n(v["kernels"]["flash"], "bytes") for v in values],
            "window-time": [exponent_in_n(v["kernels"]["window"], "seconds") for v in values],
            "linear-time": [exponent_in_n(v["kernels"]["linear, elu + 1"], "seconds") for v in values],
        }
        claims = {claim.id: claim for claim in self.protocol.claims}
        estimates = {
            name: equivalence(found, claims[name].margin or 0.0, null=claims[name].claimed or 0.0)
            for name, found in by_claim.items()
        }
        return Findings(
            estimates,
            tables=[exponents_table(values), costs_table(values), layer_table(values)],
            power=[power_table(by_claim)],
            data={"kernels": median_costs(values)},
        )

    def figures(self, data: Mapping[str, Any]) -> list[tuple[Figure, str]]:
        """Time and memory against the number of tokens."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 4.2), layout="constrained")
        for axis, (field, title, factor) in zip(
            figure.subplots(1, 2),
            [("seconds", "forward + backward, ms", 1000.0), ("bytes", "peak of tensors, MiB", 2.0**-20)],
            strict=True,
        ):
            for name, rows in data["kernels"].items():
                lengths = [int(n) for n in rows]
                axis.plot(lengths, [rows[str(n)][field] * factor for n in lengths], "o-", ms=3, label=name)
            axis.set(xscale="log", yscale="log", title=title, xlabel="tokens")
            ticks = sorted({int(n) for rows in data["kernels"].values() for n in rows})
            axis.set_xticks(ticks, [f"{n:,}" for n in ticks], rotation=30, fontsize=8)
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        caption = "Time and memory of each kernel: medians over the runs. Straight lines are powers of n."
        return [(figure, caption)]

    def summarize(self, value: Any) -> dict[str, str | float | int]:
        """Exponents of the textbook kernel."""
        textbook = value["kernels"]["textbook"]
        return {
            "textbook, time": round(exponent_in_n(textbook, "seconds"), 4),
            "textbook, memory": round(exponent_in_n(textbook, "bytes"), 4),
        }


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of the least-squares line through log(cost) over log(size)."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def exponent_in_n(costs: Mapping[str, Mapping[str, float]], field: str) -> float:
    """Exponent of a kernel's cost in the number of tokens."""
    return exponent([int(n) for n in costs], [row[field] for row in costs.values()])


def time_ratio(costs: Mapping[str, Mapping[str, float]], short: int, long: int) -> float:
    """Time at the long length over that at the short one."""
    return costs[str(long)]["seconds"] / costs[str(short)]["seconds"]


def layer_exponent(rows: Sequence[Mapping[str, Any]], part: str, size: str) -> float:
    """Exponent of a part of the layer in n or d, over the rows in which the other one is as most often."""
    other = {"n": "d", "d": "n"}[size]
    own = [row for row in rows if row["part"] == part]
    values = [row[other] for row in own]
    fixed = max(set(values), key=values.count)
    chosen = [row for row in own if row[other] == fixed]
    return exponent([row[size] for row in chosen], [row["seconds"] for row in chosen])


def median_costs(values: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Median over the runs, by kernel and length."""
    return {
        name: {
            n: {
                field: float(np.median([value["kernels"][name][n][field] for value in values]))
                for field in ("seconds", "bytes")
            }
            for n in values[0]["kernels"][name]
        }
        for name in values[0]["kernels"]
    }


def exponents_table(values: Sequence[Mapping[str, Any]]) -> ResultTable:
    """Exponents of every kernel with their intervals."""
    rows: list[list[str | float]] = []
    for name in values[0]["kernels"]:
        row: list[str | float] = [name]
        for field in ("seconds", "bytes"):
            found = one_sample_t([exponent_in_n(value["kernels"][name], field) for value in values])
            row += [round(found.mean, 3), interval(found)]
        rows.append(row)
    header = ["kernel", "exponent of time", "99 % interval", "exponent of memory", "99 % interval"]
    return ResultTable("Exponents in the number of tokens, forward + backward", header, rows)


def costs_table(values: Sequence[Mapping[str, Any]]) -> ResultTable:
    """Median time and memory of every kernel at every length."""
    rows: list[list[str | float | int]] = [
        [name, int(n), round(row["seconds"] * 1000, 2), round(row["bytes"] / 2**20, 1)]
        for name, costs in median_costs(values).items()
        for n, row in costs.items()
    ]
    return ResultTable("Time and memory", ["kernel", "tokens", "ms", "MiB"], rows, "Medians over the runs.")


def layer_table(values: Sequence[Mapping[str, Any]]) -> ResultTable:
    """Median time of both parts of a layer, and the ratio of their multiplications."""
    rows: list[list[str | float | int]] = []
    pairs = dict.fromkeys((row["n"], row["d"]) for row in values[0]["layer"])
    for n, d in pairs:
        scores, projections = (
            float(
                np.median(
                    [
                        row["seconds"]
                        for value in values
                        for row in value["layer"]
                        if (row["part"], row["n"], row["d"]) == (part, n, d)
                    ]
                )
            )
            for part in ("scores and mixing", "projections")
        )
        rows.append(
            [
                n,
                d,
                round(scores * 1000, 3),
                round(projections * 1000, 3),
                round(scores / projections, 3),
                n / (2 * d),
            ]
        )
    header = ["n", "d", "scores and mixing, ms", "projections, ms", "ratio of times", "of multiplications"]
    caption = (
        "Scores and mixing take 2 n^2 d multiplications, the four projections 4 n d^2: as many at n = 2 d."
    )
    return ResultTable("The two parts of a layer, forward", header, rows, caption)


def interval(found: Estimate) -> str:
    """The interval of an estimate."""
    return f"{found.low:.3f} to {found.high:.3f}"
