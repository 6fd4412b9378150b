"""The text view: words and their weights, choices, directions of writing, the tour and the help."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from glassformer.models import GPTModel
from glassformer.visualization.explorer import Contents, Explorer, collect_contents, page_html
from glassformer.visualization.explorer.encoding import pack_maps, quantize, thumbnails
from glassformer.visualization.explorer.schema import AttentionMaps

pytestmark = pytest.mark.slow

BOXES = """() => {
  const app = window.glassformer, texts = [], rects = [], { left, top } = app.box();
  const painter = { ratio: 1, clip: (x, y, width, height, draw) => draw() };
  for (const name of ["line", "curve", "image", "hatch"]) painter[name] = () => {};
  painter.rect = (x, y, width, height, fill, { stroke } = {}) =>
    rects.push({ x: x - left, y: y - top, width, height, fill, stroke: stroke ?? null });
  painter.text = (text, x, y, style) =>
    texts.push({ text: text.replace(/[\\u2066-\\u2069]/g, ""), x: x - left, y: y - top, ...style });
  app.view.draw(painter, app.scene(), app.box());
  return { texts, rects, css: app.palette.css, mark: app.palette.mark };
}"""


class TextPage:
    """What the text view draws: words in the large letters of the text, and the boxes behind them."""

    def __init__(self, page):
        self.page = page
        drawn = page.evaluate(BOXES)
        is_word = [text["size"] >= 14 and "weight" not in text for text in drawn["texts"]]
        self.words = [text for text, here in zip(drawn["texts"], is_word, strict=True) if here]
        self.others = [text["text"] for text, here in zip(drawn["texts"], is_word, strict=True) if not here]
        self.drawn = drawn

    def texts(self):
        return [word["text"] for word in self.words]

    def box(self, text):
        """The box behind a word, or None."""
        [word] = [word for word in self.words if word["text"] == text]
        behind = [
            r
            for r in self.drawn["rects"]
            if abs(r["x"] + 2 - word["x"]) < 0.1 and r["y"] < word["y"] < r["y"] + r["height"]
        ]
        return behind[0] if behind else None

    def shade(self, text):
        """Place of the shade of a word on the color scale; 0 for none."""
        box = self.box(text)
        return self.drawn["css"].index(box["fill"]) if box and box["fill"] in self.drawn["css"] else 0

    def check_shades(self, words, weights):
        """The shades of words by their weights; faint ones, below 8 of 255, are left out."""
        expected = 255 * np.sqrt(np.array(weights) / max(weights))
        shades = np.array([self.shade(word) for word in words])
        assert (shades[expected < 5] == 0).all()
        np.testing.assert_allclose(shades[expected > 11], expected[expected > 11], atol=3)

    def outlined(self):
        return [text for text in self.texts() if (self.box(text) or {}).get("stroke") == self.drawn["mark"]]

    def point(self, text):
        [word] = [word for word in self.words if word["text"] == text]
        box = self.page.locator(".stage").bounding_box()
        return box["x"] + 1 + word["x"] + 4, box["y"] + 1 + word["y"]


@pytest.fixture
def text_page(tmp_path):
    """Make a page with random weights; returns its path and the weights ``(head, query, key)``."""

    def make(pieces, key_pieces=None, causal=True, kind="self", num_heads=3):
        random = np.random.default_rng(3)
        keys = pieces if key_pieces is None else key_pieces
        weights = random.dirichlet(np.full(len(keys), 0.3), (num_heads, len(pieces)))
        allowed = np.ones(weights.shape, dtype=bool)
        if causal:
            allowed &= np.tri(len(pieces), dtype=bool)
            weights = np.where(allowed, weights, 0)
            weights /= weights.sum(-1, keepdims=True)
        codes = quantize(weights, allowed)
        labels = [[f"t{number}" for number, _ in enumerate(side)] for side in (pieces, keys)]
        small = pack_maps(thumbnails(codes[[*range(num_heads), 0]]))
        heads = [list(range(num_heads))]
        attention = AttentionMaps(
            kind, "", *labels, [0], heads, [pack_maps(codes)], [small], query_pieces=pieces, key_pieces=keys
        )
        contents = Contents("", "a text", [], [attention])
        path = Explorer(contents, page_html(contents)).save(tmp_path / "text.html").path
        return path, np.where(allowed, weights, np.nan)

    return make


PIECES = [
    None,
    "Un",
    "believ",
    "ably",
    ",",
    " the",
    " keys",
    " aren",
    "'t",
    " there",
    ".",
    "\n",
    "Next",
    " 🙂",
    "",
    "!",
]
WORDS = ["t0", "Unbelievably", ",", "the", "keys", "aren't", "there", ".", "t11", "Next", "🙂", "!"]


def test_tokens_are_merged_to_words_and_shown_as_tokens_on_request(open_page, text_page):
    path, _ = text_page(PIECES)
    with open_page(path) as page:
        shown = TextPage(page)
        assert shown.texts() == WORDS
        lines = {word["text"]: word["y"] for word in shown.words}
        assert lines["Next"] > lines["there"] == lines["Unbelievably"]
        page.get_by_label("Pieces").select_option("tokens")
        page.state()
        assert TextPage(page).texts()[:5] == ["t0", "Un", "believ", "ably", ","]
        assert TextPage(page).texts()[-3:] == ["🙂", "t14", "!"]


def test_a_text_without_spaces_is_divided_into_words(open_page, text_page):
    path, _ = text_page(["日", "本", "語", "を", "勉", "強", "する", "。"])
    with open_page(path) as page:
        words = TextPage(page).texts()
        assert "".join(words) == "日本語を勉強する。"
        assert 3 <= len(words) < 8


@pytest.mark.parametrize("looking", ["at", "by"])
def test_words_are_shaded_by_their_weights(open_page, text_page, looking):
    path, weights = text_page(PIECES)
    ends = [1, 4, 5, 6, 7, 9, 10, 11, 12, 13, 15, 16]
    spans = list(pairwise([0, *ends]))
    with open_page(path, link=f"#head=1&looking={looking}&query=8&key=8") as page:
        page.state()
        low, high = spans[5]  # "aren't"
        here = np.nan_to_num(weights[1])
        expected = [
            here[low:high, a:b].sum(1).mean() if looking == "at" else here[a:b, low:high].sum(1).mean()
            for a, b in spans
        ]
        shown = TextPage(page)
        assert shown.outlined() == ["aren't"]
        shown.check_shades(WORDS, expected)
        rows = [row.inner_text().split() for row in page.locator(".panel tbody tr").all()]
        order = sorted(np.flatnonzero(expected), key=lambda index: -expected[index])[:10]
        assert [row[0].strip("\u2068\u2069") for row in rows] == [WORDS[index] for index in order]
        listed = [float(row[-2]) / 100 for row in rows]  # percent
        assert listed == pytest.approx(np.array(expected)[order], rel=0.03, abs=2e-4)


def test_the_word_under_the_pointer_is_shown_until_it_leaves(open_page, text_page):
    path, _ = text_page(PIECES)
    with open_page(path, link="#query=9") as page:
        before = TextPage(page)
        assert before.outlined() == ["there"]
        page.mouse.move(*before.point("keys"))
        assert TextPage(page).outlined() == ["keys"]
        assert page.state()["query"] == 9
        page.mouse.move(2, 2)
        assert TextPage(page).outlined() == ["there"]
        page.mouse.click(*before.point("aren't"))
        assert page.state()["query"] == 8  # its last token
        assert page.state()["key"] not in (0, 8)


def test_arrows_choose_heads_and_with_shift_words(open_page, text_page):
    path, _ = text_page(PIECES)
    with open_page(path, link="#query=9&head=0") as page:
        page.locator(".stage").press("ArrowRight")
        assert (page.state()["head"], page.state()["query"]) == (1, 9)
        page.locator(".stage").press("Shift+ArrowLeft")
        assert (page.state()["head"], page.state()["query"]) == (1, 8)
        page.locator(".stage").press("Home")
        assert page.state()["query"] == 0
        page.locator(".stage").press("End")
        assert TextPage(page).outlined() == ["!"]
        assert (
            page.locator(".stage")
            .get_attribute("aria-label")
            .startswith("Text. Layer 0, head 1. “!” looks at")
        )


def test_strips_show_all_heads_and_choose_one(open_page, text_page):
    path, _ = text_page(PIECES)
    with open_page(path, link="#head=0") as page:
        shown = TextPage(page)
        assert [text for text in shown.others if text.startswith(("head ", "mean"))] == [
            "head 0",
            "head 1",
            "head 2",
            "mean of the heads",
        ]
        [place] = [text for text in page.visible_texts() if text["text"] == "head 2"]
        box = page.locator(".stage").bounding_box()
        for view in ("text", "map"):  # the second click on a head opens it
            page.mouse.click(box["x"] + 1 + place["x"] + 4, box["y"] + 1 + place["y"] + 14)
            assert (page.state()["head"], page.state()["view"]) == (2, view)


def test_without_the_first_token_the_others_are_darker(open_page, text_page):
    path, weights = text_page(PIECES)
    head = int(np.nan_to_num(weights[:, 6, 0]).argmax())
    with open_page(path, link=f"#query=6&head={head}") as page:
        rest = np.nan_to_num(weights[head, 6, 1:7])
        page.get_by_label("the first token").uncheck()
        page.state()
        shown = TextPage(page)
        assert shown.shade("t0") == 0
        word = {1: "Unbelievably", 2: "Unbelievably", 3: "Unbelievably", 4: ",", 5: "the", 6: "keys"}
        sums = {}
        for index, weight in enumerate(rest, 1):
            sums[word[index]] = sums.get(word[index], 0) + weight
        assert shown.shade(max(sums, key=sums.get)) == 255


def test_two_texts_look_at_each_other(open_page, text_page):
    path, weights = text_page(["Die", " Katze"], [None, "The", " cat", " sat"], causal=False, kind="cross")
    with open_page(path, link="#head=0") as page:
        assert TextPage(page).texts() == ["Die", "Katze", "t0", "The", "cat", "sat"]
        page.mouse.click(*TextPage(page).point("Katze"))
        assert (page.state()["looking"], page.state()["query"]) == ("at", 1)
        shades = [TextPage(page).shade(word) for word in ("t0", "The", "cat", "sat")]
        np.testing.assert_allclose(
            shades, np.round(255 * np.sqrt(weights[0, 1] / weights[0, 1].max())), atol=3
        )
        page.mouse.click(*TextPage(page).point("cat"))
        assert (page.state()["looking"], page.state()["key"]) == ("by", 2)
        TextPage(page).check_shades(["Die", "Katze"], weights[0, :, 2])


def test_right_to_left_text_runs_from_the_right(open_page, text_page):
    path, _ = text_page(["שלום", " עולם", " abc", " def", " סוף", "."])
    with open_page(path) as page:
        places = {word["text"]: word["x"] for word in TextPage(page).words}
        order = sorted(places, key=places.get, reverse=True)
        assert order == ["שלום", "עולם", "def", "abc", "סוף", "."]


@pytest.mark.parametrize("width", [400, 1280])
def test_a_thousand_tokens_scroll_to_the_chosen_word(open_page, text_page, width):
    path, _ = text_page([f" w{number}" for number in range(1000)], num_heads=1)
    with open_page(path, width, link="#query=0") as page:
        page.locator(".stage").press("End")
        page.state()
        [last] = [word for word in TextPage(page).words if word["text"] == "w999"]
        assert 0 < last["y"] < page.locator(".stage").bounding_box()["height"]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_equal_words_are_told_apart_by_their_place(open_page, text_page):
    path, weights = text_page(["The", " cat", " saw", " the", " cat", " near", " the", " door"])
    with open_page(path, link="#head=0&query=7&key=0") as page:
        page.state()
        places = {0: "", 1: "2", 2: "", 3: "4", 4: "5", 5: "", 6: "7", 7: ""}
        cells = "[...document.querySelectorAll('.panel tbody tr')].map((row) => row.cells[1].textContent)"
        order = sorted(np.flatnonzero(weights[0, 7]), key=lambda index: -weights[0, 7, index])
        assert page.evaluate(cells) == [places[index] for index in order]
        assert page.inner_text(".intro").endswith("Click to keep it.")
        page.set_state(query=5)
        assert page.inner_text(".intro").endswith("Gray words come later: they are hidden from it.")
        page.set_state(looking="by")
        assert page.inner_text(".intro").endswith("Click to keep it.")


def test_gray_words_are_explained(open_page, tmp_path, random_model):
    model = random_model(GPTModel, vocab_size=257, max_seq_len=64, window=3)
    contents = collect_contents(model, "one two three four", analyses=False)
    path = Explorer(contents, page_html(contents)).save(tmp_path / "window.html").path
    with open_page(path) as page:
        for query, said in ((1, "Gray words come later: they are hidden"), (9, "Gray words are hidden")):
            page.set_state(view="text", merged=0, looking="at", query=query)
            assert said in page.inner_text(".intro")


def test_the_panel_says_after_which_token_it_predicts(open_page, pages):
    with open_page(pages["decoder"].path) as page:
        for query in (2, 5):
            page.set_state(query=query)
            token = page.evaluate(f"glassformer.attention.queries[{query}]")
            titles = [title.strip("\u2068\u2069") for title in page.locator(".panel h2").all_inner_texts()]
            assert f"What the model predicts after “\u2068{token}\u2069”" in titles


def test_the_prediction_after_the_text_opens_all_predictions(open_page, pages):
    with open_page(pages["decoder"].path) as page:
        [(text, x, y)] = [(t["text"], t["x"], t["y"]) for t in page.visible_texts() if "next: " in t["text"]]
        best = page.evaluate("glassformer.scene().predictions[0].values.at(-1)[0].slice(0, 2)")
        token = page.evaluate(f"glassformer.contents.predictions[0].tokens[{best[0]}]")
        assert token.removeprefix("·") in text
        assert text.strip("\u2068\u2069").endswith("%")
        box = page.locator(".stage").bounding_box()
        page.mouse.click(box["x"] + 1 + x + 5, box["y"] + 1 + y)
        assert (page.state()["view"], page.state()["query"]) == ("predictions", 11)
        assert not page.locator(".panel").is_visible()


def test_pages_open_on_the_most_visible_pattern(open_page, pages):
    for family in ("encoder", "encoder-decoder"):
        contents = pages[family].contents
        attention = next((a for a in contents.attention if a.kind == "cross"), contents.attention[0])
        with open_page(pages[family].path) as page:
            now = page.state()
            best = max(peak for layer in attention.peaks for peak in layer)
            assert (now["query"], now["key"]) == best[1:]
            assert tuple(attention.peaks[now["layer"]][now["head"]]) == best
    with open_page(pages["decoder"].path) as page:  # with labels
        assert (page.state()["layer"], page.state()["head"]) == (1, 2)


def test_the_tour_has_five_steps_and_opens_once(open_page, pages):
    with open_page(pages["decoder"].path, first_visit=True) as page:
        tour = page.locator(".tour")
        for step in range(5):
            assert f"{step + 1} of 5" in tour.inner_text()
            assert page.locator(".toured").count() == 1
            tour.get_by_role("button", name="Done" if step == 4 else "Next").click()
        assert tour.count() == 0
        page.reload()
        page.evaluate("window.glassformer.ready")
        assert tour.count() == 0
        page.get_by_role("button", name="A tour of the page").click()
        assert tour.count() == 1
        tour.get_by_role("button", name="Skip").click()
        assert tour.count() == 0


@pytest.mark.parametrize("family", ["decoder", "encoder-decoder", "vit"])
def test_help_explains_the_words_of_the_page(open_page, pages, family):
    with open_page(pages[family].path) as page:
        page.keyboard.press("?")
        words = page.locator(".help .words dt").all_inner_texts()
        assert {"attention", "head", "layer", "weight", "rollout"} <= set(words)
        assert ("patch" in words) == (family == "vit")
        assert ("kind of attention" in words) == (family == "encoder-decoder")
