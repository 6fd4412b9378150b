"""Sentences of the grammar and their dependencies, and the training mixture."""

from __future__ import annotations

import json
import random
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.experiments.heads.grammar import (
    ADJECTIVES,
    DETERMINERS,
    INTRANSITIVE,
    NOUNS,
    TRANSITIVE,
    generate_sentences,
)
from glassformer.experiments.heads.mixture import (
    SHARES,
    evaluation_prose,
    mixture,
    repeated_lines,
    training_prose,
    write_mixture,
)

PLURAL_VERBS = {*TRANSITIVE, *INTRANSITIVE}
PLURAL_NOUNS = {"wolves", *(f"{noun}s" for noun in NOUNS if noun != "wolf")}


@given(st.integers(0, 10**6))
def test_dependencies_are_a_tree_over_the_words(seed):
    for sentence in islice(generate_sentences(seed), 5):
        words = [sentence.text[start:end] for start, end in sentence.parse.words]
        assert " ".join(words) == sentence.text
        heads = {dependent: head for head, dependent, _ in sentence.parse.arcs}
        assert len(heads) == len(sentence.parse.arcs) == len(words) - 1
        (root,) = set(range(len(words))) - heads.keys()
        for word in heads:
            seen = set()
            while word != root:
                assert word not in seen
                seen.add(word)
                word = heads[word]


@given(st.integers(0, 10**6))
def test_verbs_agree_with_their_subjects_and_modifiers_with_their_nouns(seed):
    for sentence in islice(generate_sentences(seed), 5):
        words = [sentence.text[start:end] for start, end in sentence.parse.words]
        for head, dependent, label in sentence.parse.arcs:
            if label == "nsubj" and words[dependent] != "that":
                assert (words[head] in PLURAL_VERBS) == (words[dependent] in PLURAL_NOUNS)
                assert dependent < head
            if label == "det":
                assert words[dependent] in DETERMINERS[words[head] in PLURAL_NOUNS]
            if label == "amod":
                assert words[dependent] in ADJECTIVES
                assert dependent < head


def test_verbs_in_relative_clauses_agree_with_the_noun_they_belong_to():
    found = 0
    for sentence in islice(generate_sentences(0), 500):
        words = [sentence.text[start:end] for start, end in sentence.parse.words]
        subjects = {head: words[dep] for head, dep, label in sentence.parse.arcs if label == "nsubj"}
        for noun, verb, label in sentence.parse.arcs:
            if label == "relcl" and subjects[verb] == "that":
                found += 1
                assert (words[verb] in PLURAL_VERBS) == (words[noun] in PLURAL_NOUNS)
    assert found > 50


def test_sentences_repeat_with_their_seed_and_have_distant_dependencies():
    first, again, other = ([s.text for s in islice(generate_sentences(seed), 200)] for seed in (3, 3, 4))
    assert first == again != other
    distant = [
        abs(head - dependent) >= 8
        for sentence in islice(generate_sentences(3), 200)
        for head, dependent, label in sentence.parse.arcs
        if label == "nsubj"
    ]
    assert sum(distant) > 5


def test_the_mixture_has_its_shares_of_words():
    prose = [f"The {word} of the people is here today again." for word in ("house", "state", "war")] * 60
    lines = list(mixture(prose, 4000, seed=0))
    grammar = {s.text for s in islice(generate_sentences(0), 1000)}
    counts = dict.fromkeys(SHARES, 0)
    for line in lines:
        kind = "grammar" if line in grammar else "repeated" if line.startswith(" ") else "prose"
        assert kind != "prose" or line in prose
        counts[kind] += len(line.split())
    total = sum(counts.values())
    assert 4000 <= total < 4060
    for kind, share in SHARES.items():
        assert counts[kind] / total == pytest.approx(share, abs=0.02)
    with pytest.raises(ValueError, match="at least 4 different words, got 0"):
        list(mixture([], 4000, seed=0))
    with pytest.raises(ValueError, match="10,000 words of prose are needed, and the text has 1,6"):
        list(mixture(prose, 40_000, seed=0))


def test_repeated_lines_are_two_copies_of_different_words():
    words = [f"w{number}" for number in range(30)]
    for line in islice(repeated_lines(words, random.Random(0)), 50):
        found = line.split(" ")[1:]
        half = len(found) // 2
        assert found[:half] == found[half:]
        assert len(set(found[:half])) == half >= 4


def test_no_sentence_is_for_training_and_evaluation(tmp_path):
    for number in range(50):
        (tmp_path / f"{number:02}.txt").write_text(f"This is the sentence of document {number}.\n")
    training = set(training_prose(str(tmp_path)))
    blocks = evaluation_prose(str(tmp_path), 3)
    assert [len(block) for block in blocks] == [2, 3, 3, 2]
    evaluation = {text for block in blocks for text in block}
    assert len(training) == 40
    assert len(evaluation) == 10
    assert not training & evaluation


def test_the_mixture_is_written_once(tmp_path):
    source = tmp_path / "texts"
    source.mkdir()
    for number in range(6):
        (source / f"{number}.txt").write_text(
            "\n".join(f"we live in the old house {n} of street {number} now" for n in range(99))
        )
    path = tmp_path / "tokens" / "mixture.jsonl"
    write_mixture(path, str(source), 2000, seed=0)
    content = path.read_bytes()
    lines = [line for row in content.splitlines() for line in json.loads(row)["text"].split("\n")]
    assert lines == list(mixture(training_prose(str(source)), 2000, seed=0))
    path.write_bytes(b"kept")
    write_mixture(path, str(source), 2000, seed=0)
    assert path.read_bytes() == b"kept"
