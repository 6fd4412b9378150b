"""The server's page of each kind of model, of a text that was cut, and by keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassformer.visualization.server import LiveModel
from glassformer.visualization.server.asking import Question

AXE = Path(__file__).parents[4] / "node_modules" / "axe-core" / "axe.min.js"
FOCUSED = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.id"


def test_a_model_that_guesses_nothing_says_so_and_shows_what_heads_change(
    browser, bert, served, idle, rows, missing
):
    if not AXE.exists():
        missing("needs axe-core: npm install axe-core")
    model = bert()
    with served(model) as (url, _):
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.goto(url)
        page.wait_for_selector("#tokens span")
        assert (
            page.inner_text("#legend") == "This model has no head over a vocabulary, so it guesses no tokens."
        )
        assert "Switch heads off" in page.inner_text("#divergence")
        assert page.is_hidden("#writing")
        assert "logit lens" not in page.inner_text("#analyses-label")
        page.fill("#text", "the cat sat")
        page.click("[data-head='0.1']")
        page.wait_for_selector(".changes tr td")
        idle(page)
        expected = LiveModel(model, name="bert").look(Question("the cat sat", off=("0.1",)))
        shown = page.evaluate(
            "Array.from(document.querySelectorAll('#changes tr'),"
            " (row) => [row.cells[0].textContent, row.cells[2].textContent])"
        )
        pairs = zip(expected["cosines"], range(99), expected["tokens"], strict=False)
        assert shown == [[f"{token} ({place})", f"{cosine:.4f}"] for cosine, place, token in sorted(pairs)]
        mean = sum(expected["cosines"]) / len(expected["cosines"])
        assert f"a cosine of {mean:.4f} on average" in page.inner_text("#divergence")
        page.evaluate(AXE.read_text("utf-8"))
        assert page.evaluate("axe.run()")["violations"] == []
        page.click("#all-on")
        page.wait_for_selector(".changes", state="hidden")
        page.fill("#text", "")
        page.wait_for_selector("#problem", state="visible")
        assert page.is_visible("#legend")
        page.context.close()


def test_source_and_target_are_two_rows(browser, t5, served, until):
    with served(t5()) as (url, _):
        page = browser.new_context(viewport={"width": 1600, "height": 900}).new_page()
        page.goto(url)
        page.wait_for_selector("#guesses tr")
        names = "Array.from(document.querySelectorAll('#tokens b'), (name) => name.textContent).join()"
        assert page.evaluate(names) == "Source,Target"
        assert page.inner_text("#tokens .chips >> nth=1") == "nothing yet"
        page.click("#next")
        until(page, "document.querySelectorAll('#tokens .new').length === 1")
        assert page.locator("#tokens .chips >> nth=1").locator("span").count() == 1
        assert page.locator("#tokens .chips >> nth=0").locator(".new").count() == 0
        tops = "new Set(Array.from(document.querySelectorAll('.switches h3'), (h3) => h3.offsetTop)).size"
        assert page.evaluate(tops) == 1
        page.context.close()


def test_where_a_text_was_cut_is_marked_in_the_strip(page, until):
    page.fill("#text", "one two three four five six seven eight")
    until(page, "document.querySelectorAll('#tokens em').length === 1")
    assert page.inner_text("#tokens em") == "✂ 7 not read"
    assert page.evaluate("document.querySelector('#tokens em').previousSibling.textContent") == "e"
    assert "the last words that are read are “one two three four five six seve”" in page.inner_text("#notes")
    assert "the model reads 32 tokens at most" in page.inner_text("#notes")
    assert page.is_enabled("#next")
    page.click("#next")
    until(page, "document.getElementById('next').disabled")
    assert page.inner_text("#legend") == "Nothing can be added: the model reads 32 tokens at most."


def test_a_dozen_stops_lead_from_the_text_to_the_last_button(browser, gpt, served, until, idle):
    with served(gpt(num_layers=30, num_heads=4)) as (url, _):
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.goto(url)
        page.wait_for_selector("#guesses tr")
        page.focus("#text")
        presses = 0
        while page.evaluate("document.activeElement.id") != "explore":
            page.keyboard.press("Tab")
            presses += 1
        assert presses <= 10

        page.focus("#guesses button")
        first = page.evaluate("document.activeElement.textContent")
        for key, place in (("ArrowDown", 1), ("End", 11), ("ArrowDown", 11), ("Home", 0), ("ArrowUp", 0)):
            page.keyboard.press(key)
            focused = "[...document.querySelectorAll('#guesses button')].indexOf(document.activeElement)"
            assert page.evaluate(focused) == place
        assert page.locator("#guesses button[tabindex='0']").all_inner_texts() == [first]

        page.focus(".whole-layer >> nth=0")
        page.keyboard.press("ArrowDown")
        assert page.evaluate(FOCUSED) == "all heads of layer 1"
        page.keyboard.press("Space")
        until(page, "document.getElementById('count').textContent === '4 off'")
        assert page.get_attribute("#count", "role") == "status"
        assert page.evaluate(FOCUSED) == "all heads of layer 1"
        whole = page.locator(".whole-layer").nth(1)
        assert whole.get_attribute("aria-pressed") == "false"
        page.keyboard.press("ArrowRight")
        assert page.evaluate(FOCUSED) == "layer 1, head 0"
        page.keyboard.press("Space")
        assert whole.get_attribute("aria-pressed") == "mixed"
        page.keyboard.press("End")
        assert page.evaluate(FOCUSED) == "layer 1, head 3"
        page.keyboard.press("Home")
        page.keyboard.press("Space")
        assert whole.get_attribute("aria-pressed") == "false"
        page.keyboard.press("Space")
        assert whole.get_attribute("aria-pressed") == "true"
        assert page.locator("#switches [tabindex='0']").count() == 1
        page.context.close()


@pytest.mark.parametrize(("layers", "below"), [(2, True), (30, False)])
def test_few_heads_stand_below_the_text_and_many_beside_it(browser, gpt, served, layers, below):
    with served(gpt(num_layers=layers)) as (url, _):
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.goto(url)
        page.wait_for_selector("#guesses tr")
        boxes = {name: page.locator(f".{name}-box").bounding_box() for name in ("text", "guesses", "heads")}
        assert (boxes["heads"]["x"] == boxes["text"]["x"]) is below
        assert (boxes["guesses"]["x"] == boxes["text"]["x"]) is not below
        top = page.locator("#temperature").bounding_box()["y"]
        assert page.locator("#top-k").bounding_box()["y"] == top
        page.context.close()
