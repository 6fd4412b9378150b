"""Ablation of attention heads during forward passes.

    with ablate(model, [(4, 7), (5, 1)]):
        model(input_ids)

Heads are pairs (layer, head). The output of a head, before ``out_proj``, is replaced by

    zero      zeros: the head adds nothing to the residual stream
    mean      its mean over a data set: only what depends on the input is removed
    resample  its output at another position of the data set: what it adds belongs to another text

Zeros may be unlike anything that later layers have seen in training, so that the damage is more than the head
contributed. Mean and resampled outputs are in distribution.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from glassformer.analysis.inputs import model_inputs
from glassformer.attention import choose_kind, choose_layers, record_activations
from glassformer.attention.recording import hooks
from glassformer.attention.recording.selection import head_indices, parents_of
from glassformer.choices import choose
from glassformer.deprecation import renamed_arguments
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel

Head: TypeAlias = tuple[int, int]
"""(layer, head), both numbered from zero; heads keep the numbers that they had before pruning."""


def head_name(head: Head) -> str:
    """``"4.7"`` for head 7 of layer 4."""
    return f"{head[0]}.{head[1]}"


def parse_heads(text: str) -> list[Head]:
    """The heads of ``"4.7,5.1"``. Layers and heads may be ranges: ``"4.0-2"`` is 4.0, 4.1 and 4.2.

    Raises:
        ValueError: an entry that is not LAYER.HEAD, or ranges of more than 100,000 heads.
    """
    heads: list[Head] = []
    for word in (word.strip() for word in text.split(",")):
        match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?\.([0-9]{1,9})(?:-([0-9]{1,9}))?", word)
        if match is None:
            raise ValueError(f"heads must be LAYER.HEAD, such as 4.7 or 4.7,5.0-3, got {word!r}")
        layers = range(int(match[1]), int(match[2] or match[1]) + 1)
        indices = range(int(match[3]), int(match[4] or match[3]) + 1)
        if not 0 < len(layers) * len(indices) <= 100_000:
            raise ValueError(f"{word!r} must stand for 1 to 100,000 heads")
        heads += product(layers, indices)
    return heads


@dataclass(frozen=True)
class ReferenceOutputs:
    """Outputs of the heads of a model over a data set."""

    kind: str
    mean: list[Tensor]
    """For each layer ``(head, d_head)``: the mean over all positions of all examples."""
    samples: list[Tensor]
    """For each layer ``(sample, head, d_head)``: outputs at uniformly sampled positions, the same in every
    layer."""
    num_positions: int
    """Number of positions in the data set."""


@renamed_arguments(places="num_samples")
@torch.no_grad()
def reference_outputs(
    model: TransformerModel,
    dataset: Iterable[Any],
    kind: str | None = None,
    *,
    num_samples: int = 1024,
    seed: int = 0,
) -> ReferenceOutputs:
    """Collect the outputs that ``ablate`` needs for ``how="mean"`` and ``how="resample"``.

    Examples are processed one at a time, without padding; the memory is that of one example and the result.

    Args:
        model: of any family; it runs in evaluation mode.
        dataset: examples as in ``model_inputs``, iterated once.
        kind: of attention; optional where the model has only one.
        num_samples: positions to keep for resampling (reservoir sampling: Vitter 1985, algorithm R).
        seed: of that sample.

    Raises:
        ValueError: an empty data set or example, ``num_samples`` below 1, or a kind that does not exist.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, not {num_samples}")
    kind, attentions = choose_kind(model, kind)
    sums = [torch.zeros(a.num_heads, a.d_head, dtype=torch.float64) for a in attentions]
    samples = [torch.zeros(num_samples, a.num_heads, a.d_head) for a in attentions]
    generator = torch.Generator().manual_seed(seed)
    count = 0
    with eval_mode(model):
        for example in dataset:
            with record_activations(model, kind=kind, device="cpu", dtype=torch.float32) as activations:
                model(*model_inputs(model, example))
            outputs = [
                activations.head_outputs[layer].transpose(1, 2).flatten(0, 1) for layer in range(len(sums))
            ]
            numbers = torch.arange(count, count + len(outputs[0]))  # of the positions of this example
            uniform = torch.rand(len(numbers), generator=generator, dtype=torch.float64)
            drawn = (uniform * (numbers + 1)).long()
            slots = torch.where(numbers < num_samples, numbers, drawn)
            for layer, output in enumerate(outputs):  # (position, head, d_head)
                sums[layer] += output.double().sum(0)
                for position in torch.nonzero(slots < num_samples).flatten().tolist():
                    samples[layer][slots[position]] = output[position]
            count += len(numbers)
    if count == 0:
        raise ValueError("the data set is empty: give at least one example")
    mean = [(total / count).float() for total in sums]
    return ReferenceOutputs(kind, mean, [part[:count] for part in samples], count)


