"""Pages with many layers, heads or tokens, and with unusual texts, in the browser."""

from __future__ import annotations

import numpy as np
import pytest

from glassformer.visualization.explorer import Contents, Explorer, page_html
from glassformer.visualization.explorer.encoding import (
    PackedJson,
    pack_json,
    pack_maps,
    quantize,
    thumbnails,
)
from glassformer.visualization.explorer.schema import AttentionMaps, HeadLabel, Predictions

pytestmark = pytest.mark.slow

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    *("</script><script>window.hacked = 1</script>", "<img src=x onerror='window.hacked = 1'>"),
    *("\"'`${window.hacked = 1}", "a\u2028b\u2029c", "\ud800", "\x00\x07\x1b\x85", "\u202eevil"),
    *("\r", "\u3000", "\ufe0f", "\u3164", "\u2800", "\ufffe", "\U000e0041", "❤️"),
    *("x" * 200, " the ", "\n", "\t", "", "e\u0301", "\u0301", "👩‍👩‍👧", "שלום", "عالم", "语"),
]


def test_the_shown_layer_stays_decoded(open_page, deep_page):
    with open_page(deep_page) as page:
        for layer in [*range(14), 0]:
            page.set_state(layer=layer, view="map")
        page.keyboard.press("r")
        page.wait_for_function("window.glassformer.state.view === 'rollout'")
        page.evaluate("window.glassformer.shown")
        assert page.evaluate("window.glassformer.scene().ready && !!window.glassformer.scene().matrix")
        page.set_state(view="map")
        assert page.evaluate("!!window.glassformer.scene().matrix")


def test_interaction_while_a_layer_is_loading(open_page, deep_page):
    with open_page(deep_page) as page:
        page.evaluate(
            """() => {
                const app = window.glassformer;
                app.store.cache.clear(); // as if nothing were unpacked yet
                app.state = { ...app.state, view: "rollout", zoom: 3 };
                app.mainCanvas.draw();
                app.mainCanvas.hitAt({ clientX: 600, clientY: 500 });
                app.mainCanvas.onPan(5, 5);
                app.mainCanvas.onZoom(2, { x: 300, y: 300 });
                app.mainCanvas.onHover({ query: 1, key: 1 }, { clientX: 300, clientY: 300 });
                app.store.cache.clear();
                app.set({ view: "rollout" });
                window.picture = app.svg();
            }"""
        )
        assert "<image" in page.evaluate("window.picture")


def test_fast_changes_of_layers_end_in_the_last_one(open_page, deep_page):
    with open_page(deep_page, link="#view=lines&layer=0") as page:
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
        page.wait_until("document.querySelector('.controls select[aria-label=Layer]').value === '15'")


@pytest.mark.parametrize("width", [400, 1280])
def test_layer_labels_are_not_cut(open_page, deep_page, width):
    with open_page(deep_page, width=width, link="#view=heads&layer=15") as page:
        (label,) = [text for text in page.svg().iter(f"{SVG}text") if text.text and "layer 15" in text.text]
        right = float(label.get("x"))
        measured = page.evaluate(
            """() => {
                const context = new OffscreenCanvas(1, 1).getContext("2d");
                context.font = `700 11px ${getComputedStyle(document.body).fontFamily}`;
                return context.measureText("layer 15").width;
            }"""
        )
        assert right - measured >= 2


@pytest.mark.parametrize("width", [400, 1280, 3840])
def test_heading_and_head_numbers_stay_visible_while_scrolling(open_page, large_page, width):
    with open_page(large_page.path, width, link="#view=heads") as page:
        page.evaluate("glassformer.stage.scrollTo(0, 900); glassformer.mainCanvas.draw()")
        assert page.evaluate("glassformer.stage.scrollTop") > 0
        shown = {text["text"].strip("\u2068\u2069"): text for text in page.visible_texts()}
        height = page.evaluate("glassformer.box().height")
        for label in ("All heads: the text on itself", *map(str, range(1, 9)), "mean", "masked"):
            assert 0 < shown[label]["y"] < 0.5 * height, label
        texts, wide, _ = page.all_texts()
        assert all(text["x"] >= -1 and text["x"] + text["width"] <= wide + 1 for text in texts)
        words = [text["text"].strip("\u2068\u2069") for text in texts]
        assert "layer 15" in words
        drawn = " ".join(words)
        assert "previous token" in drawn  # on one or two lines, or in the key of numbers
        assert "previous…" not in drawn
        assert "\u202e" not in drawn + page.locator("body").inner_text()
        page.set_state(layer=15, head=1)
        assert "⟨U+202E⟩desrever" in page.locator(".panel").inner_text()
        assert page.evaluate("glassformer.panel.scrollWidth <= glassformer.panel.clientWidth")


@pytest.mark.parametrize(("width", "height"), [(400, 800), (1280, 800), (3840, 2000)])
def test_lines_of_a_long_text_fit_the_window(open_page, large_page, width, height):
    with open_page(large_page.path, width, height=height, link="#view=lines&query=139&key=3") as page:
        assert page.evaluate("glassformer.stage.scrollHeight <= glassformer.stage.clientHeight + 1")
        shown = [t for t in page.visible_texts() if t.get("size") == 13]
        assert [t["weight"] for t in shown].count(700) == 2  # the chosen query and key
        for align in ("left", "right"):
            rows = sorted(t["y"] for t in shown if t["align"] == align)
            assert len(rows) > 20
            assert min(np.diff(rows)) >= 12


