"""Pages that compute the attention of typed texts themselves, against Python with the same weights."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from tokenizers import normalizers

from glassformer.models import BERTModel, GPTModel, T5Model
from glassformer.models.inference import optimize_for_inference
from glassformer.tokenization import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    SymbolTokenizer,
    WordPieceTokenizer,
)
from glassformer.visualization.explorer import Explorer, collect_contents, explore, page_html
from glassformer.visualization.explorer.encoding import unpack_json
from glassformer.visualization.explorer.live import attention_and_output
from glassformer.visualization.explorer.live_weights import (
    MAX_SIZE,
    dequantized_state,
    is_quantized,
    named_weights,
    unpack_matrix,
)

FORWARD = """async (ids) => {
  const { attention, logits } = await window.glassformer.live.model.forward(ids);
  return { attention: attention.map((layer) => Array.from(layer)), logits: logits && Array.from(logits) };
}"""
ENCODE = """async (texts) => {
  const { model } = window.glassformer.live;
  await model.load();
  return texts.map((text) => model.tokenizer.encode(text).ids);
}"""
PIECES = """async (texts) => {
  const { model } = window.glassformer.live;
  await model.load();
  return texts.map((text) => model.tokenizer.encode(text).pieces);
}"""
TOLERANCE = 1e-3
GPTS = {
    "gpt2": {},
    "llama": {
        "positions": "rotary",
        "norm": "rms",
        "activation": "swiglu",
        "bias": False,
        "num_kv_heads": 2,
        "tie_embeddings": False,
    },
    "neox": {
        "positions": {"kind": "rotary", "d_rotary": 4, "pairing": "interleaved"},
        "residual": "parallel",
        "activation": "gelu",
    },
    "yarn": {
        "positions": {
            "kind": "rotary",
            "scaling": {"kind": "yarn", "factor": 4.0, "original_max_seq_len": 16},
        },
        "activation": "geglu",
        "window": 5,
    },
    "alibi": {"positions": "alibi", "residual": "parallel_shared", "activation": "relu", "num_heads": 6},
    "relative": {
        "positions": "relative_bias",
        "residual": "post",
        "activation": "silu",
        "d_head": 10,
        "attention_scale": 0.7,
    },
    "sinusoidal": {
        "positions": "sinusoidal",
        "activation": "reglu",
        "layer_scale": 0.5,
        "kernel": "textbook",
    },
    "none": {"positions": "none", "activation": "geglu_tanh", "qkv_bias": False, "vocab_size": 301},
}
BERTS = {
    "bert": {"head": "masked_lm"},
    "bare": {"head": "none", "positions": "relative_bias", "residual": "pre", "norm": "rms"},
}
TEXTS = [
    "",
    "a",
    "Hello, world! It's the nation's 1st law: we'll pay $1,234.50.",
    " leading and trailing  spaces   ",
    "line\nbreaks\r\n\n\n  and\ttabs \u00a0\u3000\u2028x",
    "naïve café Ångström E\u0301 \u1e9b\u0323 ﬁ",
    "Москва Ελλάδα עברית العربية हिन्दी 中文字 日本語 한국어",
    "👩‍👩‍👧‍👦🏳️‍🌈🇩🇪 ok 🤷🏽‍♀️!!",
    "\x00\x07\x1b[31m\x7f\x85 \ufeff \u200b\u180e",
    "١٢٣ ½ Ⅻ ²",
    "don'T WE'LL '\u017f 'S 's'd'm",
    "<|endoftext|> [MASK] </script><script>alert(1)</script>",
    "x" * 300,
    "\U0001d518\U0001d52b\U0001d526 \U00010348",
]


def random_texts(count):
    """Texts of characters of many kinds, with repeats."""
    generator = np.random.default_rng(0)
    alphabet = [
        *"abcdeABCDE''  \n\t\r.,!?$€0123456789éß\u017f",
        *"жΩעם中あ한👍🏽\u200d\ufe0f\u0301\u00a0\u2003\x85",
        "'ll",
        "'S",
    ]
    return ["".join(generator.choice(alphabet, size=generator.integers(1, 40))) for _ in range(count)]


@pytest.fixture
def live_page(open_page, tmp_path):
    """Open the live page of a model."""

    def opened(model, text="The cat sat.", **options):
        contents = collect_contents(model, text, live=True, **{"analyses": False, **options})
        path = Explorer(contents, page_html(contents)).save(tmp_path / "live.html").path
        return open_page(path)

    return opened


def computed_by_page(page, model, ids):
    """Attention ``(layer, head, query, key)`` and logits ``(query, vocab_size)`` or None."""
    result = page.evaluate(FORWARD, ids)
    shape = (len(model.blocks), model.blocks[0].attention.num_heads, len(ids), len(ids))
    logits = result["logits"] and np.array(result["logits"]).reshape(len(ids), -1)
    return np.array(result["attention"]).reshape(shape), logits


def computed_by_python(model, ids):
    attention, output = attention_and_output(model, [torch.tensor([ids])], dequantized_state(model))
    return torch.cat(attention).numpy(), output[0].numpy()


@pytest.mark.parametrize("name", [*GPTS, *BERTS])
def test_forward_pass_equals_python(name, live_page, tiny):
    family, options = (GPTModel, GPTS[name]) if name in GPTS else (BERTModel, BERTS[name])
    model = tiny(family, **{"vocab_size": 257, "max_seq_len": 48, "d_model": 24, **options})
    with live_page(model) as page:
        for length in (1, 2, 13, 48):
            ids = torch.randint(257, (length,), generator=torch.Generator().manual_seed(length)).tolist()
            attention, logits = computed_by_page(page, model, ids)
            expected, expected_output = computed_by_python(model, ids)
            np.testing.assert_allclose(attention, expected, atol=TOLERANCE)
            if options.get("head") == "none":
                assert logits is None
            else:
                np.testing.assert_allclose(logits, expected_output, atol=TOLERANCE)


def test_page_itself_computes_where_workers_are_forbidden(tiny, open_page, tmp_path):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48)
    contents = collect_contents(model, "The cat sat.", live=True, analyses=False)
    html = page_html(contents).replace("worker-src blob:; ", "")
    path = tmp_path / "live.html"
    path.write_text(html, "utf-8")
    with pytest.raises(AssertionError, match="worker"), open_page(path) as page:  # the policy's complaint
        attention, logits = computed_by_page(page, model, [1, 2, 3])
    expected, expected_logits = computed_by_python(model, [1, 2, 3])
    np.testing.assert_allclose(attention, expected, atol=TOLERANCE)
    np.testing.assert_allclose(logits, expected_logits, atol=TOLERANCE)


def test_packed_weights_are_the_dequantized_ones(tiny):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48)
    with torch.no_grad():
        model.token_embedding.weight[3] = 0
    live = collect_contents(model, "The cat sat.", live=True, analyses=False).live
    state = dequantized_state(model)
    for name, tensor in named_weights(model).items():
        if is_quantized(tensor):
            assert torch.equal(unpack_matrix(live.tensors[name]), state[name])
            step = tensor.abs().amax(1, keepdim=True) / 127
            assert bool(((state[name] - tensor).abs() <= 0.5 * step + 1e-6).all())
    assert torch.equal(state["lm_head.weight"], state["token_embedding.weight"])
    assert "lm_head.weight" not in live.tensors
    assert live.size == sum(p.numel() for p in model.parameters() if p.dim() == 2)


def test_difference_from_float32_is_measured(tiny):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48)
    live = collect_contents(model, "The cat sat.", live=True, analyses=False).live
    inputs = [torch.tensor([list(b"The cat sat.")])]
    (a, x), (b, y) = (
        attention_and_output(model, inputs, state) for state in (None, dequantized_state(model))
    )
    assert live.attention_difference == float((torch.cat(a) - torch.cat(b)).abs().max()) > 0
    assert live.probability_difference == float((x.softmax(-1) - y.softmax(-1)).abs().max()) > 0


@pytest.mark.parametrize(
    "name", ["byte", "bpe", "gpt2", "smollm", "llama3", "qwen2", "llama.cpp", "bert", "bert, cased"]
)
def test_ids_equal_those_of_python(name, live_page, tiny, train_tokenizer):
    tokenizer = ByteTokenizer() if name == "byte" else train_tokenizer(name)
    model = tiny(GPTModel, vocab_size=tokenizer.vocab_size, max_seq_len=48)
    model.tokenizer = tokenizer
    texts = [*TEXTS, *random_texts(300)]
    with live_page(model) as page:
        found = page.evaluate(ENCODE, texts)
        assert found == [tokenizer.add_special_tokens(tokenizer.encode(text)) for text in texts]
        (ids,) = page.evaluate(ENCODE, ["a\ud800b"])
        assert ids == tokenizer.add_special_tokens(tokenizer.encode("a\\ud800b"))


@pytest.mark.parametrize("name", ["byte", "bpe", "llama3"])
def test_pieces_of_tokens_are_the_text(name, live_page, tiny, train_tokenizer):
    tokenizer = ByteTokenizer() if name == "byte" else train_tokenizer(name)
    model = tiny(GPTModel, vocab_size=tokenizer.vocab_size, max_seq_len=48)
    model.tokenizer = tokenizer
    texts = [*TEXTS, *random_texts(50)]
    with live_page(model) as page:
        found = page.evaluate(PIECES, texts)
        for text, pieces in zip(texts, found, strict=True):
            ends = [end for _, end in tokenizer.spans(text)]
            expected = [text[a:b] for a, b in pairwise([0, *ends])]
            assert [piece for piece in pieces if piece is not None] == expected
        assert found[0] == ([None, None] if name == "llama3" else [])


def test_pieces_of_word_piece_keep_spaces(live_page, tiny, train_tokenizer):
    tokenizer = train_tokenizer("bert")
    model = tiny(BERTModel, vocab_size=tokenizer.vocab_size, max_seq_len=48, head="none")
    model.tokenizer = tokenizer
    with live_page(model) as page:
        (pieces,) = page.evaluate(PIECES, ["The cat, 中文  sat!"])
    assert pieces[0] is pieces[-1] is None
    assert "".join(pieces[1:-1]) == "the cat, 中文  sat!"


@pytest.fixture
def train_tokenizer():
    """Train a WordPiece, or a byte-level BPE with the pre-tokenizer of a family of models."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    from glassformer.tokenization import PretrainedTokenizer, pre_tokenization

    splits = {
        "gpt2": pre_tokenization.split_like_gpt_neox,
        "smollm": pre_tokenization.split_like_smollm,
        "llama3": pre_tokenization.split_like_llama3,
        "qwen2": pre_tokenization.split_like_qwen2,
        "llama.cpp": pre_tokenization.split_like_llama_cpp,
    }

    def train(name):
        texts = [*TEXTS, *random_texts(2000), "the cat sat on the mat because it was tired " * 9]
        if name.startswith("bert"):
            return WordPieceTokenizer.train(texts, 600, lowercase="cased" not in name)
        if name == "bpe":
            return BPETokenizer.train(texts, 800)
        tokenizer = tokenizers.Tokenizer(models.BPE())
        splits[name](tokenizer)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(
            vocab_size=800, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"], show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
        return PretrainedTokenizer(tokenizer)

    return train


def test_characters_and_those_that_are_unknown(live_page, tiny):
    tokenizer = CharacterTokenizer("abc 中👍")
    model = tiny(GPTModel, vocab_size=tokenizer.vocab_size, max_seq_len=48)
    model.tokenizer = tokenizer
    with live_page(model, "abc") as page:
        assert page.evaluate(ENCODE, ["b 👍中a"]) == [tokenizer.encode("b 👍中a")]
        type_text(page, "abx")
        assert page.inner_text(".live [role=status]") == "The model does not know the character “x”."


def test_masks_are_tokens_of_models_that_predict_them(live_page, tiny, train_tokenizer):
    tokenizer = train_tokenizer("gpt2")
    tokenizer.mask_token = 5
    model = tiny(BERTModel, vocab_size=tokenizer.vocab_size, max_seq_len=48, head="masked_lm")
    model.tokenizer = tokenizer
    with live_page(model) as page:
        (ids,) = page.evaluate(ENCODE, ["a [MASK]b[MASK]"])
        encode = tokenizer.encode
        assert ids == [0, *encode("a "), 5, *encode("b"), 5, 1]


def type_text(page, text):
    page.fill("#live-text", text)
    page.press("#live-text", "Enter")
    page.wait_until("!window.glassformer.live.busy")
    page.evaluate("window.glassformer.settled")


def test_typed_text_replaces_the_maps(live_page, random_model):
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


def test_maps_of_long_texts_have_thumbnails(live_page, tiny):
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


def test_chosen_layers_stay(live_page, tiny):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48, num_layers=3)
    with live_page(model, layers=[2]) as page:
        type_text(page, "A dog")
        assert page.evaluate("window.glassformer.attention.layers") == [2]
        expected, _ = computed_by_python(model, list(b"A dog"))
        np.testing.assert_allclose(np.nan_to_num(page.matrix_of_head(1)), expected[2, 1], atol=0.008)


