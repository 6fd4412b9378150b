"""The server's page in a browser, with helpers to wait for it and to read it."""

from __future__ import annotations

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


@pytest.fixture
def rows():
    return _rows


@pytest.fixture
def until():
    return _until


@pytest.fixture
def idle():
    return lambda page: _until(page, "document.body.getAttribute('aria-busy') === 'false'")


@pytest.fixture
def page(browser, served, model):
    with served(model) as (url, _):
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.goto(url)
        page.wait_for_selector("#predictions tr")
        yield page
        page.context.close()
