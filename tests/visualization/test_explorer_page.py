"""The explorer's page in a browser that has no network: what is drawn is what the model computed."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import time
import xml.etree.ElementTree as ElementTree
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glassformer.analysis.decomposition import score_parts
from glassformer.analysis.rollout import attention_rollout
from glassformer.attention import attentions_of, record_attention
from glassformer.generation.streaming import evaluating
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization import AttentionVisualizer
from glassformer.visualization.explorer import Explorer, gather, page_html
from glassformer.visualization.explorer.contents import Attention, Contents, Guesses, HeadName
from glassformer.visualization.explorer.packing import (
    Packed,
    PackedJson,
    largest_error,
    pack,
    pack_json,
    quantized,
    restored,
    thumbnails,
    unpack,
)
from glassformer.visualization.explorer.printing import printed, unprinted

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
STOPS = {
    "light": ["#ffffff", "#d3e4f1", "#8dbbdc", "#3f87bd", "#11568f", "#07264d"],
    "dark": ["#0d1116", "#17304d", "#1f5c86", "#2f91a8", "#86c9a2", "#fdf6c4"],
}
MASKED = {"light": ("#f3f0ea", "#b9b1a2"), "dark": ("#262a30", "#5b636d")}
"""The ground and the stripes of what a mask hides; in the picture of a map it is left clear."""
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    *("</script><script>window.hacked = 1</script>", "<img src=x onerror='window.hacked = 1'>"),
    *("\"'`${window.hacked = 1}", "a\u2028b\u2029c", "\ud800", "\x00\x07\x1b\x85", "\u202eevil"),
    *("\r", "\u3000", "\ufe0f", "\u3164", "\u2800", "\ufffe", "\U000e0041", "❤️"),
    *("x" * 200, " the ", "\n", "\t", "", "e\u0301", "\u0301", "👩‍👩‍👧", "שלום", "عالم", "语"),
]


def drawn_at_random(family, **options):
    torch.manual_seed(7)
    model = family(**{"d_model": 24, "num_layers": 2, "num_heads": 3, **options})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.tokenizer = ByteTokenizer()
    return model.eval()


PICTURE = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(1))
NAMES = [
    HeadName("self", 1, 2, "previous", 0.91, 0.85, 0.95, "random weights", 0.2),
    HeadName("self", 1, 2, "induction", 0.5, 0.4, 0.6, "random weights", 0.1),
]


def models():
    """A model of each family, what it reads, and its names."""
    return {
        "decoder": (drawn_at_random(GPTModel, vocab_size=257, max_seq_len=64), "The cat sat.", {}, NAMES),
        "encoder": (
            drawn_at_random(BERTModel, vocab_size=257, max_seq_len=64, head="masked_lm"),
            "Who knows?",
            {},
            [],
        ),
        "encoder-decoder": (
            drawn_at_random(T5Model, vocab_size=257, positions="sinusoidal"),
            "The cat.",
            {"target_text": "Katze"},
            [],
        ),
        "vit": (
            drawn_at_random(ViTModel, image_size=24, patch_size=6, labels=["cat", "dog", "tree"]),
            None,
            {"image": PICTURE},
            [],
        ),
    }


FAMILIES = ["decoder", "encoder", "encoder-decoder", "vit"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """For each family: the model, what is on its page, and where that is."""
    folder = tmp_path_factory.mktemp("pages")
    made = {}
    for name, (model, text, options, names) in models().items():
        contents = dataclasses.replace(
            gather(model, text, **options), names=names, names_source="measured", name=f"tiny/{name}"
        )
        path = Explorer(contents, page_html(contents)).save(folder / f"{name}.html").path
        made[name] = (model, contents, path)
    return made


@contextmanager
def opened(browser, path, width=1600, theme="light", link="", height=900):
    """The page, drawn, in a browser without a network; nothing was asked for, and nothing failed."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, offline=True, accept_downloads=True
    )
    page = context.new_page()
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{path.as_uri()}{link}")
    page.evaluate("window.glassformer.ready.then(() => window.glassformer.settled)")
    yield page
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()


def set_state(page, **change):
    page.evaluate("change => window.glassformer.set(change)", change)
    page.evaluate("window.glassformer.settled")


def state(page):
    page.evaluate("window.glassformer.settled")
    return page.evaluate("window.glassformer.state")


def matrix(page):
    """The numbers that are drawn."""
    shown = page.evaluate(
        "(() => { const m = window.glassformer.scene().shownMatrix;"
        " return [m.queries, m.keys, Array.from(m.weights, (w) => Number.isNaN(w) ? null : w)]; })()"
    )
    return np.array([np.nan if w is None else w for w in shown[2]]).reshape(shown[0], shown[1])


def svg(page):
    return ElementTree.fromstring(page.evaluate("window.glassformer.svg()"))


def until(frame, condition):
    """Wait for a condition; the page's own policy forbids what Playwright would evaluate again and again."""
    end = time.monotonic() + 30
    while not frame.evaluate(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.02)


def attention_of(model, contents):
    """Weights and masks by kind, computed again, ``(head, query, key)`` for each layer."""
    found = {}
    for kind in attentions_of(model):
        with torch.no_grad(), evaluating(model), record_attention(model, kind=kind) as recording:
            if isinstance(model, ViTModel):
                model(PICTURE)
            elif isinstance(model, T5Model):
                source = [*b"The cat.", model.end_token]
                model(torch.tensor([source]), torch.tensor([[model.start_token, *b"Katze"]]))
            else:
                model(torch.tensor([list(contents.text.strip("“”").encode())]))
        found[kind] = {
            layer: (
                recording[layer][0].numpy(),
                None
                if recording.allowed[layer] is None
                else recording.allowed[layer].expand_as(recording[layer])[0].numpy(),
            )
            for layer in recording
        }
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_every_head_has_the_weights_of_the_model(browser, pages, family):
    model, contents, path = pages[family]
    expected = attention_of(model, contents)
    with opened(browser, path, link="#view=map") as page:
        for attention in contents.attention:
            for layer, heads in zip(attention.layers, attention.heads, strict=True):
                weights, allowed = expected[attention.kind][layer]
                error = largest_error(weights) + 1e-6
                for head in [*heads, -1]:
                    set_state(page, kind=attention.kind, layer=layer, head=head)
                    shown = matrix(page)
                    wanted = weights.mean(0) if head < 0 else weights[head]
                    within = error.max(0) if head < 0 else error[head]
                    if allowed is not None:
                        np.testing.assert_array_equal(np.isnan(shown), ~allowed[0])
                    assert (np.abs(np.nan_to_num(shown) - wanted) <= within).all()


def colour_of(weight, top, theme):
    """The scale again: piecewise linear between the stops, at the square root of the share."""
    place = round(255 * min(1.0, float(np.sqrt(weight / top)))) / 255 * (len(STOPS[theme]) - 1)
    left = min(len(STOPS[theme]) - 2, int(place))
    low, high = (np.array(rgb(STOPS[theme][index])) for index in (left, left + 1))
    return tuple(np.floor(low + (high - low) * (place - left) + 0.5).astype(int))


def rgb(text):
    return tuple(int(text[place : place + 2], 16) for place in (1, 3, 5))


