"""Explorer pages of a small model of each family, opened in a browser without a network."""

from __future__ import annotations

import dataclasses
import time
import xml.etree.ElementTree as ElementTree
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization import AttentionVisualizer
from glassformer.visualization.explorer import Contents, Explorer, collect_contents, page_html
from glassformer.visualization.explorer.schema import HeadLabel

STOPS = {
    "light": ["#ffffff", "#d3e4f1", "#8dbbdc", "#3f87bd", "#11568f", "#07264d"],
    "dark": ["#0d1116", "#17304d", "#1f5c86", "#2f91a8", "#86c9a2", "#fdf6c4"],
}
MASKED = {"light": ("#f3f0ea", "#b9b1a2"), "dark": ("#262a30", "#5b636d")}
"""Background and stripes of masked cells."""
PIXEL = """([query, key]) => {
  const app = window.glassformer, box = app.box(), ratio = devicePixelRatio;
  const { x, y, width, height } = app.view.cellRect(app.scene(), box, query, key);
  const copy = new OffscreenCanvas(1, 1).getContext("2d"); // the page's own canvas stays on the GPU
  const at = [(x + width * 0.1) * ratio, (y + height * 0.1) * ratio].map(Math.floor);
  copy.drawImage(app.stage.querySelector("canvas"), -at[0], -at[1]);
  return Array.from(copy.getImageData(0, 0, 1, 1).data.slice(0, 3));
}"""
ALL_TEXTS = """(source) => {
  const holder = document.createElement("div");
  const picture = new DOMParser().parseFromString(source, "image/svg+xml");
  holder.append(document.importNode(picture.documentElement, true));
  document.body.append(holder);
  const texts = Array.from(holder.querySelectorAll("text"), (text) => {
    const { x, y, width, height } = text.getBoundingClientRect();
    const origin = holder.firstElementChild.getBoundingClientRect();
    return { text: text.textContent, x: x - origin.x, y: y - origin.y, width, height };
  });
  holder.remove();
  return texts;
}"""
VISIBLE_TEXTS = """() => {
  const app = window.glassformer, found = [], { left, top } = app.box();
  const painter = { ratio: 1, clip: (x, y, width, height, draw) => draw() };
  for (const name of ["rect", "line", "curve", "image", "hatch"]) painter[name] = () => {};
  painter.text = (text, x, y, style) => found.push({ text, x: x - left, y: y - top, ...style });
  app.view.draw(painter, app.scene(), app.box());
  return found;
}"""


def rgb(color):
    return tuple(int(color[start : start + 2], 16) for start in (1, 3, 5))


def wait_for(frame, condition):
    """Wait for a condition; Playwright's own way needs eval, which the page's policy forbids."""
    end = time.monotonic() + 30
    while not frame.evaluate(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.02)


class ExplorerPage:
    """A page of Playwright that shows an explorer, with access to what it shows."""

    def __init__(self, page):
        self.page = page

    def __getattr__(self, name):
        return getattr(self.page, name)

    def wait_until(self, condition):
        wait_for(self.page, condition)

    def set_state(self, **change):
        self.page.evaluate("change => window.glassformer.set(change)", change)
        self.page.evaluate("window.glassformer.settled")

    def state(self):
        self.page.evaluate("window.glassformer.settled")
        return self.page.evaluate("window.glassformer.state")

    def matrix(self):
        """The weights that are drawn, once they are unpacked."""
        queries, keys, weights = self.page.evaluate(
            "(async () => { const shown = () => window.glassformer.scene().shownMatrix;"
            " for (let n = 0; n < 400 && !shown(); n++) await new Promise((done) => setTimeout(done, 25));"
            " const { queries, keys, weights } = shown();"
            " return [queries, keys, Array.from(weights, (w) => Number.isNaN(w) ? null : w)]; })()"
        )
        return np.array([np.nan if weight is None else weight for weight in weights]).reshape(queries, keys)

    def matrix_of_head(self, head):
        self.set_state(head=head)
        return self.matrix()

    def svg(self):
        return ElementTree.fromstring(self.page.evaluate("window.glassformer.svg()"))

    def all_texts(self):
        """Texts of the view as the browser lays them out, and the width and height of the view."""
        source = self.page.evaluate("window.glassformer.svg()")
        root = ElementTree.fromstring(source)
        return self.page.evaluate(ALL_TEXTS, source), float(root.get("width")), float(root.get("height"))

    def visible_texts(self):
        """The texts of the visible part of the view."""
        return self.page.evaluate(VISIBLE_TEXTS)

    @staticmethod
    def overlapping(texts):
        """Pairs of texts that overlap by more than a hair."""
        found = []
        for index, one in enumerate(texts):
            for other in texts[index + 1 :]:
                across = min(one["x"] + one["width"], other["x"] + other["width"]) - max(one["x"], other["x"])
                down = min(one["y"] + one["height"], other["y"] + other["height"]) - max(one["y"], other["y"])
                if across > 1.5 and down > 4:
                    found.append((one["text"], other["text"]))
        return found

    def pixel(self, query, key):
        return self.page.evaluate(PIXEL, [query, key])

    @staticmethod
    def color_of(weight, largest, theme):
        """The color scale: piecewise linear in the square root of the share of the largest weight."""
        position = round(255 * min(1.0, float(np.sqrt(weight / largest)))) / 255 * (len(STOPS[theme]) - 1)
        left = min(len(STOPS[theme]) - 2, int(position))
        low, high = (np.array(rgb(STOPS[theme][index])) for index in (left, left + 1))
        return tuple(np.floor(low + (high - low) * (position - left) + 0.5).astype(int))

    @staticmethod
    def masked_colors(theme):
        """Colors of the background and of the stripes of masked cells."""
        return tuple(map(rgb, MASKED[theme]))


