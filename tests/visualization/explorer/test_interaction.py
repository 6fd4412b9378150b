"""Keyboard, pointer and panel in the browser."""

from __future__ import annotations

import numpy as np
import pytest

from glassformer.models import GPTModel
from glassformer.visualization import AttentionVisualizer

pytestmark = pytest.mark.slow

FAMILIES = ["decoder", "encoder", "encoder-decoder", "vit"]
SVG = "{http://www.w3.org/2000/svg}"


def test_keyboard_shortcuts(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, link="#view=map&layer=0&head=0&query=5&key=2") as page:
        page.locator(".stage").focus()

        def after(key):
            page.keyboard.press(key)
            return page.state()

        assert (after("ArrowRight")["key"], after("ArrowLeft")["key"]) == (3, 2)
        assert (after("ArrowDown")["query"], after("ArrowUp")["query"]) == (6, 5)
        assert (after("Shift+ArrowDown")["query"], after("PageUp")["query"]) == (11, 0)
        assert (after("PageDown")["query"], after("End")["key"], after("Home")["key"]) == (11, 11, 0)
        assert (after("]")["head"], after("[")["head"], after("[")["head"]) == (1, 0, -1)
        assert (after("m")["head"], after("m")["head"]) == (0, -1)
        assert (after(".")["layer"], after(",")["layer"], after(",")["layer"]) == (1, 0, 0)
        assert [after("c")["colorMax"] for _ in range(3)] == ["one", "largest", "auto"]
        assert after("+")["zoom"] == pytest.approx(1.5)
        assert after("-")["zoom"] == pytest.approx(1)
        assert (after("+")["zoom"] > 1, after("0")["zoom"]) == (True, 1)
        assert (after("f")["onlyChosen"], after("f")["onlyChosen"]) == (0, 1)
        page.set_state(threshold=0.09)
        assert after(">")["threshold"] == pytest.approx(0.32**2)  # linear in the square root
        assert after("<")["threshold"] == pytest.approx(0.09)
        assert (after("a")["threshold"], after("x")["firstToken"], after("x")["firstToken"]) == (-1, 0, 1)
        assert (after("t")["theme"], after("t")["theme"]) == ("dark", "light")
        shown = (
            page.state()["rollout"],
            after("r")["view"],
            page.state()["rollout"],
            after("r")["rollout"],
        )
        assert shown == (1, "rollout", 1, 0)  # gradient-weighted rollout comes first
        views = page.evaluate("window.glassformer.views.map((view) => view.name)")
        assert [after(str(number + 1))["view"] for number in range(len(views))] == views
        assert after("2")["view"] == "heads"
        assert (after("+")["size"] > 1, page.state()["zoom"], after("0")["size"]) == (True, 1, 1)
        page.set_state(head=0)
        page.locator(".stage").focus()
        assert (after("ArrowRight")["head"], after("ArrowDown")["layer"]) == (1, 1)
        assert after("Enter")["view"] == "map"
        page.keyboard.press("?")
        help_text = page.get_by_role("dialog").inner_text()
        shown = page.evaluate("Array.from(document.querySelectorAll('.help kbd'), (key) => key.textContent)")
        assert set("?tkmcfax0slpj") <= set("".join(shown))
        assert "Heat map" in help_text
        page.get_by_label("enable shortcuts of single characters").uncheck()
        page.keyboard.press("Escape")
        assert page.get_by_role("dialog").count() == 0
        assert (after("t")["theme"], after("2")["view"]) == ("light", "map")


@pytest.mark.parametrize("family", FAMILIES)
def test_home_and_end_choose_the_first_and_the_last(open_page, pages, family):
    path = pages[family].path
    with open_page(path, 1280) as page:

        def after(view, key):
            page.set_state(view=view, query=1, key=1, layer=0, head=0)
            page.locator(".stage").press(key)
            return page.state()

        queries, keys = page.evaluate("(({ queries, keys }) => [queries, keys])(glassformer.scene().matrix)")
        assert after("map", "End")["key"] == keys - 1
        assert after("map", "PageDown")["query"] == queries - 1
        assert (after("heads", "End")["head"], after("heads", "PageDown")["layer"]) == (-1, 1)
        assert after("predictions", "End")["query"] == queries - 1
        assert after("predictions", "Home")["query"] == 0
        page.get_by_role("tab", selected=True).press("End")
        assert page.state()["view"] == "rollout"
        page.get_by_role("tab", selected=True).press("Home")
        assert page.state()["view"] == ("image" if family == "vit" else "text")
        page.set_state(view="map", layer=0, head=0)
        page.locator(".overview").press("ArrowRight")
        page.locator(".overview").press("ArrowDown")
        assert (page.state()["layer"], page.state()["head"]) == (1, 1)
        said = page.locator(".overview").get_attribute("aria-label")
        assert said.endswith(page.evaluate("glassformer.scene().headTitle"))


