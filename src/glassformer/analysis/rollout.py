"""Attention rollout, gradient rollout and attention flow: attention followed through all layers.

    rollout    R = A~_L ... A~_1,  A~ = (mean over heads of A + I) / 2, with rows that sum to one
               (Abnar & Zuidema 2020, section 3)
    gradient   R <- R + E_h[(A * dy/dA)^+] R, layer by layer from R = I
               (Chefer, Gur & Wolf 2021, equations 5 and 6)
    flow       the maximum flow from an output to an input in a graph whose edges have the entries of A~ as
               capacities (Abnar & Zuidema 2020, section 3)

I is the residual connection. Rollout and flow do not depend on the prediction; gradient rollout keeps only
the attention that increases a target y. All three follow one stack of self-attention; in an encoder-decoder
it is the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from glassformer.analysis.attribution_targets import AttributionTarget, default_target
from glassformer.analysis.inputs import model_inputs
from glassformer.attention import (
    AttentionMap,
    MultiHeadAttention,
    attentions_of,
    choose_kind,
    record_attention,
)
from glassformer.attention.recording.selection import parents_of
from glassformer.attention.self_attention import repeat_kv_heads
from glassformer.deprecation import renamed_arguments
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel

if TYPE_CHECKING:
    from glassformer.contracts import Kernel

CAPACITY_SCALE = 2**30
"""Capacities are rounded to multiples of 1 / CAPACITY_SCALE. The error of a flow is at most half of that for
each edge of the minimum cut: at most layers * seq^2 / 2^31, or 2.5e-6 for 6 layers of 30 tokens."""


def add_residual(weights: Tensor) -> Tensor:
    """A~ = (mean over heads of A + I) / 2, with rows that sum to one also where a row of A is zero.

    Args:
        weights: ``(..., head, seq, seq)``.

    Returns:
        ``(..., seq, seq)``.

    Raises:
        ValueError: the weights are not square.
    """
    if weights.dim() < 3 or weights.size(-1) != weights.size(-2):
        raise ValueError(f"weights of self-attention must be (head, seq, seq), not {tuple(weights.shape)}")
    mixed = weights.mean(-3) + torch.eye(weights.size(-1), dtype=weights.dtype, device=weights.device)
    return mixed / mixed.sum(-1, keepdim=True)


def rollout(layers: Sequence[Tensor]) -> Tensor:
    """R = A~_L ... A~_1 (Abnar & Zuidema 2020, section 3).

    Args:
        layers: weights of each layer from the first to the last, ``(..., head, seq, seq)``.

    Returns:
        ``(..., query, key)``: the part of input ``key`` in output ``query``; rows sum to one.

    Raises:
        ValueError: no layers, or weights of another shape.
    """
    if not len(layers):
        raise ValueError("there are no layers: give the weights of at least one")
    rolled = add_residual(layers[0])
    for weights in layers[1:]:
        rolled = add_residual(weights) @ rolled
    return rolled


def attention_rollout(model: TransformerModel, example: Any, kind: str | None = None) -> Tensor:
    """Rollout of the attention of a model.

    Args:
        model: of any family.
        example: as in ``model_inputs``.
        kind: of attention. Default: the stack that attends to no other sequence.

    Returns:
        ``(query, key)``, float64: row i is the part of each input in the vector of token i.

    Raises:
        ValueError: attention over another sequence, or a kind that does not exist; as ``model_inputs``.
        TypeError: as ``model_inputs``; the result of ``torch.compile``.
    """
    rolled: list[Tensor] = []

    def multiply(mean: Tensor) -> None:
        mixed = add_residual(mean)
        rolled[:] = [mixed @ rolled[0] if rolled else mixed]

    visit_mean_attention(model, example, multiply, kind)
    return rolled[0]


@torch.no_grad()
def visit_mean_attention(
    model: TransformerModel, example: Any, callback: Callable[[Tensor], None], kind: str | None = None
) -> None:
    """Call a function with the mean attention of each layer while the model runs, one layer in memory.

    Args:
        model: as in ``attention_rollout``.
        example: as in ``attention_rollout``.
        callback: called with the mean over the heads of each layer, ``(1, seq, seq)``, float64, on the CPU.
        kind: as in ``attention_rollout``.
    """
    kind, _ = self_attention_stack(model, kind)
    inputs = model_inputs(model, example)

    def average(attention_map: AttentionMap) -> None:
        callback(attention_map.weights[0].mean(0, keepdim=True, dtype=torch.float64))

    with eval_mode(model), record_attention(model, kind=kind, device="cpu", callback=average):
        model(*inputs)


@renamed_arguments(outcome="target")
def gradient_rollout(
    model: TransformerModel,
    example: Any,
    target: AttributionTarget | None = None,
    kind: str | None = None,
) -> Tensor:
    """Rollout of the attention that increases a target (Chefer, Gur & Wolf 2021, equations 5 and 6).

    Args:
        model: of any family; its parameters get no gradients.
        example: as in ``attention_rollout``.
        target: the scalar to be explained. Default: ``default_target``.
        kind: as in ``attention_rollout``.

    Returns:
        ``(query, key)``, float64: row i is how much each input increases the target by way of token i. The
        initial R = I contributes 1 to the diagonal; the sum of a row is not fixed.

    Raises:
        ValueError: as ``attention_rollout``; or a target that is not differentiable.
        TypeError: as ``attention_rollout``.
    """
    _, attentions = self_attention_stack(model, kind)
    inputs = model_inputs(model, example)
    with torch.enable_grad(), eval_mode(model), retain_attention_weights(attentions) as kernels:
        output = model(*inputs)
        target = default_target(model, inputs, output) if target is None else target
        if not target.differentiable:
            raise ValueError(
                f"a {type(model).__name__} without a head has no target with a gradient: give "
                "target=Similarity(vector), with the mean hidden state of another input"
            )
        weights = [kernel.last_weights for kernel in kernels]  # (1, head, seq, seq)
        (value,) = target(output, torch.arange(weights[0].size(-1), device=output.device)[None])
        gradients = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
    rolled = torch.eye(weights[0].size(-1), dtype=torch.float64)
    for layer, gradient in zip(weights, gradients, strict=True):
        positive = (layer.detach()[0] * gradient[0]).clamp(min=0).mean(0)  # (seq, seq)
        rolled = rolled + positive.cpu().double() @ rolled
    return rolled


def max_flow(layers: Sequence[Tensor], position: int) -> Tensor:
    """The maximum flow from one output to each input (Abnar & Zuidema 2020, section 3).

    Args:
        layers: weights of each layer from the first to the last, ``(head, seq, seq)``.
        position: the output.

    Returns:
        ``(key,)``, float64, from 0 to 1, with the error of ``CAPACITY_SCALE``. Unlike rollout they do not
        sum to one, because each is a maximum of its own.

    Raises:
        ValueError: no layers, weights of another shape, or a position that does not exist.
        ImportError: scipy is not installed.
    """
    try:
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_flow
    except ImportError as error:
        raise ImportError(
            f"attention flow needs scipy: pip install 'glassformer[analysis]' ({error})"
        ) from error
    if not len(layers):
        raise ValueError("there are no layers: give the weights of at least one")
    length = layers[0].size(-1)
    if not 0 <= position < length:
        raise ValueError(f"position {position} does not exist: positions are 0 to {length - 1}")
    # Node l * length + j is token j before layer l; the last nodes are the outputs of the last layer.
    num_nodes = (len(layers) + 1) * length
    rows, columns, capacities = [], [], []
    for layer, weights in enumerate(layers):
        scaled = np.rint(add_residual(weights).cpu().double().numpy() * CAPACITY_SCALE).astype(np.int32)
        queries, keys = scaled.nonzero()
        rows.append((layer + 1) * length + queries)
        columns.append(layer * length + keys)
        capacities.append(scaled[queries, keys])
    graph = csr_array(
        (np.concatenate(capacities), (np.concatenate(rows), np.concatenate(columns))),
        shape=(num_nodes, num_nodes),
    )
    output = len(layers) * length + position
    flows = [maximum_flow(graph, output, key).flow_value for key in range(length)]
    return torch.tensor(flows, dtype=torch.float64) / CAPACITY_SCALE


def attention_flow(
    model: TransformerModel, example: Any, position: int = -1, kind: str | None = None
) -> Tensor:
    """Flow through the attention of a model, from one of its tokens to each input.

    Args:
        model: as in ``attention_rollout``.
        example: as in ``attention_rollout``.
        position: the output token; a negative one counts from the end.
        kind: as in ``attention_rollout``.

    Returns:
        ``(key,)``, as ``max_flow``.

    Raises:
        ValueError: a position that does not exist; as ``attention_rollout``.
        TypeError: as ``attention_rollout``.
        ImportError: scipy is not installed.
    """
    layers: list[Tensor] = []
    visit_mean_attention(model, example, layers.append, kind)
    length = layers[0].size(-1)
    if not -length <= position < length:
        raise ValueError(f"position {position} does not exist: positions are 0 to {length - 1}")
    return max_flow(layers, position % length)


def attribution_for(target: AttributionTarget, rolled: Tensor) -> Tensor:
    """The attribution of a target to each input, ``(key,)``, from a rollout ``(query, key)``.

    It is the row at the target's position, or the mean of all rows where the target has no position.
    """
    return rolled.mean(0) if target.position is None else rolled[target.position]


def self_attention_stack(model: TransformerModel, kind: str | None) -> tuple[str, list[MultiHeadAttention]]:
    """The kind and the attention modules of a stack that attends to no other sequence, one for each layer.

    Raises:
        ValueError: attention of another kind.
        TypeError: a model without attentions, or the result of ``torch.compile``.
    """
    by_kind, parents = attentions_of(model), parents_of(model)
    kinds = [
        name
        for name, attentions in by_kind.items()
        if all(getattr(parents[a], "cross_attention", None) is None for a in attentions)
    ]
    kind, attentions = choose_kind(model, kinds[0] if kind is None and len(kinds) == 1 else kind)
    if kind not in kinds:
        raise ValueError(
            f"the blocks of {kind!r} attention also attend to another sequence, which one stack does not "
            f"show: give kind={' or '.join(repr(name) for name in kinds)}"
        )
    return kind, attentions


class _RetainingKernel(nn.Module):
    """A kernel whose last weights are kept as a part of the autograd graph."""

    last_weights: Tensor

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel, self.weights = kernel, kernel.weights
        self.is_softmax, self.takes_score_bias = kernel.is_softmax, kernel.takes_score_bias
        self.scale, self.softcap = kernel.scale, kernel.softcap

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Any = None, bias: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Apply attention with the weights written out; see ``contracts.Kernel``."""
        if not q.requires_grad:  # a model whose parameters are frozen
            q = q.detach().requires_grad_()
        self.last_weights = self.kernel.weights(q, k, mask, bias)
        return self.last_weights @ repeat_kv_heads(v, q), self.last_weights


@contextmanager
def retain_attention_weights(attentions: Sequence[MultiHeadAttention]) -> Iterator[list[_RetainingKernel]]:
    """Replace kernels, inside the block, by ones whose weights can be differentiated.

    The model's output stays the same up to rounding.

    Yields:
        A kernel for each attention module; after a forward pass its ``last_weights`` are
        ``(batch, head, query, key)``.
    """
    originals = [attention.kernel for attention in attentions]
    kernels = [_RetainingKernel(kernel) for kernel in originals]
    try:
        for attention, retaining in zip(attentions, kernels, strict=True):
            attention.kernel = retaining  # type: ignore[assignment]
        yield kernels
    finally:
        for attention, kernel in zip(attentions, originals, strict=True):
            attention.kernel = kernel
