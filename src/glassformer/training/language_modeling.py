"""Causal language modeling: next-token prediction on running text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from rich.console import Console
from torch import Tensor, nn

from glassformer.contracts import Tokenizer
from glassformer.data import Batches, ConsoleProgress, TokenFile, TokenFiles, build_token_files, windows
from glassformer.deprecation import renamed_arguments
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel
from glassformer.tokenization import ByteTokenizer
from glassformer.training.config import DataConfig, TrainingConfig
from glassformer.training.cross_entropy import chunked_cross_entropy
from glassformer.training.metrics import Evaluation
from glassformer.training.task import IGNORE_INDEX, Evaluate, PreparedTask
from glassformer.training.tokenizers import make_tokenizer


class CausalLM(Protocol):
    """The part of a language model's interface that its loss needs."""

    @property
    def lm_head(self) -> nn.Linear:
        """Output layer with weight ``(vocab_size, d_model)`` and without bias."""
        ...

    def hidden_states(self, input_ids: Tensor) -> Tensor:
        """Input of ``lm_head``: ``(batch, seq, d_model)`` for ids ``(batch, seq)``."""
        ...


@dataclass(frozen=True)
class LanguageModeling:
    """Mean of -log p(token t+1 | tokens 0 to t), in nats per token.

    Args:
        ignore_index: target value that is left out of the loss.
        chunk_tokens: see ``chunked_cross_entropy``.
    """

    unit: ClassVar[str] = "tokens"

    ignore_index: int = IGNORE_INDEX
    chunk_tokens: int | None = None

    def __call__(self, model: CausalLM, batch: Tensor) -> Tensor:
        """Loss of ids ``(batch, seq + 1)``: the first ``seq`` of each row predict the last ``seq``."""
        return self.loss(model, batch[:, :-1], batch[:, 1:])

    def count(self, batch: Tensor) -> int:
        """Number of predicted tokens: all but the first of each row."""
        return batch.size(0) * (batch.size(1) - 1)

    def loss(self, model: CausalLM, inputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of ``targets`` given ``inputs``, both ``(batch, seq)``."""
        return chunked_cross_entropy(
            model.hidden_states(inputs),
            model.lm_head.weight,
            targets,
            ignore_index=self.ignore_index,
            chunk_tokens=self.chunk_tokens,
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
            predicted = int((targets != objective.ignore_index).sum())
            loss = objective.loss(model, inputs.to(device), targets.to(device))  # type: ignore[arg-type]
            total += float(loss) * predicted
            count += predicted
    if count == 0:
        raise ValueError("evaluation needs at least one token to predict, but the batches have none")
    return Evaluation(total / count, count, num_bytes)


class LanguageModelingTask:
    """Predict each token of a text from the tokens before it."""

    family = "gpt"

    def placeholder_keywords(self, config: TrainingConfig) -> dict[str, Any]:
        """The vocabulary of the byte tokenizer."""
        return {"vocab_size": ByteTokenizer().vocab_size}

    def prepare(
        self, config: TrainingConfig, tokenizer: Tokenizer | None, console: Console | None
    ) -> PreparedTask:
        """Build or reuse the token files of the text."""
        tokenizer, files = prepare_data(config.data, console, tokenizer)
        return PreparedTask(
            LanguageModeling(),
            training_windows(files, config, config.data.seq_len),
            files.key,
            {"vocab_size": tokenizer.vocab_size},
            tokenizer,
            evaluate=_evaluation(files.validation, config) if len(files.validation) > 1 else None,
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


def evaluate_split(model: TransformerModel, split: TokenFile, config: TrainingConfig) -> Evaluation:
    """Evaluation on a whole split, in windows of the training length."""
    batches = windows(split, config.data.seq_len, config.evaluation.batch_size)
    return evaluate(model, batches, num_bytes=split.num_bytes)


def _evaluation(split: TokenFile, config: TrainingConfig) -> Evaluate:
    return lambda model: evaluate_split(model, split, config).metrics()
