"""The training loop, and its stop on signals."""

import errno
import json
import os
import signal
import threading
from itertools import pairwise

import pytest
import torch

import glassformer.training.trainer as trainer_module
from glassformer.training import (
    CheckpointConfig,
    EvaluationConfig,
    LanguageModeling,
    NonFiniteError,
    OptimizerConfig,
)
from glassformer.training.trainer import SIGNALS, StopSignals


def losses(rows):
    return [(row["step"], row.get("loss"), row.get("validation_loss")) for row in rows]


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class SignalAt:
    """Batches that send this process a signal when batch ``number`` is drawn."""

    def __init__(self, batches, number, sent):
        self.batches, self.number, self.sent = batches, number, sent

    def batch(self, number):
        if number == self.number:
            os.kill(os.getpid(), self.sent)
        return self.batches.batch(number)


@pytest.mark.slow
def test_a_run_learns_and_stores_its_files(trainer):
    built = trainer(steps=60, sample=lambda model: f"training: {model.training}")
    result = built.run()
    rows = built.run_folder.metrics.rows()
    assert (result.status, result.step, result.signal) == ("finished", 60, None)
    assert result.checkpoint == built.run_folder.checkpoints.latest()
    assert result.metrics == rows[-1]
    assert [row["step"] for row in rows] == list(range(61))
    assert rows[-1]["validation_loss"] < 0.5 < 2 < rows[0]["validation_loss"]
    assert [row["step"] for row in rows if "validation_loss" in row] == list(range(0, 61, 4))
    assert rows[-1]["tokens"] == 60 * 3 * 8
    assert [row["step"] for row in built.run_folder.samples.rows()] == list(range(0, 61, 4))
    assert json.loads((result.run_folder / "environment.json").read_text())["device"] == "cpu"


@pytest.mark.slow
def test_one_batch_can_be_overfitted(trainer, tiny_model):
    class OneBatch:
        def batch(self, number):
            return torch.randint(11, (4, 9), generator=torch.Generator().manual_seed(0))

    built = trainer(
        model=tiny_model(d_model=32),
        batches=OneBatch(),
        steps=150,
        optimizer=OptimizerConfig(learning_rate=2e-2, weight_decay=0.0),
        evaluation=EvaluationConfig(every=0),
        checkpoints=CheckpointConfig(every=0),
    )

    class DistinctFirstToken(LanguageModeling):
        """Each row starts with a different token, so that all of its targets can be predicted."""

        def loss_sum(self, model, batch):
            return super().loss_sum(model, torch.cat([torch.arange(4)[:, None], batch[:, 1:]], 1))

    built.objective = DistinctFirstToken()
    assert built.run().metrics["loss"] < 0.01


def test_updates_follow_the_schedule_and_report_the_unclipped_norm(trainer):
    built = trainer(steps=10, clip_norm=0.01)
    built.run()
    rows = built.run_folder.metrics.rows()
    assert [row["learning_rate"] for row in rows[1:3]] == pytest.approx([0.005, 0.01])
    assert rows[-1]["learning_rate"] == pytest.approx(0.001)
    assert all(row["gradient_norm"] > 0.01 for row in rows[1:])  # the norm before clipping


def test_clip_norm_limits_the_gradient_and_zero_disables_it(trainer, tiny_model):
    norms = {}
    for clip in (0.0, 0.01):
        model = tiny_model()
        seen = []
        built = trainer(model=model, steps=1, clip_norm=clip, overwrite=True)
        built.optimizer.register_step_pre_hook(
            lambda *_, model=model, seen=seen: seen.append(
                torch.stack([p.grad.norm() for p in model.parameters()]).norm()
            )
        )
        built.run()
        norms[clip] = float(seen[0])
    assert norms[0.01] == pytest.approx(0.01, rel=1e-3)
    assert norms[0.0] > 0.1


def test_accumulation_is_the_mean_over_the_batches(trainer, tiny_model):
    class Parts:
        """Each batch split into ``parts`` batches of one row."""

        def __init__(self, source, parts):
            self.source, self.parts = source, parts

        def batch(self, number):
            step, part = divmod(number, self.parts)
            return self.source.batch(step)[part : part + 1]

    whole = trainer(model=tiny_model(), steps=3)
    whole.run()
    expected = weights(whole.model)
    parts = trainer(
        model=tiny_model(), steps=3, accumulation=3, batches=Parts(whole.batches, 3), overwrite=True
    )
    parts.run()
    for name, tensor in parts.model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
    tokens = [row["tokens"] for row in parts.run_folder.metrics.rows() if "tokens" in row]
    assert all(b - a == 24 for a, b in pairwise(tokens))