PIXEL = """([query, key]) => {
  const app = window.glassformer, box = app.box(), ratio = devicePixelRatio;
  const { x, y, width, height } = app.view.cellRect(app.scene(), box, query, key);
  const copy = new OffscreenCanvas(1, 1).getContext("2d"); // the page's own canvas stays on the GPU
  const at = [(x + width * 0.1) * ratio, (y + height * 0.1) * ratio].map(Math.floor);
  copy.drawImage(app.stage.querySelector("canvas"), -at[0], -at[1]);
  return Array.from(copy.getImageData(0, 0, 1, 1).data.slice(0, 3));
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("family", "width"), [("decoder", 1600), ("encoder-decoder", 400), ("vit", 1600)])
def test_every_cell_has_the_colour_of_its_weight(browser, pages, family, theme, width):
    _, contents, path = pages[family]
    kind = contents.attention[-1].kind
    with opened(browser, path, width, theme, f"#view=map&kind={kind}&layer=1&head=1&query=0&key=0") as page:
        for top in ("one", "largest"):
            set_state(page, top=top)
            weights = matrix(page)
            largest = 1.0 if top == "one" else np.nanmax(weights)
            queries, keys = weights.shape
            cells = [(q, k) for q in range(1, queries, 2) for k in range(1, keys, 3)]
            assert len(cells) >= 4
            for query, key in cells:
                seen = page.evaluate(PIXEL, [query, key])
                if np.isnan(weights[query, key]):
                    ends = np.sort([rgb(colour) for colour in MASKED[theme]], axis=0)
                    assert (ends[0] - 1 <= seen).all()
                    assert (seen <= ends[1] + 1).all()
                    continue
                wanted = colour_of(weights[query, key], largest, theme)
                assert np.abs(np.subtract(seen, wanted)).max() <= 1, (query, key, weights[query, key])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_masked_is_striped_and_what_is_zero_is_not(browser, pages, theme):
    _, _, path = pages["decoder"]
    with opened(browser, path, theme=theme, link="#view=map&layer=0&head=0&query=11&key=0&top=one") as page:
        square = """([query, key]) => {
          const app = window.glassformer, ratio = devicePixelRatio;
          const { x, y, width } = app.view.cellRect(app.scene(), app.box(), query, key);
          const copy = new OffscreenCanvas(20, 20).getContext("2d");
          const at = [(x + width / 2) * ratio - 10, (y + 2) * ratio].map(Math.floor);
          copy.drawImage(app.stage.querySelector("canvas"), -at[0], -at[1]);
          const { data } = copy.getImageData(0, 0, 20, 20);
          return Array.from({ length: 400 }, (_, i) => Array.from(data.slice(4 * i, 4 * i + 3)));
        }"""
        seen = {tuple(colour) for colour in page.evaluate(square, [3, 9])}
        ground, stripe = (rgb(colour) for colour in MASKED[theme])
        assert ground in seen
        assert min(np.abs(np.subtract(colour, stripe)).max() for colour in seen) < 30
        hidden = page.evaluate("glassformer.scene().matrix.masked")
        words = [text["text"] for text in texts_of_screen(page)]
        assert (hidden, "masked" in words) == (True, True)
    with opened(browser, pages["encoder"][2], theme=theme, link="#view=map") as page:
        assert "masked" not in [text["text"] for text in texts_of_screen(page)]


TEXTS = """(source) => {
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


def texts_of(page):
    """Every text of the view with its place, laid out by the browser itself."""
    source = page.evaluate("window.glassformer.svg()")
    root = ElementTree.fromstring(source)
    return page.evaluate(TEXTS, source), float(root.get("width")), float(root.get("height"))


def overlapping(texts):
    """Pairs of texts that cover each other by more than a hair."""
    found = []
    for index, one in enumerate(texts):
        for other in texts[index + 1 :]:
            across = min(one["x"] + one["width"], other["x"] + other["width"]) - max(one["x"], other["x"])
            down = min(one["y"] + one["height"], other["y"] + other["height"]) - max(one["y"], other["y"])
            if across > 1.5 and down > 4:
                found.append((one["text"], other["text"]))
    return found


COLOURS = """() => {
  const canvas = window.glassformer.stage.querySelector("canvas");
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size;
}"""


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_view_is_drawn_with_its_words_in_place(browser, pages, family, theme, width):
    _, _, path = pages[family]
    with opened(browser, path, width, theme) as page:
        names = page.evaluate("window.glassformer.views.map((view) => view.name)")
        expected = ["heads", "map", "byhead", "lines", "guesses", "score", "flow"]
        if family == "vit":
            expected.insert(4, "image")
        assert names == expected
        for tab, name in zip(page.get_by_role("tab").all(), names, strict=True):
            tab.click()
            page.wait_for_selector(f"#tab-{name}[aria-selected=true]")
            assert state(page)["view"] == name
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            texts, wide, high = texts_of(page)
            assert len(texts) >= 4
            for text in texts:
                assert text["x"] >= -1, text
                assert text["x"] + text["width"] <= wide + 1, text
                assert -1 <= text["y"] <= high - text["height"] + 1, text
            assert overlapping(texts) == []
            assert page.evaluate(COLOURS) > 20


def in_base64(value):
    """The contents of a page with packed data as an export has them, for any program to read."""
    if isinstance(value, list):
        return [in_base64(item) for item in value]
    if not isinstance(value, dict):
        return value
    data = value.get("data")
    given = {name: in_base64(item) for name, item in value.items()}
    return given | ({"data": base64.b64encode(unprinted(data)).decode()} if isinstance(data, str) else {})


def test_the_picture_of_a_view_as_svg_png_and_json(browser, pages):
    _, contents, path = pages["decoder"]
    attention = contents.attention[0]
    with opened(browser, path, link="#view=map&layer=1&head=2") as page:
        root = svg(page)
        weights = matrix(page)
        labels = [text.text.strip("\u2068\u2069") for text in root.iter(f"{SVG}text")]
        for label in attention.queries:
            assert labels.count(label) >= 2
        assert any("previous" in label for label in labels)
        image = next(root.iter(f"{SVG}image")).get("href").partition(",")[2]
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("RGBA"))
        assert pixels.shape[:2] == weights.shape
        np.testing.assert_array_equal(pixels[..., 3] == 0, np.isnan(weights))  # stripes lie under these
        largest = np.nanmax(weights)
        top = 1.0 if largest >= 0.25 else largest
        for query, key in np.argwhere(~np.isnan(weights)):
            wanted = colour_of(weights[query, key], top, "light")
            assert np.abs(pixels[query, key, :3].astype(int) - wanted).max() <= 1
        with page.expect_download() as download:
            page.get_by_role("button", name="Save the view as SVG (s)").click()
        assert download.value.suggested_filename == "glassformer-map-self-layer1-head2.svg"
        saved = Path(download.value.path()).read_text("utf-8")
        assert saved == page.evaluate("window.glassformer.svg()")
        with page.expect_download() as download:
            page.keyboard.press("p")
        assert download.value.suggested_filename == "glassformer-map-self-layer1-head2.png"
        with Image.open(download.value.path()) as picture:
            size = picture.size
            colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
        assert {colour_of(weight, top, "light") for weight in weights[~np.isnan(weights)]} <= colours
        assert rgb(MASKED["light"][0]) in colours
        assert size == tuple(2 * round(float(root.get(side))) for side in ("width", "height"))
        with page.expect_download() as download:
            page.keyboard.press("j")
        numbers = json.loads(Path(download.value.path()).read_text("utf-8"))
        assert (numbers["layer"], numbers["head"], numbers["queries"]) == (1, 2, attention.queries)
        shown = np.array([[np.nan if w is None else w for w in row] for row in numbers["weights"]])
        np.testing.assert_allclose(shown, weights, atol=1e-5)
        with page.expect_download() as download:
            page.keyboard.press("Shift+J")
        everything = json.loads(Path(download.value.path()).read_text("utf-8"))
        everything.pop("how_to_unpack")
        assert everything == json.loads(json.dumps(in_base64(contents.as_json())))
        packed = everything["attention"][0]["maps"][1]
        codes = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), dtype=np.uint8)
        assert len(codes) == 3 * 12 * 13 / 2  # as the file itself says how to unpack it
        back = restored(unpack(Packed(**{**packed, "data": printed(base64.b64decode(packed["data"]))})))
        np.testing.assert_allclose(back[2], weights, atol=1e-6)


