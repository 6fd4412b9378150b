"""A forward pass that is held in the middle, and finished from there in as many ways as one likes.

What lies below the lowest head that is ablated is the same with and without it. So the intact stream is kept
at one height, each ablation branches off there, and the stream moves up when the next one begins higher: all
heads of a model one by one cost half as many blocks as passes from the beginning.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from glassformer.attention import hooks


@runtime_checkable
class CausalModel(Protocol):
    """A language model whose blocks follow one another: what ``GPTModel`` is."""

    blocks: nn.ModuleList
    norm: nn.Module
    lm_head: nn.Module

    def hidden_states(self, input_ids: Tensor) -> Tensor:
        """What ``lm_head`` reads, ``(batch, seq, d_model)``."""
        ...

    def next_token_logits(self, input_ids: Tensor) -> Tensor:
        """Logits ``(batch, vocab_size)`` for the token after the last."""
        ...


class BranchingPass:
    """norm(block_L(... block_l(stream_l))), with ``stream_l`` kept and l as high as wanted.

    Args:
        model: in evaluation mode.
        input_ids: ``(batch, seq)``.
    """

    def __init__(self, model: CausalModel, input_ids: Tensor) -> None:
        self.model, self.layer = model, 0
        self._arguments: dict[str, Any] = {}

        def keep(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.stream, *self._others = args
            self._arguments = kwargs

        with hooks() as handles:
            handles.append(model.blocks[0].register_forward_pre_hook(keep, with_kwargs=True))
            self.hidden = model.hidden_states(input_ids)
            """What ``lm_head`` reads in the intact pass, ``(batch, seq, d_model)``."""

    def move_up(self, layer: int) -> None:
        """Take the intact stream to where it enters a layer.

        Raises:
            ValueError: the layer is below where the stream is.
        """
        if layer < self.layer:
            raise ValueError(f"the stream is at layer {self.layer} and does not go back to {layer}")
        self.stream = self._through(self.stream, self.layer, layer)
        self.layer = layer

    def finish(self) -> Tensor:
        """What ``lm_head`` reads, ``(batch, seq, d_model)``, with the model as it is now."""
        hidden: Tensor = self.model.norm(self._through(self.stream, self.layer, len(self.model.blocks)))
        return hidden

    def _through(self, x: Tensor, first: int, end: int) -> Tensor:
        for layer in range(first, end):  # mask, positions and bias are the same for every block
            x = self.model.blocks[layer](x, *self._others, **self._arguments)
        return x


def stretches(lengths: list[int], most_tokens: int) -> list[list[int]]:
    """Numbers of sequences of like length together, so that a padded batch has at most so many tokens."""
    batches: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda n: lengths[n]):
        if batches and (len(batches[-1]) + 1) * lengths[number] <= most_tokens:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches


def padded(rows: list[tuple[int, ...]], device: torch.device) -> Tensor:
    """Ids ``(batch, seq)``, filled up on the right, where nothing that is real looks in a causal model."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
