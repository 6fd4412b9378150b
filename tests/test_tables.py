"""Tables saved as CSV or JSON."""

from __future__ import annotations

import json

import pytest

from glassformer.files import save_table

ROWS = [{"head": "0.1", "drop": 0.5}, {"head": "0.2", "drop": 0.25}]


def test_csv_has_a_line_per_row(tmp_path):
    save_table(ROWS, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text() == "head,drop\n0.1,0.5\n0.2,0.25\n"
    save_table([], tmp_path / "empty.csv", ["head", "drop"])
    assert (tmp_path / "empty.csv").read_text() == "head,drop\n"


def test_json_has_the_rows_or_the_given_content(tmp_path):
    save_table(ROWS, tmp_path / "table.json")
    assert json.loads((tmp_path / "table.json").read_text()) == ROWS
    save_table(ROWS, tmp_path / "table.json", json_content={"rows": ROWS})
    assert json.loads((tmp_path / "table.json").read_text()) == {"rows": ROWS}


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.csv or \.json, not '\.xls'"):
        save_table(ROWS, tmp_path / "table.xls")
