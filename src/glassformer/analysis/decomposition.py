"""Decomposition of attention scores into content, position and bias.

    score_ij = scale * rotate(W_q h_i + b_q) . rotate(W_k h_j + b_k) + additive bias
             = content_ij + position_ij + bias_ij

    h        = c + p: the input of attention is the direct path p of the position embedding, and the rest c
    content  = scale * (W_q c_i) . (W_k c_j), not rotated
    position = all other products without a bias of a projection, the effect of rotation, the additive bias
    bias     = all products with b_q or b_k

The direct path of the position embedding leads through residual connections and norms alone. A norm is
linear once its statistics (mean and variance of its input) are held, norm(x + y) = held(x) + held(y) + bias,
so the path is exact at every depth. It is not all that a deep layer knows about positions: what earlier
layers have computed from them counts as content, and so does the bias of a norm.

Scores are scaled, before the mask. (Dai et al. 2019, section 3.3, and Ke et al. 2021, section 3.1, decompose
the scores of a first layer like this; Elhage et al. 2021 follow direct paths through the residual stream.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.analysis.inputs import model_inputs
from glassformer.attention import MultiHeadAttention, attentions_of, choose_kind, choose_layers
from glassformer.attention.kernels.softmax import dense_bias
from glassformer.attention.recording import hooks
from glassformer.attention.recording.selection import parents_of
from glassformer.attention.self_attention import repeat_kv_heads
from glassformer.eval_mode import eval_mode
from glassformer.layers import (
    LayerNorm,
    NonparametricLayerNorm,
    NormPerHead,
    PostNormBlock,
    RMSNorm,
    TransformerBlock,
    UnitOffsetRMSNorm,
)
from glassformer.models import TransformerModel

NORM_TYPES = (LayerNorm, NonparametricLayerNorm, NormPerHead, RMSNorm, UnitOffsetRMSNorm)


@dataclass(frozen=True)
class ScoreParts:
    """The scores of one layer and their parts, each ``(head, query, key)``, float64."""

    content: Tensor
    position: Tensor
    bias: Tensor
    score: Tensor
    """From the queries and keys that the model's kernel was given."""

    @property
    def max_error(self) -> float:
        """The largest difference between a score and the sum of its parts, caused by rounding."""
        return float((self.content + self.position + self.bias - self.score).abs().max())


def score_parts(model: TransformerModel, example: Any, layer: int, kind: str | None = None) -> ScoreParts:
    """Decompose the attention scores of a layer into content, position and bias.

    Args:
        model: of any family; it runs in evaluation mode.
        example: as in ``model_inputs``.
        layer: its number.
        kind: of attention; optional where the model has only one.

    Raises:
        ValueError: a layer or kind that does not exist, or a kernel without scores; as ``model_inputs``.
        TypeError: a model without attentions, or the result of ``torch.compile``.
    """
    return next(each_score_parts(model, example, [layer], kind))


@torch.no_grad()
def each_score_parts(
    model: TransformerModel, example: Any, layers: Sequence[int] | None = None, kind: str | None = None
) -> Iterator[ScoreParts]:
    """Yield the ``score_parts`` of several layers (default: all) from one forward pass."""
    kind, attentions = choose_kind(model, kind)
    chosen = [attentions[layer] for layer in choose_layers(attentions, layers)]
    if not all(attention.kernel.is_softmax for attention in chosen):
        raise ValueError("linear attention has no scores to decompose: only softmax attention has")
    if any(attention.kernel.softcap is not None for attention in chosen):
        raise ValueError("scores with a softcap are no sum of parts: they are limited by tanh")
    inputs = model_inputs(model, example)
    with eval_mode(model), _ModuleInputs.recorded(model) as module_inputs:
        model(*inputs)
    for attention in chosen:
        yield _decompose(model, attention, module_inputs, inputs)


