"""Behavior tasks: every item tests its behavior, with any tokenizer."""

from __future__ import annotations

import random
import string

import pytest

from glassformer.analysis.behaviors.tasks import (
    TASKS,
    BehaviorTask,
    TaskItem,
    build_behavior_tasks,
    item_prefix,
    ordinary_tokens,
)
from glassformer.analysis.behaviors.templates import NOUNS, SENTENCES, VERBS, expand_template
from glassformer.tokenization import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    WordPieceTokenizer,
)

LETTERS = CharacterTokenizer(string.ascii_letters + " :.,?()[]{}\n")
LINES = [expand_template(template)[0] for template in SENTENCES]
TOKENIZERS = {
    "byte": ByteTokenizer(),
    "character": LETTERS,
    "bpe": BPETokenizer.train(LINES * 3, 400),
    "wordpiece": WordPieceTokenizer.train([*LINES * 3, "() [] {} :"], 400),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_task_is_built_with_every_tokenizer(name):
    tokenizer = TOKENIZERS[name]
    tasks = build_behavior_tasks(tokenizer, items=6)
    assert [task.name for task in tasks] == list(TASKS)
    for task in tasks:
        assert len(task.items) == 6
        assert 0 < task.chance <= 0.5
        for item in task.items:
            assert len(item.positions) == len(item.correct) > 0
            assert len(item.incorrect) == (len(item.correct) if task.unit == "log odds" else 0)
            assert all(0 < position <= len(item.ids) for position in item.positions)
            assert not set(item.incorrect) & set(item.correct)
            for position, correct in zip(item.positions, item.correct, strict=True):
                assert position == len(item.ids) or item.ids[position] == correct
            assert max((*item.ids, *item.correct, *item.incorrect)) < tokenizer.vocab_size


def test_the_same_seed_gives_the_same_items_whatever_the_other_tasks():
    tokenizer = ByteTokenizer()
    tasks = {task.name: task for task in build_behavior_tasks(tokenizer, items=4, seed=3)}
    assert build_behavior_tasks(tokenizer, ["brackets", "copying"], 4, 3) == [
        tasks["brackets"],
        tasks["copying"],
    ]
    assert build_behavior_tasks(tokenizer, ["copying"], 4, 4) != [tasks["copying"]]


def test_copied_tokens_repeat_with_the_period():
    for name, period in (("copying", 16), ("copy-1", 1), ("copy-4", 4), ("copy-8", 8)):
        (task,) = build_behavior_tasks(LETTERS, [name], 5)
        for item in task.items:
            whole = [*item.ids, item.correct[-1]]
            assert item.positions[-1] == len(item.ids)
            for position, correct in zip(item.positions, item.correct, strict=True):
                assert whole[position - period] == correct
                assert position > period + len(item_prefix(LETTERS))
            once = whole[-period:]
            assert len(set(once)) == period
            assert LETTERS.decode(once).isalpha()
    assert task.chance == 1 / 52


def texts(name, items=40):
    (task,) = build_behavior_tasks(LETTERS, [name], items)
    for item in task.items:
        yield LETTERS.decode(item.ids), *(LETTERS.decode(ids) for ids in (item.correct, item.incorrect))


def test_the_verb_agrees_with_the_subject_and_not_with_the_distractor():
    number = {word: n for pair in NOUNS for n, word in enumerate(pair)}
    first_letters = {}  # the first characters that differ, by the shared beginning
    for singular, plural in VERBS:
        shared = next(i for i, (a, b) in enumerate(zip(singular, plural, strict=False)) if a != b)
        first_letters[singular[:shared]] = (singular[shared], plural[shared])
    plurals = 0
    for text, correct, incorrect in texts("agreement"):
        words = text.split()
        subject, distractor = (number[word] for word in words if word in number)
        assert subject != distractor
        beginning = words[-1] if words[-1] not in number else ""
        assert (correct, incorrect) == tuple(first_letters[beginning][n] for n in (subject, 1 - subject))
        plurals += subject
    assert plurals == 20


def test_the_correct_bracket_closes_the_innermost_open_one():
    closes = {"(": ")", "[": "]", "{": "}"}
    depths = set()
    for text, correct, incorrect in texts("brackets"):
        unclosed = []
        for char in text:
            if char in closes:
                unclosed.append(closes[char])
            elif char in closes.values():
                assert unclosed.pop() == char
        assert correct == unclosed[-1]
        assert incorrect in closes.values()
        depths.add(len(unclosed))
    assert depths == {1, 3}


def test_the_correct_value_belongs_to_the_key():
    for text, correct, incorrect in texts("key-value"):
        *lines, asked = text.strip().splitlines()
        values = dict(line.split(": ") for line in lines)
        key, beginning = asked.split(":")
        assert len(values) == 4
        assert values[key].startswith((beginning + correct).strip())
        others = [value for other, value in values.items() if other != key]
        assert any(value.startswith((beginning + incorrect).strip()) for value in others)


def test_control_predicts_the_second_half_of_its_sentences():
    (task,) = build_behavior_tasks(LETTERS, ["control"], 40)
    for item in task.items:
        assert LETTERS.decode([*item.ids, item.correct[-1]])[1:] in EVERY_LINE
        assert len(item.positions) == pytest.approx((len(item.ids) + 1) / 2, abs=1)


EVERY_LINE = {line: template for template in SENTENCES for line in expand_template(template)}


@pytest.mark.parametrize("items", [2, 40, 60, len(EVERY_LINE)])
def test_control_has_the_given_number_of_different_items(items):
    (task,) = build_behavior_tasks(LETTERS, ["control"], items)
    found = {LETTERS.decode([*item.ids, item.correct[-1]])[1:] for item in task.items}
    assert len(found) == len(task.items) == items
    templates = {EVERY_LINE[line] for line in found}
    assert len(templates) == min(items, len(SENTENCES))  # all templates are used before any is used again


def test_control_raises_an_error_for_too_many_items():
    most = len(EVERY_LINE)
    with pytest.raises(ValueError, match=f"the task control cannot be built: there are {most} control lines"):
        build_behavior_tasks(LETTERS, ["control"], most + 1)


def test_a_template_expands_to_all_combinations_of_choices():
    assert expand_template("a <b|c d> e <f|g>.") == ["a b e f.", "a b e g.", "a c d e f.", "a c d e g."]
    assert not any(mark in line for line in EVERY_LINE for mark in "<|>")


def test_ordinary_tokens_survive_decoding_and_encoding():
    for tokenizer in TOKENIZERS.values():
        for token in ordinary_tokens(tokenizer, random.Random(0)):
            assert tokenizer.encode(tokenizer.decode([token])) == [token]
            assert token not in (tokenizer.end_of_text, tokenizer.pad_token, tokenizer.mask_token)


class WithStart(ByteTokenizer):
    def add_special_tokens(self, ids, pair=None):
        return [256, *ids, 0]


def test_the_prefix_of_an_item():
    assert item_prefix(ByteTokenizer()) == (10,)
    assert item_prefix(WithStart()) == (256, 10)
    assert item_prefix(CharacterTokenizer("ab")) == ()
    wordpiece = TOKENIZERS["wordpiece"]
    assert item_prefix(wordpiece) == (wordpiece.add_special_tokens([])[0],)


def test_errors_name_what_cannot_be_built():
    with pytest.raises(ValueError, match="unknown task 'coping', did you mean 'copying'"):
        build_behavior_tasks(LETTERS, ["coping"])
    with pytest.raises(ValueError, match="at least 2 items, not 1"):
        build_behavior_tasks(LETTERS, items=1)
    with pytest.raises(ValueError, match="copying cannot be built: 3 of the 3 tokens .* needs 16"):
        build_behavior_tasks(CharacterTokenizer("abc"), ["copying"])
    with pytest.raises(ValueError, match="agreement cannot be built: "):
        build_behavior_tasks(CharacterTokenizer("abc"), ["agreement"])
    tiny = WordPieceTokenizer.train(["no brackets here at all"], 100)
    with pytest.raises(ValueError, match="brackets cannot be built: the tokenizer cannot tell"):
        build_behavior_tasks(tiny, ["brackets"])
    with pytest.raises(ValueError, match="items of the task s must all have an incorrect answer, or none"):
        BehaviorTask("s", "", 0.5, (TaskItem((1, 2), (2,), (3,), (4,)), TaskItem((1, 2), (2,), (3,))))
