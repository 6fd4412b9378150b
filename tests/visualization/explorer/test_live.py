"""Pages that show the attention of typed texts, which they compute themselves."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from glassformer.models import BERTModel, GPTModel, T5Model
from glassformer.models.inference import optimize_for_inference
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization.explorer import collect_contents, explore
from glassformer.visualization.explorer.live import attention_and_output
from glassformer.visualization.explorer.live_weights import MAX_SIZE, dequantized_state

pytestmark = pytest.mark.slow
TOLERANCE = 1e-3
AXE = Path(__file__).parents[3] / "node_modules" / "axe-core" / "axe.min.js"


def computed_by_python(model, ids):
    attention, output = attention_and_output(model, [torch.tensor([ids])], dequantized_state(model))
    return torch.cat(attention).numpy(), output[0].numpy()


def test_typed_text_replaces_the_maps(live_page, random_model, type_text):
    model = random_model(GPTModel, vocab_size=257, max_seq_len=64)
    text = "A dog ran."
    with live_page(model, analyses=True) as page:
        page.set_state(view="heads", layer=1, head=2)
        original = page.matrix()
        tabs = page.locator("[role=tab]").count()
        assert page.locator("#tab-rollout").count() == page.locator("#tab-score").count() == 1
        type_text(page, text)
        assert page.state()["view"] == "heads"
        assert page.locator("[role=tab]").count() == tabs - 2
        assert page.locator("#tab-rollout").count() == page.locator("#tab-score").count() == 0
        assert page.inner_text(".text") == f"“{text}”, with 8-bit weights"
        expected, logits = computed_by_python(model, list(text.encode()))
        for head in range(3):
            shown = page.matrix_of_head(head)
            assert np.isnan(shown[np.triu_indices(len(text), 1)]).all()
            np.testing.assert_allclose(np.nan_to_num(shown), expected[1, head], atol=0.008)
        probabilities = torch.tensor(logits).softmax(-1)
        check_predictions(page, probabilities, list(text.encode()))
        page.click("text=Back to the original text")
        page.evaluate("window.glassformer.ready.then(() => window.glassformer.settled)")
        page.set_state(layer=1, head=2)
        np.testing.assert_array_equal(page.matrix(), original)
        assert page.locator("[role=tab]").count() == tabs
        assert page.is_hidden("text=Back to the original text")


def test_a_link_restores_a_typed_text(live_page, tiny, type_text, wait_until):
    with live_page(tiny(GPTModel, vocab_size=257, max_seq_len=64)) as page:
        type_text(page, "A dog & a cat")
        page.set_state(view="map", layer=1, head=0, query=7, key=3)
        page.evaluate("window.glassformer.settled")
        link, shown = page.url, page.matrix()
        assert "text=A+dog" in link
        page.goto("about:blank")
        page.goto(link)
        wait_until(page, "window.glassformer?.state.query === 7 && window.glassformer.live.shown !== ''")
        assert page.input_value("#live-text") == "A dog & a cat"
        state = page.state()
        assert (state["view"], state["layer"], state["head"], state["key"]) == ("map", 1, 0, 3)
        np.testing.assert_array_equal(page.matrix(), shown)
        page.click("text=Back to the original text")
        page.evaluate("window.glassformer.ready.then(() => window.glassformer.settled)")
        assert "text=" not in page.url


def check_predictions(page, probabilities, ids):
    page.set_state(view="predictions", query=3)
    (entry,) = page.evaluate("window.glassformer.scene().predictions")
    tokens = entry["predictions"]["tokens"]
    flat = entry["values"][3][0]
    best = probabilities[3].topk(10)
    labels = [ByteTokenizer().label(int(token)) for token in best.indices]
    assert [tokens[index] for index in flat[::2]] == labels
    np.testing.assert_allclose(flat[1::2], best.values, atol=TOLERANCE)
    index, share, rank = entry["targets"][3]
    assert tokens[index] == chr(ids[4])
    assert share == pytest.approx(float(probabilities[3, ids[4]]), abs=TOLERANCE)
    assert rank == 1 + int((probabilities[3] > probabilities[3, ids[4]]).sum())
    assert entry["targets"][len(ids) - 1] is None


def test_maps_of_long_texts_have_thumbnails(live_page, tiny, type_text):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=128, window=20)
    with live_page(model) as page:
        type_text(page, "0123456789" * 12)
        contents = collect_contents(model, list(b"0123456789" * 12), analyses=False)
        sizes = page.evaluate(
            "window.glassformer.scene().thumbnails.map(({ packed, count }) => [packed.queries, count])"
        )
        assert sizes == [[40, 5], [40, 5]]
        assert contents.attention[0].thumbnails[0].queries == 40
        shown = page.evaluate("Array.from(window.glassformer.scene().thumbnails[0].codes).length")
        assert shown == 5 * 40 * 40


def test_chosen_layers_stay(live_page, tiny, type_text):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48, num_layers=3)
    with live_page(model, layers=[2]) as page:
        type_text(page, "A dog")
        assert page.evaluate("window.glassformer.attention.layers") == [2]
        expected, _ = computed_by_python(model, list(b"A dog"))
        np.testing.assert_allclose(np.nan_to_num(page.matrix_of_head(1)), expected[2, 1], atol=0.008)


def test_a_notebook_frame_computes_too(browser, tiny, wait_until, tmp_path, type_text):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48)
    path = tmp_path / "book.html"
    frame = explore(model, "abc", live=True, analyses=False)._repr_html_()
    path.write_text(f"<!doctype html><title>book</title>{frame}", "utf-8")
    page, complaints = browser.new_page(offline=True), []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(path.as_uri())
    inside = page.frames[1]
    wait_until(inside, "window.glassformer && window.glassformer.timings.complete")
    type_text(inside, "Another one")
    assert inside.inner_text(".text") == "“Another one”, with 8-bit weights"
    assert complaints == []
    page.close()


def test_texts_that_are_refused(live_page, tiny, type_text):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=20)
    with live_page(model) as page:
        type_text(page, "")
        assert page.inner_text(".live [role=status]") == "The text is empty: type at least one word."
        type_text(page, "x" * 21)
        assert (
            page.inner_text(".live [role=status]") == "The text has 21 tokens; at most 20 are possible here."
        )
        assert page.is_hidden("text=Back to the original text")
        type_text(page, "x" * 20)
        assert page.inner_text(".live [role=status]") == ""


def test_hostile_texts_run_nothing(live_page, tiny):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=256)
    with live_page(model) as page:
        for text in (
            "</script><img src=x onerror='window.hacked = 1'>",
            "\u202eevil\u202c\ud800",
            "“${1}”&lt;",
        ):
            page.evaluate("text => { window.glassformer.live.field.value = text }", text)
            page.evaluate("window.glassformer.live.submit()")
            page.evaluate("window.glassformer.settled")
        assert page.evaluate("window.hacked") is None
        assert page.locator("img").count() == 0
        assert page.locator(".all-tokens").count() == 1


@pytest.mark.parametrize(("width", "theme"), [(1600, "light"), (400, "dark")])
def test_axe_finds_no_serious_violation(live_page, tiny, type_text, missing, width, theme):
    if not AXE.exists():
        missing(f"needs axe-core: npm install axe-core puts it into {AXE.parents[1].name}")
    with live_page(tiny(GPTModel, vocab_size=257, max_seq_len=64), width=width, theme=theme) as page:
        page.evaluate(AXE.read_text("utf-8"))
        for text in ("Another text.", "a" * 100):  # the second one is refused
            type_text(page, text)
            found = page.evaluate("axe.run()")["violations"]
            assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
            assert page.evaluate("document.documentElement.scrollWidth") == width


def test_note_says_how_it_is_computed(live_page, tiny):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48)
    with live_page(model) as page:
        note = page.inner_text(".live .soft")
    assert re.fullmatch(
        r"Computed in this page with 8-bit weights \(0\.0 MB\); largest difference from float32 on the "
        r"original text: attention weights 0\.\d+, probabilities 0\.\d+\.",
        note,
    )


def test_all_data_leaves_the_weights_out(live_page, tiny, type_text):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48)
    with live_page(model) as page:
        type_text(page, "abc")
        with page.expect_download() as download:
            page.click("text=Save ▾")
            page.click("text=All data")
        saved = download.value.path().read_text("utf-8")
    assert '"queries":["a","b","c"]' in saved
    assert "q_proj" not in saved


def test_policy_of_other_pages_is_unchanged(tiny):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48)
    pages = {live: explore(model, "abc", analyses=False, live=live).html for live in (False, True)}
    policies = {live: re.findall('Policy" content="([^"]*)"', html)[0] for live, html in pages.items()}
    assert "worker-src" not in policies[False]
    directives = {live: re.sub("'sha256-[^']*'", "", policy) for live, policy in policies.items()}
    assert directives[True] == directives[False].replace("img-src", "worker-src blob:; img-src")
    assert "unsafe" not in policies[True]
    assert "LiveText" not in pages[False]
    assert '"live":null' in pages[False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "sliding_window"}, "a pattern of sparse attention"),
        ({"kernel": "linear"}, "linear attention"),
        ({"pruned_heads": {"self": [[0], []]}}, "pruned heads"),
        (
            {
                "positions": {
                    "kind": "rotary",
                    "scaling": {"kind": "dynamic", "factor": 2.0, "original_max_seq_len": 8},
                }
            },
            "frequencies depend on the length",
        ),
        ({"vocab_size": 100}, "without a tokenizer"),
        ({"qk_norm": "head"}, "qk_norm='head'; it supports None"),
        ({"norm": "unit_offset_rms"}, "the norm 'unit_offset_rms'"),
        ({"activation": "quick_gelu"}, "the activation 'quick_gelu'"),
        ({"positions": ["rotary", "none"]}, "positions that differ between layers"),
        ({"positions": {"kind": "learned", "offset": 2}}, "learned positions with an offset"),
        ({"window": [2, None]}, "windows that differ between layers"),
        ({"logit_softcap": 2.0}, "logit_softcap=2.0"),
        ({"scale_embeddings": 2.0}, "scale_embeddings=2.0"),
    ],
)
def test_unsupported_models_are_refused(options, message, tiny):
    model = tiny(GPTModel, **{"vocab_size": 257, "max_seq_len": 48, **options})
    with pytest.raises(ValueError, match=f"A live page cannot .*{message}"):
        explore(model, [1, 2, 3], live=True)


def test_other_families_and_tokenizers_are_refused(tiny):
    with pytest.raises(ValueError, match="cannot compute a T5Model"):
        explore(tiny(T5Model, vocab_size=257), "abc", live=True)
    with pytest.raises(ValueError, match="the head 'classification'"):
        explore(tiny(BERTModel, vocab_size=257, head="classification"), "abc", live=True)
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48)
    with pytest.raises(ValueError, match="packed float32 weights"):
        explore(optimize_for_inference(model, weights="float32"), "abc", live=True)


def test_models_that_are_too_large_are_refused():
    with torch.device("meta"):
        model = GPTModel(vocab_size=50257, d_model=768, num_layers=1, num_heads=12)
    with pytest.raises(
        ValueError, match=r"has 4\d\.\d MB of 8-bit weights; a live page embeds at most 30 MB"
    ):
        explore(model, [1], live=True)
    assert MAX_SIZE == 30_000_000
