"""Take heads away and see what the model does without them.

with ablate(model, [(4, 7), (5, 1)]):
    model(input_ids)

Heads are named (layer, head). What is replaced is the output of a head, its columns of what ``out_proj``
mixes:

    zero      by nothing: the head writes nothing into the stream
    mean      by its mean over a data set: it still says what it always says
    resample  by what it gave at another place of the data set: it says what would fit another text

Zeros are something that a model may never have met, so that their damage can be more than the head was worth;
a mean or a resampled output is what the later layers are used to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from glassformer.analysis.examples import inputs_of
from glassformer.attention import choose_kind, choose_layers, hooks, record_activations
from glassformer.attention.heads import check_heads_exist, holder_of
from glassformer.choices import choose
from glassformer.generation.streaming import evaluating
from glassformer.models import TransformerModel

Head: TypeAlias = tuple[int, int]
"""(layer, head), both from zero."""


def head_name(head: Head) -> str:
    """``"4.7"`` for head 7 of layer 4."""
    return f"{head[0]}.{head[1]}"


def parse_heads(text: str) -> list[Head]:
    """The heads of ``"4.7,5.1"``.

    Raises:
        ValueError: something that is not LAYER.HEAD.
    """
    heads = []
    for word in (word.strip() for word in text.split(",")):
        layer, dot, head = word.partition(".")
        if not (dot and layer.isdecimal() and head.isdecimal()):
            raise ValueError(f"{word!r} names no head: write LAYER.HEAD, such as 4.7, and commas between")
        heads.append((int(layer), int(head)))
    return heads


@dataclass(frozen=True)
class ReferenceOutputs:
    """What the heads of a model give on a data set."""

    kind: str
    mean: list[Tensor]
    """Of each layer, ``(head, d_head)``: the mean over all places of all examples."""
    places: list[Tensor]
    """Of each layer, ``(place, head, d_head)``: the outputs at places drawn evenly from all, the same places
    in every layer."""
    num_places: int
    """Places that the mean is over."""


@torch.no_grad()
def reference_outputs(
    model: TransformerModel,
    dataset: Iterable[Any],
    kind: str | None = None,
    *,
    places: int = 1024,
    seed: int = 0,
) -> ReferenceOutputs:
    """Gather what ``ablate`` puts in the place of a head, for ``how="mean"`` and ``how="resample"``.

    Examples are read one at a time, so there is no padding among the places, and the memory is that of one
    example and of the result.

    Args:
        model: of any family, in evaluation mode while it reads.
        dataset: examples as ``inputs_of`` takes them; any number, read once.
        kind: of attention; may be left out where the model has only one.
        places: how many are kept for resampling; a uniform sample of all (Vitter 1985, algorithm R).
        seed: of that sample.

    Raises:
        ValueError: an empty data set or example, ``places`` below 1, or a kind that does not exist.
    """
    if places < 1:
        raise ValueError(f"places must be at least 1, not {places}")
    kind, attentions = choose_kind(model, kind)
    sums = [torch.zeros(a.num_heads, a.d_head, dtype=torch.float64) for a in attentions]
    kept = [torch.zeros(places, a.num_heads, a.d_head) for a in attentions]
    generator = torch.Generator().manual_seed(seed)
    count = 0
    with evaluating(model):
        for example in dataset:
            with record_activations(model, kind=kind, device="cpu", dtype=torch.float32) as activations:
                model(*inputs_of(model, example))
            outputs = [activations.heads[layer].transpose(1, 2).flatten(0, 1) for layer in range(len(sums))]
            new = torch.arange(count, count + len(outputs[0]))  # numbers of the places of this example
            drawn = (torch.rand(len(new), generator=generator, dtype=torch.float64) * (new + 1)).long()
            slots = torch.where(new < places, new, drawn)
            for layer, output in enumerate(outputs):  # (place, head, d_head)
                sums[layer] += output.double().sum(0)
                for place in torch.nonzero(slots < places).flatten().tolist():
                    kept[layer][slots[place]] = output[place]
            count += len(new)
    if count == 0:
        raise ValueError("the data set is empty: give at least one example")
    mean = [(total / count).float() for total in sums]
    return ReferenceOutputs(kind, mean, [part[:count] for part in kept], count)


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

    Works in evaluation and in training (no gradient flows through what was replaced), in generation with a
    cache, and under gradient checkpointing. Afterwards the model is bit-equal to what it was, also after an
    exception. Blocks may be nested: of an encoder-decoder, ``with ablate(..., kind="encoder"),
    ablate(..., kind="cross")``. All heads of a layer may go: attention then adds the bias of ``out_proj``
    alone.

    Args:
        model: one whose ``attentions()`` names the attention modules of each layer, by kind.
        heads: pairs (layer, head).
        how: ``"zero"``, ``"mean"`` or ``"resample"``.
        reference: from ``reference_outputs``; for mean and resample.
        kind: of attention; may be left out where the model has only one.
        seed: of resampling. Which place stands in for an output depends on the seed, the row of the batch and
            the token's position alone: cached and uncached passes agree, and so do both passes of gradient
            checkpointing. All heads and layers take theirs from the same place.

    Raises:
        ValueError: a layer or head that does not exist (names the range) or is named twice, an unknown
            ``how``, a kind that does not exist, or a reference that is missing or of another model.
        TypeError: a model without attentions, or what ``torch.compile`` made of one.
    """
    kind, attentions = choose_kind(model, kind)
    by_layer = _by_layer(heads)
    choose_layers(attentions, list(by_layer))
    for layer, numbers in by_layer.items():
        check_heads_exist(attentions, [layer], numbers)
    stand_ins = choose(STAND_INS, how, "ablation")
    if stand_ins is not _nothing:
        _check_reference(reference, how, kind, [(a.num_heads, a.d_head) for a in attentions])
    with hooks() as handles:
        for layer, numbers in by_layer.items():
            attention = attentions[layer]
            sizes = (attention.num_heads, attention.d_head)
            replacement = _Replacement(sizes, numbers, stand_ins(reference, layer, seed))
            block = holder_of(model, attention)
            handles.append(block.register_forward_pre_hook(replacement.begin, with_kwargs=True))
            handles.append(attention.out_proj.register_forward_pre_hook(replacement.replace))
        yield


