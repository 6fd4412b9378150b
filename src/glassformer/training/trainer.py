"""The loop: batches in, a trained model and its history out.

Everything that a step depends on is the config, the step's number, the weights, the optimizer's state and the
random generators; a checkpoint holds them all. So a run that was killed and resumed does to the bit what an
undisturbed one does on the same machine.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from rich.console import Console
from torch import nn

from glassformer.training.config import TrainingConfig
from glassformer.training.devices import autocast, autocast_dtype, choose_device, deterministic_kernels
from glassformer.training.objectives import Objective
from glassformer.training.optimizer import adamw
from glassformer.training.progress import progress_display
from glassformer.training.random_state import untouched_random_state
from glassformer.training.run_folder import RunFolder
from glassformer.training.stop_signals import StopSignals
from glassformer.training.tensorboard_log import TensorBoardLog

Evaluate = Callable[[Any], Mapping[str, float]]
"""Figures of a model on held-out data by name; ``loss`` decides which checkpoint is the best."""
Sample = Callable[[Any], str]
"""A text that a model writes, kept in ``samples.jsonl`` at every evaluation."""


class BatchSource(Protocol):
    """Batches that depend on nothing but their number."""

    def batch(self, step: int) -> Any:
        """Batch number ``step``, on the CPU: what the objective reads, with ``to(device)`` and rows."""
        ...


class NonFiniteError(ArithmeticError):
    """Training met infinity or NaN; the weights of the last checkpoint are as they were."""


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended."""

    status: Literal["finished", "interrupted"]
    step: int
    """Updates made."""
    run_folder: Path
    checkpoint: Path
    """After that many updates."""
    metrics: dict[str, Any]
    """The last row of metrics."""
    signal: str | None = None
    """What interrupted it, such as SIGINT."""
    results: dict[str, Any] | None = None
    """Figures of the best checkpoint on the test split, where the task has some."""


