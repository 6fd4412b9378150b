"""Causal language modeling: next-token prediction on running text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from glassformer.contracts import Tokenizer
from glassformer.data import Batches, ConsoleProgress, TokenFile, TokenFiles, build_token_files, windows
from glassformer.data.batches import Batch
from glassformer.deprecation import renamed_arguments
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel
from glassformer.training.config import DataConfig, TrainingConfig
from glassformer.training.cross_entropy import chunked_cross_entropy
from glassformer.training.evaluation import Evaluation
from glassformer.training.task import IGNORE_INDEX, Objective, PreparedTask, Task
from glassformer.training.tokenizers import make_tokenizer

EVALUATION_SEED = 2**32 - 1
"""Seed of the random choices in validation and test text."""


class CausalLM(Protocol):
    """The part of a language model's interface that its loss needs."""

    logit_softcap: float | None
    """Largest absolute value of a logit."""

    @property
    def lm_head(self) -> nn.Linear:
        """Output layer with weight ``(vocab_size, d_embedding)``."""
        ...

    def hidden_states(self, input_ids: Tensor) -> Tensor:
        """Hidden states ``(batch, seq, d_model)`` of ids ``(batch, seq)``."""
        ...

    def head_input(self, hidden: Tensor) -> Tensor:
        """Input of ``lm_head``: ``(batch, seq, d_embedding)``."""
        ...


@dataclass(frozen=True)
class LanguageModeling(Objective):
    """-log p(token t+1 | tokens 0 to t), in nats per token.

    Args:
        ignore_index: target value that is left out of the loss.
        chunk_tokens: see ``chunked_cross_entropy``.
    """

    unit: ClassVar[str] = "tokens"

    ignore_index: int = IGNORE_INDEX
    chunk_tokens: int | None = None

    def loss_sum(self, model: CausalLM, batch: Tensor) -> Tensor:
        """Loss of ids ``(batch, seq + 1)``: the first ``seq`` of each row predict the last ``seq``."""
        return self.loss(model, batch[:, :-1], batch[:, 1:], reduction="sum")

    def count(self, batch: Tensor) -> int:
        """Number of predicted tokens: all but the first of each row, and the ignored ones."""
        return int((batch[:, 1:] != self.ignore_index).sum())

    def loss(
        self,
        model: CausalLM,
        inputs: Tensor,
        targets: Tensor,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> Tensor:
        """Loss of ``targets`` given ``inputs``, both ``(batch, seq)``."""
        return chunked_cross_entropy(
            model.head_input(model.hidden_states(inputs)),
            model.lm_head.weight,
            targets,
            ignore_index=self.ignore_index,
            chunk_tokens=self.chunk_tokens,
            reduction=reduction,
            bias=model.lm_head.bias,
            softcap=model.logit_softcap,
        )


@renamed_arguments(windows="batches")
@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    num_bytes: int | None = None,
    objective: LanguageModeling | None = None,
) -> Evaluation:
    """Exact mean loss over all targets of ``batches``, without dropout; the model's mode is restored.

    Args:
        model: a ``CausalLM``.
        batches: pairs ``(inputs, targets)``, each ``(batch, seq)``; their sizes may differ.
        num_bytes: UTF-8 bytes of the text, for bits per byte.
        objective: the loss; its ignored targets are not counted.

    Raises:
        ValueError: there is no token to predict.
    """
    objective = objective or LanguageModeling()
    device = next(model.parameters()).device
    total, count = 0.0, 0
    with eval_mode(model):
        for inputs, targets in batches:
            count += int((targets != objective.ignore_index).sum())
            inputs, targets = inputs.to(device), targets.to(device)
            total += float(objective.loss(model, inputs, targets, "sum"))  # type: ignore[arg-type]
    if count == 0:
        raise ValueError("evaluation needs at least one token to predict, but the batches have none")
    return Evaluation(total / count, count, num_bytes)


class LanguageModelingTask(Task):
    """Predict each token of a text from the tokens before it."""

    family = "gpt"

    def prepare(
        self, config: TrainingConfig, tokenizer: Tokenizer | None, console: Console | None
    ) -> PreparedTask:
        """Build or reuse the token files of the text."""
        tokenizer, files = prepare_data(config.data, console, tokenizer)

        def evaluate_validation(model: Any) -> dict[str, float]:
            return evaluate_split(model, files.validation, config).metrics()

        return PreparedTask(
            LanguageModeling(),
            training_windows(files, config, config.data.seq_len),
            files.key,
            {"vocab_size": tokenizer.vocab_size},
            tokenizer,
            evaluate=evaluate_validation if len(files.validation) > 1 else None,
        )


def prepare_data(
    config: DataConfig, console: Console | None = None, tokenizer: Tokenizer | None = None
) -> tuple[Tokenizer, TokenFiles]:
    """The tokenizer and the token files of a text, reused if they were built before."""
    tokenizer = make_tokenizer(config) if tokenizer is None else tokenizer
    files = build_token_files(
        config.source,
        tokenizer,
        config.folder,
        fractions=config.fractions,
        seed=config.split_seed,
        progress=ConsoleProgress(console),
    )
    return tokenizer, files


def training_windows(files: TokenFiles, config: TrainingConfig, seq_len: int) -> Batches:
    """Batches of windows of ``seq_len + 1`` tokens of the training split.

    Raises:
        ValueError: the split is shorter than one window.
    """
    try:
        return Batches(files.train, config.batch_size, seq_len, config.seed)
    except ValueError as error:
        raise ValueError(f"{config.data.source}, training split: {error}") from error


Transform = Callable[[NDArray[Any], int, int], Batch]
"""Makes a batch of ids ``(batch, seq)``; a seed and the number of the batch determine its random choices."""


class TransformedWindows:
    """Batches of random windows of a text that a transform has changed, for denoising objectives."""

    def __init__(self, windows: Batches, transform: Transform) -> None:
        self.windows, self.transform = windows, transform

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        return self.transform(self.windows.batch(step)[:, :-1].numpy(), self.windows.seed, step)


def transformed_windows(
    split: TokenFile | NDArray[Any], seq_len: int, batch_size: int, transform: Transform
) -> Iterator[Batch]:
    """All windows of a split in order, transformed in the same way at every evaluation."""
    for number, (ids, _) in enumerate(windows(split, seq_len, batch_size)):
        yield transform(ids.numpy(), EVALUATION_SEED, number)


def evaluate_split(model: TransformerModel, split: TokenFile, config: TrainingConfig) -> Evaluation:
    """Evaluation on a whole split, in windows of the training length."""
    batches = windows(split, config.data.seq_len, config.evaluation.batch_size)
    return evaluate(model, batches, num_bytes=split.num_bytes)
