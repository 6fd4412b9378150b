"""The names that an analysis gave to heads, on the page that shows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from glassformer.analysis.head_report import HeadReport
from glassformer.visualization.explorer.contents import Contents, HeadName


def with_names(contents: Contents, report: HeadReport | str | Path) -> Contents:
    """The contents with the names of a report; those of layers that are not on the page are left out.

    Args:
        contents: of a page.
        report: of an analysis of the same model, or the file ``heads.json`` that holds it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no report, or one that names a head that the model does not have.
    """
    source = report if isinstance(report, HeadReport) else HeadReport.load(report)
    kind = str(source.settings.get("kind") or contents.attention[0].kind)
    shown = {item.kind: dict(zip(item.layers, item.heads, strict=True)) for item in contents.attention}
    names = []
    for row in sorted(source.names, key=lambda row: not row["main"]):
        layer, head = int(row["layer"]), int(row["head"])
        heads = shown.get(kind, {}).get(layer)
        if heads is None:
            continue
        if head not in heads:
            raise ValueError(f"the report names head {layer}.{head}, which the model does not have")
        values = {key: row[key] for key in ("score", "low", "high", "control", "control_score")}
        names.append(HeadName(kind, layer, head, str(row["name"]), **values))
    return replace(contents, names=names, names_source=f"Names from an analysis of {source.model}")
