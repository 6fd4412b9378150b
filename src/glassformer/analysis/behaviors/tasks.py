"""Generated probe tasks, each for one behavior of a causal language model.

    copying     a sequence of random tokens, twice: predict the second copy
    copy-1, copy-4, copy-8   a repeated cycle of random tokens: predict the token k positions back
    agreement   "The keys to the cabinet": are or is? The nearer noun has the other number
    brackets    "( red [ blue { green": which bracket closes first?
    key-value   "Anna: ball", "Tom: coin", ..., "Anna:": ball or coin?
    control     predictable sentences that need none of these behaviors: predict the words

The score of an item is the mean over its positions of log p(correct), or of the log odds
log p(correct) - log p(incorrect) where there is an incorrect answer, in nats. The effect of an ablation is
the drop of the score. Drops of log p and of log odds are not comparable: if all words become less likely, the
log odds may stay the same.

To add a task, write a function (tokenizer, number of items, random generator) -> BehaviorTask and add it to
``TASKS``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, takewhile

from glassformer.analysis.behaviors.templates import (
    FILLERS,
    NAMES,
    NOUNS,
    OBJECTS,
    PREPOSITIONS,
    SENTENCES,
    VERBS,
    expand_template,
)
from glassformer.choices import choose
from glassformer.contracts import Tokenizer


@dataclass(frozen=True)
class TaskItem:
    """A prompt and the answers to predict."""

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    """Positions to be predicted, each from the tokens before it; ``len(ids)`` is the next token."""
    correct: tuple[int, ...]
    """The correct id at each of them."""
    incorrect: tuple[int, ...] = ()
    """The incorrect id at each of them in a choice between two; empty in a choice among all ids."""


@dataclass(frozen=True)
class BehaviorTask:
    """Items that need one behavior."""

    name: str
    measures: str
    chance: float
    """Accuracy without the behavior: one of the tokens that random ones are drawn from (``copying``,
    ``copy-k``), one of two answers, or one of the vocabulary (``control``)."""
    items: tuple[TaskItem, ...]

    def __post_init__(self) -> None:
        if len({bool(item.incorrect) for item in self.items}) > 1:
            raise ValueError(f"items of the task {self.name} must all have an incorrect answer, or none")

    @property
    def unit(self) -> str:
        """Unit of the score: ``"log odds"`` of a choice between two answers, else ``"log p"``."""
        return "log odds" if self.items[0].incorrect else "log p"


def build_behavior_tasks(
    tokenizer: Tokenizer, names: Sequence[str] | None = None, items: int = 32, seed: int = 0
) -> list[BehaviorTask]:
    """Build tasks for a model with this tokenizer; the same seed gives the same items.

    Args:
        tokenizer: any.
        names: keys of ``TASKS``. Default: all.
        items: number of items in each task.
        seed: of the random choices.

    Raises:
        ValueError: an unknown task (suggests the nearest), fewer than two items, more than a task has, or a
            vocabulary in which a task cannot be written.
    """
    if items < 2:
        raise ValueError(f"a task needs at least 2 items, not {items}")
    builders = [(name, choose(TASKS, name, "task")) for name in (TASKS if names is None else names)]
    tasks = []
    for name, builder in builders:
        try:
            tasks.append(builder(tokenizer, items, random.Random(f"{seed} {name}")))
        except ValueError as error:
            raise ValueError(f"the task {name} cannot be built: {error}") from error
    return tasks


def copying(tokenizer: Tokenizer, items: int, draw: random.Random, length: int = 16) -> BehaviorTask:
    """``length`` random tokens, twice; predicted from the second token of the second copy on."""
    measures = f"repeating {length} random tokens"
    return _copies("copying", measures, tokenizer, items, draw, length, 2 * length, length + 1)


def copy_from_back(
    tokenizer: Tokenizer, items: int, draw: random.Random, k: int, length: int = 24
) -> BehaviorTask:
    """A cycle of ``k`` random tokens, repeated up to ``length``; predicted after two cycles."""
    measures = f"copying from {k} back"
    return _copies(f"copy-{k}", measures, tokenizer, items, draw, k, length, 2 * k)


def agreement(tokenizer: Tokenizer, items: int, draw: random.Random) -> BehaviorTask:
    """Subject and verb with a noun of the other number between them (Linzen, Dupoux & Goldberg 2016)."""
    prefix, built = item_prefix(tokenizer), []
    for number in range(items):
        plural = number % 2
        subject, other = draw.sample(NOUNS, 2)
        words = ["The", subject[plural], draw.choice(PREPOSITIONS), "the", other[1 - plural]]
        verbs = draw.choice(VERBS)
        built.append(
            _choice(tokenizer, prefix, " ".join(words), f" {verbs[plural]}", f" {verbs[1 - plural]}")
        )
    return BehaviorTask("agreement", "the verb's number past a distractor", 0.5, tuple(built))


def brackets(tokenizer: Tokenizer, items: int, draw: random.Random) -> BehaviorTask:
    """Closing the innermost open bracket, not one further out or already closed."""
    prefix, built = item_prefix(tokenizer), []
    for number in range(items):
        kinds = draw.sample(["()", "[]", "{}"], 3)
        words = draw.sample(FILLERS, 4)
        outer, inner, third = kinds
        if number % 2:  # the innermost bracket is already closed
            text = f"{outer[0]} {words[0]} {inner[0]} {words[1]} {inner[1]} {words[2]}"
            correct, incorrect = outer[1], inner[1]
        else:
            text = f"{third[0]} {words[0]} {outer[0]} {words[1]} {inner[0]} {words[2]}"
            correct, incorrect = inner[1], outer[1]
        built.append(_choice(tokenizer, prefix, text, f" {correct}", f" {incorrect}"))
    return BehaviorTask("brackets", "closing the innermost bracket", 0.5, tuple(built))


def key_value(tokenizer: Tokenizer, items: int, draw: random.Random, pairs: int = 4) -> BehaviorTask:
    """The value of a key that is repeated, or the value of another key."""
    prefix, built = item_prefix(tokenizer), []
    for _ in range(items):
        keys, values = draw.sample(NAMES, pairs), draw.sample(OBJECTS, pairs)
        asked, other = draw.sample(range(pairs), 2)
        lines = "".join(f"{key}: {value}\n" for key, value in zip(keys, values, strict=True))
        text = f"{lines}{keys[asked]}:"
        built.append(_choice(tokenizer, prefix, text, f" {values[asked]}", f" {values[other]}"))
    return BehaviorTask("key-value", f"who has what, of {pairs}", 0.5, tuple(built))


def control(tokenizer: Tokenizer, items: int, draw: random.Random) -> BehaviorTask:
    """The second half of predictable sentences and sequences, in which nothing is copied.

    Items beyond the number of templates are other lines of the same templates, and so is the population that
    an interval over them refers to.
    """
    prefix, built = item_prefix(tokenizer), []
    for text in control_lines(items, draw):
        ids = (*prefix, *tokenizer.encode(text))
        positions = tuple(range((len(prefix) + len(ids)) // 2, len(ids)))
        built.append(TaskItem(ids[:-1], positions, tuple(ids[position] for position in positions)))
    return BehaviorTask("control", "plain predictable text", 1 / tokenizer.vocab_size, tuple(built))


def control_lines(count: int, draw: random.Random) -> list[str]:
    """Different lines of ``SENTENCES``: one of every template before a second of any.

    Raises:
        ValueError: more than there are.
    """
    remaining = [draw.sample(lines, len(lines)) for lines in map(expand_template, SENTENCES)]
    most = sum(map(len, remaining))
    if count > most:
        raise ValueError(f"there are {most:,} control lines: choose at most as many items")
    drawn: list[str] = []
    while len(drawn) < count:
        remaining = [lines for lines in remaining if lines]
        drawn += [lines.pop() for lines in draw.sample(remaining, len(remaining))]
    return drawn[:count]


TASKS: dict[str, Callable[[Tokenizer, int, random.Random], BehaviorTask]] = {
    "copying": copying,
    "copy-1": partial(copy_from_back, k=1),
    "copy-4": partial(copy_from_back, k=4),
    "copy-8": partial(copy_from_back, k=8),
    "agreement": agreement,
    "brackets": brackets,
    "key-value": key_value,
    "control": control,
}
"""Task builders by name: (tokenizer, number of items, random generator) -> BehaviorTask."""


def item_prefix(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Tokens before each item: the special tokens that open a text, and a newline.

    Many heads attend to the first token by default, and an unusual first token makes predictions much worse.
    A newline stands before a line in any text. If the tokenizer has neither, the end-of-text token is used,
    or nothing if there is none.
    """
    opening = _shared_prefix(tokenizer.add_special_tokens([0]), tokenizer.add_special_tokens([1]))
    newline = tokenizer.encode("\n") if _can_encode(tokenizer, "\n") else []
    separator = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    return tuple([*opening, *newline] or separator)