def test_every_key_does_what_the_help_says(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, link="#view=map&layer=0&head=0&query=5&key=2") as page:
        page.locator(".stage").focus()

        def after(key):
            page.keyboard.press(key)
            return state(page)

        assert (after("ArrowRight")["key"], after("ArrowLeft")["key"]) == (3, 2)
        assert (after("ArrowDown")["query"], after("ArrowUp")["query"]) == (6, 5)
        assert (after("Shift+ArrowDown")["query"], after("PageUp")["query"]) == (11, 0)
        assert (after("PageDown")["query"], after("End")["key"], after("Home")["key"]) == (11, 11, 0)
        assert (after("]")["head"], after("[")["head"], after("[")["head"]) == (1, 0, -1)
        assert (after("m")["head"], after("m")["head"]) == (0, -1)
        assert (after(".")["layer"], after(",")["layer"], after(",")["layer"]) == (1, 0, 0)
        assert [after("c")["top"] for _ in range(3)] == ["one", "largest", "auto"]
        assert after("+")["zoom"] == pytest.approx(1.5)
        assert after("-")["zoom"] == pytest.approx(1)
        assert (after("+")["zoom"] > 1, after("0")["zoom"]) == (True, 1)
        assert (after("f")["only"], after("f")["only"]) == (1, 0)
        set_state(page, threshold=0.09)
        assert after(">")["threshold"] == pytest.approx(0.32**2)  # even in the square root
        assert after("<")["threshold"] == pytest.approx(0.09)
        assert (after("a")["threshold"], after("x")["first"], after("x")["first"]) == (-1, 0, 1)
        assert (after("t")["theme"], after("t")["theme"]) == ("dark", "light")
        flows = (state(page)["flow"], after("r")["view"], state(page)["flow"], after("r")["flow"])
        assert flows == (1, "flow", 1, 0)  # the one weighted by gradients first
        views = page.evaluate("window.glassformer.views.map((view) => view.name)")
        assert [after(str(number + 1))["view"] for number in range(len(views))] == views
        assert after("1")["view"] == "heads"
        assert (after("+")["size"] > 1, state(page)["zoom"], after("0")["size"]) == (True, 1, 1)
        set_state(page, head=0)
        page.locator(".stage").focus()
        assert (after("ArrowRight")["head"], after("ArrowDown")["layer"]) == (1, 1)
        assert after("Enter")["view"] == "map"
        page.keyboard.press("?")
        help_text = page.get_by_role("dialog").inner_text()
        shown = page.evaluate("Array.from(document.querySelectorAll('.help kbd'), (key) => key.textContent)")
        assert set("?tkmcfax0slpj") <= set("".join(shown))
        assert "Heat map" in help_text
        page.get_by_label("single letters and digits do something").uncheck()
        page.keyboard.press("Escape")
        assert page.get_by_role("dialog").count() == 0
        assert (after("t")["theme"], after("1")["view"]) == ("light", "map")


