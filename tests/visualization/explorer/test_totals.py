"""Totals on a page and in its exports, and bars that are narrower than a pixel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from glassformer.visualization.explorer import Contents, Explorer, page_html
from glassformer.visualization.explorer.encoding import MASKED, pack_maps, quantize, thumbnails
from glassformer.visualization.explorer.schema import AttentionMaps

pytestmark = pytest.mark.slow
LENGTH = 600


def softmax(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def one_head(rows):
    """The weights of a head, one row for each distribution."""
    return np.array(rows, dtype=np.float64)


def rows_of_every_kind():
    random = np.random.default_rng(0)
    half = np.full(LENGTH, 0.5 / (LENGTH - 1))
    half[0] = 0.5
    sink = np.full(LENGTH, 3e-6)
    sink[0] = 1 - 3e-6 * (LENGTH - 1)
    peaked = np.zeros(LENGTH)
    peaked[7] = 1
    few = np.zeros(LENGTH)
    few[:3] = [0.7, 0.2, 0.1]
    return [
        np.full(LENGTH, 1 / LENGTH),
        half,
        sink,
        peaked,
        few,
        softmax(random.normal(size=LENGTH)),
        softmax(4 * random.normal(size=LENGTH)),
        softmax(-0.05 * np.arange(LENGTH)),
        np.repeat([2.0, 0.0], LENGTH // 2) / LENGTH,
    ]


def save_page(folder, heads, allowed=None):
    """A page of one layer."""
    weights = np.stack(heads)
    codes = quantize(weights, allowed)
    queries, keys = ([str(number) for number in range(size)] for size in weights.shape[1:])
    attention = AttentionMaps(
        "self",
        "",
        queries,
        keys,
        [0],
        [[*range(len(heads))]],
        [pack_maps(codes)],
        [pack_maps(thumbnails(codes))],
    )
    contents = Contents("", "", [], [attention])
    return Explorer(contents, page_html(contents)).save(folder / "page.html").path


def listed(page, name):
    """The numbers of the list of the chosen row or column, by their labels."""
    return page.evaluate(
        """(name) => {
          const table = [...document.querySelectorAll("aside table")]
            .find((table) => table.getAttribute("aria-label").startsWith(name));
          const text = (cell) => cell.textContent.replace(/[\\u2068\\u2069]/g, "");
          const rows = [...table.tBodies[0].rows].map((row) => [...row.cells]);
          return Object.fromEntries(rows.map((cells) => [text(cells[0]), text(cells.at(-1))]));
        }""",
        name,
    )


def test_the_others_of_equal_weights_are_summed_exactly(open_page, tmp_path):
    path = save_page(tmp_path, [np.full((LENGTH, LENGTH), 1 / LENGTH)])
    with open_page(path, link="#view=map&head=0&query=5&key=5") as page:
        row, column = listed(page, "Row"), listed(page, "Column")
        assert float(row["590 others together"]) == pytest.approx(590 / LENGTH, abs=0.0005)
        assert float(row["0"]) == pytest.approx(1 / LENGTH, abs=1e-5)
        assert float(column[f"mean of {LENGTH} queries"]) == pytest.approx(1 / LENGTH, abs=1e-5)
        assert "0.00167" in page.evaluate("document.querySelector('.stage').getAttribute('aria-label')")


def test_rows_of_every_kind_sum_to_one_and_stay_within_the_stated_error(open_page, tmp_path):
    head = one_head(rows_of_every_kind())
    mirrored = head[:, ::-1]
    path = save_page(tmp_path, [head, mirrored])
    with open_page(path, link="#view=map&head=0&query=0&key=0") as page:
        for number, weights in ((0, head), (1, mirrored), (-1, (head + mirrored) / 2)):
            shown = page.matrix_of_head(number)
            np.testing.assert_allclose(shown.sum(-1), 1, atol=2e-5)
            assert (np.abs(shown - weights) <= 2 * np.sqrt(weights) / 254 + 1.6e-5).all()
            if number >= 0:  # each weight is one that is rounded to the code in the file
                assert (np.abs(np.sqrt(shown) * 254 - np.rint(np.sqrt(weights) * 254)) <= 0.501).all()
            for query, row in enumerate(weights):
                page.set_state(query=query)
                rest = float(listed(page, "Row").get("590 others together", "0").replace("<", ""))
                assert rest == pytest.approx(1 - np.sort(row)[-10:].sum(), abs=0.006)
            with page.expect_download() as download:
                page.keyboard.press("j")
            saved = json.loads(Path(download.value.path()).read_text("utf-8"))
            np.testing.assert_allclose(np.sum(saved["weights"], axis=-1), 1, atol=2e-5)
        page.set_state(view="byhead", query=0)
        with page.expect_download() as download:
            page.keyboard.press("j")
        saved = json.loads(Path(download.value.path()).read_text("utf-8"))
        np.testing.assert_allclose(np.sum(saved["weights"], axis=-1), 1, atol=2e-5)


def test_masked_cells_and_rows_that_are_no_distribution_are_left_as_they_are(open_page, tmp_path):
    allowed = np.tril(np.ones((40, 40), dtype=bool))
    causal = allowed / allowed.sum(-1, keepdims=True)
    zero, tenths = np.zeros((40, 40)), np.full((40, 40), 0.1)
    path = save_page(tmp_path, [causal, np.where(allowed, tenths, 0), zero], allowed[None])
    with open_page(path, link="#view=map&head=0&query=0&key=0") as page:
        shown = page.matrix_of_head(0)
        np.testing.assert_array_equal(np.isnan(shown), ~allowed)
        np.testing.assert_allclose(np.nan_to_num(shown), causal, atol=1e-6)
        stored = (np.rint(np.sqrt(0.1) * 254) / 254) ** 2
        np.testing.assert_allclose(page.matrix_of_head(1)[20, :21], stored, atol=1e-6)
        assert (page.matrix_of_head(2)[allowed] == 0).all()
    assert (quantize(zero, allowed)[~allowed] == MASKED).all()


@pytest.mark.parametrize("length", [300, 900, 1500])
def test_bars_narrower_than_a_pixel_have_no_stripes(open_page, tmp_path, length):
    equal = np.full((length, length), 1 / length)
    spike = equal * 0.5
    spike[:, length // 3] += 0.5
    path = save_page(tmp_path, [equal, spike])
    colors = """([left, top, width, height]) => {
      const app = window.glassformer, canvas = app.stage.querySelector("canvas"), ratio = devicePixelRatio;
      const copy = new OffscreenCanvas(Math.round(width * ratio), Math.round(height * ratio));
      const context = copy.getContext("2d");
      context.drawImage(canvas, -Math.round(left * ratio), -Math.round(top * ratio));
      const { data } = context.getImageData(0, 0, copy.width, copy.height);
      return [copy.width, copy.height, Array.from(data)];
    }"""
    plot = """() => {
      const app = window.glassformer, { plot, profile } = app.view.layout(app.scene(), app.box());
      return [plot.x, plot.y + plot.height + 8, plot.width, profile - 34];
    }"""
    with open_page(path, 1100, link=f"#view=map&head=0&query=5&key={length - 1}") as page:
        for theme in ("light", "dark"):
            page.set_state(theme=theme, head=0)
            x, y, width, height = page.evaluate(plot)
            across, down, pixels = page.evaluate(colors, [x + 3, y + 3, width - 12, height - 6])
            drawn = np.reshape(pixels, (down, across, 4))[..., :3]
            assert np.ptp(drawn, axis=(0, 1)).max() <= 3  # one area of the same color
        page.set_state(theme="light", head=1)
        across, down, pixels = page.evaluate(colors, [x, y, width, height])
        drawn = np.reshape(pixels, (down, across, 4))[..., :3].astype(int)
        is_tall = (drawn[2] < 128).any(-1)  # only the one large weight reaches the top
        assert 1 <= is_tall.sum() <= 3
        assert abs(np.flatnonzero(is_tall).mean() - across / 3) <= 2
