"""A browser, for what is shown in one."""

from __future__ import annotations

import os
import shutil

import pytest


@pytest.fixture(scope="session")
def missing():
    """Without what a test needs it is skipped; where everything has to be there, it fails."""

    def end(what):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(what)

    return end


@pytest.fixture(scope="module")
def browser(missing):
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("needs the package playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        missing("needs chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
