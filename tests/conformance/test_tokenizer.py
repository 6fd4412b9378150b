"""The test suite of ``contracts.Tokenizer``. Add a new tokenizer to ``CASES``."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from glassformer.contracts import Tokenizer
from glassformer.generation import decode_stream
from glassformer.tokenization import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    PretrainedTokenizer,
    SymbolTokenizer,
    WordPieceTokenizer,
    find_gpt2_ranks,
    load_tokenizer,
    safe_decode,
)

ALPHABET = "abcdefghijklmnopqrstuvwxyz ABC0123,.!?'\n\t\x00éßЖ語😀\u0301\u200d"

AWKWARD = [
    "",
    "\n",
    "\r\n",
    " ",
    "   leading and trailing   ",
    "a\x00b",
    "cafe\u0301",  # a combining mark
    "\u0301",
    "👩‍👩‍👧‍👦 🇩🇪",  # zero-width joiners; two regional indicators
    "\ufeffmark",
    "\U0010ffff",
    "Don't we'll I'm 'tis",
    "line\n\n\n  indented\tcode();\n",
    "<|endoftext|>",
    "漢字かな交じり文",
    "الْعَرَبِيَّة",
]


def gpt2() -> Tokenizer:
    try:
        return BPETokenizer.from_tiktoken(find_gpt2_ranks())
    except FileNotFoundError as error:
        pytest.skip(str(error))


def unigram() -> Tokenizer:
    """Like T5's: spaces are written ``▁``, and ``</s>`` is an entry of the model's vocabulary."""
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([LETTERS, "the cat sat on the mat </s> " * 20], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return PretrainedTokenizer(tokenizer)


def llama() -> Tokenizer:
    """Like Llama's: BPE over characters, with bytes for characters outside the vocabulary."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"ahst", "▁t", "at"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    model = models.BPE(
        vocabulary, [("▁", "t"), ("a", "t")], unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return PretrainedTokenizer(tokenizer, {"eos_token": "</s>", "bos_token": {"content": "<s>"}})


@dataclass(frozen=True)
class Case:
    """A tokenizer and the texts that it can encode.

    ``alphabet`` has the characters that it knows, or is None if it knows all; ``decoded`` returns what
    ``decode(encode(text))`` should be.
    """

    make: Callable[[], Tokenizer]
    alphabet: str | None = None
    decoded: Callable[[str], str] = str

    def texts(self) -> st.SearchStrategy[str]:
        """Texts that the tokenizer can encode."""
        return st.text() if self.alphabet is None else st.text(alphabet=self.alphabet)

    def awkward(self) -> list[str]:
        return [text for text in AWKWARD if self.alphabet is None or set(text) <= set(self.alphabet)]


LETTERS = "acehmnost \n"

CASES = {
    "byte": Case(ByteTokenizer),
    "character": Case(lambda: CharacterTokenizer(ALPHABET), ALPHABET),
    "bpe": Case(lambda: BPETokenizer.train(["the cat sat on the mat, the cat 語語 " * 20], 300)),
    "gpt2": Case(gpt2),
    "wordpiece": Case(
        lambda: WordPieceTokenizer.train([LETTERS, "the cat sat on the mat " * 20], 60),
        LETTERS,
        lambda text: " ".join(text.split()),
    ),
    "unigram": Case(unigram, LETTERS, lambda text: text.removeprefix(" ")),
    "llama": Case(llama, ALPHABET),
    "symbols": Case(
        lambda: SymbolTokenizer([*"ABCabc", "AH0"]), "ABCabc \n", lambda text: " ".join("".join(text.split()))
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@cache
def made(case: Case) -> Tokenizer:
    return case.make()


@cache
def reloaded(case: Case, folder: Path) -> Tokenizer:
    folder.mkdir(exist_ok=True)
    made(case).save(folder)
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def tokenizer(case: Case) -> Tokenizer:
    return made(case)


@pytest.mark.slow
def test_it_implements_the_protocol(tokenizer: Tokenizer) -> None:
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.vocab_size > 0


@pytest.mark.slow
def test_awkward_texts_are_decoded_unchanged(case: Case, tokenizer: Tokenizer) -> None:
    texts = case.awkward()
    expected = [case.decoded(text) for text in texts]
    assert [tokenizer.decode(tokenizer.encode(text)) for text in texts] == expected


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_any_text_is_decoded_unchanged_from_ids_in_range(case: Case, data: st.DataObject) -> None:
    tokenizer, text = made(case), data.draw(case.texts())
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == case.decoded(text)
    assert all(type(token) is int and 0 <= token < tokenizer.vocab_size for token in ids)


def test_the_empty_text_has_no_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_streamed_text_is_the_decoded_text(case: Case, data: st.DataObject) -> None:
    """For any ids, with bytes that are no character, and ids that the tokenizer does not have."""
    tokenizer = made(case)
    partial = [i for i in range(min(tokenizer.vocab_size, 400)) if "\\x" in tokenizer.label(i)] or [0]
    some_id = st.integers(0, tokenizer.vocab_size + 1) | st.sampled_from(partial)
    known = st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=4)
    ids = data.draw(st.lists(some_id | case.texts().map(tokenizer.encode), max_size=12))
    ids = [token for part in ids for token in (part if isinstance(part, list) else [part])]
    ids = ids * data.draw(st.sampled_from([1, 1, 20]))  # beyond the window
    prompt = data.draw(known)
    expected = safe_decode(tokenizer, [*prompt, *ids])[len(safe_decode(tokenizer, prompt)) :]
    assert "".join(decode_stream(tokenizer, iter(ids), prompt)) == expected


@given(st.data())
@settings(deadline=None, max_examples=30)
def test_a_batch_is_encoded_like_its_texts(case: Case, data: st.DataObject) -> None:
    tokenizer, texts = made(case), data.draw(st.lists(case.texts(), max_size=5))
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def check_spans(case: Case, text: str) -> None:
    """Check that the ids up to any index of the text decode to the text up to that index."""
    tokenizer = made(case)
    ids, spans = tokenizer.encode(text), tokenizer.spans(text)
    assert len(spans) == len(ids)
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert all(a <= c and b <= d for (a, b), (c, d) in pairwise(spans))
    covered = {i for span in spans for i in range(*span)}
    assert all(i in covered for i, character in enumerate(text) if not character.isspace())
    for i in range(len(text) + 1):
        if not any(start < i < end for start, end in spans):
            before = [token for token, (_, end) in zip(ids, spans, strict=True) if end <= i]
            assert tokenizer.decode(before) == case.decoded(text[:i])


def test_spans_of_awkward_texts(case: Case) -> None:
    for text in case.awkward():
        check_spans(case, text)


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_spans_of_any_text(case: Case, data: st.DataObject) -> None:
    check_spans(case, data.draw(case.texts()))


def test_spans_of_a_lone_surrogate_raise_value_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="ud800"):
        tokenizer.spans("a\ud800")


