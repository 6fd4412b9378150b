"""What a picture of rollout shows: each input's share in a model's answer, and whether it can be believed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.analysis.deletion import Deletion, deletion_test
from glassformer.analysis.examples import inputs_of
from glassformer.analysis.outcomes import (
    ClassProbability,
    Outcome,
    Similarity,
    TargetProbability,
    TokenProbability,
    outcome_of,
)
from glassformer.analysis.rollout import (
    attention_rollout,
    choose_stack,
    gradient_rollout,
    relevance_for,
)
from glassformer.generation.streaming import evaluating
from glassformer.models import TransformerModel
from glassformer.models.heads import TokenClassificationHead
from glassformer.visualization.arguments import check_finite
from glassformer.visualization.faithfulness import score_in_words, steps_of
from glassformer.visualization.glyphs import printable
from glassformer.visualization.heading import set_apart
from glassformer.visualization.inks import probability
from glassformer.visualization.looking import label_of
from glassformer.visualization.readable import mark_names

AFFORDABLE = 100_000_000
"""Weights of a whole stack that a graph for gradients is held beside."""


NOISE = 1e-6
"""Differences between answers that are nothing but rounding."""


@dataclass(frozen=True)
class Relevance:
    """How the answer is shared out among the inputs."""

    name: str
    shares: npt.NDArray[np.float64]
    """``(key,)``, summing to one."""
    test: Deletion | None = None

    @property
    def said(self) -> str:
        """The name, and of its deletion test whether it beats random orders, by what score and interval."""
        if self.test is None:
            return f"{self.name}\nfaithfulness not tested"
        if max(abs(self.test.random_drops).max(), abs(self.test.drops).max()) < NOISE:
            return f"{self.name}\nfaithfulness cannot be measured: no deletion changes the answer"
        numbers = (self.test.score, *self.test.interval())
        low, high = numbers[1:]
        than = "better than" if low > NOISE else "worse than" if high < -NOISE else "no better than"
        score, low_said, high_said = map(_signed, numbers)
        return f"{self.name}\n{than} random orders: faithfulness {score} ({low_said} to {high_said})"


def _signed(number: float) -> str:
    """Two figures; what is nothing but rounding is zero."""
    said = f"{0.0 if abs(number) < NOISE else number:.2g}"
    return said.replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Explanation:
    """An answer, and what it is put down to."""

    outcome: Outcome
    kind: str
    """Of the attention that was followed."""
    answer: str
    """The outcome in words, with its probability."""
    relevances: list[Relevance]
    notes: list[str]
    """What a reader of the picture should know."""


def explain(
    model: TransformerModel, example: Any, position: int | None = None, faithfulness: bool | None = None
) -> Explanation:
    """Rollout, and where it can be had the one that is weighted by gradients, of a model's likeliest answer.

    Of the second an input's share is what it adds for the answer: the row that the answer is read from,
    without the one that each token begins with, divided by its sum.

    Args:
        model: of any family.
        example: as ``analysis.examples.inputs_of`` takes it.
        position: where the answer is read; as ``outcome_of``.
        faithfulness: whether they are put to ``deletion_test``. Default: as thoroughly as is quick.

    Raises:
        ValueError: a position that does not exist; as ``attention_rollout`` and ``deletion_test``.
        TypeError: as ``outcome_of``.
    """
    inputs = inputs_of(model, example)
    with torch.no_grad(), evaluating(model):
        output = model(*inputs)
        outcome = outcome_of(model, inputs, output, position)
    rolled = {"rollout": attention_rollout(model, example)}
    check_finite(rolled["rollout"], "the attention of some layer")
    length, notes = len(rolled["rollout"]), []
    kept = torch.arange(length, device=output.device)[None]
    kind, stack = choose_stack(model, None)
    if not outcome.has_slope:
        notes.append("no gradient-weighted rollout: the model has no head")
    elif sum(attention.num_heads for attention in stack) * length**2 > AFFORDABLE:
        notes.append(f"no gradient-weighted rollout: {length} tokens take too much memory")
    else:
        rolled["gradient-weighted rollout"] = gradient_rollout(model, example, outcome)
    steps = steps_of(model, length, faithfulness)
    relevances: list[Relevance] = []
    for name, matrix in rolled.items():
        worth = relevance_for(outcome, matrix)
        beside = relevances[0].test if relevances else None  # whose random orders need not be read again
        test = deletion_test(model, example, worth, outcome, steps=steps, beside=beside) if steps else None
        gained = matrix if name == "rollout" else matrix - torch.eye(length, dtype=matrix.dtype)
        relevances.append(Relevance(name, _shares(relevance_for(outcome, gained)), test))
    tests = [relevance.test for relevance in relevances if relevance.test is not None]
    notes += [score_in_words(test, outcome) for test in tests[:1]]
    answer = _in_words(outcome, model, float(outcome(output, kept)))
    return Explanation(outcome, kind, answer, relevances, notes)


def _shares(worth: Tensor) -> npt.NDArray[np.float64]:
    """Parts of one; all zero where nothing is worth anything."""
    worth = worth.clamp(min=0)
    shares: npt.NDArray[np.float64] = (worth / worth.sum().clamp(min=1e-300)).numpy()
    return shares


def _quoted(model: TransformerModel, token: int) -> str:
    named = mark_names(model, model.tokenizer).get(token)
    return set_apart(printable(named or label_of(model, token)))


@singledispatch
def _in_words(outcome: Any, model: Any, value: float) -> str:
    return type(outcome).__name__


@_in_words.register
def _(outcome: TokenProbability, model: Any, value: float) -> str:
    classes = isinstance(getattr(model, "head", None), TokenClassificationHead)
    name = f"class {model.labels[outcome.token]}" if classes else _quoted(model, outcome.token)
    return f"{name} ({probability(float(np.exp(value)))})"


@_in_words.register
def _(outcome: TargetProbability, model: Any, value: float) -> str:
    place = outcome.target_position
    return (
        f"{_quoted(model, outcome.token)} ({probability(float(np.exp(value)))}), token {place} of the target,"
    )


@_in_words.register
def _(outcome: ClassProbability, model: Any, value: float) -> str:
    return f"class {model.labels[outcome.label]} ({probability(float(np.exp(value)))})"


@_in_words.register
def _(outcome: Similarity, model: Any, value: float) -> str:
    return "the mean of all output vectors"