def test_switching_kinds_keeps_two_lists_of_tokens(browser, pages):
    _, contents, path = pages["encoder-decoder"]
    with opened(browser, path) as page:
        assert state(page)["kind"] == "cross"  # where a page with several kinds opens
        set_state(page, kind="encoder", view="map")
        seen = []
        for _ in range(3):
            seen.append((state(page)["kind"], matrix(page).shape))
            page.keyboard.press("k")
        assert seen == [("encoder", (9, 9)), ("decoder", (6, 6)), ("cross", (6, 9))]
        page.get_by_label("Attention", exact=True).select_option("cross")
        labels = [text.text.strip("\u2068\u2069") for text in svg(page).iter(f"{SVG}text")]
        for label in "Katze":
            assert label in labels
        assert contents.attention[2].keys == [*"The·cat.", "⟨end⟩"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_says_which_model_and_text_it_is_of(browser, pages, family):
    _, contents, path = pages[family]
    with opened(browser, path) as page:
        assert page.title() == f"tiny/{family} - {contents.title} - glassformer"
        assert page.get_by_role("heading", level=1).text_content() == f"tiny/{family} - {contents.title}"
        for view in page.evaluate("window.glassformer.views.map(({ name }) => name)"):
            set_state(page, view=view)
            root = svg(page)
            assert root.find(f"{SVG}title").text == f"tiny/{family} - {contents.title}"
            caption = [text.text for text in root.iter(f"{SVG}text")][-1]
            assert f"tiny/{family}" in caption
            assert contents.text[:9] in caption


def test_numbers_of_the_chosen_cell_are_in_its_json(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, link="#view=guesses&layer=1&head=2&query=4&key=4") as page:
        with page.expect_download() as download:
            page.keyboard.press("j")
        saved = json.loads(Path(download.value.path()).read_text("utf-8"))
    assert (saved["model"], saved["chosen"]["query"], saved["chosen"]["key"]) == ("tiny/decoder", 4, 4)
    assert [name["name"] for name in saved["names"]] == ["previous", "induction"]
    likeliest, lens = saved["chosen"]["guesses"]
    assert [row["name"] for row in lens["rows"]] == ["before layer 0", "after layer 0", "after layer 1"]
    for row in likeliest["rows"] + lens["rows"]:
        shares = [guess["probability"] for guess in row["likeliest"]]
        assert shares == sorted(shares, reverse=True)
        assert 0 < sum(shares) <= 1.001
    model, contents, _ = pages["decoder"]
    parts = score_parts(model, contents.text.strip("“”"), 1)
    wanted = {name: float(getattr(parts, name)[2, 4, 4]) for name in ("content", "position", "bias")}
    assert saved["chosen"]["score_parts"] == pytest.approx(wanted, abs=0.0101)
    assert {g["token"] for g in likeliest["rows"][0]["likeliest"]} <= set(contents.guesses[0].tokens)


def test_a_choice_in_the_panel_keeps_the_focus(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, link="#view=map&layer=1&head=2") as page:
        token = page.locator(".panel button.token").nth(2)
        token.focus()
        page.keyboard.press("Enter")
        page.wait_for_timeout(100)
        focused = "[...document.querySelectorAll('.panel button')].indexOf(document.activeElement)"
        assert page.evaluate(focused) == 2


def test_the_mean_and_back_to_the_same_head(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, link="#view=map&layer=1&head=2") as page:
        page.keyboard.press("m")
        assert state(page)["head"] == -1
        page.keyboard.press("m")
        assert state(page)["head"] == 2


@pytest.fixture(scope="module")
def deep_page(tmp_path_factory):
    """More layers than stay unpacked, on more than 40 tokens."""
    model = drawn_at_random(GPTModel, vocab_size=257, max_seq_len=64, num_layers=16)
    folder = tmp_path_factory.mktemp("deep")
    return (
        AttentionVisualizer(model)
        .explore("The cat sat on the mat because it was tired.", folder / "d.html")
        .path
    )


def test_what_is_shown_is_never_forgotten(browser, deep_page):
    with opened(browser, deep_page) as page:
        for layer in [*range(14), 0]:
            set_state(page, layer=layer, view="map")
        page.keyboard.press("r")
        page.wait_for_function("window.glassformer.state.view === 'flow'")
        page.evaluate("window.glassformer.shown")
        assert page.evaluate("window.glassformer.scene().ready && !!window.glassformer.scene().matrix")
        set_state(page, view="map")
        assert page.evaluate("!!window.glassformer.scene().matrix")


def test_nothing_fails_while_a_layer_is_unpacked(browser, deep_page):
    with opened(browser, deep_page) as page:
        page.evaluate(
            """() => {
                const app = window.glassformer;
                app.store.ready.clear(); // as if nothing were unpacked yet
                app.state = { ...app.state, view: "flow", zoom: 3 };
                app.surface.draw();
                app.surface.hitAt({ clientX: 600, clientY: 500 });
                app.surface.panned(5, 5);
                app.surface.zoomed(2, { x: 300, y: 300 });
                app.surface.hovered({ query: 1, key: 1 }, { clientX: 300, clientY: 300 });
                app.store.ready.clear();
                app.set({ view: "flow" });
                window.picture = app.svg();
            }"""
        )
        assert "<image" in page.evaluate("window.picture")


def test_layers_that_are_passed_quickly_leave_no_error(browser, deep_page):
    with opened(browser, deep_page, link="#view=lines&layer=0") as page:
        last = page.evaluate(
            """async () => {
                const app = window.glassformer;
                for (let layer = 1; layer < 16; layer++) {
                    app.set({ head: layer % 3 }); // drawn at once; what is around it, with the next frame
                    app.set({ layer }); // which has to be unpacked first
                    if (layer % 4 === 0) await new Promise(requestAnimationFrame);
                }
                await app.shown;
                await app.settled;
                return app.scene().headTitle;
            }"""
        )
        assert last == "Layer 15, head 0"
        until(page, "document.querySelector('.controls select[aria-label=Layer]').value === '15'")


@pytest.mark.parametrize("width", [400, 1280])
def test_labels_of_layers_are_whole(browser, deep_page, width):
    with opened(browser, deep_page, width=width, link="#view=heads&layer=15") as page:
        (label,) = [text for text in svg(page).iter(f"{SVG}text") if text.text and "layer 15" in text.text]
        right = float(label.get("x"))
        measured = page.evaluate(
            """() => {
                const context = new OffscreenCanvas(1, 1).getContext("2d");
                context.font = `700 11px ${getComputedStyle(document.body).fontFamily}`;
                return context.measureText("layer 15").width;
            }"""
        )
        assert right - measured >= 2


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_numbers_in_cells_can_be_read_on_every_shade(browser, pages, theme):
    def luminance(colour):
        share = np.asarray(colour) / 255
        linear = np.where(share <= 0.03928, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    _, _, path = pages["decoder"]
    with opened(browser, path, theme=theme) as page:
        scale = page.evaluate("window.glassformer.palette.scale")
        inks = page.evaluate(
            "window.glassformer.palette.scale.map((_, shade) => window.glassformer.inkOn(shade))"
        )
    for shade, ink in zip(scale, inks, strict=True):
        light, dark = sorted([luminance(shade), luminance([int(ink[i : i + 2], 16) for i in (1, 3, 5)])])[
            ::-1
        ]
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def framed(browser, tmp_path, frame):
    """A page that has only a frame in it, and what its console says."""
    (tmp_path / "book.html").write_text(f"<!doctype html><title>book</title>{frame}", "utf-8")
    page, complaints = browser.new_page(offline=True), []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto((tmp_path / "book.html").as_uri())
    return page, page.frame_locator("iframe"), complaints


def test_a_frame_without_an_address_offers_no_link(browser, pages, tmp_path):
    _, contents, _ = pages["decoder"]
    frame = Explorer(contents, page_html(contents))._repr_html_()
    page, inside, complaints = framed(browser, tmp_path, frame)
    inside.locator(".stage").press("l")
    assert "open it as a file" in inside.get_by_role("status").text_content()
    assert inside.get_by_role("button", name="Copy a link").count() == 0
    assert complaints == []
    page.close()


def test_a_link_that_may_not_be_copied_is_shown(browser, pages, tmp_path):
    link = f"{pages['decoder'][2].as_uri()}#view=lines&head=2"
    page, inside, complaints = framed(
        browser, tmp_path, f'<iframe src="{link}" sandbox="allow-scripts"></iframe>'
    )
    inside.get_by_role("button", name="Copy a link to this view (l)").click()
    assert inside.get_by_role("dialog").get_by_role("textbox").input_value() == link
    assert complaints == []
    page.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_link_restores_the_view(browser, pages, family):
    _, contents, path = pages[family]
    kind = contents.attention[-1].kind
    chosen = {"view": "lines", "kind": kind, "layer": 0, "head": 2, "query": 4, "key": 3}
    chosen |= {"threshold": 0.25, "only": 1, "theme": "dark"}
    with opened(browser, path) as page:
        set_state(page, **chosen)
        link, before = page.evaluate("[location.hash, window.glassformer.state]")
        assert {name: before[name] for name in chosen} == chosen
    with opened(browser, path, link=link) as page:
        assert state(page) == before
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_the_way_back_leads_to_the_view_before(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, link="#view=heads") as page:
        for key in ("2", "4", "6"):
            page.keyboard.press(key)
            page.keyboard.press("]")  # no step of its own
        views = []
        for _ in range(3):
            before = state(page)["view"]
            page.evaluate("history.back()")
            until(page, f"glassformer.state.view !== '{before}'")
            views.append(state(page)["view"])
        assert views == ["lines", "map", "heads"]
        set_state(page, theme="dark", keys=0)
        page.evaluate("history.forward()")
        until(page, "glassformer.state.view === 'map'")
        assert (state(page)["theme"], state(page)["keys"]) == ("dark", 0)  # a person's, not a view's


def test_each_kind_keeps_the_cell_that_was_chosen_in_it(browser, pages):
    _, _, path = pages["encoder-decoder"]
    with opened(browser, path, link="#view=map&kind=cross&query=2&key=7") as page:
        set_state(page, kind="encoder")
        assert (state(page)["query"], state(page)["key"]) == (8, 0)  # the last one, as where a page opens
        set_state(page, query=5, key=1)
        set_state(page, kind="cross")
        assert (state(page)["query"], state(page)["key"]) == (2, 7)
        set_state(page, view="flow")  # of the encoder
        assert (state(page)["query"], state(page)["key"]) == (5, 1)
        set_state(page, view="map")
        assert (state(page)["query"], state(page)["key"]) == (2, 7)


def test_a_link_that_says_nonsense_opens_as_the_page_does(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, link="#view=nonsense&layer=99&head=x&zoom=-3&__proto__=1&query=1e9") as page:
        now = state(page)
        assert (now["view"], now["layer"], now["head"], now["zoom"], now["query"]) == ("map", 1, 0, 1, 11)


def test_rows_and_columns_are_read_out(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, link="#view=map&layer=1&head=2&query=9&key=4") as page:
        weights = matrix(page)
        tables = page.locator(".panel table")
        for table, values in ((tables.nth(0), weights[9]), (tables.nth(1), weights[:, 4])):
            rows = [row.inner_text().split() for row in table.locator("tr:not(.rest)").all()]
            seen = {int(row[1]): float(row[-1]) for row in rows}
            order = sorted(np.flatnonzero(~np.isnan(values)), key=lambda index: -values[index])[:10]
            assert list(seen) == order
            assert list(seen.values()) == pytest.approx(values[order], rel=5e-3, abs=1e-5)
        words = page.locator(".panel").inner_text()
        assert "previous: 91 % (85 % to 95 %); its control, random weights: 20 %" in words
        assert page.locator(".stage").get_attribute("aria-label").endswith(f"{weights[9, 4]:.3g}")
        page.locator(".panel button.token").nth(2).click()
        assert state(page)["key"] == sorted(range(10), key=lambda index: -weights[9, index])[2]
        until(page, "document.querySelector('.spoken').textContent.includes('looks at')")


def test_clicks_wheel_and_drag(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, link="#view=map&layer=0&head=1") as page:
        box = page.locator(".stage").bounding_box()
        spot = page.evaluate(
            "(() => { const a = window.glassformer; return a.view.cellRect(a.scene(), a.box(), 7, 3); })()"
        )
        x, y = (
            box[side] + 1 + spot[side] + spot[size] / 2 for side, size in (("x", "width"), ("y", "height"))
        )
        page.mouse.move(x, y)
        assert float(page.locator(".hint").inner_text().split()[-1]) == pytest.approx(
            matrix(page)[7, 3], rel=0.01
        )
        page.mouse.click(x, y)
        assert (state(page)["query"], state(page)["key"]) == (7, 3)
        page.keyboard.down("Control")
        page.mouse.wheel(0, -400)
        page.keyboard.up("Control")
        until(page, "window.glassformer.state.zoom > 3")
        under = page.evaluate(
            "([x, y]) => { const a = window.glassformer; return a.view.hit(a.scene(), a.box(), x, y); }",
            [x - box["x"] - 1, y - box["y"] - 1],
        )
        assert under == {"query": 7, "key": 3}  # what was under the pointer stayed there
        before = state(page)["x"]
        page.mouse.down()
        page.mouse.move(x - 60, y, steps=4)
        page.mouse.up()
        assert state(page)["x"] > before
        page.keyboard.press("1")
        spot = page.evaluate(
            "(() => { const a = window.glassformer; const b = a.box(); for (let y = 100; y < 900; y += 5)"
            " for (let x = 60; x < b.width; x += 5) { const hit = a.view.hit(a.scene(), b, x, y);"
            " if (hit && hit.layer === 1 && hit.head === 0) return [x + 3, y + 3]; } })()"
        )
        box = page.locator(".stage").bounding_box()
        page.mouse.click(box["x"] + 1 + spot[0], box["y"] + 1 + spot[1])
        assert (state(page)["layer"], state(page)["head"], state(page)["view"]) == (1, 0, "heads")
        page.mouse.click(box["x"] + 1 + spot[0], box["y"] + 1 + spot[1])
        assert state(page)["view"] == "map"


def test_lines_stand_for_the_weights_above_the_threshold(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, link="#view=lines&layer=1&head=0&threshold=0.2") as page:
        for only in (0, 1):
            set_state(page, only=only, query=6)
            weights = matrix(page)
            curves = [p for p in svg(page).iter(f"{SVG}path") if "C" in p.get("d")]
            kept = np.nan_to_num(weights) >= 0.2
            assert len(curves) == (kept[6].sum() if only else kept.sum())
            widths = sorted(float(curve.get("stroke-width")) for curve in curves)
            rows = weights[6:7] if only else weights
            wanted = sorted(0.6 + 3.4 * np.sqrt(rows[np.nan_to_num(rows) >= 0.2]))
            np.testing.assert_allclose(widths, wanted, atol=0.011)
            heading = " ".join(text["text"] for text in texts_of_screen(page))
            total = (~np.isnan(rows)).sum()
            assert f"{kept[6].sum() if only else kept.sum()} of {total} weights" in heading


def test_without_a_threshold_the_heaviest_lines_are_drawn_however_light(browser, pages):
    _, _, path = pages["encoder-decoder"]
    with opened(browser, path, link="#view=lines&kind=cross&layer=1&head=0") as page:
        weights = matrix(page)
        curves = [p for p in svg(page).iter(f"{SVG}path") if "C" in p.get("d")]
        least = np.sort(weights.ravel())[-3 * len(weights)]
        assert 0 < len(curves) <= 3 * len(weights)
        assert len(curves) >= (weights > least).sum() - 1
        page.keyboard.press("x")  # without those at the first token
        curves = [p for p in svg(page).iter(f"{SVG}path") if "C" in p.get("d")]
        assert 0 < len(curves) <= 3 * len(weights)
        heading = " ".join(text["text"] for text in texts_of_screen(page))
        assert "those at the first token left out" in heading
        assert f"of {weights[:, 1:].size} weights" in heading
        assert page.get_by_role("button", name="Auto").get_attribute("aria-pressed") == "true"


def test_a_page_opens_whatever_its_packed_texts_end_with(browser, tmp_path):
    """A space at the end of packed data is no space at the end of a token."""
    codes = quantized(np.full((1, 2, 2), 0.5, dtype=np.float32))
    maps, small, labels = [pack(codes)], [pack(thumbnails(codes))], ["a", "b"]
    attention = [Attention("self", "", labels, labels, [0], [[0]], maps, small)]
    truths = ([[0, n / 1e4, n], *[None] * (n % 50 + 1)] for n in range(10_000))
    truth = PackedJson(next(packed for packed in map(pack_json, truths) if packed.endswith(" ")))
    guesses = [Guesses("it", ["self"], ["it"], labels, pack_json([[[0, 0.5]], [[1, 0.5]]]), truth)]
    contents = Contents("", "", [], attention, guesses=guesses)
    path = Explorer(contents, page_html(contents)).save(tmp_path / "space.html").path
    with opened(browser, path, link="#view=guesses&query=0") as page:
        assert any("There stands “a”" in text["text"] for text in texts_of_screen(page))


def test_a_zoomed_map_of_heads_follows_the_chosen_head(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, link="#view=byhead&layer=1&head=2&query=9&key=4&zoom=3") as page:
        inside = """() => {
          const app = window.glassformer, scene = app.view.of(app.scene()), box = app.box();
          const { plot } = app.view.layout(app.scene(), box);
          const { y, height } = app.view.cellRect(app.scene(), box, scene.state.query, scene.state.key);
          return y >= plot.y - 1 && y + height <= plot.y + plot.height + 1;
        }"""
        page.locator(".stage").focus()
        for key, head in (("ArrowUp", 1), ("ArrowUp", 0), ("ArrowDown", 1), ("PageDown", -1)):
            page.keyboard.press(key)
            assert state(page)["head"] == head
            assert page.evaluate(inside)
        set_state(page, zoom=1)
        shown = [text["text"].strip("\u2068\u2069") for text in texts_of_screen(page)]
        assert {"head 0", "head 1", "mean"} <= set(shown)
    with opened(browser, path, 400, link="#view=byhead&layer=1&head=0&query=9") as page:
        shown = [text["text"].strip("\u2068\u2069") for text in texts_of_screen(page)]
        assert {"head 0", "head 1", "mean"} <= set(shown)  # there is room for all


def test_numbers_of_all_heads_on_a_token_are_saved(browser, pages):
    _, contents, path = pages["decoder"]
    with opened(browser, path, link="#view=byhead&layer=1&head=2&query=9&key=4") as page:
        rows = [matrix_of(page, head)[9] for head in (0, 1, 2, -1)]
        with page.expect_download() as download:
            page.keyboard.press("j")
        assert download.value.suggested_filename == "glassformer-byhead-self-layer1-token9.json"
        saved = json.loads(Path(download.value.path()).read_text("utf-8"))
    assert saved["heads"] == ["head 0", "head 1", "head 2 · previous · induction", "mean"]
    found = np.array([[np.nan if weight is None else weight for weight in row] for row in saved["weights"]])
    np.testing.assert_allclose(found, rows, atol=1e-5)
    assert saved["keys"] == contents.attention[0].keys


def test_what_the_pointer_said_goes_with_the_view(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, link="#view=map&layer=0&head=1") as page:
        box = page.locator(".stage").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        until(page, "!glassformer.hint.hidden")
        page.keyboard.press("]")
        assert page.evaluate("glassformer.hint.hidden")


def test_a_double_click_in_the_grid_opens_a_head_and_no_more(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, link="#view=heads&layer=1&head=0&query=5&key=2") as page:
        spot = page.evaluate(
            "(() => { const a = window.glassformer; const b = a.box(); for (let y = 100; y < 900; y += 5)"
            " for (let x = 60; x < b.width; x += 5) { const hit = a.view.hit(a.scene(), b, x, y);"
            " if (hit && hit.layer === 1 && hit.head === 0) return [x + 20, y + 20]; } })()"
        )
        box = page.locator(".stage").bounding_box()
        page.mouse.dblclick(box["x"] + 1 + spot[0], box["y"] + 1 + spot[1])
        now = state(page)
        assert (now["view"], now["zoom"], now["query"], now["key"]) == ("map", 1, 5, 2)


def test_a_view_that_has_nothing_to_zoom_does_not_zoom_another(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, link="#view=lines&threshold=0.000025") as page:
        page.keyboard.press("+")
        page.keyboard.press("0")
        assert state(page)["zoom"] == 1
        page.keyboard.press("]")
        state(page)
        assert "threshold=0.000025" in page.evaluate("location.hash")  # however small


def test_lines_of_the_token_under_the_pointer_stand_out(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, link="#view=lines&layer=1&head=0&query=0&key=0") as page:
        strong = """() => {
          const app = window.glassformer, alphas = [];
          const painter = { ratio: 1, clip: (x, y, w, h, draw) => draw() };
          for (const name of ["rect", "line", "image", "hatch", "text"]) painter[name] = () => {};
          painter.curve = (x1, y1, x2, y2, colour, width, alpha) => alphas.push([y1, alpha]);
          app.view.draw(painter, app.scene(), app.box());
          return alphas;
        }"""
        assert min(alpha for _, alpha in page.evaluate(strong)) > 0.1
        (place,) = [text for text in texts_of_screen(page) if text["text"] == "\u2068c\u2069"][:1]
        box = page.locator(".stage").bounding_box()
        page.mouse.move(box["x"] + place["x"] - 4, box["y"] + place["y"])
        alphas = page.evaluate(strong)
        assert {alpha > 0.1 for y, alpha in alphas if abs(y - place["y"]) < 2} == {True}
        assert {alpha > 0.1 for y, alpha in alphas if abs(y - place["y"]) > 2} == {False}


def test_every_head_of_the_layer_is_a_row_for_the_chosen_token(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, link="#view=byhead&layer=1&head=2&query=9&key=4") as page:
        rows = [matrix_of(page, head)[9] for head in (0, 1, 2, -1)]
        set_state(page, head=2)
        shown = [text["text"].strip("\u2068\u2069") for text in texts_of_screen(page)]
        assert any("Layer 1: what “a” looks at, by head" in text for text in shown)
        for name in ("head 0", "head 1", "head 2 · previous", "mean"):
            assert any(text.startswith(name) for text in shown), name
        image = next(svg(page).iter(f"{SVG}image")).get("href").partition(",")[2]
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("RGBA"))
        assert pixels.shape[:2] == (4, 12)
        largest = np.nanmax(rows)
        for head, row in enumerate(rows):
            for key, weight in enumerate(row[:10]):
                wanted = colour_of(weight, 1.0 if largest >= 0.25 else largest, "light")
                assert np.abs(pixels[head, key, :3].astype(int) - wanted).max() <= 1
        page.locator(".stage").press("ArrowUp")
        page.locator(".stage").press("ArrowLeft")
        now = state(page)
        assert (now["head"], now["query"], now["key"]) == (1, 9, 3)


def matrix_of(page, head):
    set_state(page, head=head)
    return matrix(page)


def test_predictions_scores_and_rollout_are_those_of_the_analyses(browser, pages):
    model, _, path = pages["decoder"]
    text = "The cat sat."
    logits = model(torch.tensor([list(text.encode())]))[0].softmax(-1).detach()
    parts = score_parts(model, text, 1)
    with opened(browser, path, link="#view=guesses&layer=1&head=2&query=5&key=3") as page:
        words = [t.text.strip("\u2068\u2069") for t in svg(page).iter(f"{SVG}text")]
        best = logits[5].topk(10)
        for share, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            assert ByteTokenizer().label(token) in words
            shown = f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:#.2g} %"
            assert shown in words
        rank = 1 + int((logits[5] > logits[5, ord("t")]).sum())
        assert any("There stands “t”" in word and (rank == 1 or str(rank) in word) for word in words)
        assert {"before layer 0", "after layer 0", "after layer 1"} <= set(words)
        set_state(page, view="score")
        shown = page.evaluate("window.glassformer.scene().parts")
        expected = [float(getattr(parts, name)[2, 5, 3]) for name in ("content", "position", "bias")]
        assert shown == pytest.approx(expected, abs=0.0101)
        words = [t.text.strip("\u2068\u2069") for t in svg(page).iter(f"{SVG}text")]
        assert {"content", "position", "bias", "score"} <= set(words)
        set_state(page, view="flow", flow=0)
        np.testing.assert_allclose(
            np.nan_to_num(matrix(page)), attention_rollout(model, text).numpy(), atol=0.004
        )
        words = " ".join(t.text for t in svg(page).iter(f"{SVG}text"))
        assert re.search(r"faithfulness of the row “\.” \(11\): (no better|better|worse) than random", words)
        assert "gradient-weighted rollout: " in words  # beside the one that is drawn
        assert "from this input →" in words
        panel = page.locator(".panel").inner_text()
        assert "takes from" in panel
        assert "gives to" in panel
        assert "look" not in panel


def test_attention_glows_where_the_image_is_looked_at(browser, pages):
    _, contents, path = pages["vit"]
    with opened(browser, path, link="#layer=1&head=2&query=0") as page:
        assert state(page)["view"] == "image"
        weights = matrix(page)[0, contents.picture.first :]
        images = list(svg(page).iter(f"{SVG}image"))
        overlay = np.asarray(
            Image.open(io.BytesIO(base64.b64decode(images[2].get("href").partition(",")[2])))
        )
        assert overlay.shape == (4, 4, 4)
        np.testing.assert_allclose(overlay[..., 3].ravel(), 225 * weights / weights.max(), atol=1)
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(images[0].get("href").partition(",")[2]))))
        assert shown.shape[:2] == (24, 24)
        pixels = PICTURE[0].permute(1, 2, 0).numpy()
        wanted = pixels / 2 + 0.5  # as the model normalises them, the other way round
        np.testing.assert_allclose(shown[..., :3] / 255, wanted, atol=0.003)
        page.locator(".stage").focus()
        page.keyboard.press("ArrowDown")
        assert state(page)["query"] == contents.picture.first
        page.keyboard.press("ArrowDown")
        assert state(page)["query"] == contents.picture.first + 4
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowUp")
        assert state(page)["query"] == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_home_and_end_go_to_the_ends_of_what_arrows_choose(browser, pages, family):
    _, _, path = pages[family]
    with opened(browser, path, 1280) as page:

        def after(view, key):
            set_state(page, view=view, query=1, key=1, layer=0, head=0)
            page.locator(".stage").press(key)
            return state(page)

        queries, keys = page.evaluate("(({ queries, keys }) => [queries, keys])(glassformer.scene().matrix)")
        assert after("map", "End")["key"] == keys - 1
        assert after("map", "PageDown")["query"] == queries - 1
        assert (after("heads", "End")["head"], after("heads", "PageDown")["layer"]) == (-1, 1)
        assert after("guesses", "End")["query"] == queries - 1
        assert after("guesses", "Home")["query"] == 0
        page.get_by_role("tab", selected=True).press("End")
        assert state(page)["view"] == "flow"
        page.get_by_role("tab", selected=True).press("Home")
        assert state(page)["view"] == "heads"
        set_state(page, view="map", layer=0, head=0)
        page.locator(".overview").press("ArrowRight")
        page.locator(".overview").press("ArrowDown")
        assert (state(page)["layer"], state(page)["head"]) == (1, 1)
        said = page.locator(".overview").get_attribute("aria-label")
        assert said.endswith(page.evaluate("glassformer.scene().headTitle"))


