"""Facts planted in texts: a token that states a value of a key, and a later question for the value.

A fact is one token, which names its key and its value; a question is a token that names the key, and the next
token is the answer, the fact again. The tokens of facts and questions follow the vocabulary of the text. An
answer depends on one earlier token only, wherever that is, so it shows whether a model uses distant text.

    ... text F(key 2, value 7) text F(key 0, value 3) text ... text Q(key 2) F(key 2, value 7) text ...

In a window of n tokens, facts are in the first half and questions in the second: distances are 1 to n - 2.
In training each fact is asked several times, in testing once: later questions can also be answered by earlier
answers, which are near, and from that models learn to copy sooner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ids = npt.NDArray[np.int64]

TRAINING, TESTING = 0, 1
"""Streams of random numbers of a seed."""


class Windows(Protocol):
    """Batches of windows by the number of the update."""

    def batch(self, step: int) -> Tensor:
        """``(batch, seq + 1)`` ids."""
        ...


@dataclass(frozen=True)
class FactVocabulary:
    """Ids of facts and questions.

    Args:
        first: the first id, the vocabulary size of the text.
        num_keys: different keys.
        num_values: values of a key.

    Raises:
        ValueError: fewer than one key or two values.
    """

    first: int
    num_keys: int
    num_values: int

    def __post_init__(self) -> None:
        if self.num_keys < 1 or self.num_values < 2:
            raise ValueError(
                f"facts need at least 1 key and 2 values, got {self.num_keys} and {self.num_values}"
            )

    @property
    def vocab_size(self) -> int:
        """Ids of the text and of all facts and questions."""
        return self.first + self.num_keys * self.num_values + self.num_keys

    def facts(self, keys: Ids, values: Ids) -> Ids:
        """Ids that state these values of these keys."""
        return self.first + keys * self.num_values + values

    def questions(self, keys: Ids) -> Ids:
        """Ids that ask for the values of these keys."""
        return self.first + self.num_keys * self.num_values + keys


@dataclass(frozen=True)
class PlantedFacts:
    """Facts and questions of some windows of ``n`` tokens."""

    facts: Ids
    """``(window, fact)``."""
    questions: Ids
    """``(window, question)``."""
    answers: Ids
    """``(window, question)``."""
    fact_slots: Ids
    """``(window, fact)``, in the first half of the window."""
    question_slots: Ids
    """``(window, question)``, in the second half; the answer is one later."""

    def plant(self, windows: Ids, *, fact_offset: int = 0, question_offset: int = 0) -> Ids:
        """Copies of windows in which tokens are replaced.

        Args:
            windows: ``(window, tokens)``.
            fact_offset: added to the slots of the facts.
            question_offset: added to the slots of questions and answers.
        """
        planted, rows = windows.copy(), np.arange(len(windows))[:, None]
        planted[rows, self.fact_slots + fact_offset] = self.facts
        planted[rows, self.question_slots + question_offset] = self.questions
        planted[rows, self.question_slots + question_offset + 1] = self.answers
        return planted


def draw_facts(
    vocabulary: FactVocabulary, num_windows: int, n: int, num_facts: int, repeats: int, *seeds: int
) -> PlantedFacts:
    """Draw facts with different keys, and their slots.

    Args:
        vocabulary: ids.
        num_windows: number of windows.
        n: tokens of a window.
        num_facts: facts in a window.
        repeats: questions about each of them.
        seeds: of the random numbers.

    Raises:
        ValueError: more facts than keys, or more facts or questions than fit into half a window.
    """
    if not 1 <= num_facts <= vocabulary.num_keys:
        raise ValueError(f"facts of a window must be 1 to {vocabulary.num_keys} (keys), got {num_facts}")
    half, pairs = n // 2, (n - n // 2) // 2
    if num_facts > half or not 1 <= repeats <= pairs // num_facts:
        raise ValueError(
            f"{num_facts} facts, each asked {repeats} times, do not fit into a window of {n} tokens"
        )
    draw = np.random.default_rng(seeds)

    def sample(count: int, chosen: int) -> Ids:
        """Different numbers below ``count`` in each row."""
        return draw.random((num_windows, count)).argsort(axis=1)[:, :chosen]

    keys = sample(vocabulary.num_keys, num_facts)
    facts = vocabulary.facts(keys, draw.integers(vocabulary.num_values, size=keys.shape))
    return PlantedFacts(
        facts,
        np.tile(vocabulary.questions(keys), repeats),
        np.tile(facts, repeats),
        sample(half, num_facts),
        half + 2 * sample(pairs, num_facts * repeats),
    )


class PlantedWindows:
    """Training windows with facts in some of each batch.

    Args:
        windows: of text.
        vocabulary: ids of the facts.
        fraction: of the windows of a batch that have facts.
        num_facts: in each of them.
        repeats: questions about each fact.
        seed: of the facts.

    Raises:
        ValueError: a fraction that is not from 0 to 1.
    """

    def __init__(
        self,
        windows: Windows,
        vocabulary: FactVocabulary,
        fraction: float,
        num_facts: int,
        repeats: int,
        seed: int,
    ) -> None:
        if not 0 <= fraction <= 1:
            raise ValueError(f"the fraction of windows with facts must be from 0 to 1, got {fraction}")
        self.windows, self.vocabulary = windows, vocabulary
        self.fraction, self.num_facts, self.repeats, self.seed = fraction, num_facts, repeats, seed

    def batch(self, step: int) -> Tensor:
        """The windows of an update; their order is random, so the first ones have the facts."""
        batch = self.windows.batch(step)
        count = round(self.fraction * len(batch))
        if count:
            # A window has one more token than the model reads.
            n, seeds = batch.size(1) - 1, (self.seed, TRAINING, step)
            planted = draw_facts(self.vocabulary, count, n, self.num_facts, self.repeats, *seeds)
            batch[:count] = torch.from_numpy(planted.plant(batch[:count].numpy()))
        return batch


def recall_conditions(
    text: Ids, vocabulary: FactVocabulary, n: int, num_facts: int, seed: int
) -> Mapping[str, tuple[Ids, Ids]]:
    """Windows with the same questions in the same text, and the facts at different places.

    Args:
        text: ``(window, 2 n)`` ids.
        vocabulary: ids of the facts.
        n: trained length.
        num_facts: in each window, each asked once.
        seed: of the facts.

    Returns:
        Windows ``(window, tokens)`` and the slots of the questions ``(window, num_facts)`` for

        - ``trained``: the last n tokens, with facts and questions as in training,
        - ``near``: all 2 n tokens with the facts at the same places, at most n - 2 before their questions,
        - ``far``: all 2 n tokens with the facts n tokens earlier.

    Raises:
        ValueError: windows of another length, or as raised by ``draw_facts``.
    """
    if text.shape[1] != 2 * n:
        raise ValueError(f"windows must have {2 * n} tokens, got {text.shape[1]}")
    planted = draw_facts(vocabulary, len(text), n, num_facts, 1, seed, TESTING)
    return {
        "trained": (planted.plant(text[:, n:]), planted.question_slots),
        "near": (planted.plant(text, fact_offset=n, question_offset=n), planted.question_slots + n),
        "far": (planted.plant(text, question_offset=n), planted.question_slots + n),
    }


def vocabulary_of(settings: Mapping[str, Any], text_vocab_size: int) -> FactVocabulary:
    """The ids of facts for the settings ``num_keys`` and ``num_values``."""
    return FactVocabulary(text_vocab_size, settings["num_keys"], settings["num_values"])
