"""Exports, links, history and frames in the browser."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glassformer.analysis.decomposition import score_parts
from glassformer.models import GPTModel
from glassformer.visualization import AttentionVisualizer
from glassformer.visualization.explorer import Contents, Explorer, page_html
from glassformer.visualization.explorer.encoding import (
    MASKED,
    PackedMaps,
    decode_base91,
    encode_base91,
    pack_maps,
    quantize,
    thumbnails,
    unpack_maps,
)
from glassformer.visualization.explorer.schema import AttentionMaps

pytestmark = pytest.mark.slow

FAMILIES = ["decoder", "encoder", "encoder-decoder", "vit"]
SVG = "{http://www.w3.org/2000/svg}"


def in_base64(value):
    """The contents of a page with data in base 64, as in an export."""
    if isinstance(value, list):
        return [in_base64(item) for item in value]
    if not isinstance(value, dict):
        return value
    data = value.get("data")
    given = {name: in_base64(item) for name, item in value.items()}
    return given | ({"data": base64.b64encode(decode_base91(data)).decode()} if isinstance(data, str) else {})


def test_export_as_svg_png_and_json(open_page, pages):
    contents = pages["decoder"].contents
    path = pages["decoder"].path
    attention = contents.attention[0]
    with open_page(path, link="#view=map&layer=1&head=2") as page:
        root = page.svg()
        weights = page.matrix()
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
            wanted = page.color_of(weights[query, key], top, "light")
            assert np.abs(pixels[query, key, :3].astype(int) - wanted).max() <= 1
        with page.expect_download() as download:
            page.get_by_text("Save ▾").click()
            page.get_by_role("button", name="Picture, SVG: save the view (s)").click()
            assert not page.get_by_role("button", name="Picture, SVG").is_visible()
        assert download.value.suggested_filename == "glassformer-map-self-layer1-head2.svg"
        saved = Path(download.value.path()).read_text("utf-8")
        assert saved == page.evaluate("window.glassformer.svg()")
        with page.expect_download() as download:
            page.keyboard.press("p")
        assert download.value.suggested_filename == "glassformer-map-self-layer1-head2.png"
        with Image.open(download.value.path()) as picture:
            size = picture.size
            colors = {color for _, color in picture.convert("RGB").getcolors(1 << 24)}
        assert {page.color_of(weight, top, "light") for weight in weights[~np.isnan(weights)]} <= colors
        assert page.masked_colors("light")[0] in colors
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
        assert len(codes) == 3 * 12 * 13 / 2  # as described in the file
        stored = unpack_maps(
            PackedMaps(**{**packed, "data": encode_base91(base64.b64decode(packed["data"]))})
        )
        back = np.where(stored[2] == MASKED, np.nan, stored[2].astype(float))
        added = np.nanmean(np.sqrt(weights) * 254 - back, axis=-1, keepdims=True)  # a number for each row
        assert (np.abs(added) <= 0.5).all()
        np.testing.assert_allclose((np.maximum(back + added, 0) / 254) ** 2, weights, atol=1e-5)


def test_json_has_the_analyses_of_the_chosen_cell(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, link="#view=predictions&layer=1&head=2&query=4&key=4") as page:
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
    model = pages["decoder"].model
    contents = pages["decoder"].contents
    parts = score_parts(model, contents.text.strip("“”"), 1)
    wanted = {name: float(getattr(parts, name)[2, 4, 4]) for name in ("content", "position", "bias")}
    assert saved["chosen"]["score_parts"] == pytest.approx(wanted, abs=0.0101)
    assert {g["token"] for g in likeliest["rows"][0]["likeliest"]} <= set(contents.predictions[0].tokens)


def test_json_of_the_by_head_view_has_all_heads(open_page, pages):
    contents = pages["decoder"].contents
    path = pages["decoder"].path
    with open_page(path, link="#view=byhead&layer=1&head=2&query=9&key=4") as page:
        rows = [page.matrix_of_head(head)[9] for head in (0, 1, 2, -1)]
        with page.expect_download() as download:
            page.keyboard.press("j")
        assert download.value.suggested_filename == "glassformer-byhead-self-layer1-token9.json"
        saved = json.loads(Path(download.value.path()).read_text("utf-8"))
    assert saved["heads"] == ["head 0", "head 1", "head 2 · previous · induction", "mean"]
    found = np.array([[np.nan if weight is None else weight for weight in row] for row in saved["weights"]])
    np.testing.assert_allclose(found, rows, atol=1e-5)
    assert saved["keys"] == contents.attention[0].keys


def test_exported_width_does_not_depend_on_the_window(open_page, large_page):
    widths = []
    for width in (400, 1600):
        with open_page(large_page.path, width) as page:
            for view in ("map", "lines", "predictions", "rollout"):
                page.set_state(view=view)
                widths.append(page.svg().get("width"))
    assert widths[:4] == widths[4:]
    assert widths[1:3] == ["1200"] * 2
    assert float(widths[0]) > 1800  # wide enough to label every column


@pytest.mark.parametrize("family", FAMILIES)
def test_a_link_restores_the_view(open_page, pages, family):
    contents = pages[family].contents
    path = pages[family].path
    kind = contents.attention[-1].kind
    chosen = {"view": "lines", "kind": kind, "layer": 0, "head": 2, "query": 4, "key": 3}
    chosen |= {"threshold": 0.25, "onlyChosen": 1, "theme": "dark"}
    with open_page(path) as page:
        page.set_state(**chosen)
        link, before = page.evaluate("[location.hash, window.glassformer.state]")
        assert {name: before[name] for name in chosen} == chosen
    with open_page(path, link=link) as page:
        assert page.state() == before
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_invalid_parts_of_a_link_are_ignored(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, link="#view=nonsense&layer=99&head=x&zoom=-3&__proto__=1&query=1e9") as page:
        now = page.state()
        assert (now["view"], now["layer"], now["head"], now["zoom"], now["query"]) == ("text", 1, 2, 1, 11)


def test_a_link_to_a_missing_view_opens_the_text(open_page, tmp_path):
    codes = quantize(np.full((1, 2, 2), 0.5, dtype=np.float32))
    maps, small, labels = [pack_maps(codes)], [pack_maps(thumbnails(codes))], ["a", "b"]
    contents = Contents("", "", [], [AttentionMaps("self", "", labels, labels, [0], [[0]], maps, small)])
    path = Explorer(contents, page_html(contents)).save(tmp_path / "bare.html").path
    for view in ("predictions", "rollout", "score", "image"):
        with open_page(path, link=f"#view={view}&kind=cross") as page:
            assert (page.state()["view"], page.state()["kind"]) == ("text", "self")


def test_history_leads_back_to_the_previous_view(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, link="#view=heads") as page:
        for key in ("3", "6", "8"):
            page.keyboard.press(key)
            page.keyboard.press("]")  # adds no entry to the history
        views = []
        for _ in range(3):
            before = page.state()["view"]
            page.evaluate("history.back()")
            page.wait_until(f"glassformer.state.view !== '{before}'")
            views.append(page.state()["view"])
        assert views == ["lines", "map", "heads"]
        page.set_state(theme="dark", shortcuts=0)
        page.evaluate("history.forward()")
        page.wait_until("glassformer.state.view === 'map'")
        assert (page.state()["theme"], page.state()["shortcuts"]) == (
            "dark",
            0,
        )  # preferences


def framed(browser, tmp_path, frame):
    """A page that contains only a frame, the frame, and the messages of its console."""
    (tmp_path / "book.html").write_text(f"<!doctype html><title>book</title>{frame}", "utf-8")
    page, complaints = browser.new_page(offline=True), []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto((tmp_path / "book.html").as_uri())
    return page, page.frame_locator("iframe"), complaints


def test_a_frame_without_a_url_offers_no_link(browser, pages, tmp_path):
    contents = pages["decoder"].contents
    frame = Explorer(contents, page_html(contents))._repr_html_()
    page, inside, complaints = framed(browser, tmp_path, frame)
    inside.locator(".stage").press("l")
    assert "open it as a file" in inside.get_by_role("status").text_content()
    inside.get_by_text("Save ▾").click()
    assert inside.get_by_role("button", name="Copy a link").count() == 0
    assert complaints == []
    page.close()


def test_a_link_is_shown_if_it_cannot_be_copied(browser, pages, tmp_path):
    link = f"{pages['decoder'][2].as_uri()}#view=lines&head=1"
    page, inside, complaints = framed(
        browser, tmp_path, f'<iframe src="{link}" sandbox="allow-scripts"></iframe>'
    )
    inside.get_by_text("Save ▾").click()
    inside.get_by_role("button", name="Copy a link to this view (l)").click()
    assert inside.get_by_role("dialog").get_by_role("textbox").input_value() == link
    assert complaints == []
    page.close()


def test_pages_in_one_notebook_are_independent(browser, random_model, wait_until, tmp_path):
    pages = [AttentionVisualizer(random_model(GPTModel, vocab_size=257)).explore(t) for t in ("ab", "cde")]
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
        wait_until(frame, "window.glassformer && window.glassformer.timings.complete")
        assert frame.evaluate("window.glassformer.scene().matrix.queries") == length
    for frame, layer in zip(frames, (0, 1), strict=True):
        frame.evaluate(f"window.glassformer.set({{ layer: {layer} }})")
    assert [frame.evaluate("window.glassformer.state.layer") for frame in frames] == [0, 1]
    assert complaints == []
    context.close()