@pytest.mark.slow
def test_evaluation_and_samples_do_not_affect_training(trainer):
    def draw(model):
        model.eval()
        return str(torch.rand(3))

    quiet = trainer(evaluation=EvaluationConfig(every=0))
    quiet.run()
    busy = trainer(evaluation=EvaluationConfig(every=1), sample=draw, overwrite=True)
    busy.run()
    assert same(weights(quiet.model), weights(busy.model))


@pytest.mark.slow
@pytest.mark.usefixtures("usual_handlers")
@pytest.mark.parametrize("sent", SIGNALS)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(trainer, sent, accumulation):
    undisturbed = trainer(accumulation=accumulation)
    undisturbed.run()
    expected = losses(undisturbed.run_folder.metrics.rows())

    first = trainer(accumulation=accumulation, overwrite=True)
    first.batches = SignalAt(first.batches, 5 * accumulation, sent)
    result = first.run()
    assert (result.status, result.step, result.signal) == ("interrupted", 6, sent.name)
    assert result.checkpoint.name == "step-000006"

    second = trainer(accumulation=accumulation, resume=True)
    torch.manual_seed(999)
    assert second.run().status == "finished"
    assert losses(second.run_folder.metrics.rows()) == expected
    assert same(weights(second.model), weights(undisturbed.model))


@pytest.mark.slow
def test_resume_drops_rows_after_the_checkpoint(trainer):
    first = trainer(checkpoints=CheckpointConfig(every=4))

    class KilledError(Exception):
        pass

    class Stops:
        def __init__(self, batches):
            self.batches = batches

        def batch(self, number):
            if number == 7:
                raise KilledError
            return self.batches.batch(number)

    first.batches = Stops(first.batches)
    with pytest.raises(KilledError):
        first.run()
    assert [row["step"] for row in first.run_folder.metrics.rows()] == list(range(8))
    second = trainer(resume=True)
    second.run()
    assert [row["step"] for row in second.run_folder.metrics.rows()] == list(range(11))


def test_resume_without_a_checkpoint_starts_over(trainer):
    first = trainer()
    first.run_folder.metrics.append({"step": 3, "loss": 1.0})
    second = trainer(resume=True)
    second.run()
    assert [row["step"] for row in second.run_folder.metrics.rows()] == list(range(11))


@pytest.mark.slow
def test_resume_of_a_finished_run_does_nothing(trainer):
    first = trainer()
    result = first.run()
    again = trainer(resume=True)
    assert again.run() == result
    assert same(weights(first.model), weights(again.model))


@pytest.mark.slow
@pytest.mark.usefixtures("usual_handlers")
def test_a_signal_in_the_last_step_is_still_a_finished_run(trainer):
    built = trainer()
    built.batches = SignalAt(built.batches, 9, signal.SIGINT)
    result = built.run()
    assert (result.status, result.signal) == ("finished", "SIGINT")


@pytest.mark.slow
@pytest.mark.usefixtures("usual_handlers")
def test_a_signal_before_the_first_step_saves_the_start(trainer):
    built = trainer()

    def interrupt(model):
        os.kill(os.getpid(), signal.SIGINT)
        return {"loss": 1.0}

    built.evaluate = interrupt
    result = built.run()
    assert (result.status, result.step, result.checkpoint.name) == ("interrupted", 0, "step-000000")
    assert trainer(resume=True).run().status == "finished"


class ModifiedLoss:
    """The usual loss, changed by ``modify`` at the given call."""

    def __init__(self, call, modify):
        self.calls, self.call, self.modify = 0, call, modify
        self.count, self.unit = LanguageModeling().count, LanguageModeling.unit

    def loss_sum(self, model, batch):
        self.calls += 1
        loss = LanguageModeling().loss_sum(model, batch)
        return self.modify(loss, model) if self.calls == self.call else loss


@pytest.mark.parametrize(
    ("modify", "what"),
    [
        (lambda loss, model: loss * float("nan"), "the loss is nan"),
        (lambda loss, model: loss / 0, "the loss is inf"),
        # a finite loss with an infinite gradient: sqrt at zero
        (
            lambda loss, model: loss + (model.norm.bias - model.norm.bias.detach()).sum().sqrt(),
            "Gradients that are not finite: norm.bias. The weights were not changed",
        ),
    ],
)
def test_a_non_finite_loss_or_gradient_stops_and_names_the_last_checkpoint(trainer, modify, what):
    built = trainer(objective=ModifiedLoss(7, modify))
    with pytest.raises(NonFiniteError) as caught:
        built.run()
    message = str(caught.value)
    for part in ("step 7", what, "learning rate 0.00", "Gradients that are not finite: ", "step-000004"):
        assert part in message
    assert built.run_folder.checkpoints.steps() == [4]
    assert all(bool(torch.isfinite(p).all()) for p in built.model.parameters())


