"""The training loop.

An update depends on the config, the step number, the weights, the optimizer state and the random number
generators alone, and a checkpoint stores all of them. So a run that was killed and resumed gives exactly the
results of an uninterrupted one on the same machine.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal

import torch
from rich.console import Console
from torch import nn

from glassformer.backends import use_backends
from glassformer.folder_lock import lock_folder
from glassformer.training.checkpoint_tensors import first_names, non_finite, optimizer_state
from glassformer.training.config import TrainingConfig
from glassformer.training.config_files import to_toml
from glassformer.training.devices import (
    autocast,
    choose_device,
    deterministic_kernels,
    preserved_random_state,
    seed_everything,
)
from glassformer.training.metrics_files import TensorBoardLog
from glassformer.training.optimizer import adamw
from glassformer.training.progress import ProgressDisplay
from glassformer.training.run_folder import RunFolder
from glassformer.training.task import BatchSource, Evaluate, Objective, loss_sum

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end training after a checkpoint; Windows has no SIGHUP."""

Sample = Callable[[Any], str]
"""Generates a text with a model; stored in ``samples.jsonl`` at every evaluation."""


class NonFiniteError(ArithmeticError):
    """A loss, gradient or weight is infinite or NaN; the last checkpoint is unaffected."""


@dataclass(frozen=True)
class TrainingResult:
    """Outcome of a run."""

    status: Literal["finished", "interrupted"]
    step: int
    """Number of updates made."""
    run_folder: Path
    checkpoint: Path
    """The checkpoint after the last update."""
    metrics: dict[str, Any]
    """The last row of metrics."""
    signal: str | None = None
    """Name of the signal that interrupted the run, such as SIGINT, or that arrived during the last update."""
    results: dict[str, Any] | None = None
    """Metrics of the best checkpoint on the test split, if the task has one."""


