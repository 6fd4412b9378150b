"""The server's page for each kind of model, for a truncated text, and by keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassformer.visualization.server import ModelSession
from glassformer.visualization.server.schema import PredictionRequest

pytestmark = pytest.mark.slow
CONTAINER = """(({ id, className, parentElement }) =>
  document.activeElement.closest("#predictions") ? "predictions" : className || id || parentElement.className
)(document.activeElement)"""
AXE = Path(__file__).parents[4] / "node_modules" / "axe-core" / "axe.min.js"


def test_a_model_without_language_modeling_head_shows_how_heads_change_hidden_states(
    open_page, bert, served, idle, rows, missing, click_head
):
    if not AXE.exists():
        missing("needs axe-core: npm install axe-core")
    model = bert()
    with served(model) as (url, _):
        page = open_page(url)
        assert (
            page.inner_text("#legend")
            == "This model has no language modeling head, so it predicts no tokens."
        )
        assert "Turn heads off" in page.inner_text("#summary")
        assert page.is_hidden("#generation")
        assert "logit lens" not in page.inner_text("#analyses-label")
        page.fill("#text", "the cat sat")
        idle(page)
        click_head(page, 0, 1, "Shift")
        page.wait_for_selector(".vector-changes tr td")
        idle(page)
        expected = ModelSession(model, name="bert").predict(
            PredictionRequest("the cat sat", ablated_heads=("0.1",))
        )
        shown = page.evaluate(
            "Array.from(document.querySelectorAll('#vector-changes tr'),"
            " (row) => [row.cells[0].textContent, row.cells[2].textContent])"
        )
        pairs = zip(expected["cosines"], range(99), expected["tokens"], strict=False)
        assert shown == [
            [f"{token} ({position})", f"{cosine:.4f}"] for cosine, position, token in sorted(pairs)
        ]
        mean = sum(expected["cosines"]) / len(expected["cosines"])
        assert f"a mean cosine of {mean:.4f}" in page.inner_text("#summary")
        page.evaluate(AXE.read_text("utf-8"))
        assert page.evaluate("axe.run()")["violations"] == []
        page.click("#restore")
        page.wait_for_selector(".vector-changes", state="hidden")
        page.fill("#text", "")
        page.wait_for_selector("#error", state="visible")
        assert page.is_visible("#legend")
        page.context.close()


def test_source_and_target_are_shown_in_two_rows(open_page, t5, served, until, idle):
    with served(t5()) as (url, _):
        page = open_page(url, 1600)
        names = "Array.from(document.querySelectorAll('#tokens b'), (name) => name.textContent).join()"
        assert page.evaluate(names) == "Source,Target"
        assert page.inner_text("#tokens .chips >> nth=1") == "empty"
        page.click("#next")
        until(page, "document.querySelectorAll('#tokens .generated').length === 1")
        assert page.locator("#tokens .chips >> nth=1").locator("span").count() == 1
        assert page.locator("#tokens .chips >> nth=0").locator(".generated").count() == 0
        idle(page)
        explorer = page.evaluate("window.glassformer.attention.explorer.contents.attention")
        assert [item["kind"] for item in explorer] == ["encoder", "decoder", "cross"]
        assert len(explorer[2]["queries"]) == 1
        page.context.close()


def test_the_place_of_a_truncation_is_marked(page, until):
    page.fill("#text", "one two three four five six seven eight")
    until(page, "document.querySelectorAll('#tokens em').length === 1")
    assert page.inner_text("#tokens em") == "✂ 7 truncated"
    assert page.evaluate("document.querySelector('#tokens em').previousSibling.textContent") == "e"
    assert "were truncated after “one two three four five six seve”" in page.inner_text("#notes")
    assert "the model accepts at most 32 tokens" in page.inner_text("#notes")
    assert page.is_enabled("#next")
    page.click("#next")
    until(page, "document.getElementById('next').disabled")
    assert page.inner_text("#legend") == "No token can be added: the model accepts at most 32 tokens."


def test_predictions_and_heads_are_one_tab_stop_each(open_page, gpt, served, until, idle):
    with served(gpt(num_layers=30, num_heads=4)) as (url, _):
        page = open_page(url)
        page.focus("#text")
        visited = []
        while visited[-1:] != ["overview"] and len(visited) < 40:
            page.keyboard.press("Tab")
            visited.append(page.evaluate(CONTAINER))
        assert visited[-1] == "overview"
        assert visited.count("predictions") == 1
        page.evaluate("window.glassformer.attention.explorer.set({ layer: 3, head: 2 })")
        page.keyboard.press("o")
        idle(page)
        assert page.inner_text("#off") == "3.2"
        page.keyboard.press("ArrowDown")
        page.keyboard.press("o")
        idle(page)
        assert page.inner_text("#off").split() == ["3.2", "4.2"]

        page.focus("#predictions button")
        first = page.evaluate("document.activeElement.textContent")
        for key, index in (("ArrowDown", 1), ("End", 11), ("ArrowDown", 11), ("Home", 0), ("ArrowUp", 0)):
            page.keyboard.press(key)
            focused = "[...document.querySelectorAll('#predictions button')].indexOf(document.activeElement)"
            assert page.evaluate(focused) == index
        assert page.locator("#predictions button[tabindex='0']").all_inner_texts() == [first]
        page.context.close()


def test_the_page_has_a_box_to_send_a_message(open_page, served, chat_model, gpt, idle):
    for model in (gpt(), chat_model):
        with served(model) as (url, _):
            page = open_page(url)
            assert page.is_visible("#chat") == (model is chat_model)
            if model is chat_model:
                page.fill("#text", "the cat")
                page.check("#chat")
                idle(page)
                assert "<|assistant|>" in page.inner_text("#tokens")
                page.uncheck("#chat")
                idle(page)
                assert "<|assistant|>" not in page.inner_text("#tokens")
            page.context.close()
