"""Sentences are cut by the rule, and drawn fairly."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.analysis.sentences import cut, draw, sentences


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
def test_the_rule(line, expected):
    assert list(cut(line)) == expected


def test_lengths_are_limited_and_lines_end_sentences():
    text = "Too short.\nThis one has just enough words\nand this follows it on its own line. " + "Long " * 70
    assert list(sentences([text])) == [
        "This one has just enough words",
        "and this follows it on its own line.",
    ]
    assert list(sentences(["one two"], shortest=2)) == ["one two"]
    assert list(sentences(["a  b\tc d"])) == ["a b c d"]


@given(st.lists(st.text(st.sampled_from("ab. !?A")), max_size=20))
def test_nothing_is_lost_but_white_space(texts):
    for text in texts:
        assert "".join("".join(cut(text)).split()) == "".join(text.split())


@given(st.integers(1, 20), st.integers(0, 40), st.integers(0, 9))
def test_a_draw_keeps_order_and_number(count, length, seed):
    texts = [str(number) for number in range(length)]
    drawn = draw(iter(texts), count, seed)
    assert len(drawn) == min(count, length)
    assert drawn == sorted(set(drawn), key=int)
    assert drawn == draw(texts, count, seed)


def test_each_has_the_same_chance():
    counts = Counter(text for seed in range(3000) for text in draw("abcdefghij", 3, seed))
    assert min(counts.values()) > 780
    assert max(counts.values()) < 1020


def test_a_draw_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        draw(["a"], 0, 0)
