"""Generated suites, each for one capability of a causal language model; the same seed, the same items.

    copying     a sequence of random tokens, twice: predict the second copy
    copy-1, copy-4, copy-8   random tokens that go round and round: predict what stood k tokens back
    agreement   "The keys to the cabinet": are or is? The nearer noun is of the other number
    brackets    "( red [ blue { green": which bracket closes first?
    key-value   "Anna: ball", "Tom: coin", ..., "Anna:": ball or coin?
    control     ordinary sentences that need nothing of this: predict the words

An item is scored by the mean over its places of log p(right), or, where there is a wrong answer to choose
instead, of the log odds log p(right) - log p(wrong), both in nats. Damage is a drop of that score. A drop of
log odds and one of log p are not to be compared: what makes all words less likely leaves the odds alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, takewhile

from glassformer.analysis.suite_texts import (
    LINKS,
    NOUNS,
    OWNERS,
    PLAIN,
    POSSESSIONS,
    VERBS,
    WORDS,
    lines_of,
)
from glassformer.choices import choose
from glassformer.contracts import Tokenizer


@dataclass(frozen=True)
class Item:
    """What a model reads, and what it should say where."""

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    """Places to be predicted, each from what stands before it; ``len(ids)`` is what comes next."""
    right: tuple[int, ...]
    """The id that belongs at each of them."""
    wrong: tuple[int, ...] = ()
    """The id that does not, for a choice between two; empty where all ids are compared with."""


@dataclass(frozen=True)
class Suite:
    """Items that ask for one capability."""

    name: str
    measures: str
    chance: float
    """How often one is right who guesses without the capability: one of the tokens that random ones are drawn
    from (``copying``, ``copy-k``), one of two answers, or one of the vocabulary (``control``)."""
    items: tuple[Item, ...]

    def __post_init__(self) -> None:
        if len({bool(item.wrong) for item in self.items}) > 1:
            raise ValueError(f"items of the suite {self.name} have a wrong answer and others have none")

    @property
    def unit(self) -> str:
        """Of an item's score: ``"log odds"`` of a choice between two answers, else ``"log p"``."""
        return "log odds" if self.items[0].wrong else "log p"


def build_suites(
    tokenizer: Tokenizer, names: Sequence[str] | None = None, items: int = 32, seed: int = 0
) -> list[Suite]:
    """The suites for a model with this tokenizer.

    Args:
        tokenizer: any; tokens that are special, or that text is never cut into, are left alone.
        names: keys of ``SUITES``. Default: all.
        items: in each suite.
        seed: of what is drawn.

    Raises:
        ValueError: an unknown suite (names the nearest), fewer than two items, more than a suite has, or a
            vocabulary that it cannot be written in (names the suite).
    """
    if items < 2:
        raise ValueError(f"a suite needs at least 2 items, not {items}")
    builders = [(name, choose(SUITES, name, "suite")) for name in (SUITES if names is None else names)]
    suites = []
    for name, builder in builders:
        try:
            suites.append(builder(tokenizer, items, random.Random(f"{seed} {name}")))
        except ValueError as error:
            raise ValueError(f"the suite {name} cannot be written: {error}") from error
    return suites


def copying(tokenizer: Tokenizer, items: int, draw: random.Random, length: int = 16) -> Suite:
    """``length`` random tokens and the same again, from the second token of the second copy on."""
    measures = f"repeating {length} random tokens"
    return _copies("copying", measures, tokenizer, items, draw, length, 2 * length, length + 1)


def copy_from_back(tokenizer: Tokenizer, items: int, draw: random.Random, k: int, length: int = 24) -> Suite:
    """``k`` random tokens round and round, up to ``length``; predicted once they have gone round twice."""
    measures = f"copying from {k} back"
    return _copies(f"copy-{k}", measures, tokenizer, items, draw, k, length, 2 * k)


def agreement(tokenizer: Tokenizer, items: int, draw: random.Random) -> Suite:
    """Subject and verb with a noun of the other number between them (Linzen, Dupoux & Goldberg 2016)."""
    start, made = opening(tokenizer), []
    for number in range(items):
        plural = number % 2
        subject, other = draw.sample(NOUNS, 2)
        words = ["The", subject[plural], draw.choice(LINKS), "the", other[1 - plural]]
        verbs = draw.choice(VERBS)
        made.append(_choice(tokenizer, start, " ".join(words), f" {verbs[plural]}", f" {verbs[1 - plural]}"))
    return Suite("agreement", "the verb's number past a distractor", 0.5, tuple(made))


def brackets(tokenizer: Tokenizer, items: int, draw: random.Random) -> Suite:
    """Closing the innermost open bracket, not one that is further out or closed already."""
    start, made = opening(tokenizer), []
    for number in range(items):
        kinds = draw.sample(["()", "[]", "{}"], 3)
        words = draw.sample(WORDS, 4)
        outer, inner, third = kinds
        if number % 2:  # the innermost that was opened is closed already
            text = f"{outer[0]} {words[0]} {inner[0]} {words[1]} {inner[1]} {words[2]}"
            right, wrong = outer[1], inner[1]
        else:
            text = f"{third[0]} {words[0]} {outer[0]} {words[1]} {inner[0]} {words[2]}"
            right, wrong = inner[1], outer[1]
        made.append(_choice(tokenizer, start, text, f" {right}", f" {wrong}"))
    return Suite("brackets", "closing the innermost bracket", 0.5, tuple(made))