def test_mean_shortcut_returns_to_the_same_head(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, link="#view=map&layer=1&head=2") as page:
        page.keyboard.press("m")
        assert page.state()["head"] == -1
        page.keyboard.press("m")
        assert page.state()["head"] == 2


def test_zoom_shortcuts_do_nothing_in_views_without_zoom(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, link="#view=lines&threshold=0.000025") as page:
        page.keyboard.press("+")
        page.keyboard.press("0")
        assert page.state()["zoom"] == 1
        page.keyboard.press("]")
        page.state()
        assert "threshold=0.000025" in page.evaluate("location.hash")  # however small


def test_help_opens_at_its_top(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, 400, height=500) as page:
        page.keyboard.press("?")
        assert page.evaluate("document.querySelector('dialog').scrollTop") == 0
        assert page.evaluate("document.activeElement.textContent") == "What the words mean"


def test_kinds_of_attention_have_their_own_tokens(open_page, pages):
    contents = pages["encoder-decoder"].contents
    path = pages["encoder-decoder"].path
    with open_page(path) as page:
        assert page.state()["kind"] == "cross"  # the initial kind
        page.set_state(kind="encoder", view="map")
        seen = []
        for _ in range(3):
            seen.append((page.state()["kind"], page.matrix().shape))
            page.keyboard.press("k")
        assert seen == [("encoder", (9, 9)), ("decoder", (6, 6)), ("cross", (6, 9))]
        page.get_by_label("Attention", exact=True).select_option("cross")
        labels = [text.text.strip("\u2068\u2069") for text in page.svg().iter(f"{SVG}text")]
        for label in "Katze":
            assert label in labels
        assert contents.attention[2].keys == [*"The·cat.", "⟨end⟩"]


def test_each_kind_of_attention_keeps_its_chosen_cell(open_page, pages):
    path = pages["encoder-decoder"].path
    with open_page(path, link="#view=map&kind=cross&query=2&key=7") as page:
        page.set_state(kind="encoder")
        assert (page.state()["query"], page.state()["key"]) == (
            8,
            0,
        )  # as initially
        page.set_state(query=5, key=1)
        page.set_state(kind="cross")
        assert (page.state()["query"], page.state()["key"]) == (2, 7)
        page.set_state(view="rollout")  # shows the encoder
        assert (page.state()["query"], page.state()["key"]) == (5, 1)
        page.set_state(view="map")
        assert (page.state()["query"], page.state()["key"]) == (2, 7)


def test_click_wheel_and_drag(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, link="#view=map&layer=0&head=1") as page:
        box = page.locator(".stage").bounding_box()
        spot = page.evaluate(
            "(() => { const a = window.glassformer; return a.view.cellRect(a.scene(), a.box(), 7, 3); })()"
        )
        x, y = (
            box[side] + 1 + spot[side] + spot[size] / 2 for side, size in (("x", "width"), ("y", "height"))
        )
        page.mouse.move(x, y)
        assert float(page.locator(".hint").inner_text().split()[-1]) == pytest.approx(
            page.matrix()[7, 3], rel=0.01
        )
        page.mouse.click(x, y)
        assert (page.state()["query"], page.state()["key"]) == (7, 3)
        page.keyboard.down("Control")
        page.mouse.wheel(0, -400)
        page.keyboard.up("Control")
        page.wait_until("window.glassformer.state.zoom > 3")
        under = page.evaluate(
            "([x, y]) => { const a = window.glassformer; return a.view.hitTest(a.scene(), a.box(), x, y); }",
            [x - box["x"] - 1, y - box["y"] - 1],
        )
        assert under == {"query": 7, "key": 3}  # the cell under the pointer stays there
        before = page.state()["x"]
        page.mouse.down()
        page.mouse.move(x - 60, y, steps=4)
        page.mouse.up()
        assert page.state()["x"] > before
        page.keyboard.press("2")
        spot = page.evaluate(
            "(() => { const a = window.glassformer; const b = a.box(); for (let y = 100; y < 900; y += 5)"
            " for (let x = 60; x < b.width; x += 5) { const hit = a.view.hitTest(a.scene(), b, x, y);"
            " if (hit && hit.layer === 1 && hit.head === 0) return [x + 3, y + 3]; } })()"
        )
        box = page.locator(".stage").bounding_box()
        page.mouse.click(box["x"] + 1 + spot[0], box["y"] + 1 + spot[1])
        assert (page.state()["layer"], page.state()["head"], page.state()["view"]) == (1, 0, "map")


