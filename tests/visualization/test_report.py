"""HTML reports."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest

from glassformer.visualization import draw_loss_curve
from glassformer.visualization.report import Section, write_report

METRICS = [
    {"step": 0, "validation_loss": 4.0, "validation_bits_per_byte": 2.0},
    {"step": 1, "loss": 3.5},
    {"step": 2, "loss": 3.0, "validation_loss": 3.0, "validation_bits_per_byte": 1.5},
]


class Outline(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.slow
def test_a_report_is_one_file_with_escaped_text(tmp_path):
    nasty = "</blockquote><script>alert(1)</script> & \"quotes\" 'too'"
    section = (
        Section(nasty)
        .text(nasty)
        .table(("model", nasty), [(nasty, "1.5")], caption=nasty)
        .figure(draw_loss_curve(METRICS, {}), nasty)
        .sample(nasty, nasty)
        .code(nasty)
        .tokens([nasty], nasty)
    )
    path = write_report(tmp_path / "new" / "report.html", nasty, nasty, {nasty: nasty}, [section])
    page = path.read_text("utf-8")
    outline = Outline()
    outline.feed(page)
    tags = [tag for tag, _ in outline.tags]
    assert "script" not in tags
    assert outline.text.count("<script>alert(1)</script>") == 16
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


def test_a_folded_section_opens_by_its_title(tmp_path):
    sections = [Section("open").text("one"), Section("folded", folded=True).tokens(["a", "b"], "two")]
    page = write_report(tmp_path / "a.html", "t", "l", {}, sections).read_text("utf-8")
    before, after = page.split("<details><summary><h2>folded</h2></summary>")
    assert "<h2>open</h2>" in before
    assert "<span>a</span><span>b</span>" in after.split("</details>")[0]


def test_a_table_without_caption_has_none(tmp_path):
    section = Section("x").table(("a", "number", "text"), [("b", "1.5", ""), ("d", "", "words")])
    page = write_report(tmp_path / "a.html", "t", "l", {}, [section]).read_text("utf-8")
    assert "<caption>" not in page
    assert '<tr><th scope="row">d</th><td></td><td class="words">words</td></tr>' in page
    assert '<tr><th scope="row">b</th><td>1.5</td><td class="words"></td></tr>' in page
    assert '<th scope="col">number</th><th scope="col" class="words">text</th>' in page


@pytest.mark.slow
def test_links_and_previews_are_escaped(tmp_path):
    figure = draw_loss_curve(METRICS, {})
    section = Section("x").link('a".html', "<a>", "<b>").preview('a".html', figure, "<c>")
    page = write_report(tmp_path / "a.html", "t", "l", {}, [section]).read_text("utf-8")
    outline = Outline()
    outline.feed(page)
    assert [attributes["href"] for tag, attributes in outline.tags if tag == "a"] == ['a".html'] * 2
    (image,) = [attributes for tag, attributes in outline.tags if tag == "img"]
    assert image["src"].startswith("data:image/png;base64,")
    assert image["alt"] == "<c>"
    assert all(text in outline.text for text in ("<a>", "<b>", "<c>"))
