"""The results in the documentation: of the current protocols, small, and shown whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glassformer.experiments.study import find_study
from glassformer.experiments.study_report import show_results
from glassformer.experiments.verdicts import Verdict

STUDIES = Path(__file__).parents[2] / "docs" / "studies"
RESULTS = sorted(STUDIES.glob("*/results.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_results_are_of_the_protocol_and_scale_that_is_documented(path):
    results = json.loads(path.read_text())
    study = find_study(path.parent.name)
    assert results["study"] == study.name
    assert results["protocol_hash"] == study.protocol.hash, "the protocol has changed: run the study again"
    assert results["scale"] == "laptop"
    assert [claim["id"] for claim in results["claims"]] == [claim.id for claim in study.protocol.claims]
    assert {claim["verdict"] for claim in results["claims"]} <= {str(verdict) for verdict in Verdict}
    assert path.stat().st_size < 200_000
    assert (path.parent.parent / f"{study.name}.md").exists()


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_a_notebook_shows_the_figures_and_every_claim(path, monkeypatch):
    ipython = pytest.importorskip("IPython.display", reason="needs IPython")
    shown = []
    monkeypatch.setattr(ipython, "display", lambda *objects: shown.extend(objects))
    show_results(path)
    drawn = [item for item in shown if isinstance(item, ipython.SVG)]
    text = "\n".join(item.data for item in shown if isinstance(item, ipython.Markdown))
    results = json.loads(path.read_text())
    assert len(drawn) == len(find_study(results["study"]).figures(results["data"]))
    for claim in results["claims"]:
        assert f"**{claim['text']}**: {claim['verdict']}." in text
    for table in results["tables"]:
        assert table["title"] in text


def test_every_documented_study_is_in_the_contents():
    index = (STUDIES.parent / "index.md").read_text()
    assert RESULTS
    for path in RESULTS:
        assert f"studies/{path.parent.name}\n" in index
