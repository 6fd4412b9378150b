"""A picture of an explorer, as a browser shows it: ``python demos/screenshot.py PAGE PICTURE [STATE]``.

The state is what a link of the page carries behind its #, such as ``view=map&layer=8&head=0``. Needs
playwright and a Chromium.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SIZE = (1280, 800)


def main(page_path: str, picture: str, state: str = "") -> None:
    """Open the page, wait until it is drawn, take the picture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, color_scheme="light")
        page.goto(Path(page_path).resolve().as_uri() + (f"#{state}" if state else ""))
        page.wait_for_timeout(2000)
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
