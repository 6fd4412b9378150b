"""The map of all heads: rows by layer or kind, the overview beside the view, and previews."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

OVERVIEW = """() => {
  const app = window.glassformer, texts = [], images = [];
  const painter = { ratio: 1, clip: (x, y, width, height, draw) => draw() };
  for (const name of ["line", "curve", "rect", "hatch"]) painter[name] = () => {};
  painter.image = (bitmap, x, y, width, height) => images.push({ x, y, width, height });
  painter.text = (text) => texts.push(text);
  const canvas = app.overviewCanvas;
  canvas.view().draw(painter, app.scene(true), canvas.box());
  return { texts, images, width: canvas.box().width, height: app.stage.clientHeight };
}"""


@pytest.mark.parametrize("width", [1280, 1600])
def test_the_overview_fills_its_column(open_page, large_page, width):
    with open_page(large_page.path, width) as page:
        drawn = page.evaluate(OVERVIEW)
        assert {"layer", "mean"} <= set(drawn["texts"])
        assert any(text.startswith("head →") for text in drawn["texts"])
        if width == 1600:  # no number is covered by the name of the last column
            assert {str(head) for head in range(9)} <= set(drawn["texts"])
        assert "rows look at columns; striped: hidden" in drawn["texts"]
        assert len(drawn["images"]) == 30 * 10
        right = max(image["x"] + image["width"] for image in drawn["images"])
        below = max(image["y"] + image["height"] for image in drawn["images"])
        assert 0.9 * drawn["width"] <= right <= drawn["width"]
        assert 0.9 * drawn["height"] <= below <= drawn["height"]


def test_heads_are_sorted_by_kind(open_page, large_page):
    with open_page(large_page.path, link="#view=heads&sort=kind&layer=15&head=1") as page:
        words = [text["text"].strip("\u2068\u2069") for text in page.visible_texts()]
        assert "previous token (1)" in words
        assert "no label (268)" in words
        assert {"15.0", "15.1", "0.0"} <= set(words)
        assert "mean" not in words
        places = {text["text"].strip("\u2068\u2069"): text for text in page.visible_texts()}
        box = page.locator(".stage").bounding_box()
        number = places["15.0"]
        page.mouse.click(box["x"] + 1 + number["x"] + 4, box["y"] + 1 + number["y"] - 30)
        assert (page.state()["layer"], page.state()["head"], page.state()["view"]) == (15, 0, "map")


def test_arrows_follow_the_order_of_kinds(open_page, large_page):
    with open_page(large_page.path, link="#view=heads&sort=kind&layer=15&head=0") as page:
        for key, layer, head in (("ArrowDown", 15, 1), ("ArrowDown", 0, 0), ("ArrowRight", 0, 1)):
            page.locator(".stage").press(key)
            assert (page.state()["layer"], page.state()["head"]) == (layer, head)
        page.set_state(view="map")
        page.locator(".overview").press("ArrowDown")  # the overview is always by layer
        assert (page.state()["layer"], page.state()["head"]) == (1, 1)


def test_pages_without_labels_offer_no_kinds(open_page, pages):
    for family, offered in (("decoder", True), ("encoder", False)):
        with open_page(pages[family].path, link="#view=heads") as page:
            assert page.get_by_label("Sorted by").is_visible() == offered


def test_a_head_under_the_pointer_is_previewed(open_page, pages):
    with open_page(pages["decoder"].path, link="#layer=0&head=0") as page:
        box = page.locator(".overview").bounding_box()
        image = page.evaluate(OVERVIEW)["images"][4 + 2]  # layer 1, head 2
        page.mouse.move(box["x"] + 1 + image["x"] + 5, box["y"] + 1 + image["y"] + 5)
        hint = page.locator(".hint")
        assert hint.locator("canvas").is_visible()
        assert hint.inner_text().startswith("layer 1, head 2: previous: 91 %")


def test_heads_cannot_be_turned_off_without_a_model(open_page, pages):
    with open_page(pages["decoder"].path) as page:  # which must not log an error
        before = page.state()
        page.keyboard.press("o")
        assert page.state() == before
        page.keyboard.press("?")
        assert "turn the chosen head" not in page.inner_text("dialog .keys")