def test_a_double_click_on_a_small_map_opens_it_without_zoom(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, link="#view=heads&layer=1&head=0&query=5&key=2") as page:
        spot = page.evaluate(
            "(() => { const a = window.glassformer; const b = a.box(); for (let y = 100; y < 900; y += 5)"
            " for (let x = 60; x < b.width; x += 5) { const hit = a.view.hitTest(a.scene(), b, x, y);"
            " if (hit && hit.layer === 1 && hit.head === 0) return [x + 20, y + 20]; } })()"
        )
        box = page.locator(".stage").bounding_box()
        page.mouse.dblclick(box["x"] + 1 + spot[0], box["y"] + 1 + spot[1])
        now = page.state()
        assert (now["view"], now["zoom"], now["query"], now["key"]) == ("map", 1, 5, 2)


def test_hint_is_hidden_when_the_view_changes(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, link="#view=map&layer=0&head=1") as page:
        box = page.locator(".stage").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_until("!glassformer.hint.hidden")
        page.keyboard.press("]")
        assert page.evaluate("glassformer.hint.hidden")


def test_a_click_on_a_token_shows_its_predictions(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, 400, link="#view=predictions&query=2") as page:
        (place,) = [text for text in page.visible_texts() if text["text"] == "\u2068c\u2069"]
        box = page.locator(".stage").bounding_box()
        page.mouse.click(box["x"] + place["x"] + 3, box["y"] + place["y"])
        assert page.state()["query"] == 4
        assert "At “c”, token 4" in page.locator(".stage").get_attribute("aria-label")


def test_panel_lists_row_column_and_labels(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, link="#view=map&layer=1&head=2&query=9&key=4") as page:
        weights = page.matrix()
        tables = page.locator(".panel table")
        for table, values in ((tables.nth(0), weights[9]), (tables.nth(1), weights[:, 4])):
            rows = [row.inner_text().split() for row in table.locator("tr:not(.rest)").all()]
            seen = {int(row[1]): float(row[-1]) for row in rows}
            order = sorted(np.flatnonzero(~np.isnan(values)), key=lambda index: -values[index])[:10]
            assert list(seen) == order
            assert list(seen.values()) == pytest.approx(values[order], rel=5e-3, abs=1e-5)
        words = page.locator(".panel").inner_text()
        assert "previous: 91 % (85 % to 95 %); baseline (random weights): 20 %" in words
        assert page.locator(".stage").get_attribute("aria-label").endswith(f"{weights[9, 4]:.3g}")
        page.locator(".panel button.token").nth(2).click()
        assert page.state()["key"] == sorted(range(10), key=lambda index: -weights[9, index])[2]
        page.wait_until("document.querySelector('[role=status]').textContent.includes('looks at')")


def test_a_choice_in_the_panel_keeps_the_focus(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, link="#view=map&layer=1&head=2") as page:
        token = page.locator(".panel button.token").nth(2)
        token.focus()
        page.keyboard.press("Enter")
        page.wait_for_timeout(100)
        focused = "[...document.querySelectorAll('.panel button')].indexOf(document.activeElement)"
        assert page.evaluate(focused) == 2


def test_help_explains_how_to_label_heads_that_were_not_analyzed(open_page, pages):
    with open_page(pages["encoder"].path) as page:
        for source in ("measured", ""):
            page.evaluate(f"glassformer.contents.head_labels_source = '{source}'; glassformer.set({{}})")
            page.evaluate("glassformer.settled")
            assert ("What this head does" in page.locator(".panel").inner_text()) == bool(source)
            page.keyboard.press("?")
            assert ("--names" in page.get_by_role("dialog").inner_text()) == (not source)
            page.keyboard.press("Escape")


def test_all_tokens_can_be_unfolded(open_page, large_page):
    path, contents = large_page.path, large_page.contents
    with open_page(path, 400) as page:
        page.get_by_text("All tokens").press("Enter")
        chips = page.locator(".all-tokens .chip")
        page.wait_until("document.querySelectorAll('.all-tokens .chip').length === 140")
        shown = [text.strip("\u2068\u2069") for text in chips.all_inner_texts()]
        assert shown == contents.attention[0].keys
        chips.nth(17).click()
        assert page.state()["query"] == 17


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_opens_in_the_theme_it_was_made_with(open_page, random_model, tmp_path, theme):
    model = random_model(GPTModel, vocab_size=257)
    path = AttentionVisualizer(model).explore("abc", tmp_path / "page.html", analyses=False, theme=theme).path
    other = {"light": "dark", "dark": "light"}[theme]
    scheme = "getComputedStyle(document.documentElement).colorScheme"
    with open_page(path, theme=other) as page:  # what the reader's system prefers
        assert page.evaluate(scheme) == theme
        page.keyboard.press("t")
        assert page.evaluate(scheme) == other
        page.state()
        assert f"theme={other}" in page.evaluate("location.hash")
