"""Language modelling: the next token of running text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console

from glassformer.contracts import Tokenizer
from glassformer.data import Batches, ConsoleProgress, TokenFile, TokenFiles, build_token_files, windows
from glassformer.models import TransformerModel
from glassformer.tokenization import ByteTokenizer
from glassformer.training.config import DataConfig, TrainingConfig
from glassformer.training.evaluation import Evaluation, evaluate
from glassformer.training.objectives import LanguageModelling
from glassformer.training.task import Prepared
from glassformer.training.tokenizers import make_tokenizer


class LanguageModellingTask:
    """Predict each token of a text from those before it."""

    family = "gpt"

    def placeholders(self, config: TrainingConfig) -> dict[str, Any]:
        """A vocabulary of bytes."""
        return {"vocab_size": ByteTokenizer().vocab_size}

    def prepare(
        self, config: TrainingConfig, tokenizer: Tokenizer | None, console: Console | None
    ) -> Prepared:
        """Token files of the text, and windows of them."""
        tokenizer, files = prepare_data(config.data, console, tokenizer)
        return Prepared(
            LanguageModelling(),
            training_windows(files, config, config.data.seq_len),
            files.key,
            {"vocab_size": tokenizer.vocab_size},
            tokenizer,
            evaluate=held_out(files.validation, config) if len(files.validation) > 1 else None,
        )


def prepare_data(
    config: DataConfig, console: Console | None = None, tokenizer: Tokenizer | None = None
) -> tuple[Tokenizer, TokenFiles]:
    """The tokenizer and the token files, found where they were made before."""
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
    """Windows of ``seq_len + 1`` tokens of the training split.

    Raises:
        ValueError: it is shorter than that.
    """
    try:
        return Batches(files.train, config.batch_size, seq_len, config.seed)
    except ValueError as error:
        raise ValueError(f"{config.data.source}, training split: {error}") from error


def held_out(split: TokenFile, config: TrainingConfig) -> Callable[[TransformerModel], dict[str, float]]:
    """What to call for a model's figures on the whole of a split."""

    def figures(model: TransformerModel) -> dict[str, float]:
        return evaluate_split(model, split, config).metrics()

    return figures


def evaluate_split(model: TransformerModel, split: TokenFile, config: TrainingConfig) -> Evaluation:
    """A model's figures on the whole of a split, in windows of the training's length."""
    batches = windows(split, config.data.seq_len, config.evaluation.batch_size)
    return evaluate(model, batches, num_bytes=split.num_bytes)