ON_SCREEN = """() => {
  const app = window.glassformer, found = [], { left, top } = app.box();
  const painter = { ratio: 1, clip: (x, y, width, height, draw) => draw() };
  for (const name of ["rect", "line", "curve", "image", "hatch"]) painter[name] = () => {};
  painter.text = (text, x, y, style) => found.push({ text, x: x - left, y: y - top, ...style });
  app.view.draw(painter, app.scene(), app.box());
  return found;
}"""


def texts_of_screen(page):
    """What is written on the part of a view that is in sight."""
    return page.evaluate(ON_SCREEN)


def test_a_click_on_a_token_shows_its_predictions(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, 400, link="#view=guesses&query=2") as page:
        (place,) = [text for text in texts_of_screen(page) if text["text"] == "\u2068c\u2069"]
        box = page.locator(".stage").bounding_box()
        page.mouse.click(box["x"] + place["x"] + 3, box["y"] + place["y"])
        assert state(page)["query"] == 4
        assert "At “c”, token 4" in page.locator(".stage").get_attribute("aria-label")


def test_predictions_of_the_whole_are_not_of_a_token(browser, pages):
    _, _, path = pages["vit"]
    with opened(browser, path, link="#view=guesses") as page:
        words = [text.text for text in svg(page).iter(f"{SVG}text")]
        assert any("Of the whole image" in word for word in words)
        assert not any("token 0" in word for word in words)


