"""Heads taken out for good: a smaller model with the outputs of the one whose heads are silenced.

MultiHead(x) = sum_h head_h(x) W_h^O, so that a head whose output is zero can as well not be there: its rows
of the projections of queries, keys and values go, and its columns of the output projection (Michel, Levy &
Neubig 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TypeVar

from torch import Tensor

from glassformer.analysis.ablation import Head, head_name
from glassformer.attention import MultiHeadAttention, attentions_of, choose_kind, choose_layers
from glassformer.attention.pruned_heads import heads_left
from glassformer.models import TransformerModel
from glassformer.models.base import shapes_only

Model = TypeVar("Model", bound=TransformerModel)


def prune_heads(model: Model, heads: Iterable[Head], kind: str | None = None) -> Model:
    """A new model without some heads; its outputs are those of the given one with these heads' outputs zero.

    The given model stays as it is. The heads of the new one are numbered anew, from zero in each layer; its
    ``config["pruned_heads"]`` and each layer's ``head_numbers`` tell which of the first model's they are. So
    a pruned model can be pruned again, by its own numbers.

    Args:
        model: of any family.
        heads: pairs of a layer and a head, numbered as in ``model``.
        kind: of attention; may be left out where the model has only one.

    Returns:
        The smaller model, with the same tokenizer, and in training or evaluation mode as the given one.

    Raises:
        ValueError: a kind, layer or head that does not exist; all heads of a layer; or, under grouped-query
            attention, some of the heads that share a key and value head.
        TypeError: what is no pair of numbers, or no model but what ``torch.compile`` made of one.

    """
    kind, attentions = choose_kind(model, kind)
    pruned: list[set[int]] = [set() for _ in attentions]
    for layer, head in heads:
        choose_layers(attentions, [layer])
        pruned[layer].add(head)
    kept = [
        heads_left(attention.num_heads, attention.num_kv_heads, sorted(gone), f"layer {layer}")
        for layer, (attention, gone) in enumerate(zip(attentions, pruned, strict=True))
    ]
    numbers = [
        [attention.head_numbers[head] for head in left]
        for attention, left in zip(attentions, kept, strict=True)
    ]
    everywhere = range(attentions[0].num_heads_before)
    gone = [[head for head in everywhere if head not in left] for left in numbers]
    before = model.config["pruned_heads"] or {}
    with shapes_only():
        smaller = type(model)(**{**model.config, "pruned_heads": {**before, kind: gone}})
    state = {name: tensor.detach().clone() for name, tensor in model.own_state().items()}
    names = {module: name for name, module in model.named_modules()}
    for attention, left in zip(attentions, kept, strict=True):
        state |= {f"{names[attention]}.{name}": part for name, part in _parts(attention, left).items()}
    smaller.load_state_dict(state, strict=False, assign=True)
    smaller.tie_parameters()
    smaller.tokenizer = model.tokenizer
    return smaller.train(model.training)


def least_important(
    model: TransformerModel, importance: Mapping[str, Mapping[Head, float]], fraction: float
) -> dict[str, list[Head]]:
    """The heads that matter least, by kind of attention: at most the given part of all heads.

    One after the other the least important goes, of all layers and kinds. Under grouped-query attention that
    is the group of heads, sharing a key and value head, whose sum is the least. The last of a layer stays.

    Args:
        model: whose heads they are.
        importance: by kind of attention, a number for each (layer, head).
        fraction: of the heads, between 0 and 1.

    Raises:
        ValueError: a fraction outside (0, 1), one too small for a head, or a head without importance.

    """
    kinds = attentions_of(model)
    total = sum(attention.num_heads for attentions in kinds.values() for attention in attentions)
    wanted = math.floor(fraction * total + 1e-9)  # 0.1 * 30 is below 3
    if not 0 < fraction < 1 or wanted < 1:
        raise ValueError(
            f"the fraction of {total} heads to prune must be at least one head and below 1, not {fraction}"
        )
    groups = []
    for kind, attentions in kinds.items():
        for layer, attention in enumerate(attentions):
            size = attention.num_heads // attention.num_kv_heads
            for first in range(0, attention.num_heads, size):
                members = [(layer, head) for head in range(first, first + size)]
                worth = sum(_importance_of(importance, kind, member) for member in members)
                groups.append((worth, kind, members))
    groups.sort(key=lambda group: group[0])
    chosen: dict[str, list[Head]] = {kind: [] for kind in kinds}
    for _, kind, members in groups:
        layer = members[0][0]
        gone = sum(head[0] == layer for head in chosen[kind])
        stays = kinds[kind][layer].num_heads - gone > len(members)
        if stays and len(members) <= wanted:
            chosen[kind] += members
            wanted -= len(members)
    return {kind: sorted(heads) for kind, heads in chosen.items() if heads}


def _parts(attention: MultiHeadAttention, left: list[int]) -> dict[str, Tensor]:
    """An attention layer's parameters with the rows, and columns, of the heads that are left."""
    size = attention.num_heads // attention.num_kv_heads
    groups = sorted({head // size for head in left})
    d_head = attention.d_head
    parts = {}
    for name, heads in (("q_proj", left), ("k_proj", groups), ("v_proj", groups)):
        for kind, tensor in attention.get_submodule(name).state_dict().items():
            parts[f"{name}.{kind}"] = tensor.view(-1, d_head, *tensor.shape[1:])[heads].flatten(0, 1)
    columns = attention.out_proj.weight.view(-1, attention.num_heads, d_head)
    parts["out_proj.weight"] = columns[:, left].flatten(1)
    return {name: tensor.detach().clone() for name, tensor in parts.items()}


def _importance_of(importance: Mapping[str, Mapping[Head, float]], kind: str, head: Head) -> float:
    try:
        return importance[kind][head]
    except KeyError:
        raise ValueError(f"head {head_name(head)} of {kind} attention has no importance") from None
