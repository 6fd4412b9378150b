"""Contents of the other views in the browser, and their accessibility."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glassformer.analysis import prune_heads
from glassformer.analysis.decomposition import score_parts
from glassformer.analysis.rollout import attention_rollout
from glassformer.models import GPTModel
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization import AttentionVisualizer

pytestmark = pytest.mark.slow

FAMILIES = ["decoder", "encoder", "encoder-decoder", "vit"]
SVG = "{http://www.w3.org/2000/svg}"
AXE = Path(__file__).parents[3] / "node_modules" / "axe-core" / "axe.min.js"
NUM_COLORS = """() => {
  const canvas = window.glassformer.stage.querySelector("canvas");
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size;
}"""


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_view_is_drawn_without_overlapping_texts(open_page, pages, family, theme, width):
    path = pages[family].path
    with open_page(path, width, theme) as page:
        names = page.evaluate("window.glassformer.views.map((view) => view.name)")
        others = ["byhead", "lines", "predictions", "score", "rollout"]
        first = ["image", "heads", "map"] if family == "vit" else ["text", "heads", "map", "step"]
        assert names == [*first, *others]
        for tab, name in zip(page.get_by_role("tab").all(), names, strict=True):
            tab.click()
            page.wait_for_selector(f"#tab-{name}[aria-selected=true]")
            assert page.state()["view"] == name
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            texts, wide, high = page.all_texts()
            assert len(texts) >= 4
            for text in texts:
                assert text["x"] >= -1, text
                assert text["x"] + text["width"] <= wide + 1, text
                assert -1 <= text["y"] <= high - text["height"] + 1, text
            assert page.overlapping(texts) == []
            assert page.evaluate(NUM_COLORS) > 20


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_name_the_model_and_the_text(open_page, pages, family):
    contents = pages[family].contents
    path = pages[family].path
    with open_page(path) as page:
        assert page.title() == f"tiny/{family} - {contents.title} - glassformer"
        assert page.get_by_role("heading", level=1).text_content() == f"tiny/{family} - {contents.title}"
        for view in page.evaluate("window.glassformer.views.map(({ name }) => name)"):
            page.set_state(view=view)
            root = page.svg()
            assert root.find(f"{SVG}title").text == f"tiny/{family} - {contents.title}"
            caption = [text.text for text in root.iter(f"{SVG}text")][-1]
            assert f"tiny/{family}" in caption
            assert contents.text[:9] in caption


def test_lines_show_the_weights_above_the_threshold(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, link="#view=lines&layer=1&head=0&threshold=0.2") as page:
        for only in (0, 1):
            page.set_state(onlyChosen=only, query=6)
            weights = page.matrix()
            curves = [p for p in page.svg().iter(f"{SVG}path") if "C" in p.get("d")]
            kept = np.nan_to_num(weights) >= 0.2
            assert len(curves) == (kept[6].sum() if only else kept.sum())
            widths = sorted(float(curve.get("stroke-width")) for curve in curves)
            rows = weights[6:7] if only else weights
            wanted = sorted(0.6 + 3.4 * np.sqrt(rows[np.nan_to_num(rows) >= 0.2]))
            np.testing.assert_allclose(widths, wanted, atol=0.011)
            heading = " ".join(text["text"] for text in page.visible_texts())
            total = (~np.isnan(rows)).sum()
            assert f"{kept[6].sum() if only else kept.sum()} of {total} weights" in heading


def test_automatic_threshold_draws_the_largest_weights(open_page, pages):
    path = pages["encoder-decoder"].path
    with open_page(path, link="#view=lines&kind=cross&layer=1&head=0&onlyChosen=0") as page:
        weights = page.matrix()
        curves = [p for p in page.svg().iter(f"{SVG}path") if "C" in p.get("d")]
        least = np.sort(weights.ravel())[-3 * len(weights)]
        assert 0 < len(curves) <= 3 * len(weights)
        assert len(curves) >= (weights > least).sum() - 1
        page.keyboard.press("x")  # hide lines to the first token
        curves = [p for p in page.svg().iter(f"{SVG}path") if "C" in p.get("d")]
        assert 0 < len(curves) <= 3 * len(weights)
        heading = " ".join(text["text"] for text in page.visible_texts())
        assert "those at the first token left out" in heading
        assert f"of {weights[:, 1:].size} weights" in heading
        assert page.get_by_role("button", name="Auto").get_attribute("aria-pressed") == "true"


def test_the_automatic_threshold_leaves_ten_lines_of_the_chosen_token(open_page, pages):
    with open_page(pages["decoder"].path, link="#view=lines&layer=1&head=0") as page:
        for query, wanted in ((11, 10), (5, 6)):
            page.set_state(query=query)
            row = page.matrix()[query]
            assert (np.nan_to_num(row) > 0).sum() >= wanted
            assert len([p for p in page.svg().iter(f"{SVG}path") if "C" in p.get("d")]) == wanted


def test_lines_of_the_token_under_the_pointer_are_highlighted(open_page, pages):
    path = pages["decoder"].path
    with open_page(path, link="#view=lines&layer=1&head=0&query=0&key=0&onlyChosen=0") as page:
        strong = """() => {
          const app = window.glassformer, alphas = [];
          const painter = { ratio: 1, clip: (x, y, w, h, draw) => draw() };
          for (const name of ["rect", "line", "image", "hatch", "text"]) painter[name] = () => {};
          painter.curve = (x1, y1, x2, y2, color, width, alpha) => alphas.push([y1, alpha]);
          app.view.draw(painter, app.scene(), app.box());
          return alphas;
        }"""
        assert min(alpha for _, alpha in page.evaluate(strong)) > 0.1
        (place,) = [text for text in page.visible_texts() if text["text"] == "\u2068c\u2069"][:1]
        box = page.locator(".stage").bounding_box()
        page.mouse.move(box["x"] + place["x"] - 4, box["y"] + place["y"])
        alphas = page.evaluate(strong)
        assert {alpha > 0.1 for y, alpha in alphas if abs(y - place["y"]) < 2} == {True}
        assert {alpha > 0.1 for y, alpha in alphas if abs(y - place["y"]) > 2} == {False}


def test_predictions_scores_and_rollout_agree_with_the_analyses(open_page, pages):
    model = pages["decoder"].model
    path = pages["decoder"].path
    text = "The cat sat."
    logits = model(torch.tensor([list(text.encode())]))[0].softmax(-1).detach()
    parts = score_parts(model, text, 1)
    with open_page(path, link="#view=predictions&layer=1&head=2&query=5&key=3") as page:
        words = [t.text.strip("\u2068\u2069") for t in page.svg().iter(f"{SVG}text")]
        best = logits[5].topk(10)
        for share, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            assert ByteTokenizer().label(token) in words
            shown = f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:#.2g} %"
            assert shown in words
        rank = 1 + int((logits[5] > logits[5, ord("t")]).sum())
        assert any(word.startswith("Actual token: “t”") and word.endswith(f"rank {rank}.") for word in words)
        assert {"before layer 0", "after layer 0", "after layer 1"} <= set(words)
        page.set_state(view="score")
        shown = page.evaluate("window.glassformer.scene().parts")
        expected = [float(getattr(parts, name)[2, 5, 3]) for name in ("content", "position", "bias")]
        assert shown == pytest.approx(expected, abs=0.0101)
        words = [t.text.strip("\u2068\u2069") for t in page.svg().iter(f"{SVG}text")]
        assert {"content", "position", "bias", "score"} <= set(words)
        page.set_state(view="rollout", rollout=0)
        np.testing.assert_allclose(
            np.nan_to_num(page.matrix()), attention_rollout(model, text).numpy(), atol=0.004
        )
        words = " ".join(t.text for t in page.svg().iter(f"{SVG}text"))
        assert re.search(r"faithfulness of the row “\.” \(11\): (no better|better|worse) than random", words)
        verdict = re.search(r"\(11\): (no better|better|worse) than random", words)[1]
        says = {"better": "falls faster than in random", "no better": "no better than", "worse": "worse than"}
        assert says[verdict] in page.inner_text(".intro")
        assert "gradient-weighted rollout: " in words  # the other method
        assert "input →" in words
        panel = page.locator(".panel").inner_text()
        assert "takes from" in panel
        assert "gives to" in panel
        assert "look" not in panel


def test_predictions_of_the_whole_input_name_no_token(open_page, pages):
    path = pages["vit"].path
    with open_page(path, link="#view=predictions") as page:
        words = [text.text for text in page.svg().iter(f"{SVG}text")]
        assert any("Of the whole image" in word for word in words)
        assert not any("token 0" in word for word in words)


def test_layers_that_the_lens_skips_leave_a_gap(open_page, tmp_path, random_model):
    model = random_model(GPTModel, vocab_size=257, max_seq_len=64, num_layers=6)
    path = AttentionVisualizer(model).explore("abc", tmp_path / "some.html", layers=[1, 4, 5]).path
    with open_page(path, link="#view=predictions") as page:
        shown = page.visible_texts()
        rows = {text["text"]: text["y"] for text in shown if "layer " in text["text"]}
        names = ["after layer 0", "after layer 1", "after layer 4", "after layer 5"]
        gaps = np.diff([rows[name] for name in names])
        assert gaps[0] == gaps[2] < gaps[1]
        [dots] = [text["y"] for text in shown if text["text"] == "⋯"]
        assert rows["after layer 1"] < dots < rows["after layer 4"]


def test_nothing_moves_when_other_controls_appear(open_page, pages):
    with open_page(pages["decoder"].path) as page:
        tops = set()
        for view in page.evaluate("glassformer.views.map(({ name }) => name)"):
            page.set_state(view=view)
            boxes = [
                page.locator(part).bounding_box()["y"] for part in (".tabs", ".controls", ".intro", ".stage")
            ]
            tops.add(tuple(boxes))
        assert len(tops) == 1


def test_a_view_of_one_kind_of_attention_keeps_the_chosen_kind(open_page, pages):
    path = pages["encoder-decoder"].path
    with open_page(path, link="#view=rollout&kind=cross") as page:
        assert (page.state()["kind"], page.matrix().shape) == ("cross", (9, 9))
        page.set_state(query=8)
        assert page.state()["query"] == 8  # rollout is of the encoder
        page.keyboard.press("2")
        assert (page.state()["kind"], page.matrix().shape) == ("cross", (6, 9))
        page.set_state(kind="encoder", view="predictions")
        assert page.evaluate("glassformer.scene().predictions.length") == 2
        assert page.locator(".stage").get_attribute("aria-label").startswith("Predictions. At “")
        page.keyboard.press("2")
        assert page.state()["kind"] == "encoder"


def test_image_view_highlights_patches_by_weight(open_page, pages, picture):
    contents = pages["vit"].contents
    path = pages["vit"].path
    with open_page(path, link="#layer=1&head=2&query=0") as page:
        assert page.state()["view"] == "image"
        weights = page.matrix()[0, contents.image.first_patch :]
        images = list(page.svg().iter(f"{SVG}image"))
        overlay = np.asarray(
            Image.open(io.BytesIO(base64.b64decode(images[2].get("href").partition(",")[2])))
        )
        assert overlay.shape == (4, 4, 4)
        np.testing.assert_allclose(overlay[..., 3].ravel(), 225 * weights / weights.max(), atol=1)
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(images[0].get("href").partition(",")[2]))))
        assert shown.shape[:2] == (24, 24)
        pixels = picture[0].permute(1, 2, 0).numpy()
        wanted = pixels / 2 + 0.5  # the inverse of the model's normalization
        np.testing.assert_allclose(shown[..., :3] / 255, wanted, atol=0.003)
        page.locator(".stage").focus()
        page.keyboard.press("ArrowDown")
        assert page.state()["query"] == contents.image.first_patch
        page.keyboard.press("ArrowDown")
        assert page.state()["query"] == contents.image.first_patch + 4
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowUp")
        assert page.state()["query"] == 0


@pytest.mark.parametrize(
    ("family", "width", "theme"),
    [
        *(("decoder", 1600, "light"), ("encoder", 400, "light")),
        *(("encoder-decoder", 400, "dark"), ("vit", 1600, "dark")),
    ],
)
def test_axe_finds_no_serious_violation(open_page, pages, family, width, theme, missing):
    if not AXE.exists():
        missing(f"needs axe-core: npm install axe-core puts it into {AXE.parents[1].name}")
    with open_page(pages[family].path, width, theme) as page:
        page.evaluate(AXE.read_text("utf-8"))
        for view in page.evaluate("window.glassformer.views.map((view) => view.name)"):
            page.set_state(view=view)
            found = page.evaluate("axe.run()")["violations"]
            assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []


def test_heads_of_a_pruned_model_stand_under_their_numbers(open_page, tmp_path, random_model):
    model = random_model(GPTModel, vocab_size=257, max_seq_len=64, num_heads=4)
    model = prune_heads(model, [(0, 1), (1, 0), (1, 2)])
    path = AttentionVisualizer(model).explore("abc", tmp_path / "pruned.html", analyses=False).path
    with open_page(path, link="#view=heads&layer=0&head=2") as page:
        written = {text["text"]: text["x"] for text in page.visible_texts() if text.get("align") == "center"}
        assert [text for text in written if text.isdigit()] == ["0", "1", "2", "3"]
        assert any("heads without a map were pruned" in text["text"] for text in page.visible_texts())
        hit = "([x, y]) => glassformer.view.hitTest(glassformer.scene(), glassformer.box(), x, y)"
        rows = [text["y"] for text in page.visible_texts() if text["text"].startswith("layer ")]
        found = [[page.evaluate(hit, [written[number], y]) for number in "0123"] for y in rows]
        assert [[cell and cell["head"] for cell in row] for row in found] == [
            [0, None, 2, 3],
            [None, 1, None, 3],
        ]
        page.locator(".stage").focus()
        for key, layer, head in (
            ("ArrowDown", 1, 1),
            ("ArrowRight", 1, 3),
            ("ArrowUp", 0, 3),
            ("ArrowLeft", 0, 2),
        ):
            page.keyboard.press(key)
            assert (page.state()["layer"], page.state()["head"]) == (layer, head)
        page.set_state(view="byhead", layer=1)
        assert {"head 1", "head 3"} <= {text["text"].strip("\u2068\u2069") for text in page.visible_texts()}