def test_score_view_offers_the_stored_scores_of_a_row(open_page, large_page):
    path, contents = large_page.path, large_page.contents
    assert contents.decompositions[0].note  # not all cells are there
    with open_page(path, 1280, link="#view=score&layer=15&head=3&query=80&key=17") as page:
        there = page.evaluate("glassformer.scene().scoresOf(80).map(({ key }) => key)")
        assert len(there) >= 1
        absent = next(key for key in range(80) if key not in there)
        page.set_state(key=absent)
        assert page.evaluate("glassformer.scene().parts") is None
        assert (page.state()["query"], page.state()["key"]) == (80, absent)  # the choice is kept
        words = " ".join(t["text"] for t in page.visible_texts())
        assert "The score of this cell is not in the file" in words
        page.set_state(key=there[0])
        numbers = [t["text"] for t in page.visible_texts() if t["text"].startswith(("+", "\u2212"))]
        assert len(numbers) == len(there) + 1 + len(contents.decompositions[0].parts)
        page.locator(".stage").press("Home")
        keys = [page.state()["key"]]
        for _ in there[1:]:
            page.locator(".stage").press("ArrowRight")
            keys.append(page.state()["key"])
        assert keys == there
        page.locator(".stage").press("ArrowUp")
        now = page.state()
        assert now["query"] == 79
        assert now["key"] in page.evaluate("glassformer.scene().scoresOf(79).map(({ key }) => key)")
        for layer, head in ((0, 0), (29, 8)):
            page.set_state(layer=layer, head=head, query=80)
            assert page.evaluate("glassformer.scene().scoresOf(80).length") >= 1
        page.set_state(head=-1)
        assert "The mean of the heads has no scores" in page.locator(".stage").get_attribute("aria-label")


def test_encoded_data_may_end_with_a_space(open_page, tmp_path):
    """Spaces at the end of a token are shown as signs; those at the end of encoded data must stay."""
    codes = quantize(np.full((1, 2, 2), 0.5, dtype=np.float32))
    maps, small, labels = [pack_maps(codes)], [pack_maps(thumbnails(codes))], ["a", "b"]
    attention = [AttentionMaps("self", "", labels, labels, [0], [[0]], maps, small)]
    candidates = ([[0, n / 1e4, n], *[None] * (n % 50 + 1)] for n in range(10_000))
    targets = PackedJson(next(packed for packed in map(pack_json, candidates) if packed.endswith(" ")))
    predictions = [Predictions("it", ["self"], ["it"], labels, pack_json([[[0, 0.5]], [[1, 0.5]]]), targets)]
    contents = Contents("", "", [], attention, predictions=predictions)
    path = Explorer(contents, page_html(contents)).save(tmp_path / "space.html").path
    with open_page(path, link="#view=predictions&query=0") as page:
        assert any("Actual token: “a”" in text["text"] for text in page.visible_texts())


def hostile_page(folder, labels, title="title"):
    rng = np.random.default_rng(0)
    length = len(labels)
    weights = rng.dirichlet(np.ones(length) * 0.1, (2, length)).astype(np.float32)
    codes = quantize(weights)
    mean = quantize(weights.mean(0, keepdims=True))
    small = pack_maps(thumbnails(np.concatenate([codes, mean])))
    attention = AttentionMaps("self", title, labels, labels, [0], [[0, 1]], [pack_maps(codes)], [small])
    rows = [[[place % length, 0.5, 0, 0.1]] for place in range(length)]
    predictions = Predictions(title, ["self"], [title], labels, pack_json(rows), note=title)
    label = HeadLabel("self", 0, 0, title, 0.5, 0.1, 0.9, title, 0.2)
    contents = Contents(title, title, [title], [attention], [label], title, [predictions])
    return Explorer(contents, page_html(contents)).save(folder / "hostile.html").path


def test_hostile_texts_are_shown_as_text(open_page, tmp_path):
    path = hostile_page(tmp_path, HOSTILE, " ".join(HOSTILE[:7]))
    with open_page(path, link="#view=map", height=1600) as page:
        for view in ("heads", "map", "lines", "predictions"):
            page.set_state(view=view)
            for query in range(len(HOSTILE)):
                page.set_state(query=query, key=query)
            page.svg()  # is well-formed
        assert page.evaluate("window.hacked") is None
        assert page.locator("img").count() == 0
        words = page.locator("body").inner_text()
        assert "<img src=x onerror='window.hacked = 1'>" in words
        page.set_state(view="map", query=0, key=0)
        shown = page.evaluate("Array.from(document.querySelectorAll('.panel .token'), (b) => b.textContent)")
        assert all(text.strip("\u2068\u2069") for text in shown)
        labels = {text["text"].strip("\u2068\u2069") for text in page.visible_texts()}
        for label in (
            *("⟨U+000D⟩", "⟨U+3000⟩", "⟨U+FE0F⟩", "⟨U+3164⟩", "⟨U+2800⟩", "⟨U+FFFE⟩", "⟨U+E0041⟩", "❤️"),
            *("·the·", "↵", "⇥", "∅", "⟨U+D800⟩", "◌\u0301", "👩‍👩‍👧", "שלום", "عالم", "语"),
        ):
            assert label in labels
        assert "a⟨U+2028⟩b⟨U+2029⟩c" in " ".join(labels) or any("⟨U+2028⟩" in label for label in labels)


def test_labels_of_many_tokens_do_not_overlap(open_page, tmp_path):
    path = hostile_page(tmp_path, [f"word{number}" for number in range(300)])
    for width in (400, 1600):
        with open_page(path, width, link="#view=map&query=151") as page:
            texts, _, _ = page.all_texts()
            words = [t for t in texts if "word" in t["text"] and "look" not in t["text"]]
            assert len(words) > 20
            assert any(t["text"].strip("\u2068\u2069") == "word151" for t in words)
            assert page.overlapping(texts) == []
            page.set_state(zoom=30, x=0.5, y=0.5)
            assert any(t["text"].strip("\u2068\u2069") == "word152" for t in page.all_texts()[0])
