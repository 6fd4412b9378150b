"""Inputs of a head analysis: sentences, samples of texts, and repeated random tokens."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.analysis.head_patterns import sample_texts, sentences
from glassformer.analysis.head_patterns.inputs import repeated_sequences, split_sentences
from glassformer.models import BERTModel, GPTModel
from glassformer.tokenization import WordPieceTokenizer


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("One ends. Two begins! Three? Four", ["One ends.", "Two begins!", "Three?", "Four"]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ('It rained (hard.) "Why?" 50 asked.', ["It rained (hard.)", '"Why?"', "50 asked."]),
        ("Mr. Smith met Gen. Grant.", ["Mr. Smith met Gen. Grant."]),
        ("George W. Bush spoke. All rose.", ["George W. Bush spoke.", "All rose."]),
        ("Version 2.5 costs $3.50 e.g. here.", ["Version 2.5 costs $3.50 e.g. here."]),
        ("Wait... What?", ["Wait...", "What?"]),
        ("   ", []),
    ],
)
def test_lines_are_split_into_sentences(line, expected):
    assert list(split_sentences(line)) == expected


def test_sentences_have_limited_length_and_end_with_the_line():
    text = "Too short.\nThis one has just enough words\nand this follows it on its own line. " + "Long " * 70
    assert list(sentences([text])) == [
        "This one has just enough words",
        "and this follows it on its own line.",
    ]
    assert list(sentences(["one two"], min_words=2)) == ["one two"]
    assert list(sentences(["a  b\tc d"])) == ["a b c d"]


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1e", "\x85", "\u2028", "\u2029"])
def test_sentences_do_not_end_at_other_separators(separator):
    assert list(sentences([f"an old{separator}file with such signs\r\n"])) == ["an old file with such signs"]


@given(st.lists(st.text(st.sampled_from("ab. !?A")), max_size=20))
def test_splitting_loses_only_white_space(texts):
    for text in texts:
        assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


@given(st.integers(1, 20), st.integers(0, 40), st.integers(0, 9))
def test_samples_keep_order_and_number(count, length, seed):
    texts = [str(number) for number in range(length)]
    sample = sample_texts(iter(texts), count, seed)
    assert len(sample) == min(count, length)
    assert sample == sorted(set(sample), key=int)
    assert sample == sample_texts(texts, count, seed)


def test_each_text_has_the_same_chance():
    counts = Counter(text for seed in range(3000) for text in sample_texts("abcdefghij", 3, seed))
    assert min(counts.values()) > 780
    assert max(counts.values()) < 1020


def test_a_sample_of_no_texts_is_refused():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        sample_texts(["a"], 0, 0)


def test_repeated_sequences_vary_in_length_and_consist_of_ordinary_tokens(known_gpt):
    items = repeated_sequences(known_gpt, 200, seed=0)
    lengths = Counter(len(item.ids) for item in items)
    assert set(lengths) == {2 * n for n in range(4, 25)}
    for item in items:
        half = len(item.ids) // 2
        assert list(item.ids[:half]) == list(item.ids[half:])
        assert len(set(item.ids)) == half
    assert items == repeated_sequences(known_gpt, 200, seed=0)
    assert items != repeated_sequences(known_gpt, 200, seed=1)
    with pytest.raises(ValueError, match="the model has 3 ordinary tokens"):
        repeated_sequences(GPTModel(3, 8, 1, 2), 5, seed=0)


def test_special_tokens_surround_repeated_tokens_but_are_not_among_them():
    tokenizer = WordPieceTokenizer.train(["the cat sat on a mat and they all ran"] * 9, 60)
    model = BERTModel(tokenizer.vocab_size, 8, 1, 2, max_seq_len=40)
    model.tokenizer = tokenizer
    special = set(tokenizer.add_special_tokens([])) | {tokenizer.pad_token, tokenizer.mask_token}
    for item in repeated_sequences(model, 20, seed=0):
        block = item.ids[1:-1]
        assert [item.ids[0], item.ids[-1]] == tokenizer.add_special_tokens([])
        assert not special & set(block)
        assert len(block) % 2 == 0
        assert np.array_equal(block[: len(block) // 2], block[len(block) // 2 :])
