"""Scores of task items: log p(correct), or log p(correct) - log p(incorrect), and accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.analysis.behaviors.tasks import TaskItem
from glassformer.analysis.head_patterns.statistics import Numbers
from glassformer.attention.recording import hooks
from glassformer.tokenization.base import pad_sequences


def score_positions(logits: Tensor, correct: Tensor, incorrect: Tensor) -> tuple[Tensor, Tensor]:
    """Score and accuracy at each position.

    Args:
        logits: ``(position, vocab_size)``.
        correct: ids, ``(position,)``.
        incorrect: ids, ``(position,)``; -1 in a choice among all ids.

    Returns:
        log p(correct) - log p(incorrect), or log p(correct) in a choice among all ids; and 1 or 0. Both
        ``(position,)``, float64, on the CPU.
    """
    correct, incorrect = correct.to(logits.device), incorrect.to(logits.device)
    logits = logits.float()
    of_correct = logits.gather(1, correct[:, None])[:, 0]
    of_incorrect = logits.gather(1, incorrect.clamp(min=0)[:, None])[:, 0]
    is_choice = incorrect >= 0
    score = of_correct - torch.where(is_choice, of_incorrect, logits.logsumexp(-1))
    accuracy = torch.where(is_choice, of_correct > of_incorrect, logits.argmax(-1) == correct)
    return score.cpu().double(), accuracy.cpu().double()


def item_loss(model: Any, item: TaskItem) -> Tensor:
    """The negative score of an item, differentiable: a loss for ``gradient_importance``.

    Args:
        model: a causal language model.
        item: of a task.
    """
    hidden = model.hidden_states(torch.tensor([item.ids], device=model.device))[0]
    hidden = hidden[[position - 1 for position in item.positions]]
    score, _ = score_positions(model.unembed(hidden), torch.tensor(item.correct), _incorrect_ids(item))
    return -score.mean()


class ResumableForward:
    """A forward pass that stops at a layer and is finished from there any number of times.

    The layers below the lowest ablated head give the same result with and without the ablation. The
    residual stream before a layer is stored, and each ablation resumes there. All heads of a model one by one
    then cost half as many blocks as complete forward passes.

    Args:
        model: a causal language model in evaluation mode.
        input_ids: ``(batch, seq)``.
    """

    def __init__(self, model: Any, input_ids: Tensor) -> None:
        self.model, self.layer = model, 0
        self._kwargs: dict[str, Any] = {}

        def store(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.stream, *self._args = args
            self._kwargs = kwargs

        with hooks() as handles:
            handles.append(model.blocks[0].register_forward_pre_hook(store, with_kwargs=True))
            self.hidden = model.hidden_states(input_ids)
            """The input of ``unembed`` without ablation, ``(batch, seq, d_model)``."""

    def advance_to(self, layer: int) -> None:
        """Run the blocks before a layer.

        Raises:
            ValueError: the stream is already past the layer.
        """
        if layer < self.layer:
            raise ValueError(f"the stream is at layer {self.layer} and cannot go back to layer {layer}")
        self.stream = self._run(self.stream, self.layer, layer)
        self.layer = layer

    def finish(self) -> Tensor:
        """The input of ``unembed``, ``(batch, seq, d_model)``, with the current ablations of the model."""
        hidden: Tensor = self.model.norm(self._run(self.stream, self.layer, len(self.model.blocks)))
        return hidden

    def _run(self, x: Tensor, first: int, end: int) -> Tensor:
        for layer in range(first, end):  # all blocks get the same mask, positions and bias
            x = self.model.blocks[layer](x, *self._args, **self._kwargs)
        return x


class ItemBatch:
    """A padded batch of items with their resumable forward pass.

    Args:
        model: a causal language model in evaluation mode.
        items: of any tasks.
        numbers: indices of the items among all items of an evaluation.
    """

    def __init__(self, model: Any, items: Sequence[TaskItem], numbers: Sequence[int]) -> None:
        self.model, self.items, self.numbers = model, items, numbers
        # Padding on the right is not visible to earlier tokens of a causal model.
        self.forward = ResumableForward(
            model, pad_sequences([item.ids for item in items], 0).to(model.device)
        )
        self._rows = torch.tensor([row for row, item in enumerate(items) for _ in item.positions])
        self._columns = torch.tensor([position - 1 for item in items for position in item.positions])
        self._correct = torch.tensor([token for item in items for token in item.correct])
        self._incorrect = torch.cat([_incorrect_ids(item) for item in items])

    def score(self, hidden: Tensor) -> tuple[Numbers, Numbers]:
        """Score and accuracy of each item, ``(item,)``: means over its positions.

        Args:
            hidden: the input of ``unembed``, ``(item, seq, d_model)``.
        """
        hidden = hidden[self._rows.to(hidden.device), self._columns.to(hidden.device)]  # (position, d_model)
        num_chunks = -(-len(hidden) // 256)  # limits the memory for logits
        chunks = zip(
            *(x.tensor_split(num_chunks) for x in (hidden, self._correct, self._incorrect)), strict=True
        )
        scored = [score_positions(self.model.unembed(h), right, wrong) for h, right, wrong in chunks]
        counts = torch.bincount(self._rows, minlength=len(self.items))
        sums = torch.zeros(2, len(self.items), dtype=torch.float64)
        sums.index_add_(1, self._rows, torch.stack([torch.cat(part) for part in zip(*scored, strict=True)]))
        score, accuracy = (sums / counts).numpy()
        return score, accuracy


def _incorrect_ids(item: TaskItem) -> Tensor:
    """The incorrect id at each position, -1 where there is none."""
    return torch.tensor(item.incorrect or [-1] * len(item.positions))