def test_a_notebook_frame_computes_too(browser, tiny, wait_until, tmp_path):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48)
    path = tmp_path / "book.html"
    frame = explore(model, "abc", live=True, analyses=False)._repr_html_()
    path.write_text(f"<!doctype html><title>book</title>{frame}", "utf-8")
    page, complaints = browser.new_page(offline=True), []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(path.as_uri())
    inside = page.frames[1]
    wait_until(inside, "window.glassformer && window.glassformer.timings.complete")
    type_text(ExplorerFrame(inside, wait_until), "Another one")
    assert inside.inner_text(".text") == "“Another one”, with 8-bit weights"
    assert complaints == []
    page.close()


class ExplorerFrame:
    """A frame with the method of a page that waits."""

    def __init__(self, frame, wait_until):
        self.frame, self.wait = frame, wait_until

    def __getattr__(self, name):
        return getattr(self.frame, name)

    def wait_until(self, condition):
        self.wait(self.frame, condition)


def test_a_text_of_spaces_is_empty_for_word_piece(live_page, tiny, train_tokenizer):
    tokenizer = train_tokenizer("bert")
    model = tiny(BERTModel, vocab_size=tokenizer.vocab_size, max_seq_len=48, head="masked_lm")
    model.tokenizer = tokenizer
    with live_page(model) as page:
        type_text(page, "  ")
        assert page.inner_text(".live [role=status]") == "The text is empty: type at least one word."
        type_text(page, "the [MASK] the")
        assert page.evaluate("window.glassformer.attention.queries") == [
            "[CLS]",
            "the",
            "[MASK]",
            "the",
            "[SEP]",
        ]
        assert page.state()["query"] == 4


