"""Masked language modeling (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from torch import Tensor

from glassformer.contracts import Tokenizer
from glassformer.data import TokenFile
from glassformer.data.batches import Batch, random_numbers
from glassformer.eval_mode import eval_mode
from glassformer.training.config import TrainingConfig
from glassformer.training.cross_entropy import cross_entropy_sum
from glassformer.training.evaluation import Unigram
from glassformer.training.language_modeling import (
    TransformedWindows,
    prepare_data,
    training_windows,
    transformed_windows,
)
from glassformer.training.task import IGNORE_INDEX, Evaluate, Objective, PreparedTask, Task


@dataclass(frozen=True)
class MaskedLanguageModeling(Objective):
    """-log p(masked token | the tokens around it), in nats per masked token."""

    unit: ClassVar[str] = "tokens"

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """Loss of ``input_ids`` and ``targets``, both ``(batch, seq)``."""
        targets = batch.tensors["targets"]
        return cross_entropy_sum(self.logits(model, batch), targets[targets != IGNORE_INDEX])

    def logits(self, model: Any, batch: Batch) -> Tensor:
        """Logits of the masked tokens, ``(masked tokens, vocab_size)``; the head runs on no other token."""
        masked = batch.tensors["targets"] != IGNORE_INDEX
        hidden = model.hidden_states(batch.tensors["input_ids"])[masked]  # (masked tokens, d_model)
        logits: Tensor = model.head.decoder(model.head.transform(hidden))
        return logits

    def count(self, batch: Batch) -> int:
        """Number of masked tokens."""
        return int((batch.tensors["targets"] != IGNORE_INDEX).sum())


class Masking:
    """Random masking: chooses the target tokens and replaces them in the input.

    Of the target tokens, 80 % are replaced by the mask token, 10 % by a random token, and 10 % are left
    unchanged (Devlin et al. 2019, appendix A.1).

    Args:
        tokenizer: a tokenizer with a mask token.
        rate: fraction of the tokens (or words) that become targets.
        whole_words: mask all tokens of a word or none ("whole word masking"; WordPiece tokenizers only).

    Raises:
        ValueError: the tokenizer has no mask token, or does not mark word continuations.
    """

    def __init__(self, tokenizer: Tokenizer, rate: float, whole_words: bool) -> None:
        if tokenizer.mask_token is None:
            raise ValueError(
                "masked language modeling needs a tokenizer with a mask token: data.tokenizer wordpiece"
            )
        self.rate, self.mask_token = rate, tokenizer.mask_token
        self.vocab_size = tokenizer.vocab_size
        self.is_continuation = np.zeros(tokenizer.vocab_size, dtype=bool)
        if whole_words:
            labels = [tokenizer.label(token) for token in range(tokenizer.vocab_size)]
            self.is_continuation = np.array([label.startswith("##") for label in labels])
            if not self.is_continuation.any():
                raise ValueError(
                    "task.whole_words needs a tokenizer with word continuations: data.tokenizer wordpiece"
                )

    def __call__(self, ids: npt.NDArray[Any], *key: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Inputs and targets, both ``(batch, seq)``, as a function of the ids and the key alone.

        Args:
            ids: ``(batch, seq)``, without special tokens.
            key: one or two numbers that seed the random choices.
        """
        words = (~self.is_continuation[ids]).cumsum(axis=1)  # (batch, seq): tokens of a word share a number
        seed, step = (*key, 0)[:2]
        draws = random_numbers(ids.shape[0] * (ids.shape[1] + 1), seed, step, 1).reshape(ids.shape[0], -1)
        masked = np.take_along_axis(draws, words, axis=1) < self.rate
        if not masked.any():
            masked[0, :1] = True  # the loss of a batch without targets would be undefined
        replacement = random_numbers(ids.size, seed, step, 2).reshape(ids.shape)
        random_ids = (random_numbers(ids.size, seed, step, 3) * self.vocab_size).astype(ids.dtype)
        replaced = np.where(
            replacement < 0.8,
            self.mask_token,
            np.where(replacement < 0.9, random_ids.reshape(ids.shape), ids),
        )
        return np.where(masked, replaced, ids), np.where(masked, ids, IGNORE_INDEX)


