"""Masked language modelling: restore the tokens that were hidden (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from glassformer.contracts import Tokenizer
from glassformer.data import Batches, TokenFile, windows
from glassformer.data.epochs import random_numbers
from glassformer.data.examples import Batch
from glassformer.generation.streaming import evaluating
from glassformer.tokenization import ByteTokenizer
from glassformer.training.config import TrainingConfig
from glassformer.training.language_modelling import prepare_data, training_windows
from glassformer.training.ngrams import Unigram
from glassformer.training.objectives import IGNORED
from glassformer.training.task import Figures, Prepared

HELD_OUT_SEED = 2**32 - 1
"""Of the masks of held-out text, the same at every evaluation."""


@dataclass(frozen=True)
class MaskedLanguageModelling:
    """mean of -log p(hidden token | the text around it), in nats per hidden token."""

    unit: ClassVar[str] = "tokens"

    def __call__(self, model: Any, batch: Batch) -> Tensor:
        """The mean loss of ``input_ids`` and ``targets``; only hidden tokens pass through the head."""
        targets = batch.tensors["targets"]
        return F.cross_entropy(self.logits(model, batch), targets[targets != IGNORED])

    def logits(self, model: Any, batch: Batch) -> Tensor:
        """Of the hidden tokens alone, ``(hidden token, vocab_size)``."""
        chosen = batch.tensors["targets"] != IGNORED
        hidden = model.hidden_states(batch.tensors["input_ids"])[chosen]  # (hidden token, d_model)
        logits: Tensor = model.head.decoder(model.head.transform(hidden))
        return logits.float()

    def count(self, batch: Batch) -> int:
        """Hidden tokens."""
        return int((batch.tensors["targets"] != IGNORED).sum())


class Masking:
    """Which tokens are targets, and what the model sees in their places.

    A part of the tokens (or of the words) become targets: of these 80 % are shown as the mask, 10 % as a
    random token, 10 % as they are (Devlin et al. 2019, appendix A.1).

    Args:
        tokenizer: with a mask token.
        fraction: the part that becomes targets.
        whole_words: choose words, with all their pieces (WordPiece only; the published code's "whole word
            masking").

    Raises:
        ValueError: a tokenizer without a mask token, or without pieces of words.

    """

    def __init__(self, tokenizer: Tokenizer, fraction: float, whole_words: bool) -> None:
        if tokenizer.mask_token is None:
            raise ValueError(
                "masked language modelling needs a tokenizer with a mask token: data.tokenizer wordpiece"
            )
        self.fraction, self.mask_token = fraction, tokenizer.mask_token
        self.vocab_size = tokenizer.vocab_size
        self.continues = np.zeros(tokenizer.vocab_size, dtype=bool)
        if whole_words:
            labels = [tokenizer.label(token) for token in range(tokenizer.vocab_size)]
            self.continues = np.array([label.startswith("##") for label in labels])
            if not self.continues.any():
                raise ValueError("whole words need a tokenizer that marks pieces inside words: wordpiece")

    def __call__(self, ids: npt.NDArray[Any], *key: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """What the model sees and its targets, both ``(batch, seq)``, a function of ids and key alone.

        Args:
            ids: ``(batch, seq)``, without marks.
            key: up to two numbers.

        """
        words = (~self.continues[ids]).cumsum(axis=1)  # (batch, seq): tokens of a word share a number
        seed, step = (*key, 0)[:2]
        chance = random_numbers(ids.shape[0] * (ids.shape[1] + 1), seed, step, 1).reshape(ids.shape[0], -1)
        chosen = np.take_along_axis(chance, words, axis=1) < self.fraction
        if not chosen.any():
            chosen[0, :1] = True  # a batch without a target would have no loss
        how = random_numbers(ids.size, seed, step, 2).reshape(ids.shape)
        other = (
            (random_numbers(ids.size, seed, step, 3) * self.vocab_size).astype(ids.dtype).reshape(ids.shape)
        )
        shown = np.where(how < 0.8, self.mask_token, np.where(how < 0.9, other, ids))
        return np.where(chosen, shown, ids), np.where(chosen, ids, IGNORED)


class Marks:
    """The ids that stand before and behind a text, put around rows of ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        inside = next(token for token in range(tokenizer.vocab_size) if token not in tokenizer.add_marks([]))
        marked = tokenizer.add_marks([inside])
        place = marked.index(inside)
        self.before, self.behind = marked[:place], marked[place + 1 :]

    def __len__(self) -> int:
        return len(self.before) + len(self.behind)

    def around(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``(batch, seq) -> (batch, marks + seq)``."""
        return self._joined(rows, self.before, self.behind)

    def nothing_around(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Targets in the same places, where marks are none."""
        return self._joined(rows, [IGNORED] * len(self.before), [IGNORED] * len(self.behind))

    @staticmethod
    def _joined(rows: npt.NDArray[Any], before: list[int], behind: list[int]) -> npt.NDArray[Any]:
        count = len(rows)
        left, right = np.tile(before, (count, 1)), np.tile(behind, (count, 1))
        return np.concatenate((left, rows, right), axis=1).astype(np.int64)


class MaskedBatches:
    """Batches of masked windows of a text, each a function of its number alone."""

    def __init__(self, batches: Batches, masking: Masking, marks: Marks) -> None:
        self.batches, self.masking, self.marks = batches, masking, marks

    def batch(self, step: int) -> Batch:
        """``input_ids`` and ``targets``, ``(batch, seq_len)``."""
        ids = self.batches.batch(step)[:, :-1].numpy()
        return masked_batch(ids, self.masking, self.marks, self.batches.seed, step)


def masked_batch(ids: npt.NDArray[Any], masking: Masking, marks: Marks, *key: int) -> Batch:
    """Rows of ids ``(batch, seq)``, masked, with their marks around them."""
    shown, targets = masking(ids, *key)
    return Batch(
        {
            "input_ids": torch.from_numpy(marks.around(shown)),
            "targets": torch.from_numpy(marks.nothing_around(targets)),
        }
    )


class MaskedLanguageModellingTask:
    """Restore hidden tokens of running text."""

    family = "bert"

    def placeholders(self, config: TrainingConfig) -> dict[str, Any]:
        """A vocabulary of bytes."""
        return {"vocab_size": ByteTokenizer().vocab_size, "head": "masked_lm"}

    def prepare(
        self, config: TrainingConfig, tokenizer: Tokenizer | None, console: Console | None
    ) -> Prepared:
        """Token files of the text, and masked windows of them."""
        tokenizer, files = prepare_data(config.data, console, tokenizer)
        masking = Masking(tokenizer, config.task.corrupt, config.task.whole_words)
        marks = Marks(tokenizer)
        room = config.data.seq_len - len(marks)
        unigram = Unigram(files.train.tokens, tokenizer.vocab_size)
        return Prepared(
            MaskedLanguageModelling(),
            MaskedBatches(training_windows(files, config, room), masking, marks),
            files.key,
            {"vocab_size": tokenizer.vocab_size, "head": "masked_lm"},
            tokenizer,
            evaluate=masked_figures(files.validation, config, masking, marks, unigram),
            test=masked_figures(files.test, config, masking, marks, unigram),
        )


def masked_figures(
    split: TokenFile, config: TrainingConfig, masking: Masking, marks: Marks, unigram: Unigram
) -> Figures | None:
    """What to call for a model's figures on a split, beside what counting alone can predict of it."""
    if len(split) < 2:
        return None

    def batches() -> Iterator[Batch]:
        room, size = config.data.seq_len - len(marks), config.evaluation.batch_size
        for number, (ids, _) in enumerate(windows(split, room, size)):
            yield masked_batch(ids.numpy(), masking, marks, HELD_OUT_SEED, number)

    return lambda model: evaluate_masked(model, batches, unigram)


@torch.no_grad()
def evaluate_masked(model: Any, batches: Callable[[], Iterator[Batch]], unigram: Unigram) -> dict[str, float]:
    """Loss and accuracy over all hidden tokens, and the loss of guessing them by their frequency."""
    objective = MaskedLanguageModelling()
    loss = right = guessed = count = 0.0
    with evaluating(model):
        for batch in batches():
            logits = objective.logits(model, batch.to(model.device)).cpu()
            targets = batch.tensors["targets"][batch.tensors["targets"] != IGNORED]  # (hidden token,)
            loss += float(F.cross_entropy(logits, targets, reduction="sum"))
            right += float((logits.argmax(-1) == targets).sum())
            guessed -= float(np.log(unigram.probability[targets.numpy()]).sum())
            count += len(targets)
    return {"loss": loss / count, "accuracy": right / count, "unigram_loss": guessed / count}
