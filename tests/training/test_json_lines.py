"""Rows survive a kill, and can be taken back."""

from glassformer.training.json_lines import JsonLines


def test_rows_are_appended_and_dropped(tmp_path):
    rows = JsonLines(tmp_path / "m.jsonl")
    assert rows.rows() == []
    rows.sync()
    for step in range(4):
        rows.append({"step": step, "loss": step / 3})
    rows.sync()
    rows.drop_after(2)
    assert rows.rows() == [{"step": s, "loss": s / 3} for s in range(3)]


def test_a_torn_last_line_is_no_row(tmp_path):
    rows = JsonLines(tmp_path / "m.jsonl")
    rows.append({"step": 1})
    with rows.path.open("ab") as file:
        file.write(b'{"step": 2, "lo\xc3')
    assert rows.rows() == [{"step": 1}]
    rows.drop_after(5)
    rows.append({"step": 2})
    assert rows.path.read_text() == '{"step": 1}\n{"step": 2}\n'
