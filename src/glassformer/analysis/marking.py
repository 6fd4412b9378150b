"""How well a model does what an item asks: log p(right), or log p(right) - log p(wrong), and is it right?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glassformer.analysis.branching import BranchingPass, padded
from glassformer.analysis.suites import Item

Numbers: TypeAlias = npt.NDArray[np.float64]


def mark_places(logits: Tensor, right: Tensor, wrong: Tensor) -> tuple[Tensor, Tensor]:
    """Score and correctness of each place.

    Args:
        logits: ``(place, vocab_size)``.
        right: ids, ``(place,)``.
        wrong: ids, ``(place,)``; -1 where all ids are compared with.

    Returns:
        log p(right) - log p(wrong), or log p(right); and 1 or 0. Both ``(place,)``, float64, on the CPU.
    """
    right, wrong = right.to(logits.device), wrong.to(logits.device)
    logits = logits.float()
    of_right = logits.gather(1, right[:, None])[:, 0]
    of_wrong = logits.gather(1, wrong.clamp(min=0)[:, None])[:, 0]
    two = wrong >= 0
    score = of_right - torch.where(two, of_wrong, logits.logsumexp(-1))
    correct = torch.where(two, of_right > of_wrong, logits.argmax(-1) == right)
    return score.cpu().double(), correct.cpu().double()


def item_loss(model: Any, item: Item) -> Tensor:
    """Minus the score of an item, with its gradient: a loss for ``gradient_importance``.

    Args:
        model: a causal language model.
        item: of a suite.
    """
    hidden = model.hidden_states(torch.tensor([item.ids], device=model.device))[0]
    places = hidden[[position - 1 for position in item.positions]]
    score, _ = mark_places(model.lm_head(places), torch.tensor(item.right), _wrong(item))
    return -score.mean()


class ItemBatch:
    """Items that are read together, their pass held in the middle.

    Args:
        model: a causal language model in evaluation mode.
        items: of any suites.
        numbers: which the items are, for whoever puts them in order again.
    """

    def __init__(self, model: Any, items: Sequence[Item], numbers: Sequence[int]) -> None:
        self.model, self.items, self.numbers = model, items, numbers
        self.branching = BranchingPass(model, padded([item.ids for item in items], model.device))
        self._rows = torch.tensor([row for row, item in enumerate(items) for _ in item.positions])
        self._columns = torch.tensor([position - 1 for item in items for position in item.positions])
        self._right = torch.tensor([token for item in items for token in item.right])
        self._wrong = torch.cat([_wrong(item) for item in items])

    def marked(self, hidden: Tensor) -> tuple[Numbers, Numbers]:
        """Score and correctness of each item, ``(item,)``: means over its places.

        Args:
            hidden: what ``lm_head`` reads, ``(item, seq, d_model)``.
        """
        hidden = hidden[self._rows.to(hidden.device), self._columns.to(hidden.device)]  # (place, d_model)
        few = -(-len(hidden) // 256)  # not the logits of all places at once
        parts = zip(*(x.tensor_split(few) for x in (hidden, self._right, self._wrong)), strict=True)
        marks = [mark_places(self.model.lm_head(h), right, wrong) for h, right, wrong in parts]
        counts = torch.bincount(self._rows, minlength=len(self.items))
        sums = torch.zeros(2, len(self.items), dtype=torch.float64)
        sums.index_add_(1, self._rows, torch.stack([torch.cat(part) for part in zip(*marks, strict=True)]))
        score, correct = (sums / counts).numpy()
        return score, correct


def _wrong(item: Item) -> Tensor:
    """The wrong id of each place, -1 where there is none."""
    return torch.tensor(item.wrong or [-1] * len(item.positions))
