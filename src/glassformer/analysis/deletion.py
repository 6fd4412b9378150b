"""Is a relevance faithful? Delete what it calls relevant, and see how fast the outcome falls.

    drop(s) = outcome of the intact input - outcome without the share s of its tokens, most relevant first
    area    = integral of drop(s) over s from 0 to 1
    score   = area - mean area of random orders

(The area over the perturbation curve, Samek et al. 2017.) A relevance that knows nothing scores about zero.
To delete a token is to take it out of the sequence, so that the others move together; a patch of an image is
painted with the image's mean colour. What the outcome is read from stays, and so do the marks that a
tokenizer puts around a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.analysis.capability import bootstrap_interval
from glassformer.analysis.examples import inputs_of
from glassformer.analysis.flow import flow
from glassformer.analysis.images import ReadsImages
from glassformer.analysis.outcomes import Outcome, outcome_of
from glassformer.analysis.reading import marks_of
from glassformer.analysis.rollout import attention_rollout, follow_attention, gradient_rollout, relevance_for
from glassformer.generation.streaming import evaluating
from glassformer.models import TransformerModel

Numbers: TypeAlias = npt.NDArray[np.float64]

ORDERS = 39
"""Random orders: a further one lies between the least and the most of n with probability (n - 1) / (n + 1),
which is 95 % for 39."""


@dataclass(frozen=True)
class Deletion:
    """How an outcome fell as tokens were deleted, in the order of a relevance and in random ones."""

    shares: Numbers
    """Of the tokens that may go, how many are gone at each step, ``(step,)``, from 0 to 1."""
    drops: Numbers
    """``(step,)``, from 0 on."""
    random_drops: Numbers
    """``(order, step)``."""

    @property
    def area(self) -> float:
        """Over the curve of the relevance."""
        return float(_area(self.shares, self.drops))

    @property
    def random_areas(self) -> Numbers:
        """Over the curve of each random order, ``(order,)``."""
        return _area(self.shares, self.random_drops)

    @property
    def score(self) -> float:
        """How much more area than random orders have on average: above zero is better than chance."""
        return float(self.area - self.random_areas.mean())

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Where the difference to a random order lies for ``level`` of them; above zero beats nearly all."""
        low, high = self.random_interval(level)
        return self.area - high, self.area - low

    def random_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Where the area of a random order lies for ``level`` of all, not only of those that were drawn."""
        ends = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.quantile(self.random_areas, ends, method="weibull")
        return float(low), float(high)


@dataclass(frozen=True)
class Faithfulness:
    """The scores of a relevance over a data set."""

    scores: Numbers
    """``(example,)``."""
    low: float
    """Lower end of the 95 % bootstrap interval of the mean over examples; NaN of a single one."""
    high: float

    @property
    def score(self) -> float:
        """Their mean."""
        return float(self.scores.mean())


Relevance: TypeAlias = Callable[[TransformerModel, Any, Outcome], Tensor]
"""``relevance(model, example, outcome)``: what each token is worth, ``(key,)``."""


def _flow(model: TransformerModel, example: Any, outcome: Outcome) -> Tensor:
    layers: list[Tensor] = []
    follow_attention(model, example, layers.append)
    positions = range(layers[0].size(-1)) if outcome.position is None else [outcome.position]
    return torch.stack([flow(layers, position) for position in positions]).mean(0)


RELEVANCES: dict[str, Relevance] = {
    "rollout": lambda model, example, outcome: relevance_for(outcome, attention_rollout(model, example)),
    "gradient": lambda model, example, outcome: relevance_for(
        outcome, gradient_rollout(model, example, outcome)
    ),
    "flow": _flow,
}
"""Relevances by the word for them."""


def faithfulness(
    model: TransformerModel, dataset: Iterable[Any], relevance: Relevance, **options: Any
) -> Faithfulness:
    """The score of ``deletion_test`` over a data set, with its interval over examples.

    Args:
        model: of any family.
        dataset: examples, as ``inputs_of`` takes them.
        relevance: one of ``RELEVANCES``, or any function of (model, example, outcome).
        options: of ``deletion_test``.

    Raises:
        ValueError: an empty data set; as ``deletion_test``.
        TypeError: as ``deletion_test``.
    """
    scores = []
    for number, example in enumerate(dataset):
        outcome = options.get("outcome") or intact_outcome(model, example)
        worth = relevance(model, example, outcome)
        seeded = {**options, "outcome": outcome, "seed": options.get("seed", 0) + number}
        scores.append(deletion_test(model, example, worth, **seeded).score)
    if not scores:
        raise ValueError("the data set is empty: give at least one example")
    low, high = bootstrap_interval(np.array(scores))
    return Faithfulness(np.array(scores), low, high)


@torch.no_grad()
def intact_outcome(
    model: TransformerModel, example: Any, position: int | None = None, answer: int | None = None
) -> Outcome:
    """``outcome_of`` what the model makes of an example."""
    inputs = inputs_of(model, example)
    with evaluating(model):
        return outcome_of(model, inputs, model(*inputs), position, answer)


@torch.no_grad()
def deletion_test(
    model: TransformerModel,
    example: Any,
    relevance: Tensor | Sequence[float],
    outcome: Outcome | None = None,
    *,
    orders: int = ORDERS,
    steps: int = 20,
    seed: int = 0,
    batch_size: int = 32,
    beside: Deletion | None = None,
) -> Deletion:
    """Delete tokens in the order of a relevance, and in random orders.

    Args:
        model: of any family, in evaluation mode while it reads.
        example: a text, ids or an image, as ``inputs_of`` takes it; of a pair the source is deleted.
        relevance: a number for each token that the model reads, marks and all, ``(key,)``. Equal ones go in
            random order.
        outcome: what is to fall. Default: ``outcome_of``, the model's likeliest answer to the intact input.
        orders: random ones, at least ``ORDERS``.
        steps: after which the outcome is taken, evenly spaced; at most one a token.
        seed: of the orders.
        batch_size: shortened inputs read at once.
        beside: the test of another relevance with the same example, outcome, steps and orders: its random
            orders are not read again.

    Raises:
        ValueError: a relevance of another length or that is no number, too few orders, nothing that may be
            deleted, or a test beside it with other steps or orders.
        TypeError: as ``outcome_of``.
    """
    if orders < ORDERS:
        raise ValueError(f"orders must be at least {ORDERS}, not {orders}: fewer have no 95 % interval")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    inputs = inputs_of(model, example)
    eraser = _Painted(model, *inputs) if isinstance(model, ReadsImages) else _TakenOut(model, *inputs)
    worth = torch.as_tensor(relevance, dtype=torch.float64).cpu().numpy()
    if worth.shape != (eraser.length,) or not np.isfinite(worth).all():
        raise ValueError(f"the relevance must be {eraser.length} finite numbers, one a token, not {worth}")
    with evaluating(model):
        output = model(*inputs)
        outcome = outcome_of(model, inputs, output) if outcome is None else outcome
        candidates = [token for token in outcome.depends_on(eraser.length) if token not in eraser.fixed]
        most = min(len(candidates), eraser.length - 1)  # something must be left to read
        if most < 1:
            raise ValueError("nothing may be deleted: give an input with more tokens than its marks and one")
        random = np.random.default_rng(seed)
        shuffled = np.array([random.permutation(candidates) for _ in range(orders + 1)])
        by_worth = np.argsort(-worth[shuffled[0]], kind="stable")
        shuffled[0] = shuffled[0][by_worth]
        counts = np.unique(np.linspace(0, most, steps + 1).round().astype(int))
        if beside is not None and beside.random_drops.shape != (orders, len(counts)):
            shape = beside.random_drops.shape
            raise ValueError(f"the test beside has (orders, steps) {shape}, not {(orders, len(counts))}")
        rows_read = orders + 1 if beside is None else 1
        values = np.empty((rows_read, len(counts)))
        whole = torch.arange(eraser.length, device=output.device)[None]
        values[:, 0] = outcome(output, whole).double().cpu().numpy()
        for step, count in enumerate(counts[1:], start=1):
            for first in range(0, rows_read, batch_size):
                these = shuffled[:rows_read][first : first + batch_size, :count]
                rows, kept = eraser.without(these.tolist())
                values[first : first + batch_size, step] = outcome(model(*rows), kept).double().cpu().numpy()
    drops = values[:, :1] - values
    return Deletion(counts / most, drops[0], drops[1:] if beside is None else beside.random_drops)


class _Eraser(Protocol):
    """An input whose tokens can go."""

    length: int
    """How many there are."""
    fixed: set[int]
    """Those that cannot go."""

    def without(self, gone: Sequence[Sequence[int]]) -> tuple[tuple[Tensor, ...], Tensor]:
        """The input without tokens, a row for each set, all as large; and which are left, ``(row, key)``."""
        ...


class _TakenOut:
    """A text: tokens are taken out of the sequence; marks stay, and so does a target."""

    def __init__(self, model: TransformerModel, ids: Tensor, *others: Tensor) -> None:
        self.ids, self.others, self.length = ids[0], others, ids.size(1)
        marks = marks_of(model, model.tokenizer)([])
        self.fixed = {place for place, token in enumerate(self.ids.tolist()) if token in marks}

    def without(self, gone: Sequence[Sequence[int]]) -> tuple[tuple[Tensor, ...], Tensor]:
        rows = [[place for place in range(self.length) if place not in away] for away in map(set, gone)]
        kept = torch.tensor(rows, device=self.ids.device)
        return (self.ids[kept], *(other.expand(len(kept), -1) for other in self.others)), kept


class _Painted:
    """An image: patches take its mean colour; class token and registers, which show nothing, stay."""

    def __init__(self, model: Any, pixels: Tensor) -> None:
        self.pixels, self.side = pixels, model.patch_size
        rows, self.columns = model.grid(pixels)
        self.first = model.hidden_states(pixels).size(1) - rows * self.columns
        self.length = self.first + rows * self.columns
        self.fixed = set(range(self.first))

    def without(self, gone: Sequence[Sequence[int]]) -> tuple[tuple[Tensor, ...], Tensor]:
        images = self.pixels.repeat(len(gone), 1, 1, 1)
        colour = self.pixels[0].mean((1, 2))[:, None, None]
        for image, away in zip(images, gone, strict=True):
            for token in away:
                row, column = divmod(token - self.first, self.columns)
                down, across = row * self.side, column * self.side
                image[:, down : down + self.side, across : across + self.side] = colour
        return (images,), torch.arange(self.length, device=images.device).expand(len(gone), -1)


def _area(shares: Numbers, drops: Numbers) -> Numbers:
    """By trapezoids, over the last axis."""
    area: Numbers = ((drops[..., 1:] + drops[..., :-1]) / 2 * np.diff(shares)).sum(-1)
    return area
