"""The tokenizers of live pages, against those of Python."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from glassformer.models import BERTModel, GPTModel
from glassformer.tokenization import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    PretrainedTokenizer,
    SymbolTokenizer,
    WordPieceTokenizer,
    pre_tokenization,
)
from glassformer.visualization.explorer import collect_contents, explore
from glassformer.visualization.explorer.encoding import unpack_json

pytestmark = pytest.mark.slow
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
def train_tokenizer():
    """Train a WordPiece, or a byte-level BPE with the pre-tokenizer of a family of models."""
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


def test_characters_and_those_that_are_unknown(live_page, tiny, type_text):
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


def test_a_text_of_spaces_is_empty_for_word_piece(live_page, tiny, train_tokenizer, type_text):
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


def test_other_tokenizers_are_refused(tiny):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48)
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