def test_a_view_of_one_kind_does_not_change_the_kind(browser, pages):
    _, _, path = pages["encoder-decoder"]
    with opened(browser, path, link="#view=flow&kind=cross") as page:
        assert (state(page)["kind"], matrix(page).shape) == ("cross", (9, 9))
        set_state(page, query=8)
        assert state(page)["query"] == 8  # of the encoder, which is followed
        page.keyboard.press("2")
        assert (state(page)["kind"], matrix(page).shape) == ("cross", (6, 9))
        set_state(page, kind="encoder", view="guesses")
        assert page.evaluate("glassformer.scene().guesses.length") == 2
        assert page.locator(".stage").get_attribute("aria-label").startswith("Predictions. At “")
        page.keyboard.press("2")
        assert state(page)["kind"] == "encoder"


def test_help_opens_at_its_beginning(browser, pages):
    _, _, path = pages["decoder"]
    with opened(browser, path, 400, height=500) as page:
        page.keyboard.press("?")
        assert page.evaluate("document.querySelector('dialog').scrollTop") == 0
        assert page.evaluate("document.activeElement.textContent") == "Keys"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """As many layers and heads as SmolLM2 has, on 140 tokens; two heads have names."""
    torch.manual_seed(3)
    model = GPTModel(vocab_size=257, d_model=36, num_layers=30, num_heads=9, max_seq_len=140).eval()
    model.tokenizer = ByteTokenizer()
    text = ("The quick brown fox jumps over the lazy dog; " * 4)[:140]
    names = [
        HeadName("self", 15, 0, "previous token", 0.9, 0.8, 0.95, "random weights", 0.25),
        HeadName("self", 15, 1, "\u202edesrever", 0.6),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glassformer.visualization.explorer.explaining.PAGE", 0)  # few of a row
        gathered = gather(model, text, name="large", faithfulness=False)
    contents = dataclasses.replace(gathered, names=names)
    path = tmp_path_factory.mktemp("large") / "large.html"
    return Explorer(contents, page_html(contents)).save(path).path, contents


@pytest.mark.parametrize("width", [400, 1280, 3840])
def test_many_heads_keep_their_heading_and_numbers_in_sight(browser, large, width):
    with opened(browser, large[0], width, link="#view=heads") as page:
        page.evaluate("glassformer.stage.scrollTo(0, 900); glassformer.surface.draw()")
        assert page.evaluate("glassformer.stage.scrollTop") > 0
        shown = {text["text"].strip("\u2068\u2069"): text for text in texts_of_screen(page)}
        height = page.evaluate("glassformer.box().height")
        for label in ("All heads: the text on itself", *map(str, range(1, 9)), "mean", "masked"):
            assert 0 < shown[label]["y"] < 0.5 * height, label
        texts, wide, _ = texts_of(page)
        assert all(text["x"] >= -1 and text["x"] + text["width"] <= wide + 1 for text in texts)
        words = [text["text"].strip("\u2068\u2069") for text in texts]
        assert "layer 15" in words
        drawn = " ".join(words)
        assert "previous token" in drawn  # in one line or two, or as what a number stands for
        assert "previous…" not in drawn
        assert "\u202e" not in drawn + page.locator("body").inner_text()
        set_state(page, layer=15, head=1)
        assert "⟨U+202E⟩desrever" in page.locator(".panel").inner_text()
        assert page.evaluate("glassformer.panel.scrollWidth <= glassformer.panel.clientWidth")


@pytest.mark.parametrize(("width", "height"), [(400, 800), (1280, 800), (3840, 2000)])
def test_lines_of_a_long_text_fit_the_window(browser, large, width, height):
    with opened(browser, large[0], width, height=height, link="#view=lines&query=139&key=3") as page:
        assert page.evaluate("glassformer.stage.scrollHeight <= glassformer.stage.clientHeight + 1")
        shown = [t for t in texts_of_screen(page) if t.get("size") == 13]
        assert [t["weight"] for t in shown].count(700) == 2  # the chosen token of either side
        for align in ("left", "right"):
            rows = sorted(t["y"] for t in shown if t["align"] == align)
            assert len(rows) > 20
            assert min(np.diff(rows)) >= 12


def test_a_score_that_is_not_in_the_file_is_said_and_others_of_its_row_offered(browser, large):
    path, contents = large
    assert contents.decompositions[0].note  # not all cells are there
    with opened(browser, path, 1280, link="#view=score&layer=15&head=3&query=80&key=17") as page:
        there = page.evaluate("glassformer.scene().scoresOf(80).map(({ key }) => key)")
        assert len(there) >= 1
        absent = next(key for key in range(80) if key not in there)
        set_state(page, key=absent)
        assert page.evaluate("glassformer.scene().parts") is None
        assert (state(page)["query"], state(page)["key"]) == (80, absent)  # what was chosen stays
        words = " ".join(t["text"] for t in texts_of_screen(page))
        assert "The score of this cell is not in the file" in words
        set_state(page, key=there[0])
        numbers = [t["text"] for t in texts_of_screen(page) if t["text"].startswith(("+", "\u2212"))]
        assert len(numbers) == len(there) + 1 + len(contents.decompositions[0].parts)
        page.locator(".stage").press("Home")
        keys = [state(page)["key"]]
        for _ in there[1:]:
            page.locator(".stage").press("ArrowRight")
            keys.append(state(page)["key"])
        assert keys == there
        page.locator(".stage").press("ArrowUp")
        now = state(page)
        assert now["query"] == 79
        assert now["key"] in page.evaluate("glassformer.scene().scoresOf(79).map(({ key }) => key)")
        for layer, head in ((0, 0), (29, 8)):
            set_state(page, layer=layer, head=head, query=80)
            assert page.evaluate("glassformer.scene().scoresOf(80).length") >= 1
        set_state(page, head=-1)
        assert "The mean of the heads has no scores" in page.locator(".stage").get_attribute("aria-label")


def test_numbers_of_a_zoomed_map_have_two_digits(browser, large):
    with opened(browser, large[0], 1280, link="#view=map&zoom=20&query=100&key=40&x=0.3&y=0.7") as page:
        numbers = [t["text"] for t in texts_of_screen(page) if t.get("align") == "center" and t["size"] == 11]
        weights = matrix(page)
        assert len(numbers) > 20
        for number in set(numbers):
            assert len(number.lstrip(".0")) <= 2
            assert float(number) >= 0.005
            assert np.nanmin(np.abs(weights - float(number))) < 5e-4


def test_a_picture_is_as_wide_from_every_window(browser, large):
    widths = []
    for width in (400, 1600):
        with opened(browser, large[0], width) as page:
            for view in ("map", "lines", "guesses", "flow"):
                set_state(page, view=view)
                widths.append(svg(page).get("width"))
    assert widths[:4] == widths[4:]
    assert widths[1:3] == ["1200"] * 2
    assert float(widths[0]) > 1800  # so that every column is named


def test_a_page_says_how_heads_get_names(browser, pages):
    with opened(browser, pages["encoder"][2]) as page:
        page.evaluate("glassformer.contents.names_source = ''; glassformer.set({ head: 1 })")
        page.evaluate("glassformer.settled")
        assert "glassformer explore --names" in page.locator(".panel").inner_text()


def test_the_whole_text_can_be_unfolded(browser, large):
    path, contents = large
    with opened(browser, path, 400) as page:
        page.get_by_text("All tokens").press("Enter")
        chips = page.locator(".whole .chip")
        until(page, "document.querySelectorAll('.whole .chip').length === 140")
        shown = [text.strip("\u2068\u2069") for text in chips.all_inner_texts()]
        assert shown == contents.attention[0].keys
        chips.nth(17).click()
        assert state(page)["query"] == 17


def test_a_link_to_a_view_that_a_page_has_not_opens_another(browser, tmp_path):
    codes = quantized(np.full((1, 2, 2), 0.5, dtype=np.float32))
    maps, small, labels = [pack(codes)], [pack(thumbnails(codes))], ["a", "b"]
    contents = Contents("", "", [], [Attention("self", "", labels, labels, [0], [[0]], maps, small)])
    path = Explorer(contents, page_html(contents)).save(tmp_path / "bare.html").path
    for view in ("guesses", "flow", "score", "image"):
        with opened(browser, path, link=f"#view={view}&kind=cross") as page:
            assert (state(page)["view"], state(page)["kind"]) == ("map", "self")


def hostile_page(folder, labels, title="title"):
    rng = np.random.default_rng(0)
    length = len(labels)
    weights = rng.dirichlet(np.ones(length) * 0.1, (2, length)).astype(np.float32)
    codes = quantized(weights)
    mean = quantized(weights.mean(0, keepdims=True))
    small = pack(thumbnails(np.concatenate([codes, mean])))
    attention = Attention("self", title, labels, labels, [0], [[0, 1]], [pack(codes)], [small])
    rows = [[[place % length, 0.5, 0, 0.1]] for place in range(length)]
    guesses = Guesses(title, ["self"], [title], labels, pack_json(rows), note=title)
    name = HeadName("self", 0, 0, title, 0.5, 0.1, 0.9, title, 0.2)
    contents = Contents(title, title, [title], [attention], [name], title, [guesses])
    return Explorer(contents, page_html(contents)).save(folder / "hostile.html").path


def test_hostile_texts_are_shown_and_run_nothing(browser, tmp_path):
    path = hostile_page(tmp_path, HOSTILE, " ".join(HOSTILE[:7]))
    with opened(browser, path, link="#view=map", height=1600) as page:
        for view in ("heads", "map", "lines", "guesses"):
            set_state(page, view=view)
            for query in range(len(HOSTILE)):
                set_state(page, query=query, key=query)
            svg(page)  # is well-formed
        assert page.evaluate("window.hacked") is None
        assert page.locator("img").count() == 0
        words = page.locator("body").inner_text()
        assert "<img src=x onerror='window.hacked = 1'>" in words
        set_state(page, view="map", query=0, key=0)
        shown = page.evaluate("Array.from(document.querySelectorAll('.panel .token'), (b) => b.textContent)")
        assert all(text.strip("\u2068\u2069") for text in shown)
        labels = {text["text"].strip("\u2068\u2069") for text in texts_of_screen(page)}
        for label in (
            *("⟨U+000D⟩", "⟨U+3000⟩", "⟨U+FE0F⟩", "⟨U+3164⟩", "⟨U+2800⟩", "⟨U+FFFE⟩", "⟨U+E0041⟩", "❤️"),
            *("·the·", "↵", "⇥", "∅", "⟨U+D800⟩", "◌\u0301", "👩‍👩‍👧", "שלום", "عالم", "语"),
        ):
            assert label in labels
        assert "a⟨U+2028⟩b⟨U+2029⟩c" in " ".join(labels) or any("⟨U+2028⟩" in label for label in labels)


def test_labels_of_a_long_list_do_not_touch(browser, tmp_path):
    path = hostile_page(tmp_path, [f"word{number}" for number in range(300)])
    for width in (400, 1600):
        with opened(browser, path, width, link="#view=map&query=151") as page:
            texts, _, _ = texts_of(page)
            words = [t for t in texts if "word" in t["text"] and "look" not in t["text"]]
            assert len(words) > 20
            assert any(t["text"].strip("\u2068\u2069") == "word151" for t in words)
            assert overlapping(texts) == []
            set_state(page, zoom=30, x=0.5, y=0.5)
            assert any(t["text"].strip("\u2068\u2069") == "word152" for t in texts_of(page)[0])


def test_small_cells_show_the_largest_weight_they_cover(browser, tmp_path):
    length = 1500
    weights = np.zeros((1, length, length), dtype=np.float32)
    weights[0, np.arange(length), np.arange(length)] = 1.0
    codes = quantized(weights)
    labels = [str(number) for number in range(length)]
    attention = Attention("self", "", labels, labels, [0], [[0]], [pack(codes)], [pack(thumbnails(codes))])
    contents = Contents("", "", [], [attention])
    path = Explorer(contents, page_html(contents)).save(tmp_path / "long.html").path
    with opened(browser, path, 400, link="#view=map&query=0&key=0") as page:
        for place in range(100, length, 150):
            assert sum(page.evaluate(PIXEL, [place, place])) < 500  # blue, for the diagonal is never lost
        assert sum(page.evaluate(PIXEL, [1200, 300])) >= 3 * 255 - 3


def test_pages_in_one_notebook_do_not_meet(browser, tmp_path):
    pages = [AttentionVisualizer(drawn_at_random(GPTModel, vocab_size=257)).explore(t) for t in ("ab", "cde")]
    path = tmp_path / "notebook.html"
    path.write_text("<!doctype html>" + "".join(page._repr_html_() for page in pages), "utf-8")
    context = browser.new_context(offline=True)
    page = context.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri())
    frames = page.frames[1:]
    for frame, length in zip(frames, (2, 3), strict=True):
        until(frame, "window.glassformer && window.glassformer.timings.complete")
        assert frame.evaluate("window.glassformer.scene().matrix.queries") == length
    frames[0].evaluate("window.glassformer.set({ layer: 0 })")
    assert [frame.evaluate("window.glassformer.state.layer") for frame in frames] == [0, 1]
    assert complaints == []
    context.close()


@pytest.mark.parametrize(
    ("family", "width", "theme"),
    [
        *(("decoder", 1600, "light"), ("encoder", 400, "light")),
        *(("encoder-decoder", 400, "dark"), ("vit", 1600, "dark")),
    ],
)
def test_axe_finds_nothing_serious(browser, pages, family, width, theme, missing):
    if not AXE.exists():
        missing(f"needs axe-core: npm install axe-core puts it into {AXE.parents[1].name}")
    with opened(browser, pages[family][2], width, theme) as page:
        page.evaluate(AXE.read_text("utf-8"))
        for view in page.evaluate("window.glassformer.views.map((view) => view.name)"):
            set_state(page, view=view)
            found = page.evaluate("axe.run()")["violations"]
            assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
