"""Pruning of attention heads: smaller models with the outputs of zero ablation.

MultiHead(x) = sum_h head_h(x) W_h^O, so a head whose output is zero can be removed: its rows of the query,
key and value projections, and its columns of the output projection (Michel, Levy & Neubig 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TypeVar

from torch import Tensor

from glassformer.analysis.ablation import Head, head_name
from glassformer.attention import MultiHeadAttention, attentions_of, choose_kind, choose_layers
from glassformer.attention.pruned_attention import original_heads, original_num_heads, remaining_heads
from glassformer.attention.recording.selection import head_indices
from glassformer.layers import NormPerHead
from glassformer.models import TransformerModel
from glassformer.models.weights import on_meta

Model = TypeVar("Model", bound=TransformerModel)


def prune_heads(model: Model, heads: Iterable[Head], kind: str | None = None) -> Model:
    """A new model without some heads, whose outputs are those of the given model with the heads ablated.

    The given model is not changed. The remaining heads keep their numbers, also if the new model is pruned
    again: ``config["pruned_heads"]`` holds the numbers of all that were pruned, and each layer's
    ``head_numbers`` those of its remaining heads, in the order of its tensors.

    Args:
        model: of any family.
        heads: pairs of a layer and a head, numbered as before any pruning.
        kind: of attention; optional where the model has only one.

    Returns:
        The smaller model, with the same tokenizer and in the same mode (training or evaluation).

    Raises:
        ValueError: a kind, layer or head that does not exist, or was pruned before; all heads of a layer; or,
            under grouped-query attention, some of the heads that share a key and value head; or a model with
            rounded weights.
        TypeError: something that is not a pair of integers, or the result of ``torch.compile``.
    """
    model.check_not_rounded()
    kind, attentions = choose_kind(model, kind)
    chosen: list[set[int]] = [set() for _ in attentions]
    for layer, head in heads:
        choose_layers(attentions, [layer])
        chosen[layer].add(head)
    removed, remaining = [], []
    for layer, (attention, numbers) in enumerate(zip(attentions, chosen, strict=True)):
        total, group_size = original_num_heads(attention), attention.num_heads // attention.num_kv_heads
        removed.append(set(range(total)) - set(original_heads(attention)) | numbers)
        left = remaining_heads(total, total // group_size, removed[-1], f"layer {layer}")
        head_indices(attention, sorted(numbers), layer)  # raises for heads that were pruned before
        remaining.append(head_indices(attention, left, layer))
    before = model.config["pruned_heads"] or {}
    with on_meta():
        smaller = type(model)(
            **{**model.config, "pruned_heads": {**before, kind: [sorted(some) for some in removed]}}
        )
    state = {name: tensor.detach().clone() for name, tensor in model.untied_state_dict().items()}
    names = {module: name for name, module in model.named_modules()}
    for attention, left in zip(attentions, remaining, strict=True):
        state |= {
            f"{names[attention]}.{name}": tensor for name, tensor in _pruned_state(attention, left).items()
        }
    smaller.load_state_dict(state, strict=False, assign=True)
    smaller.tie_parameters()
    smaller.tokenizer = model.tokenizer
    smaller.token_ids, smaller.generation_config = model.token_ids, model.generation_config
    return smaller.train(model.training)


def least_important(
    model: TransformerModel, importance: Mapping[str, Mapping[Head, float]], fraction: float
) -> dict[str, list[Head]]:
    """The least important heads of all layers and kinds of attention.

    Heads are chosen one after the other, from the least important on. Under grouped-query attention, the
    heads that share a key and value head are chosen together, by their sum. At least one head of each layer
    is left.

    Args:
        model: the model to be pruned.
        importance: by kind of attention, a number for each (layer, head).
        fraction: upper limit of the chosen part of all heads, between 0 and 1.

    Returns:
        By kind of attention, the heads to be pruned.

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
            numbers = original_heads(attention)
            for first in range(0, len(numbers), size):
                members = [(layer, head) for head in numbers[first : first + size]]
                total_importance = sum(_importance_of(importance, kind, member) for member in members)
                groups.append((total_importance, kind, members))
    groups.sort(key=lambda group: group[0])
    chosen: dict[str, list[Head]] = {kind: [] for kind in kinds}
    for _, kind, members in groups:
        layer = members[0][0]
        already_chosen = sum(head[0] == layer for head in chosen[kind])
        is_last = kinds[kind][layer].num_heads - already_chosen <= len(members)
        if not is_last and len(members) <= wanted:
            chosen[kind] += members
            wanted -= len(members)
    return {kind: sorted(heads) for kind, heads in chosen.items() if heads}


def _pruned_state(attention: MultiHeadAttention, remaining: list[int]) -> dict[str, Tensor]:
    """The parameters of an attention layer with the rows and columns of the remaining heads (indices)."""
    group_size = attention.num_heads // attention.num_kv_heads
    kv_heads = sorted({head // group_size for head in remaining})
    d_head = attention.d_head
    state = {}
    for projection, heads in (("q_proj", remaining), ("k_proj", kv_heads), ("v_proj", kv_heads)):
        for name, tensor in attention.get_submodule(projection).state_dict().items():
            rows = tensor.view(-1, d_head, *tensor.shape[1:])  # (head, d_head, ...)
            state[f"{projection}.{name}"] = rows[heads].flatten(0, 1)
    for name, norm, heads in (
        ("q_norm", attention.q_norm, remaining),
        ("k_norm", attention.k_norm, kv_heads),
    ):
        if isinstance(norm, NormPerHead):
            for number, head in enumerate(heads):
                own = norm.norms[head].state_dict()
                state |= {f"{name}.norms.{number}.{key}": tensor for key, tensor in own.items()}
    columns = attention.out_proj.weight.view(-1, attention.num_heads, d_head)
    state["out_proj.weight"] = columns[:, remaining].flatten(1)
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _importance_of(importance: Mapping[str, Mapping[Head, float]], kind: str, head: Head) -> float:
    try:
        return importance[kind][head]
    except KeyError:
        raise ValueError(f"head {head_name(head)} of {kind} attention has no importance") from None
