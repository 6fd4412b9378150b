"""Faithfulness of attributions, measured by deletion tests.

    drop(s) = target for the original input - target without the fraction s of its tokens, in the order of
              their attribution from the highest to the lowest
    area    = integral of drop(s) over s from 0 to 1
    score   = area - mean area of random orders

(The area over the perturbation curve, Samek et al. 2017.) An uninformative attribution scores about zero. A
token is removed from the sequence, so that later tokens move; a patch of an image takes the mean color of
the image. The token that the target is read from and special tokens are never deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from glassformer.analysis.attribution_targets import AttributionTarget, default_target
from glassformer.analysis.head_patterns.statistics import Numbers, bootstrap_interval
from glassformer.analysis.inputs import model_inputs, special_token_adder
from glassformer.analysis.rollout import (
    attention_rollout,
    attribution_for,
    gradient_rollout,
    max_flow,
    visit_mean_attention,
)
from glassformer.deprecation import renamed_arguments
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel

MIN_ORDERS = 39
"""Random orders: a new one lies between the least and the greatest of n with probability (n - 1) / (n + 1),
which is 95 % for 39."""


@dataclass(frozen=True)
class DeletionResult:
    """The drop of a target as tokens are deleted in the order of an attribution, and in random orders."""

    shares: Numbers
    """Fraction of the deletable tokens that is deleted at each step, ``(step,)``, from 0 to 1."""
    drops: Numbers
    """``(step,)``, beginning with 0."""
    random_drops: Numbers
    """``(order, step)``."""

    @property
    def area(self) -> float:
        """Area under the drops in the order of the attribution."""
        return float(_area(self.shares, self.drops))

    @property
    def random_areas(self) -> Numbers:
        """Area under the drops in each random order, ``(order,)``."""
        return _area(self.shares, self.random_drops)

    @property
    def score(self) -> float:
        """The area minus the mean area of random orders: above zero is better than chance."""
        return float(self.area - self.random_areas.mean())

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The interval of the area minus a random order's: a lower end above zero beats nearly all orders."""
        low, high = self.random_interval(level)
        return self.area - high, self.area - low

    def random_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Prediction interval for the area of a new random order."""
        ends = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.quantile(self.random_areas, ends, method="weibull")
        return float(low), float(high)


@dataclass(frozen=True)
class Faithfulness:
    """The scores of an attribution method over a data set."""

    scores: Numbers
    """``(example,)``."""
    low: float
    """Lower end of the 95 % bootstrap interval of the mean over examples; NaN for a single example."""
    high: float

    @property
    def score(self) -> float:
        """Their mean."""
        return float(self.scores.mean())


class NoDeletableTokenError(ValueError):
    """An input without a token that may be deleted, such as a single token."""


AttributionMethod: TypeAlias = Callable[[TransformerModel, Any, AttributionTarget], Tensor]
"""``method(model, example, target)``: the attribution to each token, ``(key,)``."""


def _flow(model: TransformerModel, example: Any, target: AttributionTarget) -> Tensor:
    layers: list[Tensor] = []
    visit_mean_attention(model, example, layers.append)
    positions = range(layers[0].size(-1)) if target.position is None else [target.position]
    return torch.stack([max_flow(layers, position) for position in positions]).mean(0)


ATTRIBUTION_METHODS: dict[str, AttributionMethod] = {
    "rollout": lambda model, example, target: attribution_for(target, attention_rollout(model, example)),
    "gradient": lambda model, example, target: attribution_for(
        target, gradient_rollout(model, example, target)
    ),
    "flow": _flow,
}


@renamed_arguments(relevance="method", outcome="target")
def faithfulness(
    model: TransformerModel,
    dataset: Iterable[Any],
    method: AttributionMethod,
    target: AttributionTarget | None = None,
    *,
    seed: int = 0,
    **options: Any,
) -> Faithfulness:
    """Scores of ``deletion_test`` over a data set, with a bootstrap interval over examples.

    Args:
        model: of any family.
        dataset: examples, as in ``model_inputs``.
        method: one of ``ATTRIBUTION_METHODS``, or any function of (model, example, target).
        target: as in ``deletion_test``.
        seed: of the first example; the others use the following seeds.
        options: further arguments of ``deletion_test``.

    Raises:
        ValueError: an empty data set; as ``deletion_test``.
        TypeError: as ``deletion_test``.
    """
    scores = []
    for number, example in enumerate(dataset):
        example_target = target or compute_default_target(model, example)
        attribution = method(model, example, example_target)
        result = deletion_test(model, example, attribution, example_target, seed=seed + number, **options)
        scores.append(result.score)
    if not scores:
        raise ValueError("the data set is empty: give at least one example")
    low, high = bootstrap_interval(np.array(scores))
    return Faithfulness(np.array(scores), low, high)


@torch.no_grad()
def compute_default_target(
    model: TransformerModel, example: Any, position: int | None = None, answer: int | None = None
) -> AttributionTarget:
    """``default_target`` for the output of a model for an example."""
    inputs = model_inputs(model, example)
    with eval_mode(model):
        return default_target(model, inputs, model(*inputs), position, answer)


@renamed_arguments(relevance="attribution", outcome="target", beside="baseline")
@torch.no_grad()
def deletion_test(
    model: TransformerModel,
    example: Any,
    attribution: Tensor | Sequence[float],
    target: AttributionTarget | None = None,
    *,
    orders: int = MIN_ORDERS,
    steps: int = 20,
    seed: int = 0,
    batch_size: int = 32,
    baseline: DeletionResult | None = None,
) -> DeletionResult:
    """Delete tokens in the order of an attribution, and in random orders.

    Args:
        model: of any family; it runs in evaluation mode.
        example: as in ``model_inputs``; of a pair the source is deleted.
        attribution: a number for each token that the model is given, special tokens included, ``(key,)``.
            Tokens of equal attribution are deleted in random order.
        target: the scalar to be measured. Default: ``default_target`` of the original input.
        orders: number of random orders, at least ``MIN_ORDERS``.
        steps: number of times that the target is measured, evenly spaced; at most once for each token.
        seed: of the orders.
        batch_size: perturbed inputs in a forward pass.
        baseline: the result for another attribution of the same example, target, steps and orders, whose
            random orders are used again.

    Raises:
        NoDeletableTokenError: no token may be deleted.
        ValueError: an attribution of another length or that is not finite, too few orders, or a baseline with
            other steps or orders.
        TypeError: as ``default_target``.
    """
    if orders < MIN_ORDERS:
        raise ValueError(f"orders must be at least {MIN_ORDERS}, not {orders}: fewer have no 95 % interval")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    inputs = model_inputs(model, example)
    is_image = model.main_input_name == "pixel_values"
    perturbation = _PatchFilling(model, *inputs) if is_image else _TokenDeletion(model, *inputs)
    length = perturbation.length
    values = torch.as_tensor(attribution, dtype=torch.float64).cpu().numpy()
    if values.shape != (length,) or not np.isfinite(values).all():
        raise ValueError(f"the attribution must be {length} finite numbers, one for each token, not {values}")
    with eval_mode(model):
        output = model(*inputs)
        target = default_target(model, inputs, output) if target is None else target
        deletable = [token for token in target.depends_on(length) if token not in perturbation.fixed]
        most = min(len(deletable), length - 1)  # at least one token is left
        if most < 1:
            raise NoDeletableTokenError("no token may be deleted: give an input with more tokens")
        random = np.random.default_rng(seed)
        deletion_orders = np.array([random.permutation(deletable) for _ in range(orders + 1)])
        by_attribution = np.argsort(-values[deletion_orders[0]], kind="stable")
        deletion_orders[0] = deletion_orders[0][by_attribution]
        counts = np.unique(np.linspace(0, most, steps + 1).round().astype(int))
        if baseline is not None:
            shape = baseline.random_drops.shape
            if shape != (orders, len(counts)):
                raise ValueError(f"baseline must have (orders, steps) {(orders, len(counts))}, not {shape}")
            deletion_orders = deletion_orders[:1]
        scalars = np.empty((len(deletion_orders), len(counts)))
        all_tokens = torch.arange(length, device=output.device)[None]
        scalars[:, 0] = target(output, all_tokens).double().cpu().numpy()
        for step, count in enumerate(counts[1:], start=1):
            for first in range(0, len(deletion_orders), batch_size):
                deleted = deletion_orders[first : first + batch_size, :count]
                rows, remaining = perturbation.without(deleted.tolist())
                scalars[first : first + batch_size, step] = (
                    target(model(*rows), remaining).double().cpu().numpy()
                )
    drops = scalars[:, :1] - scalars
    random_drops = drops[1:] if baseline is None else baseline.random_drops
    return DeletionResult(counts / most, drops[0], random_drops)


class Perturbation(Protocol):
    """An input whose tokens can be deleted."""

    length: int
    """Number of tokens."""
    fixed: set[int]
    """Tokens that are never deleted."""

    def without(self, deleted: Sequence[Sequence[int]]) -> tuple[tuple[Tensor, ...], Tensor]:
        """The input without tokens.

        Args:
            deleted: sets of tokens of the same size.

        Returns:
            A batch with a row for each set, and the tokens that are left in each row, ``(row, key)``.
        """
        ...


class _TokenDeletion:
    """A text, or two sentences, from which tokens are removed; special tokens and a target text stay."""

    def __init__(self, model: TransformerModel, ids: Tensor, *others: Tensor) -> None:
        self.ids, self.others, self.length = ids[0], others, ids.size(1)
        self.has_target = model.is_encoder_decoder
        special_tokens = special_token_adder(model, model.tokenizer)([])
        self.fixed = {place for place, token in enumerate(self.ids.tolist()) if token in special_tokens}

    def without(self, deleted: Sequence[Sequence[int]]) -> tuple[tuple[Tensor, ...], Tensor]:
        rows = [[place for place in range(self.length) if place not in gone] for gone in map(set, deleted)]
        remaining = torch.tensor(rows, device=self.ids.device)
        if self.has_target:
            others = [other.expand(len(remaining), -1) for other in self.others]
        else:
            others = [other[0][remaining] for other in self.others]  # the mask and the segments of a pair
        return (self.ids[remaining], *others), remaining


class _PatchFilling:
    """An image whose patches take its mean color; the class token and registers stay."""

    def __init__(self, model: Any, pixels: Tensor) -> None:
        self.pixels, self.side = pixels, model.patch_size
        rows, self.columns = model.grid(pixels)
        self.first_patch = model.hidden_states(pixels).size(1) - rows * self.columns
        self.length = self.first_patch + rows * self.columns
        self.fixed = set(range(self.first_patch))

    def without(self, deleted: Sequence[Sequence[int]]) -> tuple[tuple[Tensor, ...], Tensor]:
        images = self.pixels.repeat(len(deleted), 1, 1, 1)
        color = self.pixels[0].mean((1, 2))[:, None, None]
        for image, tokens in zip(images, deleted, strict=True):
            for token in tokens:
                row, column = divmod(token - self.first_patch, self.columns)
                top, left = row * self.side, column * self.side
                image[:, top : top + self.side, left : left + self.side] = color
        return (images,), torch.arange(self.length, device=images.device).expand(len(deleted), -1)


def _area(shares: Numbers, drops: Numbers) -> Numbers:
    """Integral over the last axis by the trapezoidal rule."""
    area: Numbers = ((drops[..., 1:] + drops[..., :-1]) / 2 * np.diff(shares)).sum(-1)
    return area
