"""Key-value recall: the task, a model of one attention layer, and its training.

pairs   k_1 v_1 ... k_n v_n    each pair one token, embedding(key) + embedding(value), without positions
query   k_i k_j                one token, the sum of an embedding of each asked key for its role
answer  v_i v_j                one for each role, by a linear readout of the attention's output
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from glassformer.attention import MultiHeadAttention, ScaledDotProductAttention
from glassformer.data.batches import Batch
from glassformer.experiments.training import run_config, train
from glassformer.experiments.why.initial_weights import draw_unit_variance
from glassformer.layers import FeedForward
from glassformer.linear import Linear
from glassformer.training import Schedule
from glassformer.training.task import Objective

EVALUATION_SEED = 2**31
"""Added to the seed of batches that no model is trained on."""


class RecallBatches:
    """Rows of key-value pairs and a query, which depend on the seed and the number of the batch alone.

    The keys of a row are different, its values are independent, and so are the rows; the keys that are asked
    for in one row are different.

    Args:
        num_keys: keys that exist.
        num_values: values that exist.
        num_pairs: pairs of a row.
        num_roles: keys that a row asks for.
        batch_size: rows of a batch.
        seed: not negative.

    Raises:
        ValueError: more pairs than keys, or more roles than pairs.
    """

    def __init__(
        self, num_keys: int, num_values: int, num_pairs: int, num_roles: int, batch_size: int, seed: int
    ) -> None:
        if not num_roles <= num_pairs <= num_keys:
            raise ValueError(
                f"roles, pairs and keys must not decrease in number, got {num_roles}, {num_pairs}, {num_keys}"
            )
        self.num_keys, self.num_values, self.num_pairs = num_keys, num_values, num_pairs
        self.num_roles, self.batch_size, self.seed = num_roles, batch_size, seed

    def batch(self, step: int) -> Batch:
        """``keys`` and ``values`` ``(batch, pair)``; ``asked``, indices of pairs ``(batch, role)``."""
        generator = np.random.default_rng([self.seed, step])
        order = generator.random((self.batch_size, self.num_keys)).argsort(axis=1)
        asked = generator.random((self.batch_size, self.num_pairs)).argsort(axis=1)[:, : self.num_roles]
        values = generator.integers(self.num_values, size=(self.batch_size, self.num_pairs))
        arrays = {"keys": order[:, : self.num_pairs], "values": values, "asked": asked}
        return Batch({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})


class RecallModel(nn.Module):
    """readout(attention(query, pairs)): one attention layer without skip connection.

    With ``d_ff`` the readout is of h + feed_forward(h), where h is the output of attention.

    Args:
        num_keys: keys that exist.
        num_values: values that exist.
        num_roles: answers to give.
        d_model: width.
        num_heads: attention heads.
        d_head: width of a head.
        d_ff: hidden width of the feed-forward network. Default: no such network.
        divide: whether scores are divided by sqrt(d_head).
    """

    def __init__(
        self,
        *,
        num_keys: int,
        num_values: int,
        num_roles: int,
        d_model: int,
        num_heads: int,
        d_head: int,
        d_ff: int | None = None,
        divide: bool = True,
    ) -> None:
        super().__init__()
        self.num_keys, self.num_values, self.num_roles = num_keys, num_values, num_roles
        self.key_embedding = nn.Embedding(num_keys, d_model)
        self.value_embedding = nn.Embedding(num_values, d_model)
        self.query_embedding = nn.Embedding(num_roles * num_keys, d_model)
        kernel = ScaledDotProductAttention(scale=None if divide else 1.0)
        self.attention = MultiHeadAttention(d_model, num_heads, d_head=d_head, kernel=kernel)
        self.feed_forward = None if d_ff is None else FeedForward(d_model, d_ff)
        self.readout = Linear(d_model, num_roles * num_values)
        draw_unit_variance(self)

    def forward(self, batch: Batch) -> Tensor:
        """Logits ``(batch, role, value)``."""
        hidden, _ = self.attention(*self.query_and_pairs(batch))  # (batch, 1, d_model)
        if self.feed_forward is not None:
            hidden = hidden + self.feed_forward(hidden)
        logits: Tensor = self.readout(hidden)
        return logits.view(-1, self.num_roles, self.num_values)

    def query_and_pairs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The query ``(batch, 1, d_model)`` and the pairs ``(batch, pair, d_model)``, of unit variance."""
        keys = batch.tensors["keys"]
        pairs = (self.key_embedding(keys) + self.value_embedding(batch.tensors["values"])) / 2**0.5
        roles = torch.arange(self.num_roles, device=keys.device)
        asked = keys.gather(1, batch.tensors["asked"]) + self.num_keys * roles
        return self.query_embedding(asked).sum(1, keepdim=True) / self.num_roles**0.5, pairs

    def weights(self, batch: Batch) -> Tensor:
        """Attention weights of the query, ``(batch, head, pair)``."""
        return self.attention.get_attention_maps(*self.query_and_pairs(batch))[:, :, 0]

    def num_parameters(self) -> int:
        """The number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def save_pretrained(self, folder: Path) -> None:
        """Write ``model.safetensors``, for checkpoints."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.state_dict(), folder / "model.safetensors")


