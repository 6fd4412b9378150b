"""Heat maps in the browser: weights, colors, numbers and labels."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from glassformer.attention import attentions_of, record_attention
from glassformer.eval_mode import eval_mode
from glassformer.models import T5Model, ViTModel
from glassformer.visualization.explorer import Contents, Explorer, page_html
from glassformer.visualization.explorer.encoding import (
    max_error,
    pack_maps,
    quantize,
    thumbnails,
)
from glassformer.visualization.explorer.schema import AttentionMaps

pytestmark = pytest.mark.slow

FAMILIES = ["decoder", "encoder", "encoder-decoder", "vit"]
SVG = "{http://www.w3.org/2000/svg}"


def recorded_attention(model, contents, picture):
    """Weights ``(head, query, key)`` and mask of each layer, by kind of attention."""
    found = {}
    for kind in attentions_of(model):
        with torch.no_grad(), eval_mode(model), record_attention(model, kind=kind) as recording:
            if isinstance(model, ViTModel):
                model(picture)
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
def test_shows_the_weights_of_the_model(open_page, pages, picture, family):
    model = pages[family].model
    contents = pages[family].contents
    path = pages[family].path
    expected = recorded_attention(model, contents, picture)
    with open_page(path, link="#view=map") as page:
        for attention in contents.attention:
            for layer, heads in zip(attention.layers, attention.heads, strict=True):
                weights, allowed = expected[attention.kind][layer]
                error = 2 * max_error(weights) + 1e-5  # of the code, and of the sum of the row
                for head in [*heads, -1]:
                    page.set_state(kind=attention.kind, layer=layer, head=head)
                    shown = page.matrix()
                    wanted = weights.mean(0) if head < 0 else weights[head]
                    within = error.max(0) if head < 0 else error[head]
                    if allowed is not None:
                        np.testing.assert_array_equal(np.isnan(shown), ~allowed[0])
                    assert (np.abs(np.nan_to_num(shown) - wanted) <= within).all()
                    np.testing.assert_allclose(np.nansum(shown, axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("family", "width"), [("decoder", 1600), ("encoder-decoder", 400), ("vit", 1600)])
def test_every_cell_has_the_color_of_its_weight(open_page, pages, family, theme, width):
    contents = pages[family].contents
    path = pages[family].path
    kind = contents.attention[-1].kind
    with open_page(path, width, theme, f"#view=map&kind={kind}&layer=1&head=1&query=0&key=0") as page:
        for top in ("one", "largest"):
            page.set_state(colorMax=top)
            weights = page.matrix()
            largest = 1.0 if top == "one" else np.nanmax(weights)
            queries, keys = weights.shape
            cells = [(q, k) for q in range(1, queries, 2) for k in range(1, keys, 3)]
            assert len(cells) >= 4
            for query, key in cells:
                seen = page.pixel(query, key)
                if np.isnan(weights[query, key]):
                    ends = np.sort(page.masked_colors(theme), axis=0)
                    assert (ends[0] - 1 <= seen).all()
                    assert (seen <= ends[1] + 1).all()
                    continue
                wanted = page.color_of(weights[query, key], largest, theme)
                assert np.abs(np.subtract(seen, wanted)).max() <= 1, (query, key, weights[query, key])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_masked_cells_are_striped_and_zeros_are_not(open_page, pages, theme):
    path = pages["decoder"].path
    with open_page(path, theme=theme, link="#view=map&layer=0&head=0&query=11&key=0&colorMax=one") as page:
        square = """([query, key]) => {
          const app = window.glassformer, ratio = devicePixelRatio;
          const { x, y, width } = app.view.cellRect(app.scene(), app.box(), query, key);
          const copy = new OffscreenCanvas(20, 20).getContext("2d");
          const at = [(x + width / 2) * ratio - 10, (y + 2) * ratio].map(Math.floor);
          copy.drawImage(app.stage.querySelector("canvas"), -at[0], -at[1]);
          const { data } = copy.getImageData(0, 0, 20, 20);
          return Array.from({ length: 400 }, (_, i) => Array.from(data.slice(4 * i, 4 * i + 3)));
        }"""
        seen = {tuple(color) for color in page.evaluate(square, [3, 9])}
        ground, stripe = page.masked_colors(theme)
        assert ground in seen
        assert min(np.abs(np.subtract(color, stripe)).max() for color in seen) < 30
        hidden = page.evaluate("glassformer.scene().matrix.masked")
        words = [text["text"] for text in page.visible_texts()]
        assert (hidden, "masked" in words) == (True, True)
    with open_page(pages["encoder"].path, theme=theme, link="#view=map") as page:
        assert "masked" not in [text["text"] for text in page.visible_texts()]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_numbers_contrast_with_every_color_of_the_scale(open_page, pages, theme):
    def luminance(color):
        share = np.asarray(color) / 255
        linear = np.where(share <= 0.03928, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    path = pages["decoder"].path
    with open_page(path, theme=theme) as page:
        scale = page.evaluate("window.glassformer.palette.scale")
        inks = page.evaluate(
            "window.glassformer.palette.scale.map((_, shade) => window.glassformer.textColorOn(shade))"
        )
    for shade, ink in zip(scale, inks, strict=True):
        light, dark = sorted([luminance(shade), luminance([int(ink[i : i + 2], 16) for i in (1, 3, 5)])])[
            ::-1
        ]
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_a_pixel_shows_the_largest_of_several_cells(open_page, tmp_path):
    length = 1500
    weights = np.zeros((1, length, length), dtype=np.float32)
    weights[0, np.arange(length), np.arange(length)] = 1.0
    codes = quantize(weights)
    labels = [str(number) for number in range(length)]
    attention = AttentionMaps(
        "self", "", labels, labels, [0], [[0]], [pack_maps(codes)], [pack_maps(thumbnails(codes))]
    )
    contents = Contents("", "", [], [attention])
    path = Explorer(contents, page_html(contents)).save(tmp_path / "long.html").path
    with open_page(path, 400, link="#view=map&query=0&key=0") as page:
        for place in range(100, length, 150):
            assert sum(page.pixel(place, place)) < 500  # blue: the diagonal stays visible
        assert sum(page.pixel(1200, 300)) >= 3 * 255 - 3


def test_numbers_of_a_zoomed_map_have_two_digits(open_page, large_page):
    with open_page(large_page.path, 1280, link="#view=map&zoom=20&query=100&key=40&x=0.3&y=0.7") as page:
        numbers = [t["text"] for t in page.visible_texts() if t.get("align") == "center" and t["size"] == 11]
        weights = page.matrix()
        assert len(numbers) > 20
        for number in set(numbers):
            assert len(number.lstrip(".0")) <= 2
            assert float(number) >= 0.005
            assert np.nanmin(np.abs(weights - float(number))) < 5e-4


def test_by_head_view_has_a_row_for_every_head(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, link="#view=byhead&layer=1&head=2&query=9&key=4") as page:
        rows = [page.matrix_of_head(head)[9] for head in (0, 1, 2, -1)]
        page.set_state(head=2)
        shown = [text["text"].strip("\u2068\u2069") for text in page.visible_texts()]
        assert any("Layer 1: what “a” looks at, by head" in text for text in shown)
        for name in ("head 0", "head 1", "head 2 · previous", "mean"):
            assert any(text.startswith(name) for text in shown), name
        image = next(page.svg().iter(f"{SVG}image")).get("href").partition(",")[2]
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("RGBA"))
        assert pixels.shape[:2] == (4, 12)
        largest = np.nanmax(rows)
        for head, row in enumerate(rows):
            for key, weight in enumerate(row[:10]):
                wanted = page.color_of(weight, 1.0 if largest >= 0.25 else largest, "light")
                assert np.abs(pixels[head, key, :3].astype(int) - wanted).max() <= 1
        page.locator(".stage").press("ArrowUp")
        page.locator(".stage").press("ArrowLeft")
        now = page.state()
        assert (now["head"], now["query"], now["key"]) == (1, 9, 3)


def test_zoomed_by_head_view_follows_the_chosen_head(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, link="#view=byhead&layer=1&head=2&query=9&key=4&zoom=3") as page:
        inside = """() => {
          const app = window.glassformer, scene = app.view.transform(app.scene()), box = app.box();
          const { plot } = app.view.layout(app.scene(), box);
          const { y, height } = app.view.cellRect(app.scene(), box, scene.state.query, scene.state.key);
          return y >= plot.y - 1 && y + height <= plot.y + plot.height + 1;
        }"""
        page.locator(".stage").focus()
        for key, head in (("ArrowUp", 1), ("ArrowUp", 0), ("ArrowDown", 1), ("PageDown", -1)):
            page.keyboard.press(key)
            assert page.state()["head"] == head
            assert page.evaluate(inside)
        page.set_state(zoom=1)
        shown = [text["text"].strip("\u2068\u2069") for text in page.visible_texts()]
        assert {"head 0", "head 1", "mean"} <= set(shown)
    with open_page(path, 400, link="#view=byhead&layer=1&head=0&query=9") as page:
        shown = [text["text"].strip("\u2068\u2069") for text in page.visible_texts()]
        assert {"head 0", "head 1", "mean"} <= set(shown)  # all labels fit


RIGHT_ENDS = """(texts) => {
  const ruler = new OffscreenCanvas(1, 1).getContext("2d");
  const family = getComputedStyle(document.body).fontFamily;
  return texts.filter(({ align, vertical }) => !align && !vertical).map(({ text, x, size, weight }) => {
    ruler.font = `${weight ?? 400} ${size}px ${family}`;
    return [text, x + ruler.measureText(text).width];
  });
}"""


@pytest.mark.parametrize("view", ["map", "rollout"])
def test_texts_fit_into_a_view_of_any_width(open_page, pages, view):
    with open_page(pages["decoder"].path, link=f"#view={view}") as page:
        found = set()
        for width in range(420, 1500, 45):
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_until(f"innerWidth === {width}")
            page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            box = page.evaluate("glassformer.box().width")
            ends = dict(page.evaluate(RIGHT_ENDS, page.visible_texts()))
            stripes = "masked" if view == "map" else "out of reach"
            assert ends[stripes] <= box, width
            assert max(ends.values()) <= box, width
            found.add(box)
        assert len(found) > 10


@pytest.mark.parametrize("view", ["map", "byhead", "rollout"])
def test_without_the_first_token_the_colors_are_those_of_the_others(open_page, pages, view):
    with open_page(pages["decoder"].path, link=f"#view={view}&layer=1&head=0&colorMax=largest") as page:
        scale = "(() => { const v = glassformer.view; return v.matrix(v.transform(glassformer.scene())); })()"
        rest = page.evaluate(f"Array.from({scale}.weights).filter((w, i) => i % {scale}.keys)")
        page.get_by_label("the first token").uncheck()
        page.state()
        shown = page.evaluate(f"[{scale}.largest, {scale}.at(3, 0), {scale}.at(3, 1)]")
        assert shown[0] == pytest.approx(np.nanmax(np.array(rest, dtype=float)))
        assert np.isnan(shown[1])
        assert shown[2] >= 0
        page.wait_for_timeout(50)
        assert any("or the first token" in text["text"] for text in page.visible_texts())
        assert "masked" not in page.locator(".stage").get_attribute("aria-label")
