"""The server's page in a browser: typing, generating and ablating heads, by mouse and keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glassformer.analysis.ablation import ablate

pytestmark = pytest.mark.slow
AXE = Path(__file__).parents[4] / "node_modules" / "axe-core" / "axe.min.js"


def test_typing_generating_and_ablating_heads(
    browser, model, probabilities, served, rows, until, idle, click_head
):
    messages, requests = [], []
    with served(model) as (url, _):
        context = browser.new_context(viewport={"width": 1600, "height": 900})
        context.add_init_script("localStorage.setItem('glassformer-tour', '1')")
        page = context.new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(url)
        page.wait_for_selector("#predictions tr")
        hostile = "<img src=x onerror=alert(1)>"
        page.fill("#text", hostile)
        until(page, f"document.querySelectorAll('#tokens span').length === {len(hostile)}")
        page.fill("#text", "The cat")
        until(page, "document.querySelectorAll('#tokens span').length === 7")
        page.fill("#temperature", "0")
        page.click("#next")
        page.wait_for_selector("#tokens .generated")
        page.keyboard.press("Control+Enter")
        until(page, "document.querySelectorAll('#tokens .generated').length === 2")
        generated = page.evaluate("window.glassformer.generated")
        ids = list(b"The cat")
        assert generated == model.generate(ids, 2, temperature=0)[-2:]
        page.click("#undo")
        until(page, "document.querySelectorAll('#tokens .generated').length === 1")
        until(page, "document.body.getAttribute('aria-busy') === 'false'")
        idle(page)
        before = rows(page)
        click_head(page, 1, 1, "Control")
        page.wait_for_selector(".predictions.compare")
        until(page, "document.querySelectorAll('#predictions .after').length > 0")
        assert page.inner_text("#count") == "1 of 6 heads off:"
        after = rows(page)
        assert [row[3] for row in after] != [row[2] for row in after]
        shown = {row[0]: row for row in after}
        assert all(shown[row[0]][2] == row[2] for row in before if row[0] in shown and row[0] != "all others")
        context = torch.tensor([[*ids, generated[0]]])
        with torch.no_grad():
            intact = probabilities(model(context)[0, -1])
            with ablate(model, [(1, 1)]):
                ablated = probabilities(model(context)[0, -1])
        for token in (int(intact.argmax()), int(ablated.argmax())):
            row = shown[model.tokenizer.label(token)]
            for text, share in ((row[2], float(intact[token])), (row[3], float(ablated[token]))):
                assert float(text.removesuffix(" %")) == pytest.approx(100 * share, rel=0.06)

        page.click("#restore")
        page.wait_for_selector(".predictions:not(.compare)")
        assert rows(page)[0][:3] == before[0][:3]
        page.fill("#text", "")
        page.wait_for_selector("#error", state="visible")
        assert "the text is empty" in page.inner_text("#error")
        page.context.close()
    refused = [text for text in messages if "400 (Bad Request)" in text]
    assert len(refused) == 1  # the empty text; the browser logs failed requests
    assert messages == refused
    assert [address for address in requests if not address.startswith((url, "data:", "blob:"))] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_a_phone_and_axe_finds_nothing(open_page, theme, t5, served, missing, idle):
    if not AXE.exists():
        missing(f"needs axe-core: npm install axe-core puts it into {AXE.parents[1].name}")
    with served(t5()) as (url, _):
        for width in (400, 1280, 1600):
            page = open_page(url, width, 900, theme)
            page.click("#next")
            idle(page)
            page.click("#toggle-head")
            page.wait_for_selector(".predictions.compare")
            page.check("#compare")
            page.check("#analyses")
            idle(page)
            assert page.evaluate("document.documentElement.scrollWidth") == width
            page.evaluate(AXE.read_text("utf-8"))
            assert page.evaluate("axe.run()")["violations"] == []
            page.context.close()


FOCUSED = "document.activeElement.id || document.activeElement.textContent"


def test_the_focus_is_kept(page, until, idle):
    page.fill("#temperature", "0")
    page.locator("#predictions button").nth(2).focus()
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#tokens .generated').length === 1")
    third = page.locator("#predictions button").nth(2).inner_text()
    assert page.evaluate("document.activeElement.textContent") == third
    page.focus("#undo")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#tokens .generated').length === 0")
    assert page.evaluate(FOCUSED) == "next"
    idle(page)
    page.click("#toggle-head")
    until(page, "!document.getElementById('restore').disabled")
    page.focus("#restore")
    page.keyboard.press("Enter")
    idle(page)
    assert page.evaluate(FOCUSED) == "preset"


@pytest.mark.parametrize("text", ["", "x" * 20_001], ids=["empty", "too long"])
def test_an_error_clears_the_results_of_the_previous_text(page, until, text):
    page.fill("#text", text)
    page.wait_for_selector("#error", state="visible")
    assert page.inner_text("#tokens") == ""
    assert page.is_hidden(".predictions")
    assert page.is_disabled("#next")
    assert page.is_disabled("#generate")
    page.fill("#text", "The cat")
    until(page, "document.querySelectorAll('#tokens span').length === 7")
    assert page.is_visible(".predictions")
    assert page.is_enabled("#next")
    assert page.is_hidden("#error")


@pytest.mark.parametrize(("field", "name"), [("temperature", "Temperature"), ("top-k", "Top k")])
def test_an_empty_field_is_an_error(page, until, field, name):
    page.fill(f"#{field}", "")
    page.click("#next")
    assert page.inner_text("#error") == f"{name} must be a number."
    assert page.locator("#tokens .generated").count() == 0
    page.fill(f"#{field}", "1")
    page.click("#next")
    until(page, "document.querySelectorAll('#tokens .generated').length === 1")
    assert page.is_hidden("#error")


def test_the_attention_opens_as_a_page_of_its_own(page, idle, click_head):
    click_head(page, 1, 1, "Control")
    idle(page)
    page.click("#make-page")
    page.wait_for_selector("#page-link")
    with page.context.expect_page() as opened:
        page.click("#page-link")
    tab = opened.value
    tab.wait_for_url("**/explorer/*")
    tab.wait_for_selector(".stage canvas")
    assert "ablated heads (zero): 1.1" in tab.inner_text(".notes")
    page.fill("#text", "Another text")
    assert page.is_hidden("#page-link")


@pytest.mark.parametrize("width", [1600, 1280, 400])
def test_a_deep_model_fits_the_window(open_page, served, gpt, width):
    with served(gpt(d_model=18, num_layers=30, num_heads=9)) as (url, _):
        page = open_page(url, width)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        boxes = [page.locator(name).first.bounding_box() for name in ("#bench", ".stage")]
        beside = boxes[1]["x"] >= boxes[0]["x"] + boxes[0]["width"]
        assert beside == (width > 400)
        assert page.locator(".overview").is_visible() == (width > 400)
        page.context.close()
