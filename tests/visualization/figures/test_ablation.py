"""Tables and maps of the effects of ablations."""

from __future__ import annotations

import pytest

from glassformer.visualization import save_figure
from glassformer.visualization.figures.ablation import draw_ablation_maps, draw_ablation_table


def row(name, suite, drop, low=None, high=None):
    unit = "log odds" if suite == "agreement" else "log p"
    return {"set": name, "suite": suite, "unit": unit, "drop": drop, "low": low, "high": high}


ROWS = [
    row("induction", "copying", 9.876, 9.1, 10.5),
    row("induction", "agreement", -0.001, -0.2, -0.0005),
    row("4.7", "copying", 1.5, 1.0, 2.0),
    row("4.7", "agreement", 0.25, 0.1, 0.3),
]


def texts_by_place(axes):
    """Texts by (column, row)."""
    return {tuple(map(round, text.get_position())): text.get_text() for text in axes.texts}


def test_the_table_has_a_row_per_set_a_column_per_task_and_intervals_for_groups():
    figure = draw_ablation_table(ROWS, title="tiny", caption="zero", groups={"induction"})
    axes = figure.axes[0]
    assert texts_by_place(axes) == {
        (0, 0): "9.88\n9.10 to 10.50",
        (1, 0): "0.00\n-0.20 to 0.00",
        (0, 1): "1.50",
        (1, 1): "0.25",
    }
    columns = [label.get_text() for label in axes.get_xticklabels()]
    assert columns == ["copying\nlog p", "agreement\nlog odds"]
    names = axes.get_yticklabels()
    assert [(label.get_text(), label.get_fontweight()) for label in names] == [
        ("induction", "bold"),
        ("4.7", "normal"),
    ]
    assert "tiny\nzero" in figure.get_suptitle()


def test_colors_are_symmetric_around_zero():
    figure = draw_ablation_table(
        [row("a", "s", 3.0), row("b", "s", -3.0), row("c", "s", 0.0)], title="t", caption="c"
    )
    norm = figure.axes[0].images[0].norm
    assert norm(3.0) == 1
    assert norm(-3.0) == 0
    assert norm(0.0) == 0.5
    assert norm(0.01) - 0.5 == pytest.approx(0.5 - norm(-0.01))


@pytest.mark.slow
def test_there_is_a_map_per_task_with_every_head(tmp_path):
    rows = [
        row(f"{layer}.{head}", suite, number + layer / 10 + head / 100)
        for number, suite in enumerate(("copying", "agreement"))
        for layer, heads in ((0, 2), (1, 3))
        for head in range(heads)
    ]
    figure = draw_ablation_maps(rows, title="tiny", caption="zero")
    first, second = figure.axes[:2]
    assert [axes.get_title() for axes in (first, second)] == ["copying, log p", "agreement, log odds"]
    written = texts_by_place(second)
    assert written == {
        (0, 0): "1.0",
        (1, 0): "1.0",
        (0, 1): "1.1",
        (1, 1): "1.1",
        (2, 1): "1.1",
    }
    assert texts_by_place(first) == {
        (1, 0): ".01",
        (0, 1): ".10",
        (1, 1): ".11",
        (2, 1): ".12",
    }  # no zero written
    assert first.images[0].get_array().mask.tolist() == [[False, False, True], [False] * 3]  # layer 0 has two
    again = draw_ablation_maps(rows, title="tiny", caption="zero")
    paths = [save_figure(f, tmp_path / f"{number}.png") for number, f in enumerate((figure, again))]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_label_of_the_color_bar_fits_a_small_table():
    figure = draw_ablation_table(ROWS, title="tiny", caption="zero")
    figure.draw_without_rendering()
    label = figure.axes[-1].yaxis.label
    box = label.get_window_extent()
    assert label.get_text().replace("\n", " ") == "drop of the score (nats; logarithmic beyond 0.1)"
    assert box.y0 >= 0
    assert box.y1 <= figure.bbox.height
