"""Stored reports: damaged ones are refused in one line that names the file."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest

from glassformer.analysis import HeadReport
from glassformer.cli import main
from glassformer.visualization import draw_head_map

REPORT = Path(__file__).parents[2] / "compatibility" / "version_0_1" / "analysis" / "heads.json"
CONTENT = json.loads(REPORT.read_text("utf-8"))
NUMBERS = ("layer", "head")
OTHERS = ("pattern", "measure", "score", "low", "high", "control", "control_score", "name", "main")


def assert_refused(folder, content):
    (folder / "heads.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"heads\.json"):
        HeadReport.load(folder / "heads.json")


@pytest.mark.parametrize("key", NUMBERS + OTHERS)
def test_a_row_that_lacks_a_key_is_refused(tmp_path, key):
    content = deepcopy(CONTENT)
    del content["rows"][-1][key]
    assert_refused(tmp_path, content)
    for wrong in [[], {}, *([-1, 10**9, 0.5, True] if key in NUMBERS else [])]:
        content["rows"][-1][key] = wrong
        assert_refused(tmp_path, content)


@pytest.mark.parametrize("key", ["format", "model", "settings", "rows", "data"])
def test_a_report_of_other_values_is_refused(tmp_path, key):
    assert_refused(tmp_path, {name: value for name, value in CONTENT.items() if name != key})
    for wrong in (None, 3, "text", [], [3], {}):
        if type(wrong) is not type(CONTENT[key]) or key in ("format", "rows"):
            assert_refused(tmp_path, {**CONTENT, key: wrong})


@pytest.mark.parametrize(
    ("part", "key", "wrong"),
    [
        ("settings", "margin", None),
        ("settings", "margin", "0.1"),
        ("settings", "kind", ["self"]),
        ("data", "num_items", "60"),
        ("data", "num_cut", None),
        ("data", "notes", 3),
        ("data", "notes", [3]),
    ],
)
def test_settings_and_data_of_other_types_are_refused(tmp_path, part, key, wrong):
    assert_refused(tmp_path, {**CONTENT, part: {**CONTENT[part], key: wrong}})


def test_optional_keys_and_numbers_that_do_not_exist_are_read(tmp_path):
    content = {**deepcopy(CONTENT), "data": {}, "settings": {}}
    unlabeled = next(row for row in content["rows"] if not row["name"])
    unlabeled |= {"score": float("nan"), "low": float("-inf"), "control": None, "control_score": None}
    (tmp_path / "heads.json").write_text(json.dumps(content))
    draw_head_map(HeadReport.load(tmp_path / "heads.json"))


@pytest.mark.parametrize("command", ["explore MODEL --heads-report", "ablate MODEL --named x --report"])
def test_the_command_line_names_a_damaged_report(tmp_path, monkeypatch, capsys, command):
    path = tmp_path / "heads.json"
    path.write_text(json.dumps({"format": CONTENT["format"], "rows": [{}]}))
    monkeypatch.chdir(tmp_path)
    model = str(REPORT.parents[1] / "models" / "gpt")
    assert main([model if word == "MODEL" else word for word in command.split()] + [str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert "missing" in line