class _Arguments(NamedTuple):
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _ModuleInputs(dict[Any, _Arguments]):
    """The last arguments of each block, norm, attention module and kernel."""

    @classmethod
    @contextmanager
    def recorded(cls, model: nn.Module) -> Iterator[_ModuleInputs]:
        """Record references to the arguments inside the block."""
        attentions = [module for module in model.modules() if isinstance(module, MultiHeadAttention)]
        types = (TransformerBlock, *NORM_TYPES, nn.Identity)
        modules: list[Any] = [module for module in model.modules() if isinstance(module, types)]
        modules += [*attentions, *(attention.kernel for attention in attentions)]
        module_inputs = cls()
        with hooks() as handles:
            handles += [
                module.register_forward_pre_hook(module_inputs.record, with_kwargs=True) for module in modules
            ]
            yield module_inputs

    def record(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The hook."""
        self[module] = _Arguments(args, kwargs)


QueriesKeys: TypeAlias = tuple[Tensor, Tensor]


def _decompose(
    model: TransformerModel,
    attention: MultiHeadAttention,
    module_inputs: _ModuleInputs,
    inputs: tuple[Tensor, ...],
) -> ScoreParts:
    q, k, _, _, additive = module_inputs[attention.kernel].args  # (1, head, seq, d_head)
    additive = dense_bias(additive)
    scale = 1 / math.sqrt(q.size(-1)) if attention.kernel.scale is None else attention.kernel.scale
    extra = torch.zeros((), dtype=torch.float64, device=q.device)
    if additive is not None:
        extra = additive[0].double()

    def product(queries: Tensor, keys: Tensor) -> Tensor:
        queries, keys = queries.double(), keys.double()
        return (queries @ repeat_kv_heads(keys, queries).transpose(-2, -1) * scale)[0]

    args, kwargs = module_inputs[attention]
    positions = kwargs.get("positions")
    hidden = args[0].double(), args[-1].double()  # of queries, and of keys: differs in cross-attention
    paths = _position_paths(model, attention, module_inputs, inputs)
    contents = [h - path for h, path in zip(hidden, paths, strict=True)]
    project = partial(_project, attention, module_inputs=module_inputs)
    content = product(*project(*contents))
    without_biases = product(*_rotate(attention, project(*hidden), positions))
    with_biases = product(*_rotate(attention, project(*hidden, biases=True), positions))
    return ScoreParts(
        content=content,
        position=without_biases - content + extra,
        bias=with_biases - without_biases,
        score=product(q, k) + extra,
    )


def _project(
    attention: MultiHeadAttention,
    query: Tensor,
    key: Tensor,
    module_inputs: _ModuleInputs,
    biases: bool = False,
) -> QueriesKeys:
    """W_q query and W_k key, ``(1, head, seq, d_head)``, float64, with or without biases.

    The statistics of the norms of queries and keys are held.
    """

    def project(linear: nn.Linear, norm: nn.Module | None, x: Tensor) -> Tensor:
        bias = linear.bias.double() if biases and linear.bias is not None else None
        projected = F.linear(x, linear.weight.double(), bias).view(*x.shape[:-1], -1, attention.d_head)
        if norm is not None:
            projected = _held(norm, module_inputs)(projected)
            projected = projected + _bias_of(norm) if biases else projected
        return projected.transpose(1, 2)

    return project(attention.q_proj, attention.q_norm, query), project(
        attention.k_proj, attention.k_norm, key
    )


def _bias_of(norm: nn.Module) -> Tensor | float:
    """The bias of a norm of heads ``(..., head, d_head)``, or zero."""
    if isinstance(norm, NormPerHead):
        biases = [of_head.bias for of_head in norm.norms if getattr(of_head, "bias", None) is not None]
        return torch.stack(biases).double() if biases else 0.0  # type: ignore[arg-type]
    bias: Tensor | None = getattr(norm, "bias", None)
    return 0.0 if bias is None else bias.double()


def _rotate(attention: MultiHeadAttention, pair: QueriesKeys, positions: Tensor | None) -> QueriesKeys:
    """Both as the position scheme of the layer rotates them."""
    if attention.rotate is None or positions is None:
        return pair
    q, k = (attention.rotate(x, positions) for x in pair)
    return q, k


def _position_paths(
    model: nn.Module, attention: MultiHeadAttention, module_inputs: _ModuleInputs, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """The direct path in the input of queries, and in that of keys: ``(1, seq, d_model)``, float64."""
    block = parents_of(model)[attention]
    stack = _stack_of(model, block)
    path = _path_into_first_block(stack, module_inputs, inputs)
    for each in stack.blocks:
        sublayer_paths, after = _through_block(each, path, module_inputs)
        if each is block:
            break
        path = after
    if attention is block.attention:
        return sublayer_paths[0], sublayer_paths[0]
    encoder = _stack_of(model, parents_of(model)[attentions_of(model)["encoder"][0]])
    memory = _path_into_first_block(encoder, module_inputs, inputs)
    for each in encoder.blocks:
        _, memory = _through_block(each, memory, module_inputs)
    return sublayer_paths[1], _held(encoder.norm, module_inputs)(memory)


def _stack_of(model: nn.Module, block: nn.Module) -> Any:
    """The module with the list of blocks: the model, or the encoder or decoder of an encoder-decoder."""
    parents = parents_of(model)
    return parents[parents[block]]


def _through_block(
    block: TransformerBlock, path: Tensor, module_inputs: _ModuleInputs
) -> tuple[list[Tensor], Tensor]:
    """The path at the input of each sublayer of a block, in order, and after the block.

    The sublayers add nothing to the path, and the statistics of the norms are held.
    """
    norms = [_held(norm, module_inputs) for name, norm in block.named_children() if name.startswith("norm")]
    if isinstance(block, PostNormBlock):
        sublayer_paths = []
        for norm in norms:
            sublayer_paths.append(path)
            path = norm(path)
        return sublayer_paths, path
    num_sublayers = 2 if block.cross_attention is None else 3
    norms = norms * num_sublayers if block.shares_norm else norms
    return [norm(path) for norm in norms], path


def _path_into_first_block(stack: Any, module_inputs: _ModuleInputs, inputs: tuple[Tensor, ...]) -> Tensor:
    """The position embedding at the input of the first block, ``(1, seq, d_model)``, float64."""
    if not hasattr(stack, "positions"):
        raise TypeError(f"a {type(stack).__name__} has no position scheme")
    if hasattr(stack, "grid"):  # a ViT: its table has a row for the class token and for each patch
        table = stack.positions(stack.grid(inputs[0])).double()
        registers = table.new_zeros(0 if stack.registers is None else stack.registers.size(1), table.size(1))
        return torch.cat((table[:1], registers, table[1:]))[None]
    args, kwargs = module_inputs[stack.blocks[0]]
    path = stack.positions.embed(torch.zeros_like(args[0]), kwargs["positions"]).double()
    norm = getattr(stack, "embedding_norm", None)
    return path if norm is None else _held(norm, module_inputs)(path)


def _held(norm: nn.Module, module_inputs: _ModuleInputs) -> Callable[[Tensor], Tensor]:
    """The linear part of a norm with the statistics of its last input held."""
    return _linear_part(norm, module_inputs[norm].args[0].double())


@singledispatch
def _linear_part(norm: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """A norm without its bias, with the statistics of x held."""
    raise TypeError(f"a {type(norm).__name__} is not known to be linear when its statistics are held")


@_linear_part.register
def _(norm: nn.Identity, x: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda path: path


@_linear_part.register
def _(norm: LayerNorm, x: Tensor) -> Callable[[Tensor], Tensor]:
    return _centered(norm.eps, x, norm.weight)


@_linear_part.register
def _(norm: NonparametricLayerNorm, x: Tensor) -> Callable[[Tensor], Tensor]:
    return _centered(norm.eps, x, torch.ones(norm.shape, device=x.device))


@_linear_part.register
def _(norm: RMSNorm, x: Tensor) -> Callable[[Tensor], Tensor]:
    return _divided(norm.eps, x, norm.weight)


@_linear_part.register
def _(norm: UnitOffsetRMSNorm, x: Tensor) -> Callable[[Tensor], Tensor]:
    return _divided(norm.eps, x, 1 + norm.weight.double())


@_linear_part.register
def _(norm: NormPerHead, x: Tensor) -> Callable[[Tensor], Tensor]:
    parts = [_linear_part(of_head, x[..., head, :]) for head, of_head in enumerate(norm.norms)]
    return lambda path: torch.stack([part(path[..., head, :]) for head, part in enumerate(parts)], dim=-2)


def _centered(eps: float, x: Tensor, weight: Tensor) -> Callable[[Tensor], Tensor]:
    """A layer norm over the dimensions of its weight."""
    dims = tuple(range(-weight.dim(), 0))
    deviation = (x.var(dims, correction=0, keepdim=True) + eps).sqrt()
    return lambda path: (path - path.mean(dims, keepdim=True)) / deviation * weight.double()


def _divided(eps: float, x: Tensor, weight: Tensor) -> Callable[[Tensor], Tensor]:
    """RMSNorm over the dimensions of its weight."""
    size = (x.square().mean(tuple(range(-weight.dim(), 0)), keepdim=True) + eps).sqrt()
    return lambda path: path / size * weight.double()