@contextmanager
def ablate(
    model: nn.Module,
    heads: Iterable[Head],
    how: str = "zero",
    *,
    reference: ReferenceOutputs | None = None,
    kind: str | None = None,
    seed: int = 0,
) -> Iterator[None]:
    """Replace the outputs of heads in every forward pass inside the block.

    This works in evaluation and training (without gradients through the replaced outputs), in generation with
    a cache, and with gradient checkpointing. Afterwards the model gives bit-equal outputs again, also after
    an exception. Blocks can be nested, for example for an encoder-decoder ``with ablate(..., kind="encoder"),
    ablate(..., kind="cross")``. If all heads of a layer are ablated, attention adds only the bias of
    ``out_proj``.

    Args:
        model: one whose ``attentions()`` gives the attention modules of each layer, by kind.
        heads: pairs (layer, head).
        how: ``"zero"``, ``"mean"`` or ``"resample"``.
        reference: from ``reference_outputs``; for mean and resample.
        kind: of attention; optional where the model has only one.
        seed: of resampling. The sample that replaces an output depends on the seed, the row of the batch and
            the position of the token alone: passes with and without a cache agree, and so do both passes of
            gradient checkpointing. All heads and layers use the same sample.

    Raises:
        ValueError: a layer or head that does not exist or is given twice, an unknown ``how``, a kind that
            does not exist, or a reference that is missing or of another model.
        TypeError: a model without attentions, or the result of ``torch.compile``.
    """
    kind, attentions = choose_kind(model, kind)
    by_layer = _by_layer(heads)
    choose_layers(attentions, list(by_layer))
    indices = {layer: head_indices(attentions[layer], by_layer[layer], layer) for layer in by_layer}
    replacement_for = choose(REPLACEMENTS, how, "ablation")
    if replacement_for is not _zero:
        _check_reference(reference, how, kind, [(a.num_heads, a.d_head) for a in attentions])
    parents = parents_of(model)
    with hooks() as handles:
        for layer in by_layer:
            attention = attentions[layer]
            sizes = (attention.num_heads, attention.d_head)
            layer_hooks = _LayerHooks(sizes, indices[layer], replacement_for(reference, layer, seed))
            block = parents[attention]
            handles.append(block.register_forward_pre_hook(layer_hooks.begin, with_kwargs=True))
            handles.append(attention.out_proj.register_forward_pre_hook(layer_hooks.replace))
        yield


Replacement: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From rows ``(batch, 1)`` and positions ``(1 or batch, query)`` to a tensor that broadcasts to ``(batch,
query, head, d_head)``."""


def _zero(reference: ReferenceOutputs | None, layer: int, seed: int) -> Replacement:
    return lambda rows, positions: torch.zeros(())


def _mean(reference: ReferenceOutputs, layer: int, seed: int) -> Replacement:
    return lambda rows, positions: reference.mean[layer]


def _resample(reference: ReferenceOutputs, layer: int, seed: int) -> Replacement:
    """Each row iterates over all samples in one shuffled order, with an offset for the row."""
    samples = reference.samples[layer]
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))
    return lambda rows, positions: samples[order[(rows * 9973 + positions) % len(samples)]]


REPLACEMENTS: dict[str, Callable[..., Replacement]] = {"zero": _zero, "mean": _mean, "resample": _resample}
"""Functions (reference, layer, seed) -> replacement, for the ``how`` of ``ablate``."""


@dataclass
class _LayerHooks:
    """The hooks of one layer: ``begin`` at its block, ``replace`` at ``out_proj``."""

    sizes: tuple[int, int]  # num_heads, d_head
    heads: Sequence[int]  # indices
    replacement: Replacement
    positions: Tensor | None = None

    def begin(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.positions = kwargs.get("positions")

    def replace(self, out_proj: nn.Module, args: tuple[Tensor]) -> Tensor:
        outputs = args[0].view(*args[0].shape[:-1], *self.sizes)  # (batch, query, head, d_head)
        rows = torch.arange(outputs.size(0))[:, None]
        positions = torch.arange(outputs.size(1)) if self.positions is None else self.positions.cpu()
        ablated = torch.zeros(self.sizes[0], 1, dtype=torch.bool)
        ablated[list(self.heads)] = True
        replacement = self.replacement(rows, positions).to(outputs)
        return torch.where(ablated.to(outputs.device), replacement, outputs).flatten(-2)


def random_heads(
    heads: Sequence[Head], heads_in_layer: Sequence[int | Sequence[int]], draws: int, seed: int = 0
) -> list[tuple[Head, ...]]:
    """Different random sets of as many heads in each of the same layers, except ``heads`` itself.

    All other sets are equally probable, also those that share heads with the group. If the group is a set
    like any other, it is then as likely as each draw to have the largest effect, which the p-value of
    ``compare_group`` relies on.

    Args:
        heads: the group.
        heads_in_layer: for each layer the number of its heads, or their numbers, as in a pruned model.
        draws: number of sets; fewer are returned where there are no more.
        seed: of the draws.

    Raises:
        ValueError: there is no other set, because the group has every head of its layers.
    """
    wanted = sorted(Counter(layer for layer, _ in heads).items())
    choices = [range(some) if isinstance(some, int) else some for some in heads_in_layer]
    num_others = math.prod(math.comb(len(choices[layer]), number) for layer, number in wanted) - 1
    if not num_others:
        raise ValueError("it has every head of its layers, so that there is no other set to compare with")
    group, draw = tuple(sorted(heads)), random.Random(seed)
    drawn = dict[tuple[Head, ...], None]()  # a dictionary keeps the order
    while len(drawn) < min(draws, num_others):
        chosen = tuple(
            (layer, head) for layer, number in wanted for head in sorted(draw.sample(choices[layer], number))
        )
        if chosen != group:
            drawn[chosen] = None
    return list(drawn)


def _by_layer(heads: Iterable[Head]) -> dict[int, list[int]]:
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        numbers = by_layer.setdefault(layer, [])
        if head in numbers:
            raise ValueError(f"head {head_name((layer, head))} is given twice")
        numbers.append(head)
    return by_layer


def _check_reference(
    reference: ReferenceOutputs | None, how: str, kind: str, sizes: list[tuple[int, int]]
) -> None:
    if reference is None:
        raise ValueError(f"how={how!r} needs reference=reference_outputs(model, dataset)")
    if reference.kind != kind or [tuple(mean.shape) for mean in reference.mean] != sizes:
        raise ValueError(
            f"the reference is of {len(reference.mean)} layers of {reference.kind} attention and does not "
            f"fit the {kind} attention of this model: collect it again with reference_outputs"
        )
