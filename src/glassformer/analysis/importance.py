"""How much each head matters: by one backward pass, and by taking it away.

    gradient     I_h = E_x | sum over positions of output_h . dL/d output_h | = E_x | dL/d gate_h |  at gate 1
    brute force  E_x [ L(without h) - L ]

The gate multiplies a head's output (Michel, Levy & Neubig 2019, equations 2 and 3). The gradient is a first
guess from where the model stands, for all heads at the price of one backward pass; brute force is the truth
about each head alone, at the price of a forward pass a head. ``rank_correlation`` says how far they agree:
slopes as they are, times -1, with rises (a gate that closes goes from 1 to 0), or both without their signs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.analysis.ablation import Head, ReferenceOutputs, ablate
from glassformer.analysis.examples import inputs_of
from glassformer.analysis.marking import Numbers
from glassformer.attention import choose_kind, hooks
from glassformer.generation.streaming import evaluating
from glassformer.models import TransformerModel

Loss: TypeAlias = Callable[[Any, Any], Tensor]
"""``loss(model, example)``, a scalar."""


def next_token_loss(model: Any, example: Any) -> Tensor:
    """Mean over the tokens of a text of -log p(token | those before it), in nats.

    Args:
        model: a causal language model.
        example: a text, or token ids; at least two tokens.

    Raises:
        ValueError: a text of a single token.
        TypeError: a model that predicts no next token.
    """
    if not hasattr(model, "next_token_logits"):
        raise TypeError(
            f"a {type(model).__name__} predicts no next token: give loss=, a function of (model, example)"
        )
    (ids,) = inputs_of(model, example)
    if ids.size(1) < 2:
        raise ValueError("a text of one token has no next token: give at least two")
    return F.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:])


@contextmanager
def gates(model: nn.Module, kind: str | None = None) -> Iterator[list[Tensor]]:
    """Multiply each head's output by a gate of one; the gates, ``(head,)`` a layer, want gradients.

    Args:
        model: one whose ``attentions()`` names the attention modules of each layer, by kind.
        kind: of attention; may be left out where the model has only one.

    Raises:
        ValueError: a kind that does not exist, or none given where the model has several.
        TypeError: a model without attentions, or what ``torch.compile`` made of one.
    """
    _, attentions = choose_kind(model, kind)
    like = next(model.parameters())
    ones = [torch.ones(a.num_heads, dtype=like.dtype, device=like.device) for a in attentions]
    with hooks() as handles:
        for gate, attention in zip(ones, attentions, strict=True):
            hook = _gated(gate.requires_grad_(), attention.d_head)
            handles.append(attention.out_proj.register_forward_pre_hook(hook))
        yield ones


def _gated(gate: Tensor, d_head: int) -> Callable[[nn.Module, tuple[Tensor]], Tensor]:
    return lambda out_proj, args: args[0] * gate.repeat_interleave(d_head)


def gate_slopes(
    model: TransformerModel, dataset: Iterable[Any], loss: Loss = next_token_loss, *, kind: str | None = None
) -> dict[Head, Numbers]:
    """dL(x)/d gate_h of every head for each example, ``(example,)``.

    Args:
        model: of any family, in evaluation mode while it reads; its parameters get no gradients.
        dataset: examples as ``loss`` takes them, any number, read once.
        loss: of the model and one example, a scalar. Default: next-token cross-entropy, for causal language
            models.
        kind: of attention; may be left out where the model has only one.

    Raises:
        ValueError: an empty data set, or a kind that does not exist.
        TypeError: a model without a next token and no other loss.
    """
    found: list[Numbers] = []
    with torch.enable_grad(), evaluating(model), gates(model, kind) as ones:
        heads = [(layer, head) for layer, gate in enumerate(ones) for head in range(len(gate))]
        for example in dataset:
            slopes = torch.autograd.grad(
                loss(model, example), ones, allow_unused=True, materialize_grads=True
            )
            found.append(torch.cat(slopes).double().cpu().numpy())
    return _by_head(heads, found)


def gradient_importance(
    model: TransformerModel,
    dataset: Iterable[Any],
    loss: Loss = next_token_loss,
    *,
    kind: str | None = None,
    normalize: bool = False,
) -> dict[Head, float]:
    """I_h = E_x |dL(x)/d gate_h| of every head (Michel, Levy & Neubig 2019, equation 3).

    Args:
        model: as in ``gate_slopes``.
        dataset: as in ``gate_slopes``.
        loss: as in ``gate_slopes``.
        kind: as in ``gate_slopes``.
        normalize: divide by the Euclidean norm over the heads of the layer, as the paper does.

    Raises:
        ValueError: as ``gate_slopes``.
        TypeError: as ``gate_slopes``.
    """
    slopes = gate_slopes(model, dataset, loss, kind=kind)
    importance = {head: float(np.abs(values).mean()) for head, values in slopes.items()}
    if not normalize:
        return importance
    squares = dict.fromkeys((layer for layer, _ in importance), 0.0)
    for (layer, _), value in importance.items():
        squares[layer] += value**2
    return {head: value / max(math.sqrt(squares[head[0]]), 1e-30) for head, value in importance.items()}


@torch.no_grad()
def loss_rises(
    model: TransformerModel,
    dataset: Iterable[Any],
    loss: Loss = next_token_loss,
    *,
    heads: Sequence[Head] | None = None,
    how: str = "zero",
    reference: ReferenceOutputs | None = None,
    kind: str | None = None,
) -> dict[Head, Numbers]:
    """L(x) without the head - L(x) of each head alone for each example, ``(example,)``.

    Args:
        model: as in ``gate_slopes``.
        dataset: as in ``gate_slopes``.
        loss: as in ``gate_slopes``.
        heads: which; default every head.
        how: as in ``ablate``.
        reference: as in ``ablate``.
        kind: of attention; may be left out where the model has only one.

    Raises:
        ValueError: an empty data set, or what ``ablate`` refuses.
        TypeError: as in ``gate_slopes``.
    """
    kind, attentions = choose_kind(model, kind)
    if heads is None:
        heads = [(layer, head) for layer, a in enumerate(attentions) for head in range(a.num_heads)]
    found: list[Numbers] = []
    with evaluating(model):
        for example in dataset:
            intact, without = float(loss(model, example)), []
            for head in heads:
                with ablate(model, [head], how, reference=reference, kind=kind):
                    without.append(float(loss(model, example)))
            found.append(np.array(without) - intact)
    return _by_head(heads, found)


def ablation_importance(
    model: TransformerModel, dataset: Iterable[Any], loss: Loss = next_token_loss, **options: Any
) -> dict[Head, float]:
    """E_x [L(x) without the head - L(x)] of each head alone, by brute force: a forward pass a head.

    Args:
        model: as in ``gate_slopes``.
        dataset: as in ``gate_slopes``.
        loss: as in ``gate_slopes``.
        options: of ``loss_rises``.

    Raises:
        ValueError: as ``loss_rises``.
        TypeError: as ``loss_rises``.
    """
    rises = loss_rises(model, dataset, loss, **options)
    return {head: float(values.mean()) for head, values in rises.items()}


def _by_head(heads: Sequence[Head], examples: Sequence[Numbers]) -> dict[Head, Numbers]:
    """From values of all heads, example by example, to values of all examples, head by head."""
    if not examples:
        raise ValueError("the data set is empty: give at least one example")
    return dict(zip(heads, np.stack(examples, axis=1), strict=True))


def rank_correlation(a: Mapping[Head, float], b: Mapping[Head, float]) -> float:
    """Spearman's rho: the correlation of ranks, equal values sharing their mean rank (Spearman 1904).

    Args:
        a: a value for each head.
        b: another for each of the same heads.

    Returns:
        From -1 to 1; NaN where all values of a side are equal.

    Raises:
        ValueError: other heads in ``a`` than in ``b``, or fewer than two.
    """
    x, y = _paired(a, b)
    return float(_correlations(x, y, np.ones((1, len(x))))[0])


def rank_interval(
    a: Mapping[Head, float], b: Mapping[Head, float], level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Between which values rho lies in ``level`` of all draws of as many heads anew (percentile bootstrap).

    The interval is over heads, on the items that the values are means of. It does not say what other items
    would give: where they are few and the values noisy, the noise blurs the ranks and pulls rho itself, and
    the interval with it, towards zero. Drawing items anew would add noise to noise, and lie lower still.

    Args:
        a: as in ``rank_correlation``.
        b: as in ``rank_correlation``.
        level: of the interval.
        seed: of the draws.

    Returns:
        Its lower and its upper end; NaN where rho is.

    Raises:
        ValueError: as ``rank_correlation``.
    """
    x, y = _paired(a, b)
    if math.isnan(rank_correlation(a, b)):
        return math.nan, math.nan
    counts = np.random.default_rng(seed).multinomial(len(x), np.full(len(x), 1 / len(x)), 2000)
    low, high = np.nanquantile(_correlations(x, y, counts), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _paired(a: Mapping[Head, float], b: Mapping[Head, float]) -> tuple[Numbers, Numbers]:
    """The values of both sides, ``(head,)``."""
    if a.keys() != b.keys() or len(a) < 2:
        raise ValueError(f"the values are of {len(a)} and {len(b)} heads: give two or more, the same in both")
    return np.array([a[head] for head in sorted(a)]), np.array([b[head] for head in sorted(a)])


def _correlations(a: Numbers, b: Numbers, counts: npt.NDArray[Any]) -> Numbers:
    """Spearman's rho where each head comes as often as ``counts`` says, ``(draw, head) -> (draw,)``."""
    total = counts.sum(1, keepdims=True)
    x, y = (r - (counts * r).sum(1, keepdims=True) / total for r in (_ranks(a, counts), _ranks(b, counts)))
    spread = np.sqrt((counts * x * x).sum(1) * (counts * y * y).sum(1))
    rho: Numbers = np.divide(
        (counts * x * y).sum(1), spread, out=np.full(len(counts), np.nan), where=spread > 0
    )
    return rho


def _ranks(values: Numbers, counts: npt.NDArray[Any]) -> Numbers:
    """Ranks among heads that come so often, equal values sharing their mean, ``(draw, head)``."""
    _, places = np.unique(values, return_inverse=True)
    equal = counts @ np.eye(places.max() + 1)[places]  # (draw, value): how many have it
    ranks: Numbers = (equal.cumsum(1) - equal / 2)[:, places]
    return ranks
