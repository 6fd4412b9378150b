"""The server's page while requests are pending: no results of another text or other ablated heads."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from playwright.sync_api import Error

pytestmark = pytest.mark.slow
NEW = "document.querySelectorAll('#tokens .generated').length"
BUSY = "document.body.getAttribute('aria-busy')"


@pytest.fixture
def held(page, until):
    """Hold requests back: ``held(path)`` returns a function that waits for one and releases it."""

    def hold(path):
        routes = []
        page.route(f"**{path}", lambda route: routes.append(route))

        def wait():
            for _ in range(400):
                if routes:
                    return
                page.wait_for_timeout(25)
            raise AssertionError(f"no request for {path}")

        def release():
            wait()
            page.unroute(f"**{path}")
            while routes:
                with suppress(Error):  # an aborted request
                    routes.pop().continue_()

        release.wait = wait
        return release

    return hold


def test_a_sampled_token_is_not_added_to_another_text(page, held, until, idle):
    release = held("/api/step")
    page.click("#next")
    release.wait()
    page.fill("#text", "A new text")
    assert page.evaluate(BUSY) == "true"
    release()
    until(page, "document.querySelectorAll('#tokens span').length === 10")
    idle(page)
    assert page.evaluate("window.glassformer.generated") == []
    assert page.evaluate(NEW) == 0
    page.click("#next")
    until(page, f"{NEW} === 1")


def test_a_response_that_could_not_be_aborted_is_not_shown(page, held, until, idle):
    page.evaluate("window.glassformer.cancelPending = function () {}")
    release = held("/api/step")
    page.click("#next")
    release.wait()
    page.fill("#text", "A new text")
    page.evaluate("clearTimeout(window.glassformer.typingTimer)")
    release()
    until(page, "!window.glassformer.pending")
    assert page.evaluate(NEW) == 0
    assert page.evaluate("window.glassformer.generated") == []


@pytest.mark.parametrize("button", ["next", "generate"])
def test_bars_belong_to_the_ablated_heads_on_the_page(page, held, until, idle, rows, click_head, button):
    idle(page)
    release = held("/api/step")
    page.click(f"#{button}")
    release.wait()
    click_head(page, 1, 1, "Control")
    if button == "generate":
        page.click("#generate")  # stops it
    release()
    idle(page)
    until(page, f"{NEW} === 1")
    assert page.inner_text("#off") == "1.1"
    divergence = re.search(r"divergence of (\S+) nats", page.inner_text("#summary"))
    assert float(divergence[1]) > 0
    shown = rows(page)
    assert [row[2] for row in shown] != [row[3] for row in shown]
    page.evaluate("window.glassformer.predict()")
    idle(page)
    assert rows(page) == shown


def test_attention_of_a_text_that_was_replaced_is_not_shown(page, held, until, idle):
    idle(page)
    release = held("/api/predict")
    page.fill("#text", "The cat")
    release.wait()
    page.fill("#text", "A new text")
    assert page.evaluate(BUSY) == "true"
    release()
    idle(page)
    shown = "window.glassformer.attention.explorer.contents.attention[0].queries.length"
    assert page.evaluate(shown) == 10


def test_an_error_of_the_attention_is_shown_beside_the_predictions(page, idle):
    idle(page)
    page.route("**/api/attention", lambda route: route.fulfill(status=503, body='{"error": "too slow"}'))
    page.check("#analyses")
    page.wait_for_selector("#error", state="visible")
    assert page.inner_text("#error") == "too slow"
    assert page.locator("#predictions tr").count() > 5
    assert page.locator("main.stale").count() == 0  # what is shown is right, but for the analyses
    page.evaluate("window.glassformer.attention.explorer.set({ view: 'predictions' })")
    page.fill("#text", "The cat")
    idle(page)
    assert page.inner_text("#error") == "too slow"
    assert page.locator("main.stale").count() == 1  # still that of the text before
    page.unroute("**/api/attention")
    page.uncheck("#analyses")
    idle(page)
    assert page.is_hidden("#error")
    assert page.locator("main.stale").count() == 0


def test_a_page_that_is_made_can_be_cancelled(page, held, idle):
    idle(page)
    release = held("/api/explore")
    page.click("#make-page")
    release.wait()
    assert page.inner_text("#make-page") == "Cancel"
    with page.expect_event("requestfailed"):
        page.click("#make-page")
    release()
    assert page.inner_text("#make-page") == "Make a page of its own"
    assert page.is_hidden("#page-link")
    assert page.is_hidden("#error")
    release = held("/api/explore")
    page.click("#make-page")
    release.wait()
    with page.expect_event("requestfailed"):
        page.fill("#text", "Another text")  # of which it would not be
    release()
    idle(page)
    assert page.is_hidden("#page-link")
    page.click("#make-page")
    page.wait_for_selector("#page-link")
    page.click("#next")
    idle(page)
    assert page.is_hidden("#page-link")


def test_the_first_attention_does_not_take_the_focus(browser, served, model, until):
    with served(model) as (url, _):
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        routes = []
        page.route("**/api/predict", lambda route: routes.append(route))
        page.goto(url)
        until(page, "!document.getElementById('inputs').disabled")
        page.focus("#text")
        for _ in range(400):
            if routes:
                break
            page.wait_for_timeout(25)
        routes[0].continue_()
        until(page, "Boolean(window.glassformer.attention.explorer)")
        assert page.evaluate("document.activeElement.id") == "text"
        page.keyboard.type("ot")
        assert page.input_value("#text").endswith("ot")
        page.context.close()


def test_slow_attention_does_not_hold_up_a_step(page, held, until, idle):
    idle(page)
    failed = []
    page.on("requestfailed", lambda request: failed.append(request.url.rpartition("/")[2]))
    page.fill("#text", "The cat")
    idle(page)
    release = held("/api/attention")
    page.check("#analyses")
    release.wait()
    page.click("#next")
    until(page, f"{NEW} === 1")
    assert failed[-1] == "attention"  # aborted, so that the server stops computing it
    release()
    idle(page)
    shown = "window.glassformer.attention.explorer.contents.attention[0].queries.length"
    assert page.evaluate(shown) == 8


def test_undo_is_disabled_after_the_text_was_removed(page, until, idle):
    page.click("#next")
    until(page, f"{NEW} === 1")
    page.fill("#text", "")
    assert page.is_disabled("#undo")
    page.wait_for_selector("#error", state="visible")
    assert page.is_disabled("#undo")
    assert page.is_disabled("#clear")


def test_the_page_retries_until_the_server_responds(browser, model, served, until):
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
        page.wait_for_selector("#error", state="visible")
        assert page.inner_text("#error") == (
            "The server responded with status 503: Service Unavailable. The page tries again."
        )
        for name in ("text", "next", "make-page", "ablation", "temperature"):
            assert page.is_disabled(f"#{name}")
        until(
            page, "document.getElementById('error').textContent.startsWith('The server does not respond. ')"
        )
        page.wait_for_selector("#predictions tr")
        assert page.is_hidden("#error")
        assert page.is_enabled("#text")
        page.context.close()


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (
            {"status": 503, "body": "Service Unavailable"},
            "The server responded with status 503: Service Unavailable",
        ),
        ({"status": 503, "body": '{"error": "the model is busy"}'}, "the model is busy"),
        ({"status": 200, "body": "what?"}, "The server responded with status 200: what?"),
    ],
)
def test_unexpected_responses_are_shown_as_errors(page, idle, response, message):
    page.route("**/api/predict", lambda route: route.fulfill(**response))
    page.fill("#text", "The cat")
    page.wait_for_selector("#error", state="visible")
    assert page.inner_text("#error") == message
    assert page.is_enabled("#next")
