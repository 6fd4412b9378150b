"""Sentences of a small English grammar, with the dependencies that generated them.

    sentence     noun phrase + verb phrase "."
    noun phrase  determiner adjective* noun (prepositional phrase | relative clause)?
    verb phrase  verb noun phrase | verb prepositional phrase? ; adverb? before or after
    relative     "that" verb phrase | "that" noun phrase verb

A verb agrees with its subject in number, also across a relative clause. The labels are those of spaCy's
English, so that gold labels and parsed ones are measured by the same patterns.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from glassformer.analysis.head_patterns.syntax import Parse

DETERMINERS = (("the", "a", "this", "every", "that", "each"), ("the", "some", "these", "many", "all", "few"))
"""For a singular and for a plural noun."""
ADJECTIVES = (
    *("old", "young", "tall", "small", "happy", "angry", "quiet", "clever", "brave", "tired", "green"),
    *("heavy", "rich", "poor", "proud", "strange"),
)
NOUNS = (
    *("dog", "cat", "farmer", "teacher", "doctor", "king", "sailor", "painter", "singer", "horse", "bird"),
    *("wolf", "lawyer", "baker", "student", "soldier", "neighbor", "driver", "pilot", "nurse"),
)
TRANSITIVE = (
    *("see", "follow", "chase", "know", "help", "find", "visit", "hear", "remember", "trust", "warn"),
    *("thank", "paint", "carry", "leave"),
)
INTRANSITIVE = ("sleep", "laugh", "walk", "wait", "sing", "run", "work", "smile", "dance", "travel")
ADVERBS = ("often", "slowly", "always", "quietly", "never", "gladly")
PREPOSITIONS = ("near", "behind", "beside", "with", "under", "without")
MAX_DEPTH = 2
"""Phrases within phrases."""


@dataclass(frozen=True)
class Sentence:
    """A sentence and its dependencies."""

    text: str
    parse: Parse


@dataclass
class _Words:
    """The words of a sentence as they are generated, and their dependencies."""

    draw: random.Random
    words: list[str] = field(default_factory=list)
    arcs: list[tuple[int, int, str]] = field(default_factory=list)

    def add(self, word: str) -> int:
        self.words.append(word)
        return len(self.words) - 1

    def link(self, head: int, dependent: int, label: str) -> None:
        self.arcs.append((head, dependent, label))

    def chance(self, probability: float) -> bool:
        return self.draw.random() < probability

    def noun_phrase(self, plural: bool, depth: int) -> int:
        """Add a noun phrase and return the index of its noun."""
        determiner = self.add(self.draw.choice(DETERMINERS[plural]))
        count = self.draw.choices((0, 1, 2), (5, 4, 1))[0]
        adjectives = [self.add(word) for word in self.draw.sample(ADJECTIVES, count)]
        noun = self.add(_noun(self.draw.choice(NOUNS), plural))
        self.link(noun, determiner, "det")
        for adjective in adjectives:
            self.link(noun, adjective, "amod")
        if depth > 0 and self.chance(0.5):
            if self.chance(0.5):
                self.prepositional_phrase(noun, depth - 1)
            else:
                self.relative_clause(noun, plural, depth - 1)
        return noun

    def prepositional_phrase(self, head: int, depth: int) -> None:
        preposition = self.add(self.draw.choice(PREPOSITIONS))
        self.link(head, preposition, "prep")
        self.link(preposition, self.noun_phrase(self.chance(0.5), depth), "pobj")

    def relative_clause(self, noun: int, plural: bool, depth: int) -> None:
        pronoun = self.add("that")
        if self.chance(0.5):
            verb = self.verb_phrase(plural, depth)
            self.link(verb, pronoun, "nsubj")
        else:
            subject_plural = self.chance(0.5)
            subject = self.noun_phrase(subject_plural, depth)
            verb = self.add(_verb(self.draw.choice(TRANSITIVE), subject_plural))
            self.link(verb, subject, "nsubj")
            self.link(verb, pronoun, "dobj")
        self.link(noun, verb, "relcl")

    def verb_phrase(self, plural: bool, depth: int) -> int:
        """Add a verb phrase and return the index of its verb."""
        before = self.add(self.draw.choice(ADVERBS)) if self.chance(0.2) else None
        transitive = self.chance(0.6)
        verb = self.add(_verb(self.draw.choice(TRANSITIVE if transitive else INTRANSITIVE), plural))
        if before is not None:
            self.link(verb, before, "advmod")
        if transitive:
            self.link(verb, self.noun_phrase(self.chance(0.5), depth), "dobj")
        elif depth > 0 and self.chance(0.4):
            self.prepositional_phrase(verb, depth - 1)
        if before is None and self.chance(0.2):
            self.link(verb, self.add(self.draw.choice(ADVERBS)), "advmod")
        return verb


def generate_sentences(seed: int) -> Iterator[Sentence]:
    """Generate sentences without end.

    Args:
        seed: the same seed gives the same sentences.
    """
    draw = random.Random(f"grammar {seed}")
    while True:
        yield _generate(draw)


def _generate(draw: random.Random) -> Sentence:
    sentence = _Words(draw)
    plural = sentence.chance(0.5)
    subject = sentence.noun_phrase(plural, MAX_DEPTH)
    verb = sentence.verb_phrase(plural, MAX_DEPTH - 1)
    sentence.link(verb, subject, "nsubj")
    sentence.link(verb, sentence.add("."), "punct")
    spans, end = [], 0
    for word in sentence.words:
        spans.append((end, end + len(word)))
        end += len(word) + 1
    return Sentence(" ".join(sentence.words), Parse(spans, sentence.arcs))


def _noun(noun: str, plural: bool) -> str:
    if not plural:
        return noun
    return "wolves" if noun == "wolf" else f"{noun}s"


def _verb(verb: str, plural: bool) -> str:
    """The verb with a subject of this number."""
    if plural:
        return verb
    return f"{verb[:-1]}ies" if verb == "carry" else f"{verb}s"