def test_no_text_contains_the_end_of_text_token(tokenizer: Tokenizer) -> None:
    if tokenizer.end_of_text is None:
        pytest.skip("no end-of-text id")
    spelled = tokenizer.decode([tokenizer.end_of_text])
    assert 0 <= tokenizer.end_of_text < tokenizer.vocab_size
    assert tokenizer.end_of_text not in tokenizer.encode(f"a{spelled}b {spelled}")


def test_special_tokens_are_in_the_vocabulary_and_never_come_from_a_text(tokenizer: Tokenizer) -> None:
    special = {tokenizer.end_of_text, tokenizer.pad_token, tokenizer.mask_token} - {None}
    for token in special:
        assert token in range(tokenizer.vocab_size)
        spelled = tokenizer.label(token)
        for text in (spelled, f"a{spelled}", f"the {spelled} cat"):
            assert special.isdisjoint(tokenizer.encode(text))


@given(st.data())
@settings(deadline=None, max_examples=20)
def test_the_same_special_tokens_are_added_around_every_text(case: Case, data: st.DataObject) -> None:
    tokenizer = made(case)
    ids = st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=4)
    first, second = data.draw(ids), data.draw(ids)
    extended = tokenizer.add_special_tokens(first)
    before = tokenizer.add_special_tokens([0] * 99).index(0)
    assert type(extended) is list
    assert extended == [*extended[:before], *first, *extended[before + len(first) :]]
    assert len(extended) - len(first) == len(tokenizer.add_special_tokens([]))
    both, neither = tokenizer.add_special_tokens(first, second), tokenizer.add_special_tokens([], [])
    assert len(both) == len(first) + len(second) + len(neither)
    assert any(both[i : i + len(first)] == first for i in range(len(both) + 1))
    assert any(both[i : i + len(second)] == second for i in range(len(both) + 1))
    assert all(token in range(tokenizer.vocab_size) for token in both)


def test_labels_are_printable(tokenizer: Tokenizer) -> None:
    for token in range(min(tokenizer.vocab_size, 3000)):
        label = tokenizer.label(token)
        assert label
        assert label.isprintable()
        assert " " not in label
        assert not unicodedata.combining(label[0])


@pytest.mark.parametrize("beyond", [-1, 0])
def test_an_id_outside_the_vocabulary_raises_with_its_position(tokenizer: Tokenizer, beyond: int) -> None:
    bad = -1 if beyond else tokenizer.vocab_size
    with pytest.raises(ValueError, match=rf"token id {bad} at position 2"):
        tokenizer.decode([0, 0, bad])
    with pytest.raises(ValueError, match=rf"token id {bad} "):
        tokenizer.label(bad)


def test_a_lone_surrogate_raises_value_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="ud800"):
        tokenizer.encode("a\ud800")


@pytest.mark.slow
@given(st.data())
@settings(deadline=None, max_examples=30)
def test_saving_and_loading_gives_identical_ids(
    case: Case, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    before, text = made(case), data.draw(case.texts())
    after = reloaded(case, tmp_path_factory.getbasetemp() / str(id(case)))
    assert after.encode(text) == before.encode(text)
    assert (type(after), after.vocab_size, after.end_of_text) == (
        type(before),
        before.vocab_size,
        before.end_of_text,
    )


def test_saving_is_deterministic(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        tokenizer.save(tmp_path / name)
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()
