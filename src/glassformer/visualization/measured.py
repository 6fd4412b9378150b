"""Whether an analysis of heads is one of this model."""

from __future__ import annotations

from pathlib import Path

from glassformer.analysis.head_report import HeadReport
from glassformer.attention import choose_kind
from glassformer.models import TransformerModel


def report_from(source: HeadReport | str | Path) -> HeadReport:
    """A report, or the one that a file holds.

    Raises:
        OSError: no such file.
        ValueError: no report.
        TypeError: neither a report nor the name of a file.
    """
    if isinstance(source, HeadReport):
        return source
    if not isinstance(source, str | Path):
        raise TypeError(f"a report is what analyze_head_patterns returned, or its file, not {source!r}")
    return HeadReport.load(source)


def check_of_model(model: TransformerModel, report: HeadReport, *, whole: bool = True) -> str:
    """Make sure that a report measured the heads that a model has; the kind of attention that it is of.

    Args:
        model: whose heads are to be named.
        report: of an analysis.
        whole: whether every head of the model has to be in it.

    Raises:
        ValueError: one of a model with other heads.
    """
    kind, attentions = choose_kind(model, report.settings.get("kind"))
    heads = {(layer, head) for layer, module in enumerate(attentions) for head in range(module.num_heads)}
    measured = {(row["layer"], row["head"]) for row in report.rows}
    strange = measured ^ heads if whole else measured - heads
    if strange:
        layer, head = min(strange)
        lacks = "the model" if (layer, head) in measured else "the report"
        raise ValueError(f"the report of {report.model} is of another: {lacks} has no head {layer}.{head}")
    return kind