StandIn: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From rows ``(batch, 1)`` and positions ``(1 or batch, query)`` to what broadcasts to ``(batch, query, head,
d_head)``."""


def _nothing(reference: ReferenceOutputs | None, layer: int, seed: int) -> StandIn:
    return lambda rows, positions: torch.zeros(())


def _mean(reference: ReferenceOutputs, layer: int, seed: int) -> StandIn:
    return lambda rows, positions: reference.mean[layer]


def _resampled(reference: ReferenceOutputs, layer: int, seed: int) -> StandIn:
    """Each row walks through all places in a shuffled order, from a beginning of its own."""
    places = reference.places[layer]
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))
    return lambda rows, positions: places[order[(rows * 9973 + positions) % len(places)]]


STAND_INS: dict[str, Callable[..., StandIn]] = {"zero": _nothing, "mean": _mean, "resample": _resampled}
"""What is put in the place of a head, by the word for it."""


@dataclass
class _Replacement:
    """The hooks of one layer: ``begin`` as its block starts, ``replace`` before its heads are mixed."""

    sizes: tuple[int, int]  # heads, d_head
    heads: Sequence[int]
    stand_in: StandIn
    positions: Tensor | None = None

    def begin(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.positions = kwargs.get("positions")

    def replace(self, out_proj: nn.Module, args: tuple[Tensor]) -> Tensor:
        outputs = args[0].view(*args[0].shape[:-1], *self.sizes)  # (batch, query, head, d_head)
        rows = torch.arange(outputs.size(0))[:, None]
        positions = torch.arange(outputs.size(1)) if self.positions is None else self.positions.cpu()
        ablated = torch.zeros(self.sizes[0], 1, dtype=torch.bool)
        ablated[list(self.heads)] = True
        stand_in = self.stand_in(rows, positions).to(outputs)
        return torch.where(ablated.to(outputs.device), stand_in, outputs).flatten(-2)


def _by_layer(heads: Iterable[Head]) -> dict[int, list[int]]:
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        numbers = by_layer.setdefault(layer, [])
        if head in numbers:
            raise ValueError(f"head {head_name((layer, head))} is named twice")
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
            f"fit the {kind} attention of this model: gather it again with reference_outputs"
        )
