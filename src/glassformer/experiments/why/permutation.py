"""Permutation of tokens: models without positions commute with it, unless a mask is causal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glassformer.experiments.why.demonstration import Demonstration, Evidence, Value, means_table
from glassformer.experiments.why.initial_weights import draw_unit_variance
from glassformer.models import BERTModel, GPTModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HiddenStates = Callable[[Tensor], Tensor]


@torch.no_grad()
def make(settings: Mapping[str, Any], seed: int, folder: Path) -> Value:
    """Relative change by a permutation of the tokens, in float64, for models with random weights.

    Args:
        settings: ``d_model``, ``num_heads``, ``num_layers`` and ``num_tokens``.
        seed: of weights and permutation.
        folder: not used.

    Returns:
        ``all``: |f(P x) - P f(x)| / |f(x)| by model, where P permutes all tokens and f gives the last hidden
        states. ``last``: |f(P x) - f(x)| / |f(x)| of the last token by model, where P permutes the others.
    """
    torch.manual_seed(seed)
    tokens = settings["num_tokens"]
    ids = torch.randperm(tokens)
    sizes = {"vocab_size": tokens, "max_seq_len": tokens, "num_heads": settings["num_heads"]}
    sizes |= {"d_model": settings["d_model"], "num_layers": settings["num_layers"]}

    def encoder(positions: str) -> HiddenStates:
        return _hidden_states(BERTModel(**sizes, positions=positions, pooler=False))

    def decoder(positions: str, **changes: int) -> HiddenStates:
        return _hidden_states(GPTModel(**sizes | changes, positions=positions))

    everything = {
        "no positions": encoder("none"),
        "sinusoidal positions": encoder("sinusoidal"),
        "rotary positions": encoder("rotary"),
        "no positions, causal mask": decoder("none"),
    }
    last = {
        "one causal layer": decoder("none", num_layers=1),
        "two causal layers": decoder("none", num_layers=2),
    }
    order = torch.randperm(tokens)
    return {
        "all": {name: change_by(states, ids, order)[0] for name, states in everything.items()},
        "last": {name: change_by(states, ids, _keeping_last(order))[1] for name, states in last.items()},
    }


def _hidden_states(model: BERTModel | GPTModel) -> HiddenStates:
    draw_unit_variance(model)
    double = model.double().eval()
    return lambda ids: double.hidden_states(ids[None])[0]


def _keeping_last(order: Tensor) -> Tensor:
    """The permutation without the last index, which is put at the end."""
    last = order.numel() - 1
    return torch.cat((order[order != last], torch.tensor([last])))


def change_by(states: HiddenStates, ids: Tensor, order: Tensor) -> tuple[float, float]:
    """Relative change of all hidden states, permuted back, and that of the last one, by a permutation."""
    before, after = states(ids), states(ids[order])
    return _relative(after - before[order], before), _relative(after[-1] - before[-1], before[-1])


def _relative(change: Tensor, whole: Tensor) -> float:
    return float(change.norm() / whole.norm())


def analyze(values: Sequence[Value]) -> Evidence:
    """The relative changes by model."""
    by_claim = {
        "permutation-none": [value["all"]["no positions"] for value in values],
        "permutation-causal": [value["all"]["no positions, causal mask"] for value in values],
        "permutation-last-one": [value["last"]["one causal layer"] for value in values],
        "permutation-last-two": [value["last"]["two causal layers"] for value in values],
    }
    rows = {name: [value["all"][name] for value in values] for name in values[0]["all"]}
    rows |= {f"last token, {name}": [value["last"][name] for value in values] for name in values[0]["last"]}
    caption = "|f(P x) - P f(x)| / |f(x)| in float64; of the last token with P a permutation of the others."
    table = means_table(
        "Change by a permutation of the tokens",
        {name: {"relative change": numbers} for name, numbers in rows.items()},
        "model",
        caption,
    )
    return Evidence(by_claim, [table], {name: max(numbers) for name, numbers in rows.items()})


def draw(data: Any) -> tuple[Figure, str]:
    """Relative change by model."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axis = figure.subplots()
    axis.barh(list(data), list(data.values()))
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="relative change by a permutation of the tokens", xlim=(1e-17, 10))
    axis.grid(alpha=0.3, axis="x")
    return figure, "Relative change of hidden states, the largest of all seeds, in float64."


def summarize(value: Value) -> dict[str, str | float | int]:
    """The change without positions, with and without a causal mask."""
    return {
        "permutation: no mask": value["all"]["no positions"],
        "permutation: causal": round(value["all"]["no positions, causal mask"], 4),
    }


PERMUTATION = Demonstration(make, analyze, draw, summarize)