class SpecialTokens:
    """The special tokens that a tokenizer puts before and after a text, added to rows of ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        ordinary = next(
            token for token in range(tokenizer.vocab_size) if token not in tokenizer.add_special_tokens([])
        )
        ids = tokenizer.add_special_tokens([ordinary])
        index = ids.index(ordinary)
        self.before, self.after = ids[:index], ids[index + 1 :]

    def __len__(self) -> int:
        return len(self.before) + len(self.after)

    def add(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Input ids with special tokens: ``(batch, seq)`` to ``(batch, seq + special tokens)``."""
        padded = self.pad_targets(rows)
        padded[:, : len(self.before)] = self.before
        padded[:, padded.shape[1] - len(self.after) :] = self.after
        return padded

    def pad_targets(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Targets with ``IGNORE_INDEX`` at the special tokens, in the shape of ``add``."""
        widths = ((0, 0), (len(self.before), len(self.after)))
        return np.pad(rows.astype(np.int64), widths, constant_values=IGNORE_INDEX)


def masked_batch(ids: npt.NDArray[Any], masking: Masking, special_tokens: SpecialTokens, *key: int) -> Batch:
    """A batch of masked ids ``(batch, seq)`` with special tokens."""
    inputs, targets = masking(ids, *key)
    return Batch(
        {
            "input_ids": torch.from_numpy(special_tokens.add(inputs)),
            "targets": torch.from_numpy(special_tokens.pad_targets(targets)),
        }
    )


class MaskedLanguageModelingTask(Task):
    """Predict the masked tokens of a text."""

    family = "bert"

    def placeholder_keywords(self, config: TrainingConfig) -> dict[str, Any]:
        """The vocabulary of the byte tokenizer, with the masked LM head."""
        return super().placeholder_keywords(config) | {"head": "masked_lm"}

    def prepare(
        self, config: TrainingConfig, tokenizer: Tokenizer | None, console: Console | None
    ) -> PreparedTask:
        """Build or reuse the token files of the text."""
        tokenizer, files = prepare_data(config.data, console, tokenizer)
        masking = Masking(tokenizer, config.task.corruption_rate, config.task.whole_words)
        special_tokens = SpecialTokens(tokenizer)
        length = config.data.seq_len - len(special_tokens)
        unigram = Unigram(files.train, tokenizer.vocab_size)

        def transform(ids: npt.NDArray[Any], seed: int, number: int) -> Batch:
            return masked_batch(ids, masking, special_tokens, seed, number)

        def evaluation(split: TokenFile) -> Evaluate | None:
            if len(split) < 2:
                return None
            batches = partial(transformed_windows, split, length, config.evaluation.batch_size, transform)
            return lambda model: evaluate_masked(model, batches(), unigram)

        return PreparedTask(
            MaskedLanguageModeling(),
            TransformedWindows(training_windows(files, config, length), transform),
            files.key,
            {"vocab_size": tokenizer.vocab_size, "head": "masked_lm"},
            tokenizer,
            evaluate=evaluation(files.validation),
            test=evaluation(files.test),
        )


@torch.no_grad()
def evaluate_masked(model: Any, batches: Iterable[Batch], unigram: Unigram) -> dict[str, float]:
    """Loss and accuracy over all masked tokens, and the loss of the unigram baseline."""
    objective = MaskedLanguageModeling()
    loss = correct = unigram_loss = count = 0.0
    with eval_mode(model):
        for batch in batches:
            logits = objective.logits(model, batch.to(model.device)).cpu()
            targets = batch.tensors["targets"][batch.tensors["targets"] != IGNORE_INDEX]  # (masked tokens,)
            loss += float(cross_entropy_sum(logits, targets))
            correct += float((logits.argmax(-1) == targets).sum())
            unigram_loss -= float(np.log(unigram.probability[targets.numpy()]).sum())
            count += len(targets)
    return {"loss": loss / count, "accuracy": correct / count, "unigram_loss": unigram_loss / count}