class Trainer:
    """Make ``config.steps`` updates of a model, or what is left of them.

    Args:
        model: an ``nn.Module`` with ``save_pretrained(folder)``; moved to the device of ``config``.
        objective: the mean loss of a batch.
        batches: number n is drawn for forward pass n; update s makes passes s * accumulation and following.
        config: of which the trainer reads all but ``data`` and ``model``.
        run: where everything is kept; if it has a checkpoint, the run goes on from there.
        evaluate: figures on held-out data, taken at the start, every ``config.evaluation.every`` updates, and
            at the end.
        sample: a text of the model, taken with each evaluation.
        console: for progress; by default the terminal, or plain lines where there is none.
    """

    def __init__(
        self,
        model: Any,
        objective: Objective,
        batches: BatchSource,
        config: TrainingConfig,
        run: RunFolder,
        *,
        evaluate: Evaluate | None = None,
        sample: Sample | None = None,
        console: Console | None = None,
    ) -> None:
        self.device = choose_device(config.device)
        self.model: Any = model.to(self.device)
        self.objective, self.batches, self.config, self.run_folder = objective, batches, config, run
        self.evaluate, self.sample = evaluate, sample
        self.optimizer = adamw(self.model, config.optimizer)
        self.parameters: list[nn.Parameter] = [p for g in self.optimizer.param_groups for p in g["params"]]
        self.dtype = autocast_dtype(config.precision, self.device)
        self.display = progress_display(config.steps, console)
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.last_row: dict[str, Any] = {}
        self.tensorboard: TensorBoardLog | None = None

    def run(self) -> TrainingResult:
        """Train to the last step, or until Ctrl-C or SIGTERM, and save.

        Raises:
            NonFiniteError: a loss, gradient or weight is infinite or NaN. Nothing is saved after that.
            ValueError: the checkpoint to go on from is damaged or does not fit.
            OSError: the disk is full or not writable; the last checkpoint is named.
        """
        with deterministic_kernels(self.device), StopSignals() as stop:
            self._begin()
            try:
                while self.step < self.config.steps and stop.received is None:
                    self._advance()
                    if self._is_due(self.config.checkpoints.every) or stop.received is not None:
                        self._save()
                if self.run_folder.checkpoints.latest() != self.run_folder.checkpoints.path(self.step):
                    self._save()
            finally:
                self.display.stop()
        finished = self.step == self.config.steps
        return TrainingResult(
            "finished" if finished else "interrupted",
            self.step,
            self.run_folder.path,
            self.run_folder.checkpoints.path(self.step),
            self.last_row,
            None if finished else stop.received,
        )

    def _begin(self) -> None:
        """Restore the last checkpoint, or start; forget what was logged after it."""
        seed_everything(self.config.seed)
        latest = self.run_folder.checkpoints.latest()
        if latest is not None:
            progress = self._restore(latest)
            self.step, self.tokens, self.seconds = (progress[name] for name in ("step", "tokens", "seconds"))
        kept = self.step if latest is not None else -1
        self.run_folder.metrics.drop_after(kept)
        self.run_folder.samples.drop_after(kept)
        self.last_row = next(iter(self.run_folder.metrics.rows()[-1:]), {})
        self.run_folder.write_environment(self.device)
        if self.config.tensorboard:
            self.tensorboard = TensorBoardLog(self.run_folder.path / "tensorboard", kept + 1)
        if self.config.compile:
            compile_blocks(self.model)
        self.model.train()
        if latest is None and self.evaluate is not None:
            first = self._evaluation()
            self._log(first)
            self.display.update(first)
        self.display.start(self.step)

    def _restore(self, latest: Path) -> dict[str, Any]:
        """Put everything back as it was at the latest checkpoint; if it is damaged, say what is left."""
        try:
            return self.run_folder.checkpoints.restore(latest, self.model, self.optimizer)
        except ValueError as error:
            steps = self.run_folder.checkpoints.steps()
            if len(steps) < 2:
                raise
            earlier = self.run_folder.checkpoints.path(steps[-2])
            raise ValueError(
                f"{error}; without the folder {latest} a resumed run goes on from {earlier}"
            ) from error

    def _advance(self) -> None:
        """One update, and whatever is due after it."""
        began = time.perf_counter()
        row = self._update()
        elapsed = time.perf_counter() - began
        self.seconds += elapsed
        speed = row.pop("counted") / elapsed
        row |= {f"{self.objective.unit}_per_second": speed, "seconds": self.seconds}
        evaluated = self._is_due(self.config.evaluation.every) and self.evaluate is not None
        if evaluated:
            row |= self._evaluation()
        if evaluated or self._is_due(self.config.log_every):
            self._log(row)
        self.display.update(row)

    def _update(self) -> dict[str, Any]:
        """Accumulate gradients, clip them, and change the weights if all is finite."""
        learning_rate = self._set_learning_rate()
        accumulation = self.config.accumulation
        losses, counted = [], 0
        for micro in range(accumulation):
            batch = self.batches.batch(self.step * accumulation + micro).to(self.device, non_blocking=True)
            with autocast(self.dtype, self.device):
                loss = self.objective(self.model, batch)
            (loss / accumulation).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            counted += self.objective.count(batch)
        mean = float(torch.stack(losses).mean())
        total_norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        norm = float(total_norm)
        if not (math.isfinite(mean) and math.isfinite(norm)):
            raise NonFiniteError(self._diagnosis(mean, norm, learning_rate))
        if self.config.clip_norm:
            nn.utils.clip_grads_with_norm_(self.parameters, self.config.clip_norm, total_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step, self.tokens = self.step + 1, self.tokens + counted
        return {
            "step": self.step,
            "loss": mean,
            "learning_rate": learning_rate,
            "gradient_norm": norm,
            self.objective.unit: self.tokens,
            "counted": counted,
        }

    def _set_learning_rate(self) -> float:
        factor = self.config.schedule.multiplier(self.step, self.config.steps)
        learning_rate = self.config.optimizer.learning_rate * factor
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        return learning_rate

    def _evaluation(self) -> dict[str, Any]:
        """The figures on held-out data as a row, and a sample into its file; draws no random numbers."""
        assert self.evaluate is not None
        with untouched_random_state():
            with autocast(self.dtype, self.device):
                figures = self.evaluate(self.model)
            if self.sample is not None:
                text = self.sample(self.model)
                self.run_folder.samples.append({"step": self.step, "text": text})
                self.display.say(text)
        self.model.train()
        return {"step": self.step} | {f"validation_{name}": value for name, value in figures.items()}

    def _log(self, row: dict[str, Any]) -> None:
        self.last_row = row
        self.run_folder.metrics.append(row)
        if self.tensorboard is not None:
            self.tensorboard.append(row)

    def _save(self) -> None:
        """A checkpoint of this step; the rows that lead to it are on the disk before it is."""
        wrong = [name for name, p in self.model.named_parameters() if not bool(torch.isfinite(p).all())]
        if wrong:
            raise NonFiniteError(
                f"after step {self.step}, {_some(wrong)} are not finite; {self._last_good()}"
            )
        progress = {"step": self.step, "tokens": self.tokens, "seconds": self.seconds}
        if self.last_row.get("step") == self.step and "validation_loss" in self.last_row:
            progress["validation_loss"] = self.last_row["validation_loss"]
        self.run_folder.metrics.sync()
        self.run_folder.samples.sync()
        try:
            self.run_folder.checkpoints.save(self.model, self.optimizer, progress)
        except OSError as error:
            message = f"cannot save a checkpoint after step {self.step}: {error.strerror or error}"
            message = f"{message}; {self._last_good()}"
            raise (OSError(error.errno, message) if error.errno else OSError(message)) from error

    def _is_due(self, every: int) -> bool:
        return self.step == self.config.steps or (every > 0 and self.step % every == 0)

    def _diagnosis(self, loss: float, norm: float, learning_rate: float) -> str:
        """What is not finite, where, and what is left."""
        named = self.model.named_parameters()
        wrong = [name for name, p in named if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
        return (
            f"training stopped at step {self.step + 1}: the loss is {loss}, the gradient's norm {norm}"
            f" (learning rate {learning_rate:.3g}). Gradients that are not finite: {_some(wrong)}."
            f" The weights were not changed; {self._last_good()}"
        )

    def _last_good(self) -> str:
        latest = self.run_folder.checkpoints.latest()
        return f"the last good checkpoint is {latest}" if latest else "there is no checkpoint yet"


def seed_everything(seed: int) -> None:
    """Seed torch on every device, numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def compile_blocks(model: nn.Module) -> None:
    """torch.compile each block in place, or the whole model if it has no ``blocks``; no tensor is renamed."""
    for module in getattr(model, "blocks", [model]):
        module.compile()


def _some(names: list[str]) -> str:
    """The first few names."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) or "none") + more