def key_value(tokenizer: Tokenizer, items: int, draw: random.Random, pairs: int = 4) -> Suite:
    """The value of a key that is asked for again, or that of another key of the same text, line by line."""
    start, made = opening(tokenizer), []
    for _ in range(items):
        owners, things = draw.sample(OWNERS, pairs), draw.sample(POSSESSIONS, pairs)
        asked, other = draw.sample(range(pairs), 2)
        told = "".join(f"{owner}: {thing}\n" for owner, thing in zip(owners, things, strict=True))
        text = f"{told}{owners[asked]}:"
        made.append(_choice(tokenizer, start, text, f" {things[asked]}", f" {things[other]}"))
    return Suite("key-value", f"who has what, of {pairs}", 0.5, tuple(made))


def control(tokenizer: Tokenizer, items: int, draw: random.Random) -> Suite:
    """The second half of ordinary sentences and sequences; nothing in them is copied from before.

    More items than ``PLAIN`` has patterns are other lines of the same patterns, and so is what an interval
    over them is about.
    """
    start, made = opening(tokenizer), []
    for text in plain_lines(items, draw):
        ids = (*start, *tokenizer.encode(text))
        positions = tuple(range((len(start) + len(ids)) // 2, len(ids)))
        made.append(Item(ids[:-1], positions, tuple(ids[position] for position in positions)))
    return Suite("control", "plain predictable text", 1 / tokenizer.vocab_size, tuple(made))


def plain_lines(count: int, draw: random.Random) -> list[str]:
    """Different lines of ``PLAIN``: one of every pattern before a second of any.

    Raises:
        ValueError: more than there are.
    """
    left = [draw.sample(lines, len(lines)) for lines in map(lines_of, PLAIN)]
    most = sum(map(len, left))
    if count > most:
        raise ValueError(f"there are {most:,} plain lines: ask for no more items")
    found: list[str] = []
    while len(found) < count:
        left = [lines for lines in left if lines]
        found += [lines.pop() for lines in draw.sample(left, len(left))]
    return found[:count]


SUITES: dict[str, Callable[[Tokenizer, int, random.Random], Suite]] = {
    "copying": copying,
    "copy-1": partial(copy_from_back, k=1),
    "copy-4": partial(copy_from_back, k=4),
    "copy-8": partial(copy_from_back, k=8),
    "agreement": agreement,
    "brackets": brackets,
    "key-value": key_value,
    "control": control,
}
"""The suites by name; each is made of a tokenizer, a number of items and what draws at random."""


def opening(tokenizer: Tokenizer) -> tuple[int, ...]:
    """What stands before an item: the marks that a model wants before a text, and a line's end.

    Many heads look at the first token when they look at nothing in particular, and a model that meets an odd
    one there reads far worse. A line's end is what stands before a line in any text. Where the tokenizer has
    neither, it is what separates two texts, and possibly nothing.
    """
    marks = _shared(tokenizer.add_marks([0]), tokenizer.add_marks([1]))
    line = tokenizer.encode("\n") if _keeps(tokenizer, "\n") else []
    between = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    return tuple([*marks, *line] or between)


def _keeps(tokenizer: Tokenizer, text: str) -> bool:
    try:
        return tokenizer.decode(tokenizer.encode(text)) == text
    except ValueError:  # a tokenizer of characters that lacks one
        return False


def _shared(a: Sequence[int], b: Sequence[int]) -> list[int]:
    """How two sequences of ids begin alike."""
    return [x for x, _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))]


def ordinary_tokens(tokenizer: Tokenizer, draw: random.Random, most: int = 512) -> list[int]:
    """Different tokens drawn from those whose text is letters and is cut into just this token again.

    So no special token is among them, no part of a character and nothing that text never becomes.
    """
    ids = draw.sample(range(tokenizer.vocab_size), tokenizer.vocab_size)
    return list(islice((token for token in ids if _is_ordinary(tokenizer, token)), most))


def _is_ordinary(tokenizer: Tokenizer, token: int) -> bool:
    text = tokenizer.decode([token])
    return text.strip().isalpha() and tokenizer.encode(text) == [token]


def _copies(
    name: str,
    measures: str,
    tokenizer: Tokenizer,
    items: int,
    draw: random.Random,
    period: int,
    length: int,
    known: int,
) -> Suite:
    """Random tokens, the same again and again up to ``length``; predicted after the first ``known``."""
    start, pool = opening(tokenizer), ordinary_tokens(tokenizer, draw)
    if len(pool) < period:
        raise ValueError(
            f"{len(pool)} of the {tokenizer.vocab_size} tokens are made of letters: it needs {period}"
        )
    made = []
    for _ in range(items):
        once = draw.sample(pool, period)
        whole = (*start, *(once[i % period] for i in range(length)))
        positions = tuple(range(len(start) + known, len(whole)))
        made.append(Item(whole[:-1], positions, tuple(whole[position] for position in positions)))
    return Suite(name, measures, 1 / len(pool), tuple(made))


def _choice(tokenizer: Tokenizer, start: tuple[int, ...], text: str, right: str, wrong: str) -> Item:
    """A choice between two ways to go on with a text, at the first token that tells them apart."""
    a, b = tokenizer.encode(text + right), tokenizer.encode(text + wrong)
    shared = _shared(a, b)
    if len(shared) == min(len(a), len(b)):
        raise ValueError(f"the tokenizer cannot tell {right!r} from {wrong!r}")
    ids = (*start, *shared)
    return Item(ids, (len(ids),), (a[len(shared)],), (b[len(shared)],))
