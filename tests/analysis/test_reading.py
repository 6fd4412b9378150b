"""What a model reads: ids and labels, and what had to be done to the text."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassformer.analysis import read, read_pair
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.tokenization import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    SymbolTokenizer,
    WordPieceTokenizer,
)


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
    with pytest.raises(
        ValueError, match=r"no tokenizer.*5 has no room for bytes.*set model\.tokenizer, put its tokenizer"
    ):
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


def test_a_text_gets_the_marks_of_its_tokenizer_and_ids_get_none():
    tokenizer = WordPieceTokenizer.train(["the cat sat"] * 9, 40)
    model = BERTModel(tokenizer.vocab_size, 4, 1, 1, max_seq_len=4)
    model.tokenizer = tokenizer
    assert read(model, "the").labels == ["[CLS]", "the", "[SEP]"]
    long = read(model, "the cat sat")
    assert long.labels == ["[CLS]", "the", "cat", "[SEP]"]
    assert long.notes == ("cut to the model's 4 tokens of 5",)
    assert read(model, tokenizer.encode("cat")).labels == ["cat"]
    with pytest.raises(ValueError, match="the text is empty"):
        read(model, "")


def test_reads_no_text_into_a_model_of_images():
    with pytest.raises(TypeError, match="a ViTModel reads no text: give it an image"):
        read(ViTModel(8, 4, 4, 1, 1), "a")


def translator(**options):
    model = T5Model(12, 8, 1, 2, **options).eval()
    model.tokenizer = SymbolTokenizer([*"abc", "AH", "B", "K"])
    return model


def test_a_pair_is_read_one_token_behind_what_is_written():
    pair = read_pair(translator(), "cab", "K AH B")
    assert pair.source.labels == ["c", "a", "b", "</s>"]
    assert pair.target.labels == ["<pad>", "K", "AH", "B"]
    assert pair.written.labels == ["K", "AH", "B", "</s>"]
    assert pair.target.ids == [0, *pair.written.ids[:-1]]
    assert pair.written.notes == ()


def test_without_a_target_the_model_writes_it():
    model = translator()
    pair = read_pair(model, "cab")
    assert pair.written.ids == model.generate(pair.source.ids, 64, temperature=0)
    assert pair.written.notes == ("the target is what the model writes",)
    short = read_pair(translator(max_seq_len=2), "ab", "K AH B")
    assert short.written.notes == ("target cut to the model's 2 tokens of 4",)
    assert short.target.labels == ["<pad>", "K"]


def test_only_an_encoder_decoder_reads_pairs():
    with pytest.raises(TypeError, match="a GPTModel reads one text, and no target beside it"):
        read_pair(build(256), "a", "b")


def test_ids_that_only_the_model_knows_are_labelled_by_number():
    model = build(9, CharacterTokenizer("ab"))
    reading = read(model, [0, 8])
    assert (reading.labels, reading.is_delimiter) == (["a", "8"], [False, False])
