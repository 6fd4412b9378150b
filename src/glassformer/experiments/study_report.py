"""The report of a study: one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.experiments.sweep_progress import duration
from glassformer.files import read_json

if TYPE_CHECKING:
    from glassformer.experiments.study import Study

VERDICT_HEADER = ["claim", "claimed", "literature", "measured [interval]", "p, corrected", "verdict"]
TEST_HEADER = ["claim", "source", "test", "claimed", "tolerance", "margin"]


def write_report(study: Study, results: Mapping[str, Any], path: Path) -> Path:
    """Write the report.

    Args:
        study: draws the figures.
        results: content of ``results.json``.
        path: of the HTML file.
    """
    from glassformer.visualization.report import Section
    from glassformer.visualization.report import write_report as write_page

    protocol = results["protocol"]
    claims = results["claims"]
    verdicts = Section("Claims and verdicts").table(VERDICT_HEADER, [verdict_row(claim) for claim in claims])
    for claim in claims:
        verdicts.text(f"{claim['text']}: {claim['verdict']}. {claim['reason']}")
    question = Section("Question").text(protocol["question"]).text(protocol["method"])
    question.text(f"Primary outcome: {protocol['primary_outcome']}")
    for hypothesis in protocol["hypotheses"]:
        question.text(f"Predicted before the first run: {hypothesis}")
    tests = [test_row(claim) for claim in claims]
    question.text("How each claim is judged, fixed before the first run:").table(TEST_HEADER, tests)
    measured = Section("What was measured")
    for figure, caption in study.figures(results["data"]):
        measured.figure(figure, caption)
    for table in results["tables"]:
        measured.text(table["title"]).table(table["header"], shown_rows(table), table["caption"])
    power = Section("What could have been detected")
    for table in results["power"]:
        power.text(table["title"]).table(table["header"], shown_rows(table), table["caption"])
    limits = Section("What this does not show")
    for sentence in [*results["notes"], *protocol["limitations"]]:
        limits.text(sentence)
    runs = Section("Runs").table(*runs_table(results))
    again = Section("Run it again").text(
        f"{rerun_command(results)} makes the runs and this report; with finished runs it only analyzes "
        f"them. Protocol: SHA-256 {results['protocol_hash']}. Processor: {', '.join(results['processors'])}. "
        f"Versions: {'; '.join(results['versions'])}."
    )
    sections = [verdicts, question, measured, power, limits, runs, again]
    return write_page(
        path,
        protocol["title"],
        protocol["question"],
        {
            "scale": results["scale"],
            "runs": str(len(results["runs"])),
            "computing time": duration(60 * results["computing_minutes"]),
        },
        [section for section in sections if section.content],
    )


def verdict_row(claim: Mapping[str, Any]) -> list[str]:
    """A row of the table of verdicts."""
    measured = claim["measured"]
    p = claim["adjusted_p"]
    return [
        claim["text"],
        "" if claim["claimed"] is None else f"{shown(claim['claimed'])} {claim['unit']}".strip(),
        claim["literature"],
        "not measured" if measured is None else estimate_text(measured, claim["unit"]),
        "" if p is None else "< 0.0001" if p < 1e-4 else f"{p:.2g}",
        claim["verdict"],
    ]


def test_row(claim: Mapping[str, Any]) -> list[str]:
    """How a claim is tested."""
    numbers = (claim["claimed"], claim["tolerance"] or None, claim["margin"])
    return [claim["text"], claim["source"], claim["test"], *map(shown, numbers)]


def estimate_text(measured: Mapping[str, Any], unit: str = "") -> str:
    """An estimate with its interval."""
    level = f"{100 * measured['confidence']:g} %"
    interval = f"[{level}: {shown(measured['low'])} to {shown(measured['high'])}]"
    return f"{shown(measured['mean'])} {interval} {unit}".strip()


def rerun_command(results: Mapping[str, Any]) -> str:
    """The command that makes the study again."""
    return f"glassformer study {results['study']} --scale {results['scale']} --out FOLDER"


def runs_table(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of runs."""
    columns = list(dict.fromkeys(key for run in results["runs"] for key in run))
    return columns, [[shown(run.get(key)) for key in columns] for run in results["runs"]]


def shown_rows(table: Mapping[str, Any]) -> list[list[str]]:
    """The rows of a table as texts."""
    return [[shown(cell) for cell in row] for row in table["rows"]]


def shown(value: Any) -> str:
    """A number with four significant digits, or thousands separated; a text as it is."""
    if value is None:
        return ""
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.4g}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.2e}"


def to_markdown(results: Mapping[str, Any]) -> str:
    """The verdicts, tables and limits of ``results.json`` as Markdown, for the documentation."""
    protocol, claims = results["protocol"], results["claims"]
    parts = [
        f"{protocol['question']}\n\n{protocol['method']}",
        f"Primary outcome: {protocol['primary_outcome']}",
        "## Claims and verdicts",
        _markdown_table(VERDICT_HEADER, [verdict_row(claim) for claim in claims]),
        *(f"**{claim['text']}**: {claim['verdict']}. {claim['reason']}" for claim in claims),
        "## Fixed before the first run",
        _markdown_table(TEST_HEADER, [test_row(claim) for claim in claims]),
        "Predicted:",
        "\n".join(f"- {hypothesis}" for hypothesis in protocol["hypotheses"]),
        "## What was measured",
        *_markdown_tables(results["tables"]),
        "## What could have been detected",
        *_markdown_tables(results["power"]),
        "## What this does not show",
        "\n".join(f"- {sentence}" for sentence in [*results["notes"], *protocol["limitations"]]),
        f"`{rerun_command(results)}`: {len(results['runs'])} runs, "
        f"{duration(60 * results['computing_minutes'])} of computing on {', '.join(results['processors'])}. "
        f"Protocol: SHA-256 `{results['protocol_hash'][:16]}`.",
    ]
    return "\n\n".join(parts)


def show_results(path: str | Path) -> None:
    """Show the figures and tables of a study in a notebook.

    Args:
        path: of ``results.json``.
    """
    from io import StringIO

    import IPython.display

    from glassformer.experiments.study import find_study

    notebook: Any = IPython.display
    results = read_json(Path(path))
    for figure, caption in find_study(results["study"]).figures(results["data"]):
        drawn = StringIO()
        figure.savefig(drawn, format="svg")
        notebook.display(notebook.SVG(drawn.getvalue()), notebook.Markdown(caption))
    notebook.display(notebook.Markdown(to_markdown(results)))


def _markdown_tables(tables: Any) -> list[str]:
    return [
        f"**{table['title']}**\n\n{_markdown_table(table['header'], shown_rows(table))}\n\n{table['caption']}"
        for table in tables
    ]


def _markdown_table(header: Any, rows: Any) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
