"""Attributions of a model's answer to its input by attention rollout, with tests of their faithfulness."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.analysis.attribution_targets import (
    AttributionTarget,
    ClassLogProb,
    DecoderTokenLogProb,
    Similarity,
    TokenLogProb,
    default_target,
)
from glassformer.analysis.faithfulness import (
    MIN_ORDERS,
    DeletionResult,
    NoDeletableTokenError,
    deletion_test,
)
from glassformer.analysis.inputs import model_inputs
from glassformer.analysis.rollout import (
    attention_rollout,
    attribution_for,
    gradient_rollout,
    self_attention_stack,
)
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel
from glassformer.terminal import count_of
from glassformer.visualization.figures.style import drawable_label, format_probability, isolate
from glassformer.visualization.model_input import check_finite, token_labels

MAX_GRADIENT_WEIGHTS = 100_000_000
"""Attention weights of all layers up to which gradients are computed, which take memory."""
REQUESTED_STEPS, DEFAULT_STEPS, MIN_STEPS = 20, 10, 2
"""Steps of a deletion test that is asked for, of one that is not at most, and at least."""
DEFAULT_COST = 1_600_000_000_000
"""Parameters times tokens that a test may cost if it is not asked for: about 15 seconds on two cores."""
ROUNDING_ERROR = 1e-6
"""Differences between answers up to which they count as equal."""


@dataclass(frozen=True)
class Attribution:
    """Shares of the input tokens in an answer."""

    name: str
    """Of the method."""
    shares: npt.NDArray[np.float64]
    """``(key,)``, summing to one."""
    test: DeletionResult | None = None
    """Test of faithfulness, if one was run."""

    @property
    def summary(self) -> str:
        """The method, and on a second line whether it is more faithful than random orders."""
        if self.test is None:
            return f"{self.name}\nfaithfulness not tested"
        if max(abs(self.test.random_drops).max(), abs(self.test.drops).max()) < ROUNDING_ERROR:
            return f"{self.name}\nfaithfulness cannot be measured: no deletion changes the answer"
        low, high = self.test.interval()
        better, worse = low > ROUNDING_ERROR, high < -ROUNDING_ERROR
        comparison = "better than" if better else "worse than" if worse else "no better than"
        score, low_text, high_text = map(_format_score, (self.test.score, low, high))
        return f"{self.name}\n{comparison} random orders: faithfulness {score} ({low_text} to {high_text})"


@dataclass(frozen=True)
class Explanation:
    """Attributions of a model's answer."""

    outcome: AttributionTarget
    kind: str
    """Kind of the attention that was followed."""
    answer: str
    """The answer in words, with its probability."""
    attributions: list[Attribution]
    notes: list[str]


def explain(
    model: TransformerModel, example: Any, position: int | None = None, faithfulness: bool | None = None
) -> Explanation:
    """Attribute a model's most likely answer to its input by attention rollout.

    If gradients exist and fit into memory, gradient-weighted rollout is a second attribution. Its shares are
    what each token adds to the answer: the identity matrix that rollout starts from is subtracted.

    Args:
        model: Any model.
        example: See ``analysis.inputs.model_inputs``.
        position: The position of the answer; see ``analysis.attribution_targets.default_target``.
        faithfulness: Whether to run ``deletion_test``. Default: only if it takes a few seconds.

    Raises:
        ValueError: The position does not exist, or see ``attention_rollout`` and ``deletion_test``.
        TypeError: See ``default_target``.
    """
    inputs = model_inputs(model, example)
    with torch.no_grad(), eval_mode(model):
        output = model(*inputs)
        outcome = default_target(model, inputs, output, position)
    matrices = {"rollout": attention_rollout(model, example)}
    check_finite(matrices["rollout"], "The attention of some layer")
    length, notes = len(matrices["rollout"]), []
    kind, attentions = self_attention_stack(model, None)
    if not outcome.differentiable:
        notes.append("no gradient-weighted rollout: the model has no head")
    elif sum(attention.num_heads for attention in attentions) * length**2 > MAX_GRADIENT_WEIGHTS:
        notes.append(f"no gradient-weighted rollout: {length:,} tokens take too much memory")
    else:
        matrices["gradient-weighted rollout"] = gradient_rollout(model, example, outcome)
    steps = deletion_steps(model, length, faithfulness)
    attributions: list[Attribution] = []
    for name, matrix in matrices.items():
        scores = attribution_for(outcome, matrix)
        first = attributions[0].test if attributions else None  # its random orders are computed only once
        test = None
        if steps:
            with suppress(NoDeletableTokenError):  # a single token, for example
                test = deletion_test(model, example, scores, outcome, steps=steps, baseline=first)
        added = matrix if name == "rollout" else matrix - torch.eye(length, dtype=matrix.dtype)
        attributions.append(Attribution(name, _normalize(attribution_for(outcome, added)), test))
    notes += [
        score_description(attribution.test, outcome) for attribution in attributions[:1] if attribution.test
    ]
    intact = torch.arange(length, device=output.device)[None]
    answer = _describe(outcome, model, float(outcome(output, intact)))
    return Explanation(outcome, kind, answer, attributions, notes)