def test_non_finite_loss_before_the_first_checkpoint(trainer):
    built = trainer(objective=ModifiedLoss(1, lambda loss, model: loss * float("inf")))
    with pytest.raises(NonFiniteError, match="there is no checkpoint yet"):
        built.run()


def test_non_finite_weights_are_never_saved(trainer):
    built = trainer()
    step = built.optimizer.step

    def overflowing_step():
        step()
        if built.step == 7:
            with torch.no_grad():
                built.model.norm.weight[0] = float("inf")

    built.optimizer.step = overflowing_step
    with pytest.raises(NonFiniteError, match=r"after step 8, norm.weight are not finite.*step-000004"):
        built.run()
    assert built.run_folder.checkpoints.steps() == [4]


@pytest.mark.parametrize("first", [True, False])
def test_a_full_disk_names_the_last_checkpoint(trainer, monkeypatch, first):
    built = trainer()
    save = built.run_folder.checkpoints.save

    def full(model, optimizer, progress, settings):
        if first or progress["step"] > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(model, optimizer, progress, settings)

    monkeypatch.setattr(built.run_folder.checkpoints, "save", full)
    left = "there is no checkpoint yet" if first else "the last checkpoint is .*step-000004"
    with pytest.raises(OSError, match=f"No space left on device; {left}") as caught:
        built.run()
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.slow
def test_bfloat16_autocast(trainer):
    seen = set()

    class Watching(LanguageModeling):
        def loss(self, model, inputs, targets, reduction="mean"):
            seen.add((model.training, torch.is_autocast_enabled("cpu")))
            return super().loss(model, inputs, targets, reduction)

    built = trainer(
        objective=Watching(), precision="bfloat16", steps=40, optimizer=OptimizerConfig(learning_rate=1e-2)
    )
    result = built.run()
    assert (True, True) in seen
    assert result.metrics["validation_loss"] < 2
    assert all(p.dtype is torch.float32 for p in built.model.parameters())


@pytest.mark.slow
def test_log_every(trainer):
    built = trainer(log_every=3)
    built.run()
    assert [row["step"] for row in built.run_folder.metrics.rows()] == [0, 3, 4, 6, 8, 9, 10]


def test_no_evaluation(trainer):
    built = trainer()
    built.evaluate = None
    result = built.run()
    assert "validation_loss" not in result.metrics
    assert built.run_folder.checkpoints.best() is None


@pytest.mark.slow
def test_the_best_checkpoint_is_kept(trainer):
    figures = iter([9.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    built = trainer(steps=20, checkpoints=CheckpointConfig(every=4, keep=1))
    built.evaluate = lambda model: {"loss": next(figures)}
    built.run()
    assert built.run_folder.checkpoints.steps() == [4, 20]
    assert built.run_folder.checkpoints.best().name == "step-000004"


def test_compile_compiles_each_block(trainer, tiny_model, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    model = tiny_model()
    trainer(model=model, compile=True).run()
    assert compiled == list(model.blocks)
    other = torch.nn.Linear(2, 2)
    trainer_module.compile_blocks(other)
    assert compiled[-1] is other


def test_tensorboard_gets_every_row(trainer, monkeypatch):
    rows = []

    class Log:
        def __init__(self, folder, first_step):
            self.folder, self.first_step = folder, first_step

        def append(self, row):
            rows.append(row)

    monkeypatch.setattr(trainer_module, "TensorBoardLog", Log)
    built = trainer(tensorboard=True)
    built.run()
    assert rows == built.run_folder.metrics.rows()
    assert built.tensorboard.first_step == 0


@pytest.fixture
def usual_handlers():
    """Handlers as Python sets them; background jobs of a shell ignore SIGINT, those of nohup SIGHUP."""
    usual = {signal.SIGINT: signal.default_int_handler} | dict.fromkeys(SIGNALS[1:], signal.SIG_DFL)
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("usual_handlers")
@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_signals_are_only_recorded(first, second):
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopSignals() as stop:
        assert stop.received is None
        signal.raise_signal(first)
        assert stop.received == first.name
        if first == second == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt):  # the usual effect
                signal.raise_signal(second)
        else:
            signal.raise_signal(second)
        assert stop.received == first.name
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.usefixtures("usual_handlers")
@pytest.mark.parametrize("number", SIGNALS)
def test_ignored_signals_stay_ignored(number):
    signal.signal(number, signal.SIG_IGN)
    with StopSignals() as stop:
        signal.raise_signal(number)
        assert stop.received is None
    assert signal.getsignal(number) is signal.SIG_IGN


def test_handlers_are_restored_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), StopSignals():
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGTERM) is before


def test_nothing_happens_outside_the_main_thread():
    seen = []

    def enter():
        with StopSignals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
