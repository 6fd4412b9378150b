"""How much each head matters: by one backward pass, and by taking it away.

    gradient     I_h = E_x | sum over positions of output_h . dL/d output_h | = E_x | dL/d gate_h |  at gate 1
    brute force  E_x [ L(without h) - L ]

The gate multiplies a head's output (Michel, Levy & Neubig 2019, equations 2 and 3). The gradient is a first
guess from where the model stands, for all heads at the price of one backward pass; brute force is the truth
about each head alone, at the price of a forward pass a head. ``rank_correlation`` says how far they agree.
"""

from __future__ import annotations

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
        model: of any family, in evaluation mode while it reads; its parameters get no gradients.
        dataset: examples as ``loss`` takes them, any number, read once.
        loss: of the model and one example, a scalar. Default: next-token cross-entropy, for causal language
            models.
        kind: of attention; may be left out where the model has only one.
        normalize: divide by the Euclidean norm over the heads of the layer, as the paper does.

    Raises:
        ValueError: an empty data set, or a kind that does not exist.
        TypeError: a model without a next token and no other loss.
    """
    total: list[npt.NDArray[np.float64]] | None = None
    count = 0
    with torch.enable_grad(), evaluating(model), gates(model, kind) as ones:
        for example in dataset:
            slopes = torch.autograd.grad(
                loss(model, example), ones, allow_unused=True, materialize_grads=True
            )
            found = [np.abs(slope.double().cpu().numpy()) for slope in slopes]
            total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
            count += 1
    if total is None:
        raise ValueError("the data set is empty: give at least one example")
    layers = [values / count for values in total]
    if normalize:
        layers = [values / max(float(np.linalg.norm(values)), 1e-30) for values in layers]
    return {(layer, head): float(v) for layer, values in enumerate(layers) for head, v in enumerate(values)}


@torch.no_grad()
def ablation_importance(
    model: TransformerModel,
    dataset: Iterable[Any],
    loss: Loss = next_token_loss,
    *,
    heads: Sequence[Head] | None = None,
    how: str = "zero",
    reference: ReferenceOutputs | None = None,
    kind: str | None = None,
) -> dict[Head, float]:
    """E_x [L(x) without the head - L(x)] of each head alone, by brute force: a forward pass a head.

    Args:
        model: as in ``gradient_importance``.
        dataset: as in ``gradient_importance``.
        loss: as in ``gradient_importance``.
        heads: which; default every head.
        how: as in ``ablate``.
        reference: as in ``ablate``.
        kind: of attention; may be left out where the model has only one.

    Raises:
        ValueError: an empty data set, or what ``ablate`` refuses.
        TypeError: as in ``gradient_importance``.
    """
    kind, attentions = choose_kind(model, kind)
    if heads is None:
        heads = [(layer, head) for layer, a in enumerate(attentions) for head in range(a.num_heads)]
    rises = dict.fromkeys(heads, 0.0)
    count = 0
    with evaluating(model):
        for example in dataset:
            intact = float(loss(model, example))
            for head in heads:
                with ablate(model, [head], how, reference=reference, kind=kind):
                    rises[head] += float(loss(model, example)) - intact
            count += 1
    if count == 0:
        raise ValueError("the data set is empty: give at least one example")
    return {head: rise / count for head, rise in rises.items()}


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
    if a.keys() != b.keys() or len(a) < 2:
        raise ValueError(f"the values are of {len(a)} and {len(b)} heads: give two or more, the same in both")
    heads = sorted(a)
    ranks = [_ranks(np.array([values[head] for head in heads])) for values in (a, b)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    a_ranks, b_ranks = (rank - rank.mean() for rank in ranks)
    return float(a_ranks @ b_ranks / np.sqrt((a_ranks @ a_ranks) * (b_ranks @ b_ranks)))


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks from 0, equal values share their mean."""
    below = (values[:, None] > values).sum(1)
    equal = (values[:, None] == values).sum(1)
    ranks: npt.NDArray[np.float64] = below + (equal - 1) / 2
    return ranks
