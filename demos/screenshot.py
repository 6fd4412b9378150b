"""Screenshot of an explorer in a browser: ``python demos/screenshot.py PAGE IMAGE [STATE]``.

The state is the part of a link to the page after the #, such as ``view=map&layer=8&head=0``. Needs playwright
and Chromium.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

SIZE = (1280, 800)


def main(page_path: str, image: str, state: str = "") -> None:
    """Open the page, wait until it is drawn, and save a screenshot."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, color_scheme="light")
        page.add_init_script("localStorage.setItem('glassformer-tour', '1')")  # the tour was seen
        page.goto(Path(page_path).resolve().as_uri() + (f"#{state}" if state else ""))
        page.evaluate("window.glassformer.ready")
        page.wait_for_timeout(200)  # the rest of the page is drawn in the next frame
        shot = page.screenshot()
        browser.close()
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(128).save(image, optimize=True)


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