def test_texts_that_are_refused(live_page, tiny):
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


def test_note_says_how_it_is_computed(live_page, tiny):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48)
    with live_page(model) as page:
        note = page.inner_text(".live .soft")
    assert re.fullmatch(
        r"Computed in this page with 8-bit weights \(0\.0 MB\); largest difference from float32 on the "
        r"original text: attention weights 0\.\d+, probabilities 0\.\d+\.",
        note,
    )


def test_all_data_leaves_the_weights_out(live_page, tiny):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48)
    with live_page(model) as page:
        type_text(page, "abc")
        with page.expect_download() as download:
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
    model.tokenizer = SymbolTokenizer(["a", "b"])
    with pytest.raises(ValueError, match="cannot encode texts with the SymbolTokenizer"):
        explore(model, [1], live=True)
    model.tokenizer = WordPieceTokenizer.train(["the cat sat"] * 9, 40)
    model.tokenizer._tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(ValueError, match="WordPiece and the normalizer Lowercase"):
        explore(model, [1], live=True)
    model.tokenizer = WordPieceTokenizer.train(["the cat sat"] * 9, 40)
    model.tokenizer._tokenizer.add_special_tokens(["cat"])
    with pytest.raises(ValueError, match="the added token 'cat'"):
        explore(model, [1], live=True)


