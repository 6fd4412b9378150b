"""The server's page in a browser: typing, stepping, switching, by mouse and by keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glassformer.analysis.ablation import ablate

AXE = Path(__file__).parents[4] / "node_modules" / "axe-core" / "axe.min.js"


def test_typing_stepping_and_switching_in_a_browser(browser, model, probabilities, served, rows, until):
    complaints, requests = [], []
    with served(model) as (url, _):
        page = browser.new_context(viewport={"width": 1600, "height": 900}).new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(url)
        page.wait_for_selector("#guesses tr")
        hostile = "<img src=x onerror=alert(1)>"
        page.fill("#text", hostile)
        until(page, f"document.querySelectorAll('#tokens span').length === {len(hostile)}")
        page.fill("#text", "The cat")
        until(page, "document.querySelectorAll('#tokens span').length === 7")
        page.fill("#temperature", "0")
        page.click("#next")
        page.wait_for_selector("#tokens .new")
        page.keyboard.press("Control+Enter")
        until(page, "document.querySelectorAll('#tokens .new').length === 2")
        written = page.evaluate("window.glassformer.written")
        ids = list(b"The cat")
        assert written == model.generate(ids, 2, temperature=0)[-2:]
        page.click("#undo")
        until(page, "document.querySelectorAll('#tokens .new').length === 1")
        until(page, "document.body.getAttribute('aria-busy') === 'false'")
        before = rows(page)

        page.focus("[data-head='0.0']")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Space")
        page.wait_for_selector(".guesses.two")
        until(page, "document.querySelectorAll('#guesses .after').length > 0")
        assert page.get_attribute("[data-head='1.1']", "aria-checked") == "false"
        after = rows(page)
        assert [row[3] for row in after] != [row[2] for row in after]
        shown = {row[0]: row for row in after}
        assert all(shown[row[0]][2] == row[2] for row in before if row[0] in shown and row[0] != "all others")
        context = torch.tensor([[*ids, written[0]]])
        with torch.no_grad():
            intact = probabilities(model(context)[0, -1])
            with ablate(model, [(1, 1)]):
                ablated = probabilities(model(context)[0, -1])
        for token in (int(intact.argmax()), int(ablated.argmax())):
            row = shown[model.tokenizer.label(token)]
            for text, share in ((row[2], float(intact[token])), (row[3], float(ablated[token]))):
                assert float(text.removesuffix(" %")) == pytest.approx(100 * share, rel=0.06)

        page.click("#explore")
        frame = page.frame_locator("iframe")
        frame.locator(".stage canvas").first.wait_for()
        assert "heads off (zero): 1.1" in frame.locator(".notes").inner_text()
        page.click("#all-on")
        page.wait_for_selector(".guesses:not(.two)")
        page.wait_for_selector("#stale", state="visible")
        assert rows(page)[0][:3] == before[0][:3]
        page.fill("#text", "")
        page.wait_for_selector("#problem", state="visible")
        assert "the text is empty" in page.inner_text("#problem")
        page.context.close()
    refused = [text for text in complaints if "400 (Bad Request)" in text]
    assert len(refused) == 1  # the empty text, which the browser reports by itself
    assert complaints == refused
    assert [address for address in requests if not address.startswith((url, "data:", "blob:"))] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_a_phone_and_axe_finds_nothing(browser, theme, t5, served, missing):
    if not AXE.exists():
        missing(f"needs axe-core: npm install axe-core puts it into {AXE.parents[1].name}")
    with served(t5()) as (url, _):
        for width in (400, 1600):
            size = {"width": width, "height": 900}
            page = browser.new_context(viewport=size, color_scheme=theme).new_page()
            page.goto(url)
            page.wait_for_selector("#guesses tr")
            page.click("#next")
            page.click("[data-head='cross:1.2']")
            page.wait_for_selector(".guesses.two")
            assert page.evaluate("document.documentElement.scrollWidth") == width
            page.evaluate(AXE.read_text("utf-8"))
            assert page.evaluate("axe.run()")["violations"] == []
            page.context.close()


FOCUSED = "document.activeElement.id || document.activeElement.textContent"


def test_the_focus_stays_where_a_person_was(page, until, idle):
    page.fill("#temperature", "0")
    page.locator("#guesses button").nth(2).focus()
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#tokens .new').length === 1")
    third = page.locator("#guesses button").nth(2).inner_text()
    assert page.evaluate("document.activeElement.textContent") == third
    page.focus("#undo")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#tokens .new').length === 0")
    assert page.evaluate(FOCUSED) == "next"
    page.click("[data-head='1.2']")
    until(page, "!document.getElementById('all-on').disabled")
    page.focus("#all-on")
    page.keyboard.press("Enter")
    idle(page)
    assert page.evaluate("document.activeElement.dataset.head") == "1.2"


@pytest.mark.parametrize("text", ["", "x" * 20_001], ids=["empty", "too long"])
def test_nothing_of_the_text_before_stays_under_an_error(page, until, text):
    page.fill("#text", text)
    page.wait_for_selector("#problem", state="visible")
    assert page.inner_text("#tokens") == ""
    assert page.is_hidden(".guesses")
    assert page.is_disabled("#next")
    assert page.is_disabled("#go")
    page.fill("#text", "The cat")
    until(page, "document.querySelectorAll('#tokens span').length === 7")
    assert page.is_visible(".guesses")
    assert page.is_enabled("#next")
    assert page.is_hidden("#problem")


@pytest.mark.parametrize(("field", "name"), [("temperature", "Temperature"), ("top-k", "Top k")])
def test_an_empty_field_is_no_zero(page, until, field, name):
    page.fill(f"#{field}", "")
    page.click("#next")
    assert page.inner_text("#problem") == f"{name} must be a number."
    assert page.locator("#tokens .new").count() == 0
    page.fill(f"#{field}", "1")
    page.click("#next")
    until(page, "document.querySelectorAll('#tokens .new').length === 1")
    assert page.is_hidden("#problem")


def test_every_head_may_be_seen_in_a_tab_of_its_own(page):
    page.click("#explore")
    frame = page.locator("iframe")
    frame.wait_for()
    assert frame.get_attribute("allow") == "clipboard-write"
    with page.context.expect_page() as opened:
        page.click("#frame a")
    tab = opened.value
    tab.wait_for_selector(".stage canvas")
    assert tab.url.endswith(frame.get_attribute("src"))


@pytest.mark.parametrize(("width", "columns"), [(1280, 2), (400, 1)])
def test_the_heads_of_a_layer_stand_in_one_row(browser, served, gpt, width, columns):
    with served(gpt(d_model=18, num_layers=30, num_heads=9)) as (url, _):
        page = browser.new_context(viewport={"width": width, "height": 800}).new_page()
        page.goto(url)
        page.wait_for_selector(".layer")
        rows = page.evaluate(
            "Array.from(document.querySelectorAll('.layer'), (layer) =>"
            " new Set(Array.from(layer.querySelectorAll('.head'), (head) => head.offsetTop)).size)"
        )
        assert rows == [1] * 30
        lefts = "new Set(Array.from(document.querySelectorAll('.layer'), (layer) => layer.offsetLeft)).size"
        assert page.evaluate(lefts) == columns
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.context.close()