class Trainer:
    """Train a model for ``config.steps`` updates, or the remaining ones of a resumed run.

    Args:
        model: an ``nn.Module`` with ``save_pretrained(folder)``; moved to the device of ``config``.
        objective: loss of a batch; an update minimizes its mean over the targets of ``accumulation`` batches.
        batches: update s uses the batches numbered from s * accumulation to (s + 1) * accumulation - 1.
        config: configuration of the run; ``data`` and ``model`` are not used.
        run: the run folder; if it has a checkpoint, the run is resumed from it.
        evaluate: metrics on validation data, computed at the start, every ``config.evaluation.every``
            updates, and at the end.
        sample: generates a text at each evaluation.
        console: where progress is shown; None is standard output.
        skip_damaged: resume from the newest checkpoint that is not damaged, and delete the damaged ones.
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
        skip_damaged: bool = False,
    ) -> None:
        self.skip_damaged = skip_damaged
        self.device = choose_device(config.device)
        self.model: Any = model.to(self.device)
        self.objective, self.batches, self.config, self.run_folder = objective, batches, config, run
        self.evaluate, self.sample = evaluate, sample
        self.optimizer = adamw(self.model, config.optimizer)
        self.parameters: list[nn.Parameter] = [p for g in self.optimizer.param_groups for p in g["params"]]
        self.dtype = "float32"  # of matrix products; resolved when the run starts
        self.display = ProgressDisplay(config.steps, console)
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.last_row: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}
        self.tensorboard: TensorBoardLog | None = None

    def run(self) -> TrainingResult:
        """Train until the last step, or until SIGINT, SIGTERM or SIGHUP, and save a checkpoint.

        The run folder is locked meanwhile.

        Raises:
            NonFiniteError: a loss, gradient or weight is infinite or NaN; nothing is saved after that.
            ValueError: the checkpoint to resume from is damaged or has another architecture.
            OSError: the disk is full or not writable (names the last checkpoint), or another process uses
                the run folder.
        """
        config, checkpoints = self.config, self.run_folder.checkpoints
        lock = lock_folder(self.run_folder.path, "run folder")
        with ExitStack() as stack:
            stack.enter_context(lock)
            environment = self.run_folder.write_environment(config)
            self.dtype = environment["dtype"]
            stack.enter_context(use_backends(environment["backends"]))
            stack.enter_context(deterministic_kernels(self.device))
            stop = stack.enter_context(StopSignals())
            self._start_or_resume(environment)
            try:
                while self.step < config.steps and stop.received is None:
                    row = self._train_step()
                    evaluated = self.evaluate is not None and self._is_due(config.evaluation.every)
                    if evaluated:
                        row |= self._evaluate()
                    if evaluated or self._is_due(config.log_every):
                        self._log(row)
                    self.display.update(row)
                    if self._is_due(config.checkpoints.every) or stop.received is not None:
                        self._save()
                if checkpoints.latest() != checkpoints.path(self.step):
                    self._save()
            finally:
                self.display.stop()
        finished = self.step == config.steps
        return TrainingResult(
            "finished" if finished else "interrupted",
            self.step,
            self.run_folder.path,
            checkpoints.path(self.step),
            self.last_row,
            stop.received,
        )

    def _train_step(self) -> dict[str, Any]:
        """Accumulate gradients, clip them, and update the weights; return the metrics of the update.

        Raises:
            NonFiniteError: the loss or a gradient is not finite; the weights are unchanged.
            ValueError: no batch of the update has a target.
        """
        start = time.perf_counter()
        accumulation = self.config.accumulation
        learning_rate = self._set_learning_rate()
        batches = [self.batches.batch(self.step * accumulation + number) for number in range(accumulation)]
        count = sum(self.objective.count(batch) for batch in batches)
        if count == 0:
            raise ValueError(f"update {self.step + 1} has no target: its batches must have at least one")
        losses = []
        for batch in batches:
            batch = batch.to(self.device, non_blocking=True)
            with autocast(self.dtype, self.device):
                loss = loss_sum(self.objective, self.model, batch) / count
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        mean_loss = float(torch.stack(losses).sum())

        total_norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        norm = float(total_norm)
        if not (math.isfinite(mean_loss) and math.isfinite(norm)):
            raise NonFiniteError(self._non_finite_message(mean_loss, norm, learning_rate))
        if self.config.clip_norm:
            nn.utils.clip_grads_with_norm_(self.parameters, self.config.clip_norm, total_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

        elapsed = time.perf_counter() - start
        self.step, self.tokens, self.seconds = self.step + 1, self.tokens + count, self.seconds + elapsed
        return {
            "step": self.step,
            "loss": mean_loss,
            "learning_rate": learning_rate,
            "gradient_norm": norm,
            self.objective.unit: self.tokens,
            f"{self.objective.unit}_per_second": count / elapsed,
            "seconds": self.seconds,
        }

    def _set_learning_rate(self) -> float:
        factor = self.config.schedule.multiplier(self.step, self.config.steps)
        learning_rate = self.config.optimizer.learning_rate * factor
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        return learning_rate

    def _evaluate(self) -> dict[str, Any]:
        """Metrics on the validation data; also stores a sample. The random state is preserved."""
        assert self.evaluate is not None
        with preserved_random_state():
            with autocast(self.dtype, self.device):
                metrics = self.evaluate(self.model)
            if self.sample is not None:
                text = self.sample(self.model)
                self.run_folder.samples.append({"step": self.step, "text": text})
                self.display.print(text)
        self.model.train()
        return {"step": self.step} | {f"validation_{name}": value for name, value in metrics.items()}

    def _start_or_resume(self, environment: dict[str, Any]) -> None:
        """Restore the latest checkpoint and drop later rows, or evaluate the untrained model."""
        seed_everything(self.config.seed)
        progress = self.run_folder.checkpoints.restore_latest(
            self.model, self.optimizer, skip_damaged=self.skip_damaged, on_skip=self.display.print
        )
        if progress is not None:
            self.step = progress["step"]
            self.tokens, self.seconds = progress.get("tokens", 0), progress.get("seconds", 0.0)
        if self.step < self.config.steps:
            self.run_folder.drop_results()
        last_logged = self.step if progress is not None else -1
        self.run_folder.checkpoints.clean_up()
        self.run_folder.metrics.drop_after(last_logged)
        self.run_folder.samples.drop_after(last_logged)
        self.last_row = next(iter(self.run_folder.metrics.rows()[-1:]), {})
        self.settings = {"config": to_toml(self.config), "environment": environment}
        for note in self.run_folder.notes:
            self.display.print(f"changed since the run was started: {note}")
        if self.config.tensorboard:
            self.tensorboard = TensorBoardLog(self.run_folder.path / "tensorboard", last_logged + 1)
        if self.config.compile:
            compile_blocks(self.model)
        self.model.train()
        if progress is None and self.evaluate is not None:
            row = self._evaluate()
            self._log(row)
            self.display.update(row)
        self.display.start(self.step)

    def _save(self) -> None:
        """Save a checkpoint, after the logged rows are on the disk."""
        wrong = non_finite(dict(self.model.named_parameters()) | optimizer_state(self.model, self.optimizer))
        if wrong:
            raise NonFiniteError(
                f"after step {self.step}, {first_names(wrong)} are not finite; {self._last_checkpoint()}"
            )
        progress = {"step": self.step, "tokens": self.tokens, "seconds": self.seconds}
        if self.last_row.get("step") == self.step and "validation_loss" in self.last_row:
            progress["validation_loss"] = self.last_row["validation_loss"]
        run = self.run_folder
        run.metrics.sync()
        run.samples.sync()
        try:
            rows = {file.path.name: file.num_rows for file in (run.metrics, run.samples)}
            run.checkpoints.save(self.model, self.optimizer, progress, self.settings | {"rows": rows})
        except OSError as error:
            message = f"cannot save a checkpoint after step {self.step}: {error.strerror or error}"
            message = f"{message}; {self._last_checkpoint()}"
            raise (OSError(error.errno, message) if error.errno else OSError(message)) from error

    def _log(self, row: dict[str, Any]) -> None:
        self.last_row = row
        self.run_folder.metrics.append(row)
        if self.tensorboard is not None:
            self.tensorboard.append(row)

    def _is_due(self, every: int) -> bool:
        return self.step == self.config.steps or (every > 0 and self.step % every == 0)

    def _non_finite_message(self, loss: float, norm: float, learning_rate: float) -> str:
        named = self.model.named_parameters()
        wrong = [name for name, p in named if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
        return (
            f"training stopped at step {self.step + 1}: the loss is {loss}, the gradient norm {norm}"
            f" (learning rate {learning_rate:.3g}). Gradients that are not finite: {first_names(wrong)}."
            f" The weights were not changed; {self._last_checkpoint()}"
        )

    def _last_checkpoint(self) -> str:
        latest = self.run_folder.checkpoints.latest()
        return f"the last checkpoint is {latest}" if latest else "there is no checkpoint yet"


class StopSignals:
    """Context in which SIGINT, SIGTERM and SIGHUP only set ``received``, so that an update can finish.

    A second SIGINT has its usual effect. A signal that the process ignores, as under ``nohup``, stays
    ignored. Outside the main thread, where Python delivers no signals, the context does nothing.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            self._previous = {s: h for s, h in handlers.items() if h not in (signal.SIG_IGN, None)}
            for number in self._previous:
                signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(number, self._previous[signal.SIGINT])


def compile_blocks(model: nn.Module) -> None:
    """Compile each block in place, or the whole model if it has no ``blocks``; parameter names stay."""
    for module in getattr(model, "blocks", [model]):
        module.compile()
