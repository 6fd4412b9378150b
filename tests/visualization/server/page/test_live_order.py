"""The server's page while answers are on their way: nothing is shown of another text or other switches."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from playwright.sync_api import Error

NEW = "document.querySelectorAll('#tokens .new').length"
BUSY = "document.body.getAttribute('aria-busy')"


@pytest.fixture
def held(page, until):
    """Keeps requests back: ``held(path)`` gives a function that waits for one and lets it go."""

    def hold(path):
        routes = []
        page.route(f"**{path}", lambda route: routes.append(route))

        def wait():
            for _ in range(400):
                if routes:
                    return
                page.wait_for_timeout(25)
            raise AssertionError(f"nothing asked for {path}")

        def let_go():
            wait()
            page.unroute(f"**{path}")
            while routes:
                with suppress(Error):  # one that was given up
                    routes.pop().continue_()

        let_go.wait = wait
        return let_go

    return hold


def test_a_token_that_is_being_drawn_is_not_written_after_another_text(page, held, until, idle):
    let_go = held("/api/step")
    page.click("#next")
    let_go.wait()
    page.fill("#text", "A new text")
    assert page.evaluate(BUSY) == "true"
    let_go()
    until(page, "document.querySelectorAll('#tokens span').length === 10")
    idle(page)
    assert page.evaluate("window.glassformer.written") == []
    assert page.evaluate(NEW) == 0
    page.click("#next")
    until(page, f"{NEW} === 1")


def test_an_answer_that_could_not_be_stopped_is_not_shown_either(page, held, until, idle):
    page.evaluate("window.glassformer.overtake = function () {}")
    let_go = held("/api/step")
    page.click("#next")
    let_go.wait()
    page.fill("#text", "A new text")
    page.evaluate("clearTimeout(window.glassformer.pause)")
    let_go()
    until(page, "!window.glassformer.asking")
    assert page.evaluate(NEW) == 0
    assert page.evaluate("window.glassformer.written") == []


@pytest.mark.parametrize("button", ["next", "go"])
def test_bars_are_of_the_switches_on_the_page(page, held, until, idle, rows, button):
    idle(page)
    let_go = held("/api/step")
    page.click(f"#{button}")
    let_go.wait()
    page.click("[data-head='1.1']")
    if button == "go":
        page.click("#go")  # which stops it
    let_go()
    idle(page)
    until(page, f"{NEW} === 1")
    assert page.get_attribute("[data-head='1.1']", "aria-checked") == "false"
    moved = re.search(r"moves by (\S+) nats", page.inner_text("#divergence"))
    assert float(moved[1]) > 0
    shown = rows(page)
    assert [row[2] for row in shown] != [row[3] for row in shown]
    page.evaluate("window.glassformer.look()")
    idle(page)
    assert rows(page) == shown


def test_typing_leaves_the_reading_of_all_heads_alone(page, held, until, idle):
    idle(page)
    let_go = held("/api/explore")
    page.click("#explore")
    let_go.wait()
    assert page.is_hidden("#explore")
    assert page.evaluate("document.activeElement.id") == "cancel"
    assert re.fullmatch(r"Reading … \d+ s\. All else waits for it\.", page.inner_text("#elapsed"))
    page.fill("#text", "The cat")
    until(page, "document.querySelectorAll('#tokens span').length === 7")
    assert page.evaluate(BUSY) == "true"
    page.focus("#cancel")
    let_go()
    page.wait_for_selector("iframe")
    idle(page)
    assert page.evaluate("document.activeElement.id") == "explore"
    assert page.inner_text("#stale") == "Shown for an earlier text or other heads: press again to refresh."
    assert page.inner_text("#elapsed") == ""


def test_the_reading_of_all_heads_can_be_cancelled(page, held, idle):
    let_go = held("/api/explore")
    page.click("#explore")
    let_go.wait()
    page.click("#cancel")
    assert page.inner_text("#reading") == "Stopped."
    assert page.is_hidden("#cancel")
    idle(page)
    let_go()
    assert page.locator("iframe").count() == 0
    page.click("#explore")
    page.wait_for_selector("iframe")
    assert page.inner_text("#reading") == ""


def test_nothing_can_be_taken_back_of_a_text_that_is_gone(page, until, idle):
    page.click("#next")
    until(page, f"{NEW} === 1")
    page.fill("#text", "")
    assert page.is_disabled("#undo")
    page.wait_for_selector("#problem", state="visible")
    assert page.is_disabled("#undo")
    assert page.is_disabled("#clear")


def test_a_busy_server_is_waited_for(browser, model, served, until):
    with served(model) as (url, _):
        page = browser.new_context().new_page()
        calls = []

        def busy(route):
            calls.append(1)
            if len(calls) == 1:
                route.fulfill(status=503, content_type="text/plain", body="Service Unavailable")
            elif len(calls) == 2:
                route.abort()
            else:
                route.continue_()

        page.route("**/api/model", busy)
        page.goto(url)
        page.wait_for_selector("#problem", state="visible")
        assert page.inner_text("#problem") == (
            "The server answered 503: Service Unavailable. The page asks again."
        )
        for name in ("text", "next", "explore", "how", "temperature"):
            assert page.is_disabled(f"#{name}")
        until(
            page, "document.getElementById('problem').textContent.startsWith('The server does not answer: ')"
        )
        page.wait_for_selector("#guesses tr")
        assert page.is_hidden("#problem")
        assert page.is_enabled("#text")
        page.context.close()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"status": 503, "body": "Service Unavailable"}, "The server answered 503: Service Unavailable"),
        ({"status": 503, "body": '{"error": "the model is busy"}'}, "the model is busy"),
        ({"status": 200, "body": "what?"}, "The server answered 200: what?"),
    ],
)
def test_what_a_server_answers_instead_is_said(page, idle, answer, message):
    page.route("**/api/look", lambda route: route.fulfill(**answer))
    page.fill("#text", "The cat")
    page.wait_for_selector("#problem", state="visible")
    assert page.inner_text("#problem") == message
    assert page.is_enabled("#next")
