"""The server's page in a browser, with helpers to wait for it and to read it."""

from __future__ import annotations

import numpy as np
import pytest


def _rows(page):
    """Token and percentages of each row of predictions."""
    return page.evaluate(
        "Array.from(document.querySelectorAll('#predictions tr'),"
        " (row) => Array.from(row.cells, (cell) => cell.textContent))"
    )


def _until(page, condition):
    """Wait for a condition; Playwright's own way evaluates strings in the page, which its policy forbids."""
    for _ in range(400):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"still not true: {condition}")


TOUR_WAS_SEEN = "try { localStorage.setItem('glassformer-tour', '1'); } catch {}"
HEAD_AT = """([layer, head]) => {
  const { explorer } = window.glassformer.attention, canvas = explorer.overviewCanvas;
  explorer.set({ layer }, { replace: true });
  canvas.reveal();
  const { left, top, width, height } = canvas.canvas.getBoundingClientRect();
  for (let y = top + 2; y < top + height; y += 3)
    for (let x = left + 2; x < left + width; x += 3) {
      const hit = canvas.hitAt({ clientX: x, clientY: y });
      if (hit?.layer === layer && hit.head === head) return [x + 4, y + 4];
    }
}"""
WEIGHTS = """(name) => {
  const { explorer, companion } = window.glassformer.attention;
  const app = name === "first" ? explorer : companion;
  const { queries, keys, weights } = app.scene().shownMatrix;
  return [queries, keys, Array.from(weights, (weight) => (Number.isNaN(weight) ? 0 : weight))];
}"""


def _click_head(page, layer, head, *modifiers):
    """Click a head on the map of heads; -1 is the mean of the layer."""
    x, y = page.evaluate(HEAD_AT, [layer, head])
    for key in modifiers:
        page.keyboard.down(key)
    page.mouse.click(x, y)
    for key in modifiers:
        page.keyboard.up(key)


def _weights(page, name="first"):
    """The weights that the explorer of a text shows; 0 where masked."""
    queries, keys, weights = page.evaluate(WEIGHTS, name)
    return np.array(weights).reshape(queries, keys)


@pytest.fixture
def click_head():
    return _click_head


@pytest.fixture
def weights():
    return _weights


@pytest.fixture
def rows():
    return _rows


@pytest.fixture
def until():
    return _until


@pytest.fixture
def idle():
    return lambda page: _until(
        page,
        "document.body.getAttribute('aria-busy') === 'false' && !!window.glassformer.attention.explorer",
    )


@pytest.fixture
def open_page(browser):
    """Open the page of a server in a context of its own, without the tour."""

    def opened(url, width=1280, height=800, theme="light", **options):
        size = {"width": width, "height": height}
        context = browser.new_context(viewport=size, color_scheme=theme, **options)
        context.add_init_script(TOUR_WAS_SEEN)
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("#tokens span")
        _until(page, "Boolean(window.glassformer?.attention.explorer)")
        return page

    return opened


@pytest.fixture
def page(open_page, served, model):
    with served(model) as (url, _):
        page = open_page(url)
        yield page
        page.context.close()
