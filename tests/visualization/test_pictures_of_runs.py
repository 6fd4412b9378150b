"""Pattern maps, loss curves and the report: numbers read back from what was drawn."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from glassformer.analysis import HeadPatterns
from glassformer.analysis.head_patterns import PATTERNS
from glassformer.visualization import draw_loss_curve, draw_patterns
from glassformer.visualization.report import Section, write_report

METRICS = [
    {"step": 0, "validation_loss": 4.0, "validation_bits_per_byte": 2.0},
    {"step": 1, "loss": 3.5},
    {"step": 2, "loss": 3.0, "validation_loss": 3.0, "validation_bits_per_byte": 1.5},
]


def test_maps_show_the_values():
    values = {name: np.linspace(0, 1, 6).reshape(2, 3) for name in PATTERNS}
    values["distance"] = np.linspace(0, 9, 6).reshape(2, 3)
    figure = draw_patterns(HeadPatterns(values, 2, 10), title="GPT", caption="2 texts")
    for axes, (name, array) in zip(figure.axes, values.items(), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), array)
        pattern = "{:.1f}" if name == "distance" else "{:.2f}"
        expected = [
            pattern.format(value).removeprefix("" if name == "distance" else "0") for value in array.flat
        ]
        assert [text.get_text() for text in axes.texts] == expected
    assert figure.get_suptitle() == "GPT\n2 texts"


def test_loss_curves_are_in_bits_per_byte():
    figure = draw_loss_curve(METRICS, {"unigram": 2.2, "bigram": 1.8})
    training, held_out, unigram, bigram = figure.axes[0].lines
    assert training.get_xydata().tolist() == [[1, 1.75], [2, 1.5]]
    assert held_out.get_xydata().tolist() == [[0, 2.0], [2, 1.5]]
    assert (unigram.get_ydata()[0], bigram.get_ydata()[0]) == (2.2, 1.8)
    said = [text.get_text() for text in figure.axes[0].texts]
    assert "unigram model: 2.20" in said
    assert "bigram model: 1.80" in said
    with pytest.raises(ValueError, match="no evaluation of held-out text"):
        draw_loss_curve([{"step": 1, "loss": 3.0}], {})


@pytest.mark.parametrize("baselines", [{"unigram": 2.0, "bigram": 1.93}, {"a": 1.9, "b": 1.9}])
def test_labels_of_close_lines_do_not_run_into_each_other(baselines):
    figure = draw_loss_curve(METRICS, baselines)
    figure.draw_without_rendering()
    one, two = [text.get_window_extent() for text in figure.axes[0].texts if "model" in text.get_text()]
    assert not one.overlaps(two)


class Outline(HTMLParser):
    """Tags, attributes and text, as a browser would read them."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_a_report_is_one_page_that_needs_nothing_else(tmp_path):
    nasty = "</blockquote><script>alert(1)</script> & \"quotes\" 'too'"
    section = (
        Section(nasty)
        .text(nasty)
        .table(("model", nasty), [(nasty, "1.5")], caption=nasty)
        .figure(draw_loss_curve(METRICS, {}), nasty)
        .sample(nasty, nasty)
        .code(nasty)
    )
    path = write_report(tmp_path / "new" / "report.html", nasty, nasty, {nasty: nasty}, [section])
    page = path.read_text("utf-8")
    outline = Outline()
    outline.feed(page)
    tags = [tag for tag, _ in outline.tags]
    assert "script" not in tags
    assert outline.text.count("<script>alert(1)</script>") == 14
    images = [attributes for tag, attributes in outline.tags if tag == "img"]
    assert [image["alt"] for image in images] == [nasty]
    kind, data = images[0]["src"].split(",")
    assert kind == "data:image/svg+xml;base64"
    assert b"<svg" in base64.b64decode(data)
    for _, attributes in outline.tags:
        for name in ("src", "href"):
            assert not re.match(r"(https?:)?//", attributes.get(name) or "")
    assert "url(" not in page
    assert "@import" not in page
    assert [tag for tag in tags if tag in ("h1", "h2")] == ["h1", "h2"]


def test_a_table_without_caption_has_none():
    assert "<caption>" not in Section("x").table(("a",), [("b",)]).html()
