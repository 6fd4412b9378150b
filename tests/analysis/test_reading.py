"""What a model reads: ids and labels, and what had to be done to the text."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassformer.analysis import read
from glassformer.models import GPTModel
from glassformer.tokenization import BPETokenizer, ByteTokenizer, CharacterTokenizer


def build(vocab_size, tokenizer=None):
    model = GPTModel(vocab_size, 4, 1, 1, max_seq_len=6)
    model.tokenizer = tokenizer
    return model


def test_with_a_tokenizer():
    reading = read(build(4, CharacterTokenizer("ab \n")), "a b\n")
    assert reading.ids == CharacterTokenizer("ab \n").encode("a b\n")
    assert len(reading.labels) == 4
    assert all(label.strip() for label in reading.labels)
    assert reading.notes == ()


def test_without_one_a_large_vocabulary_reads_bytes_and_says_so():
    reading = read(build(256), "é")
    assert reading.ids == list("é".encode())
    assert reading.notes == ("read as bytes: the model has no tokenizer",)


def test_a_long_text_is_cut_and_that_is_said():
    reading = read(build(257, ByteTokenizer()), "0123456789")
    assert reading.labels == list("012345")
    assert reading.notes == ("cut to the model's 6 tokens of 10",)


def test_ids_are_labelled_by_number_where_there_is_no_tokenizer():
    reading = read(build(5), [4, 0])
    assert (reading.ids, reading.labels, reading.is_delimiter) == ([4, 0], ["4", "0"], [False, False])


def test_delimiters_are_punctuation_line_ends_and_ends_of_documents():
    tokenizer = BPETokenizer.train(["a, b. c\n" * 50], 300)
    ids = [*tokenizer.encode("a, b.\n"), tokenizer.end_of_text]
    reading = read(build(tokenizer.vocab_size, tokenizer), ids[-6:])
    said = {tokenizer.decode([t]): mark for t, mark in zip(reading.ids, reading.is_delimiter, strict=True)}
    assert said.pop("<|endoftext|>")
    for text, mark in said.items():
        assert mark == (not any(char.isalpha() for char in text) and text.strip(" ") != ""), text
    assert read(build(257, ByteTokenizer()), [256]).is_delimiter == [True]


def test_refuses_what_cannot_be_read():
    with pytest.raises(ValueError, match="the text is empty"):
        read(build(256), "")
    with pytest.raises(ValueError, match=r"no tokenizer.*5 has no room for bytes.*set model\.tokenizer"):
        read(build(5), "a")
    with pytest.raises(ValueError, match="token id 5 at position 1: ids are 0 to 4"):
        read(build(5), [0, 5])
    with pytest.raises(TypeError, match="token id 1.5 at position 1 is not a whole number"):
        read(build(5), [0, 1.5])
    with pytest.raises(TypeError, match="a text or a sequence of token ids, not None"):
        read(build(5), None)


def test_ids_may_come_from_a_tensor_or_an_array():
    assert read(build(5), torch.tensor([1, 2])).ids == [1, 2]
    assert read(build(5), np.array([1, 2])).ids == [1, 2]