class RecallLoss(Objective):
    """-log p(value) of each asked key, in nats."""

    unit: ClassVar[str] = "answers"

    def loss_sum(self, model: RecallModel, batch: Batch) -> Tensor:
        """Sum over rows and roles."""
        return F.cross_entropy(model(batch).flatten(0, 1), answers(batch).flatten(), reduction="sum")

    def count(self, batch: Batch) -> int:
        """Number of answers."""
        return batch.tensors["asked"].numel()


def answers(batch: Batch) -> Tensor:
    """The values of the asked keys, ``(batch, role)``."""
    return batch.tensors["values"].gather(1, batch.tensors["asked"])


def train_recall(
    settings: Mapping[str, Any], seed: int, folder: Path, learning_rate: float, **sizes: Any
) -> RecallModel:
    """Train a model, or continue.

    Args:
        settings: ``num_keys``, ``num_values``, ``num_pairs``, ``num_roles``, ``d_model``, ``batch_size``,
            ``steps`` and ``warmup_steps``.
        seed: of weights and batches.
        folder: run folder.
        learning_rate: peak of a cosine schedule.
        sizes: other arguments of ``RecallModel``.
    """
    config = run_config(
        folder,
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        seed=seed,
        learning_rate=learning_rate,
        schedule=Schedule("cosine", settings["warmup_steps"]),
        weight_decay=0.0,
        log_every=max(1, settings["steps"] // 50),
    )
    batches = recall_batches(settings, settings["batch_size"], seed)
    names = ("num_keys", "num_values", "num_roles", "d_model")

    def build() -> RecallModel:
        return RecallModel(**{name: settings[name] for name in names}, **sizes)

    model = train(build, config, batches, RecallLoss(), data_key=f"recall, seed {seed}")
    return model.eval()


def recall_batches(settings: Mapping[str, Any], batch_size: int, seed: int, **changes: int) -> RecallBatches:
    """Batches with the sizes of the settings, or changed ones."""
    names = ("num_keys", "num_values", "num_pairs", "num_roles")
    sizes = {name: settings[name] for name in names} | changes
    return RecallBatches(**sizes, batch_size=batch_size, seed=seed)


@torch.no_grad()
def evaluate_recall(
    model: RecallModel, settings: Mapping[str, Any], seed: int, **changes: int
) -> dict[str, float]:
    """Measure a model on ``settings["num_evaluated"]`` rows that it was not trained on.

    Args:
        model: a trained model.
        settings: as in ``train_recall``.
        seed: of the rows.
        changes: other sizes of the rows, such as ``num_pairs``.

    Returns:
        ``loss`` in nats per answer, ``accuracy`` per answer, ``all_right``, the share of rows in which every
        answer is right, and ``weight``, the weight on the asked key, the largest over heads, averaged over
        roles.
    """
    device = next(model.parameters()).device
    rows = recall_batches(settings, settings["num_evaluated"], seed + EVALUATION_SEED, **changes)
    batch = rows.batch(0).to(device)
    logits, targets = model(batch), answers(batch)
    right = logits.argmax(-1) == targets
    asked = batch.tensors["asked"][:, None].expand(-1, model.attention.num_heads, -1)
    on_asked = model.weights(batch).gather(2, asked)  # (batch, head, role)
    return {
        "loss": float(F.cross_entropy(logits.flatten(0, 1), targets.flatten())),
        "accuracy": float(right.float().mean()),
        "all_right": float(right.all(-1).float().mean()),
        "weight": float(on_asked.mean(0).max(0).values.mean()),
    }
