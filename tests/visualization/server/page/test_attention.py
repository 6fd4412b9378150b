"""Attention of the typed text on the server's page: its numbers, heads that are off, two texts, and links."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassformer.analysis.ablation import ablate
from glassformer.analysis.head_patterns import HeadReport
from glassformer.attention import record_attention
from glassformer.visualization.server import ModelSession
from glassformer.visualization.server.schema import PredictionRequest

pytestmark = pytest.mark.slow
ROUNDING = 0.008


def attention_of(model, text, layer, head, off=()):
    with torch.no_grad(), ablate(model, list(off)), record_attention(model) as recorded:
        model(torch.tensor([list(text.encode())]))
    return recorded[layer][0, head].numpy()


def choose(page, **state):
    page.evaluate("change => window.glassformer.attention.explorer.set(change)", state)
    page.evaluate("window.glassformer.attention.explorer.settled")


def labeled(rows):
    names = [
        {"layer": layer, "head": head, "name": name, "score": 0.9, "low": 0.8, "high": 1.0}
        | {"control": "chance", "control_score": 0.1, "measure": "rate", "main": True}
        for layer, head, name in rows
    ]
    return HeadReport("small", {"kind": "self"}, names)


def test_attention_follows_the_text_and_the_heads(page, model, idle, weights, click_head):
    page.fill("#text", "A dog ran.")
    idle(page)
    choose(page, layer=1, head=2, view="map")
    expected = attention_of(model, "A dog ran.", 1, 2)
    np.testing.assert_allclose(weights(page), expected, atol=ROUNDING)
    click_head(page, 0, 1, "Alt")
    idle(page)
    choose(page, layer=1, head=2)
    changed = attention_of(model, "A dog ran.", 1, 2, [(0, 1)])
    assert np.abs(changed - expected).max() > 0.05
    np.testing.assert_allclose(weights(page), changed, atol=ROUNDING)
    click_head(page, 0, 1)  # without a modifier key it opens the head
    state = page.evaluate("window.glassformer.attention.explorer.state")
    assert (state["layer"], state["head"], state["view"]) == (0, 1, "map")
    assert page.inner_text("#toggle-head") == "Turn on head 0.1"
    page.keyboard.press("o")
    idle(page)
    assert page.inner_text("#count") == "All heads are on."
    page.check("#click-toggles")
    click_head(page, 1, -1)  # the mean: all heads of the layer
    idle(page)
    assert page.inner_text("#off").split() == ["1.0", "1.1", "1.2"]
    page.click("#off button >> nth=1")
    idle(page)
    assert page.inner_text("#off").split() == ["1.0", "1.2"]


def test_sets_of_heads_are_those_of_the_labels_and_random_ones(open_page, served, gpt, idle):
    report = labeled([(0, 1, "previous"), (1, 0, "induction"), (1, 2, "induction")])
    with served(gpt(), heads_report=report) as (url, _):
        page = open_page(url)
        options = page.locator("#preset option").all_inner_texts()
        assert options[1:3] == ["without the 2 induction heads", "without the 1 previous head"]
        assert options[-2:] == ["without layer 0", "without layer 1"]
        page.select_option("#preset", label="without the 2 induction heads")
        idle(page)
        assert page.inner_text("#off").split() == ["1.0", "1.2"]
        page.select_option("#preset", label="2 random heads instead, to compare")
        idle(page)
        others = page.inner_text("#off").split()
        assert len(others) == 2
        assert not {"1.0", "1.2"} & set(others)
        assert page.input_value("#preset") == ""  # so that another random set can be chosen
        page.select_option("#preset", label="without layer 0")
        idle(page)
        assert page.inner_text("#off").split() == ["0.0", "0.1", "0.2"]
        page.focus("#preset")
        page.keyboard.press("ArrowDown")  # to the next set
        idle(page)
        assert page.inner_text("#off").split() == ["1.0", "1.1", "1.2"]
        page.click("#off button >> nth=2")
        idle(page)
        assert page.input_value("#preset") == ""
        assert page.evaluate("document.activeElement.textContent") == "1.1"
        page.context.close()


def test_two_texts_are_compared(page, model, idle, weights, rows, until):
    texts = ["The cat ran.", "A dog sat!"]
    page.fill("#text", texts[0])
    page.check("#compare")
    assert page.input_value("#text-2") == texts[0]
    page.fill("#text-2", texts[1])
    idle(page)
    session = ModelSession(model, name="small")
    responses = [session.predict(PredictionRequest(text)) for text in texts]
    best = {one["label"] for response in responses for one in response["predictions"][:3]}
    shown = {row[0]: row[2:] for row in rows(page)}
    assert best <= set(shown)
    ids = tuple(model.tokenizer.encode(label)[0] for label in shown if len(label) == 1 and label.isascii())
    for column, text in enumerate(texts):
        for one in session.predict(PredictionRequest(text, tokens=ids))["wanted"]:
            percent = float(shown[one["label"]][column].removesuffix(" %").removeprefix("<"))
            assert percent == pytest.approx(100 * one["before"], rel=0.06, abs=0.001)
    for layer, head in ((0, 1), (1, 2)):
        choose(page, layer=layer, head=head, view="map")
        idle(page)
        until(page, f"window.glassformer.attention.companion.state.layer === {layer}")
        until(page, "window.glassformer.attention.companion.scene().ready")
        for name, text in zip(("first", "second"), texts, strict=True):
            np.testing.assert_allclose(
                weights(page, name), attention_of(model, text, layer, head), atol=ROUNDING
            )
    page.evaluate("window.glassformer.attention.companion.set({ query: 3, key: 1, layer: 0 })")
    states = page.evaluate(
        "['explorer', 'companion'].map((name) => window.glassformer.attention[name].state)"
    )
    assert [state["layer"] for state in states] == [0, 0]
    assert (states[1]["query"], states[1]["key"]) == (3, 1) != (states[0]["query"], states[0]["key"])
    page.keyboard.press("Control+Enter")
    assert page.locator("#predictions button").count() == 0  # a token would be added to one text only
    page.fill("#text-2", "")
    page.wait_for_selector("#error", state="visible")
    assert page.inner_text("#error").startswith("Second text: the text is empty")
    assert page.locator("#predictions tr").count() > 5
    idle(page)
    assert page.locator(".second").count() == 0
    page.check("#analyses")
    page.keyboard.press("Control+Enter")
    idle(page)
    assert page.inner_text("#error").startswith("Second text: the text is empty")
    assert page.locator("main.stale").count() == 0
    page.uncheck("#analyses")
    page.fill("#text-2", "<img src=x onerror=alert(1)>")
    idle(page)
    assert page.locator(".second .stage").count() == 1
    page.uncheck("#compare")
    idle(page)
    assert page.locator(".second").count() == 0
    assert page.is_visible("#next")
    assert page.evaluate("window.glassformer.generated") == []


def test_all_views_come_when_they_are_wanted_and_the_view_stays(open_page, page, idle):
    tabs = "[...document.querySelectorAll('[role=tab]')].map((tab) => tab.id)"
    fast = page.evaluate(tabs)
    page.check("#analyses")
    idle(page)
    assert set(page.evaluate(tabs)) - set(fast) == {"tab-score", "tab-rollout"}
    page.focus("#tab-map")
    page.keyboard.press("o")
    idle(page)
    assert page.evaluate("document.activeElement.id") == "tab-map"
    choose(page, view="rollout")
    page.fill("#text", "Another text")
    idle(page)
    assert page.evaluate("window.glassformer.attention.explorer.state.view") == "rollout"
    page.check("#compare")
    page.fill("#text-2", "A second text")
    idle(page)
    views = "['explorer', 'companion'].map((name) => window.glassformer.attention[name].state.view)"
    assert page.evaluate(views) == ["rollout", "rollout"]
    link = page.url
    again = open_page(link)
    idle(again)
    assert again.evaluate(views) == ["rollout", "rollout"]
    again.context.close()
    page.uncheck("#analyses")
    idle(page)
    assert page.evaluate(tabs) == fast
    choose(page, view="lines")
    page.fill("#text", "And another one")
    idle(page)
    assert page.evaluate(views) == ["lines", "lines"]


def test_a_link_restores_everything(open_page, page, idle, rows, click_head):
    page.fill("#text", "A <b>cat</b> & 100 %")
    page.fill("#temperature", "0")
    page.click("#next")
    idle(page)
    page.click("#next")
    idle(page)
    click_head(page, 0, 2, "Control")
    page.select_option("#ablation", "mean")
    idle(page)
    choose(page, view="lines", layer=1, head=0, query=5, key=2)
    idle(page)
    link, shown = page.url, rows(page)
    again = open_page(link)
    idle(again)
    assert rows(again) == shown
    assert again.input_value("#text") == "A <b>cat</b> & 100 %"
    assert again.evaluate("window.glassformer.generated") == page.evaluate("window.glassformer.generated")
    assert again.inner_text("#off") == "0.2"
    assert again.input_value("#ablation") == "mean"
    assert again.input_value("#temperature") == "0"
    state = again.evaluate("window.glassformer.attention.explorer.state")
    assert [state[name] for name in ("view", "layer", "head", "query", "key")] == ["lines", 1, 0, 5, 2]
    again.check("#compare")
    again.fill("#text-2", "Second")
    idle(again)
    again.evaluate("window.glassformer.attention.companion.set({ query: 4, key: 3 })")
    idle(again)
    assert "text2=Second" in again.url
    page.evaluate("window.glassformer.attention.explorer.toggleTheme()")
    page.evaluate("link => { location.href = link; }", again.url)  # the same page, another hash
    page.wait_for_selector("#text-2")
    idle(page)
    assert page.input_value("#text-2") == "Second"
    state = page.evaluate("window.glassformer.attention.explorer.state")
    assert [state[name] for name in ("view", "layer", "head", "query", "key")] == ["lines", 1, 0, 5, 2]
    state = page.evaluate("window.glassformer.attention.companion.state")
    assert (state["query"], state["key"]) == (4, 3)
    assert page.evaluate("window.glassformer.attention.explorer.palette.theme") == "dark"  # a preference
    again.context.close()


@pytest.mark.parametrize(
    ("link", "off"),
    [
        ("#off=9.9~0.1~x&generated=1.x.-2&by=what&chat=1&temperature=hot&view=none", "0.1"),
        ("#text=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E&off=%00", ""),
        ("#%%%&text=ok&layer=99&query=1e99", ""),
    ],
)
def test_damaged_links_are_read_as_far_as_possible(page, idle, link, off):
    complaints = []
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    address = page.url.split("#")[0]
    page.goto("about:blank")
    page.goto(address + link)
    page.wait_for_selector("#tokens span")
    idle(page)
    assert page.inner_text("#off") == off
    assert page.inner_text("#error") == ""
    assert complaints == []


def test_generated_tokens_that_do_not_exist_are_an_error(browser, served, model):
    with served(model) as (url, _):
        page = browser.new_context().new_page()
        page.goto(f"{url}#generated=999999")
        page.wait_for_selector("#error", state="visible")
        assert page.inner_text("#error") == "token ids must be from 0 to 256, got 999999"
        page.context.close()


def test_the_tour_and_the_help_include_the_bench(browser, served, model, until):
    with served(model) as (url, _):
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.goto(url)
        page.wait_for_selector(".tour")
        assert "Type a text here" in page.inner_text(".tour p")
        page.click(".tour >> text=Skip")
        page.click("text=? Help")
        assert "turn off" in page.inner_text("dialog .words")
        assert "turn the chosen head off or on" in page.inner_text("dialog .keys")
        page.context.close()


def test_firefox_shows_the_attention_of_the_typed_text(firefox, served, model):
    with served(model) as (url, _):
        firefox.goto(url)
        firefox.wait_until("window.glassformer?.attention?.explorer && document.querySelector('.tour')")
        field = "document.getElementById('text')"
        firefox.evaluate(f"({field}.value = 'A dog ran.', {field}.dispatchEvent(new Event('input')))")
        explorer = "window.glassformer.attention.explorer"
        firefox.wait_until(f"{explorer}.contents.attention[0].queries.length === 10")
        firefox.evaluate(f"{explorer}.set({{ view: 'map', layer: 1, head: 2 }})")
        shown = f"Array.from({explorer}.scene().shownMatrix.weights, (weight) => weight || 0)"
        weights = np.array(firefox.evaluate(shown)).reshape(10, 10)
        np.testing.assert_allclose(weights, attention_of(model, "A dog ran.", 1, 2), atol=ROUNDING)