def _can_encode(tokenizer: Tokenizer, text: str) -> bool:
    try:
        return tokenizer.decode(tokenizer.encode(text)) == text
    except ValueError:  # from a character tokenizer without the character
        return False


def _shared_prefix(a: Sequence[int], b: Sequence[int]) -> list[int]:
    return [x for x, _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))]


def ordinary_tokens(tokenizer: Tokenizer, draw: random.Random, most: int = 512) -> list[int]:
    """Different random tokens whose text is letters and is encoded as just this token.

    This excludes special tokens, parts of a character, and tokens that no text is encoded to.
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
    given: int,
) -> BehaviorTask:
    """A cycle of random tokens, repeated up to ``length``; predicted after the first ``given``."""
    prefix, pool = item_prefix(tokenizer), ordinary_tokens(tokenizer, draw)
    if len(pool) < period:
        raise ValueError(
            f"{len(pool)} of the {tokenizer.vocab_size} tokens are made of letters, and it needs {period}"
        )
    built = []
    for _ in range(items):
        cycle = draw.sample(pool, period)
        ids = (*prefix, *(cycle[i % period] for i in range(length)))
        positions = tuple(range(len(prefix) + given, len(ids)))
        built.append(TaskItem(ids[:-1], positions, tuple(ids[position] for position in positions)))
    return BehaviorTask(name, measures, 1 / len(pool), tuple(built))


def _choice(
    tokenizer: Tokenizer, prefix: tuple[int, ...], text: str, correct: str, incorrect: str
) -> TaskItem:
    """A choice between two continuations of a text, at the first token where they differ."""
    a, b = tokenizer.encode(text + correct), tokenizer.encode(text + incorrect)
    shared = _shared_prefix(a, b)
    if len(shared) == min(len(a), len(b)):
        raise ValueError(f"the tokenizer cannot tell {correct!r} from {incorrect!r}")
    ids = (*prefix, *shared)
    return TaskItem(ids, (len(ids),), (a[len(shared)],), (b[len(shared)],))
