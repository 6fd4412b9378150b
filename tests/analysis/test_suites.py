"""Suites: the items ask what they say, with any tokenizer."""

from __future__ import annotations

import random
import string

import pytest

from glassformer.analysis.suite_texts import NOUNS, PLAIN, VERBS, lines_of
from glassformer.analysis.suites import SUITES, Item, Suite, build_suites, opening, ordinary_tokens
from glassformer.tokenization import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    WordPieceTokenizer,
)

LETTERS = CharacterTokenizer(string.ascii_letters + " :.,?()[]{}\n")
LINES = [lines_of(pattern)[0] for pattern in PLAIN]
TOKENIZERS = {
    "byte": ByteTokenizer(),
    "character": LETTERS,
    "bpe": BPETokenizer.train(LINES * 3, 400),
    "wordpiece": WordPieceTokenizer.train([*LINES * 3, "() [] {} :"], 400),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_suite_with_every_tokenizer(name):
    tokenizer = TOKENIZERS[name]
    suites = build_suites(tokenizer, items=6)
    assert [suite.name for suite in suites] == list(SUITES)
    for suite in suites:
        assert len(suite.items) == 6
        assert 0 < suite.chance <= 0.5
        for item in suite.items:
            assert len(item.positions) == len(item.right) > 0
            assert len(item.wrong) == (len(item.right) if suite.unit == "log odds" else 0)
            assert all(0 < position <= len(item.ids) for position in item.positions)
            assert not set(item.wrong) & set(item.right)
            for position, right in zip(item.positions, item.right, strict=True):
                assert position == len(item.ids) or item.ids[position] == right
            assert max((*item.ids, *item.right, *item.wrong)) < tokenizer.vocab_size


def test_the_same_seed_makes_the_same_items_whatever_the_other_suites():
    tokenizer = ByteTokenizer()
    suites = {suite.name: suite for suite in build_suites(tokenizer, items=4, seed=3)}
    assert build_suites(tokenizer, ["brackets", "copying"], 4, 3) == [suites["brackets"], suites["copying"]]
    assert build_suites(tokenizer, ["copying"], 4, 4) != [suites["copying"]]


def test_copies_are_of_what_stood_a_period_before():
    for name, period in (("copying", 16), ("copy-1", 1), ("copy-4", 4), ("copy-8", 8)):
        (suite,) = build_suites(LETTERS, [name], 5)
        for item in suite.items:
            whole = [*item.ids, item.right[-1]]
            assert item.positions[-1] == len(item.ids)
            for position, right in zip(item.positions, item.right, strict=True):
                assert whole[position - period] == right
                assert position > period + len(opening(LETTERS))
            once = whole[-period:]
            assert len(set(once)) == period
            assert LETTERS.decode(once).isalpha()
    assert suite.chance == 1 / 52


def texts(name, items=40):
    (suite,) = build_suites(LETTERS, [name], items)
    for item in suite.items:
        yield LETTERS.decode(item.ids), *(LETTERS.decode(ids) for ids in (item.right, item.wrong))


def test_agreement_is_with_the_subject_and_not_with_the_distractor():
    number = {word: n for pair in NOUNS for n, word in enumerate(pair)}
    first_letters = {}  # what tells the two apart, after what they share
    for one, several in VERBS:
        shared = next(i for i, (a, b) in enumerate(zip(one, several, strict=False)) if a != b)
        first_letters[one[:shared]] = (one[shared], several[shared])
    plurals = 0
    for text, right, wrong in texts("agreement"):
        words = text.split()
        subject, distractor = (number[word] for word in words if word in number)
        assert subject != distractor
        begun = words[-1] if words[-1] not in number else ""
        assert (right, wrong) == tuple(first_letters[begun][n] for n in (subject, 1 - subject))
        plurals += subject
    assert plurals == 20


def test_the_right_bracket_closes_the_innermost_open_one():
    closes = {"(": ")", "[": "]", "{": "}"}
    depths = set()
    for text, right, wrong in texts("brackets"):
        unclosed = []
        for char in text:
            if char in closes:
                unclosed.append(closes[char])
            elif char in closes.values():
                assert unclosed.pop() == char
        assert right == unclosed[-1]
        assert wrong in closes.values()
        depths.add(len(unclosed))
    assert depths == {1, 3}


def test_the_right_value_is_that_of_the_key():
    for text, right, wrong in texts("key-value"):
        *lines, asked = text.strip().splitlines()
        values = dict(line.split(": ") for line in lines)
        key, begun = asked.split(":")
        assert len(values) == 4
        assert values[key].startswith((begun + right).strip())
        others = [value for other, value in values.items() if other != key]
        assert any(value.startswith((begun + wrong).strip()) for value in others)


def test_control_is_the_second_half_of_its_sentences():
    (suite,) = build_suites(LETTERS, ["control"], 40)
    for item in suite.items:
        assert LETTERS.decode([*item.ids, item.right[-1]])[1:] in EVERY_LINE
        assert len(item.positions) == pytest.approx((len(item.ids) + 1) / 2, abs=1)


EVERY_LINE = {line: pattern for pattern in PLAIN for line in lines_of(pattern)}


@pytest.mark.parametrize("items", [2, 40, 60, len(EVERY_LINE)])
def test_control_has_as_many_items_as_asked_for_and_each_once(items):
    (suite,) = build_suites(LETTERS, ["control"], items)
    found = {LETTERS.decode([*item.ids, item.right[-1]])[1:] for item in suite.items}
    assert len(found) == len(suite.items) == items
    patterns = {EVERY_LINE[line] for line in found}
    assert len(patterns) == min(items, len(PLAIN))  # none a second time before all have come once


def test_control_says_where_there_are_no_more_lines():
    most = len(EVERY_LINE)
    with pytest.raises(
        ValueError, match=f"the suite control cannot be written: there are {most} plain lines"
    ):
        build_suites(LETTERS, ["control"], most + 1)


def test_a_pattern_stands_for_every_way_to_choose():
    assert lines_of("a <b|c d> e <f|g>.") == ["a b e f.", "a b e g.", "a c d e f.", "a c d e g."]
    assert not any(mark in line for line in EVERY_LINE for mark in "<|>")


def test_random_tokens_are_none_that_a_text_never_becomes():
    for tokenizer in TOKENIZERS.values():
        for token in ordinary_tokens(tokenizer, random.Random(0)):
            assert tokenizer.encode(tokenizer.decode([token])) == [token]
            assert token not in (tokenizer.end_of_text, tokenizer.pad_token, tokenizer.mask_token)


class WithStart(ByteTokenizer):
    def add_marks(self, ids, pair=None):
        return [256, *ids, 0]


def test_what_stands_before_an_item():
    assert opening(ByteTokenizer()) == (10,)
    assert opening(WithStart()) == (256, 10)
    assert opening(CharacterTokenizer("ab")) == ()
    wordpiece = TOKENIZERS["wordpiece"]
    assert opening(wordpiece) == (wordpiece.add_marks([])[0],)


def test_says_what_cannot_be_written():
    with pytest.raises(ValueError, match="unknown suite 'coping', did you mean 'copying'"):
        build_suites(LETTERS, ["coping"])
    with pytest.raises(ValueError, match="at least 2 items, not 1"):
        build_suites(LETTERS, items=1)
    with pytest.raises(ValueError, match="copying cannot be written: 3 of the 3 tokens .* needs 16"):
        build_suites(CharacterTokenizer("abc"), ["copying"])
    with pytest.raises(ValueError, match="agreement cannot be written: "):
        build_suites(CharacterTokenizer("abc"), ["agreement"])
    tiny = WordPieceTokenizer.train(["no brackets here at all"], 100)
    with pytest.raises(ValueError, match="brackets cannot be written: the tokenizer cannot tell"):
        build_suites(tiny, ["brackets"])
    with pytest.raises(ValueError, match="items of the suite s have a wrong answer and others have none"):
        Suite("s", "", 0.5, (Item((1, 2), (2,), (3,), (4,)), Item((1, 2), (2,), (3,))))