def deletion_steps(model: TransformerModel, length: int, requested: bool | None = None) -> int:
    """Number of steps of a deletion test; 0 for none.

    Step k of s runs each order with a share 1 - k / s of the tokens, so a test reads the input (s - 1) / 2
    times per order.

    Args:
        model: The model to be tested.
        length: Number of tokens.
        requested: True for a thorough test, False for none. Default: what ``DEFAULT_COST`` allows.
    """
    if requested is not None:
        return REQUESTED_STEPS if requested else 0
    steps = 1 + 2 * DEFAULT_COST // ((MIN_ORDERS + 1) * length * model.num_parameters())
    return min(DEFAULT_STEPS, steps) if steps >= MIN_STEPS else 0


def score_description(test: DeletionResult, outcome: AttributionTarget) -> str:
    """Explain the score of a deletion test and its interval."""
    unit = "nats" if outcome.differentiable else "cosine"
    orders, steps = len(test.random_drops), len(test.shares) - 1
    return (
        f"faithfulness: how much further the answer falls (area, {unit}) when inputs are deleted in this "
        f"order than in random ones; in brackets against 95 % of {orders} random orders "
        f"({count_of(steps, 'step')})"
    )


def _format_score(number: float) -> str:
    """Two significant digits, and 0 for rounding errors."""
    text = f"{0.0 if abs(number) < ROUNDING_ERROR else number:.2g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _normalize(scores: Tensor) -> npt.NDArray[np.float64]:
    """Shares that sum to one, or are all zero."""
    scores = scores.clamp(min=0)
    shares: npt.NDArray[np.float64] = (scores / scores.sum().clamp(min=1e-300)).numpy()
    return shares


def _quoted_token(model: TransformerModel, token: int) -> str:
    return isolate(drawable_label(token_labels(model, model.tokenizer, [token])[0]))


@singledispatch
def _describe(outcome: Any, model: Any, value: float) -> str:
    """An outcome in words; ``value`` is its value on the intact input."""
    return type(outcome).__name__


@_describe.register
def _(outcome: TokenLogProb, model: Any, value: float) -> str:
    is_class = model.task == "token_classification"
    name = f"class {model.labels[outcome.token]}" if is_class else _quoted_token(model, outcome.token)
    return f"{name} ({format_probability(float(np.exp(value)))})"


@_describe.register
def _(outcome: DecoderTokenLogProb, model: Any, value: float) -> str:
    probability = format_probability(float(np.exp(value)))
    place = f"token {outcome.target_position} of the target"
    return f"{_quoted_token(model, outcome.token)} ({probability}), {place},"


@_describe.register
def _(outcome: ClassLogProb, model: Any, value: float) -> str:
    return f"class {model.labels[outcome.label]} ({format_probability(float(np.exp(value)))})"


@_describe.register
def _(outcome: Similarity, model: Any, value: float) -> str:
    return "the mean of all output vectors"
