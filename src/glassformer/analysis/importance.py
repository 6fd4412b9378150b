"""Importance of attention heads, estimated by gradients or measured by ablation.

    gradient   I_h = E_x | sum over positions of output_h . dL/d output_h | = E_x | dL/d mask_h |  at mask 1
    ablation   E_x [ L(without h) - L ]

The head mask multiplies a head's output (Michel, Levy & Neubig 2019, equations 2 and 3). The gradient is a
first-order estimate for all heads at the cost of one backward pass; ablation costs one forward pass for each
head. ``rank_correlation`` compares them: negated gradients with loss deltas, since an ablation changes the
mask from 1 to 0, or the absolute values of both.
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
from glassformer.analysis.head_patterns.statistics import REPLICATES, Numbers
from glassformer.analysis.inputs import model_inputs
from glassformer.attention import all_heads, choose_kind
from glassformer.attention.recording import hooks
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel

Loss: TypeAlias = Callable[[Any, Any], Tensor]
"""``loss(model, example)``, a scalar."""


def next_token_loss(model: Any, example: Any) -> Tensor:
    """Mean cross-entropy of the next tokens of a text, in nats.

    Args:
        model: a causal language model.
        example: a text, or token ids; at least two tokens.

    Raises:
        ValueError: a text of a single token.
        TypeError: not a causal language model.
    """
    if model.task != "causal_lm":
        raise TypeError(
            f"a {type(model).__name__} predicts no next token: give loss=, a function of (model, example)"
        )
    (ids,) = model_inputs(model, example)
    if ids.size(1) < 2:
        raise ValueError("a text of one token has no next token: give at least two")
    return F.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:])


@contextmanager
def head_masks(model: nn.Module, kind: str | None = None) -> Iterator[list[Tensor]]:
    """Multiply each head's output by a mask of one inside the block.

    Args:
        model: one whose ``attentions()`` gives the attention modules of each layer, by kind.
        kind: of attention; optional where the model has only one.

    Yields:
        The mask of each layer, ``(head,)``, which requires a gradient.

    Raises:
        ValueError: a kind that does not exist, or none given where the model has several.
        TypeError: a model without attentions, or the result of ``torch.compile``.
    """
    _, attentions = choose_kind(model, kind)
    like = next(model.parameters())
    masks = [torch.ones(a.num_heads, dtype=like.dtype, device=like.device) for a in attentions]
    with hooks() as handles:
        for mask, attention in zip(masks, attentions, strict=True):
            hook = _multiply_heads(mask.requires_grad_(), attention.d_head)
            handles.append(attention.out_proj.register_forward_pre_hook(hook))
        yield masks


def _multiply_heads(mask: Tensor, d_head: int) -> Callable[[nn.Module, tuple[Tensor]], Tensor]:
    return lambda out_proj, args: args[0] * mask.repeat_interleave(d_head)


def head_mask_gradients(
    model: TransformerModel, dataset: Iterable[Any], loss: Loss = next_token_loss, *, kind: str | None = None
) -> dict[Head, Numbers]:
    """dL(x)/d mask_h of every head for each example, ``(example,)``.

    Args:
        model: of any family; it runs in evaluation mode, and its parameters get no gradients.
        dataset: examples as ``loss`` takes them, iterated once.
        loss: of the model and one example, a scalar. Default: next-token cross-entropy, for causal language
            models.
        kind: of attention; optional where the model has only one.

    Raises:
        ValueError: an empty data set, or a kind that does not exist.
        TypeError: the default loss with a model that is not a causal language model.
    """
    by_example: list[Numbers] = []
    heads = all_heads(choose_kind(model, kind)[1])
    with torch.enable_grad(), eval_mode(model), head_masks(model, kind) as masks:
        for example in dataset:
            gradients = torch.autograd.grad(
                loss(model, example), masks, allow_unused=True, materialize_grads=True
            )
            by_example.append(torch.cat(gradients).double().cpu().numpy())
    return _by_head(heads, by_example)


def gradient_importance(
    model: TransformerModel,
    dataset: Iterable[Any],
    loss: Loss = next_token_loss,
    *,
    kind: str | None = None,
    normalize: bool = False,
) -> dict[Head, float]:
    """I_h = E_x |dL(x)/d mask_h| of every head (Michel, Levy & Neubig 2019, equation 3).

    Args:
        model: as in ``head_mask_gradients``.
        dataset: as in ``head_mask_gradients``.
        loss: as in ``head_mask_gradients``.
        kind: as in ``head_mask_gradients``.
        normalize: divide by the Euclidean norm over the heads of the layer, as the paper does.

    Raises:
        ValueError: as ``head_mask_gradients``.
        TypeError: as ``head_mask_gradients``.
    """
    gradients = head_mask_gradients(model, dataset, loss, kind=kind)
    importance = {head: float(np.abs(values).mean()) for head, values in gradients.items()}
    if not normalize:
        return importance
    squares = dict.fromkeys((layer for layer, _ in importance), 0.0)
    for (layer, _), value in importance.items():
        squares[layer] += value**2
    return {head: value / max(math.sqrt(squares[head[0]]), 1e-30) for head, value in importance.items()}


@torch.no_grad()
def ablation_loss_delta(
    model: TransformerModel,
    dataset: Iterable[Any],
    loss: Loss = next_token_loss,
    *,
    heads: Sequence[Head] | None = None,
    how: str = "zero",
    reference: ReferenceOutputs | None = None,
    kind: str | None = None,
) -> dict[Head, Numbers]:
    """L(x) without a head - L(x), for each head alone and each example, ``(example,)``.

    Args:
        model: as in ``head_mask_gradients``.
        dataset: as in ``head_mask_gradients``.
        loss: as in ``head_mask_gradients``.
        heads: the heads to measure. Default: all.
        how: as in ``ablate``.
        reference: as in ``ablate``.
        kind: of attention; optional where the model has only one.

    Raises:
        ValueError: an empty data set, or as ``ablate``.
        TypeError: as ``head_mask_gradients``.
    """
    kind, attentions = choose_kind(model, kind)
    if heads is None:
        heads = all_heads(attentions)
    by_example: list[Numbers] = []
    with eval_mode(model):
        for example in dataset:
            with_all_heads, without = float(loss(model, example)), []
            for head in heads:
                with ablate(model, [head], how, reference=reference, kind=kind):
                    without.append(float(loss(model, example)))
            by_example.append(np.array(without) - with_all_heads)
    return _by_head(heads, by_example)


def ablation_importance(
    model: TransformerModel, dataset: Iterable[Any], loss: Loss = next_token_loss, **options: Any
) -> dict[Head, float]:
    """E_x [L(x) without the head - L(x)] of each head alone.

    Args:
        model: as in ``head_mask_gradients``.
        dataset: as in ``head_mask_gradients``.
        loss: as in ``head_mask_gradients``.
        options: further arguments of ``ablation_loss_delta``.

    Raises:
        ValueError: as ``ablation_loss_delta``.
        TypeError: as ``ablation_loss_delta``.
    """
    deltas = ablation_loss_delta(model, dataset, loss, **options)
    return {head: float(values.mean()) for head, values in deltas.items()}


def _by_head(heads: Sequence[Head], by_example: Sequence[Numbers]) -> dict[Head, Numbers]:
    """From values ``(head,)`` of each example to values ``(example,)`` of each head."""
    if not by_example:
        raise ValueError("the data set is empty: give at least one example")
    return dict(zip(heads, np.stack(by_example, axis=1), strict=True))


def rank_correlation(a: Mapping[Head, float], b: Mapping[Head, float]) -> float:
    """Spearman's rho: the correlation of ranks, with mean ranks for ties (Spearman 1904).

    Args:
        a: a value for each head.
        b: another value for each of the same heads.

    Returns:
        From -1 to 1; NaN if all values of a side are equal.

    Raises:
        ValueError: different heads, or fewer than two.
    """
    x, y = _paired(a, b)
    return float(_correlations(x, y, np.ones((1, len(x))))[0])


def rank_interval(
    a: Mapping[Head, float], b: Mapping[Head, float], level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of ``rank_correlation`` over heads.

    The values are taken as given: the interval does not cover other items. If the values are means of few
    items, their noise moves rho, and the interval with it, towards zero.

    Args:
        a: as in ``rank_correlation``.
        b: as in ``rank_correlation``.
        level: of the interval.
        seed: of the resampling.

    Returns:
        Its lower and upper end; NaN where rho is.

    Raises:
        ValueError: as ``rank_correlation``.
    """
    x, y = _paired(a, b)
    if math.isnan(rank_correlation(a, b)):
        return math.nan, math.nan
    counts = np.random.default_rng(seed).multinomial(len(x), np.full(len(x), 1 / len(x)), REPLICATES)
    low, high = np.nanquantile(_correlations(x, y, counts), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _paired(a: Mapping[Head, float], b: Mapping[Head, float]) -> tuple[Numbers, Numbers]:
    """The values of both sides, ``(head,)``."""
    if a.keys() != b.keys() or len(a) < 2:
        raise ValueError(f"the values are of {len(a)} and {len(b)} heads: give the same two or more heads")
    return np.array([a[head] for head in sorted(a)]), np.array([b[head] for head in sorted(a)])


def _correlations(a: Numbers, b: Numbers, counts: npt.NDArray[Any]) -> Numbers:
    """Spearman's rho with each head repeated ``counts`` times, ``(draw, head) -> (draw,)``."""
    total = counts.sum(1, keepdims=True)
    x, y = (r - (counts * r).sum(1, keepdims=True) / total for r in (_ranks(a, counts), _ranks(b, counts)))
    norm = np.sqrt((counts * x * x).sum(1) * (counts * y * y).sum(1))
    rho: Numbers = np.divide((counts * x * y).sum(1), norm, out=np.full(len(counts), np.nan), where=norm > 0)
    return rho


def _ranks(values: Numbers, counts: npt.NDArray[Any]) -> Numbers:
    """Ranks with each head repeated ``counts`` times and mean ranks for ties, ``(draw, head)``."""
    _, groups = np.unique(values, return_inverse=True)
    ties = counts @ np.eye(groups.max() + 1)[groups]  # (draw, value)
    ranks: Numbers = (ties.cumsum(1) - ties / 2)[:, groups]
    return ranks