def test_models_that_are_too_large_are_refused():
    with torch.device("meta"):
        model = GPTModel(vocab_size=50257, d_model=768, num_layers=1, num_heads=12)
    with pytest.raises(
        ValueError, match=r"has 4\d\.\d MB of 8-bit weights; a live page embeds at most 30 MB"
    ):
        explore(model, [1], live=True)
    assert MAX_SIZE == 30_000_000


def test_added_tokens_of_texts_are_refused(tiny, train_tokenizer):
    tokenizer = train_tokenizer("bpe")
    model = tiny(GPTModel, vocab_size=tokenizer.vocab_size + 1, max_seq_len=48)
    model.tokenizer = tokenizer
    tokenizer.parse_special_tokens = True
    with pytest.raises(ValueError, match="special tokens that texts spell out"):
        explore(model, [1], live=True)
    tokenizer.parse_special_tokens = None
    tokenizer._tokenizer.add_tokens(["hello"])
    with pytest.raises(ValueError, match="the added token 'hello', which is not special"):
        explore(model, [1], live=True)


def test_labels_are_those_of_the_tokenizer(tiny, train_tokenizer):
    tokenizer = train_tokenizer("bpe")
    model = tiny(GPTModel, vocab_size=tokenizer.vocab_size + 2, max_seq_len=48)
    model.tokenizer = tokenizer
    labels = unpack_json(collect_contents(model, [1], live=True, analyses=False).live.labels.data)
    assert labels[300] == tokenizer.label(300)
    assert labels[-1] == str(tokenizer.vocab_size + 1)