@pytest.fixture(scope="session")
def wait_until():
    """Wait until a condition holds in a page or frame."""
    return wait_for


@pytest.fixture
def open_page(browser):
    """Open a page in a browser without a network; it must not log anything, and must make no requests."""

    @contextmanager
    def opened(path, width=1600, theme="light", link="", height=900, first_visit=False):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            offline=True,
            accept_downloads=True,
        )
        if not first_visit:  # the tour was seen
            context.add_init_script("try { localStorage.setItem('glassformer-tour', '1'); } catch {}")
        page = context.new_page()
        complaints, requests = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"{path.as_uri()}{link}")
        page.evaluate("window.glassformer.ready.then(() => window.glassformer.settled)")
        yield ExplorerPage(page)
        assert complaints == []
        assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
        context.close()

    return opened


@pytest.fixture(scope="session")
def random_model():
    """Build a model with large random weights."""

    def build(family, **options):
        torch.manual_seed(7)
        model = family(**{"d_model": 24, "num_layers": 2, "num_heads": 3, **options})
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        model.tokenizer = ByteTokenizer()
        return model.eval()

    return build


@pytest.fixture
def tiny():
    """Build a model with moderate random weights, without a tokenizer."""

    def build(family, **options):
        torch.manual_seed(5)
        model = family(**{"d_model": 16, "num_layers": 2, "num_heads": 4, **options})
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        return model

    return build


class PageFile(NamedTuple):
    model: Any
    contents: Contents
    path: Path


@pytest.fixture(scope="session")
def picture():
    return torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def pages(tmp_path_factory, random_model, picture):
    """A page of a model of each family."""
    labels = [
        HeadLabel("self", 1, 2, "previous", 0.91, 0.85, 0.95, "random weights", 0.2),
        HeadLabel("self", 1, 2, "induction", 0.5, 0.4, 0.6, "random weights", 0.1),
    ]
    bytes_64 = {"vocab_size": 257, "max_seq_len": 64}
    models = {
        "decoder": (random_model(GPTModel, **bytes_64), "The cat sat.", {}, labels),
        "encoder": (random_model(BERTModel, **bytes_64, head="masked_lm"), "Who knows?", {}, []),
        "encoder-decoder": (
            random_model(T5Model, vocab_size=257, positions="sinusoidal"),
            "The cat.",
            {"target_text": "Katze"},
            [],
        ),
        "vit": (
            random_model(ViTModel, image_size=24, patch_size=6, labels=["cat", "dog", "tree"]),
            None,
            {"image": picture},
            [],
        ),
    }
    folder = tmp_path_factory.mktemp("pages")
    made = {}
    for name, (model, text, options, head_labels) in models.items():
        contents = dataclasses.replace(
            collect_contents(model, text, name=f"tiny/{name}", **options),
            head_labels=head_labels,
            head_labels_source="measured",
        )
        path = Explorer(contents, page_html(contents)).save(folder / f"{name}.html").path
        made[name] = PageFile(model, contents, path)
    return made


@pytest.fixture(scope="session")
def deep_page(tmp_path_factory, random_model):
    """A page with more layers than stay decoded, on more than 40 tokens."""
    model = random_model(GPTModel, vocab_size=257, max_seq_len=64, num_layers=16)
    path = tmp_path_factory.mktemp("deep") / "deep.html"
    return AttentionVisualizer(model).explore("The cat sat on the mat because it was tired.", path).path


@pytest.fixture(scope="session")
def large_page(tmp_path_factory):
    """A page with as many layers and heads as SmolLM2, on 140 tokens; two heads have labels."""
    torch.manual_seed(3)
    model = GPTModel(vocab_size=257, d_model=36, num_layers=30, num_heads=9, max_seq_len=140).eval()
    model.tokenizer = ByteTokenizer()
    text = ("The quick brown fox jumps over the lazy dog; " * 4)[:140]
    labels = [
        HeadLabel("self", 15, 0, "previous token", 0.9, 0.8, 0.95, "random weights", 0.25),
        HeadLabel("self", 15, 1, "\u202edesrever", 0.6),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glassformer.visualization.explorer.analyses.SIZE_BUDGET", 0)  # few scores of each row
        collected = collect_contents(model, text, name="large", faithfulness=False)
    contents = dataclasses.replace(collected, head_labels=labels)
    path = tmp_path_factory.mktemp("large") / "large.html"
    return PageFile(model, contents, Explorer(contents, page_html(contents)).save(path).path)


@pytest.fixture
def live_page(open_page, tmp_path):
    """Open the live page of a model."""

    def opened(model, text="The cat sat.", width=1600, theme="light", **options):
        contents = collect_contents(model, text, live=True, **{"analyses": False, **options})
        path = Explorer(contents, page_html(contents)).save(tmp_path / "live.html").path
        return open_page(path, width, theme)

    return opened


@pytest.fixture(scope="session")
def type_text():
    """Type a text into a live page or a frame, and wait until its attention is shown."""

    def typed(page, text):
        page.fill("#live-text", text)
        page.press("#live-text", "Enter")
        wait_for(page, "!window.glassformer.live.busy")
        page.evaluate("window.glassformer.settled")

    return typed
