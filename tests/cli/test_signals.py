"""Commands that are ended by SIGTERM or SIGHUP, which leave no more behind than Ctrl-C does."""

from __future__ import annotations

import signal
import sys
import threading

import pytest
import torch
import tyro

from glassformer.analysis.head_patterns import analyze
from glassformer.analysis.partial_results import PartialResults
from glassformer.cli import demo, main, signals
from glassformer.cli.signals import ENDING, exit_on_signals
from glassformer.models import GPTModel
from glassformer.tokenization import ByteTokenizer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")


@pytest.fixture(autouse=True)
def usual_handlers():
    """The handlers of a process that a terminal has started; nohup ignores SIGHUP."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_runs_finally_blocks_and_further_ones_are_ignored(number):
    ended = []
    with pytest.raises(SystemExit) as caught, exit_on_signals():
        try:
            signal.raise_signal(number)
        finally:
            for further in ENDING:
                signal.raise_signal(further)
            ended.append(True)
    assert caught.value.code == 128 + number
    assert ended
    assert {signal.getsignal(number) for number in ENDING} == {signal.SIG_DFL}


def test_signals_that_arrive_together_print_nothing(capsys, monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with pytest.raises(SystemExit), exit_on_signals():
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            for number in ENDING:  # to this thread: another one would take it at once
                signal.pthread_kill(threading.get_ident(), number)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    assert unraisable == []
    assert capsys.readouterr().err == ""


def test_a_later_signal_ends_a_process_that_has_swallowed_the_first(monkeypatch):
    monkeypatch.setattr(signals, "CLEANUP_SECONDS", 0.0)
    with exit_on_signals():
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)


def test_a_signal_while_the_command_line_is_parsed_is_no_usage_error(monkeypatch):
    monkeypatch.setattr(tyro, "cli", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as caught:
        main(["describe", "model"])
    assert caught.value.code == 128 + signal.SIGTERM


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_signals_that_are_ignored_or_handled_are_left_alone(handler):
    signal.signal(signal.SIGHUP, handler)
    with exit_on_signals():
        signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is handler
    assert signal.getsignal(signal.SIGHUP) is handler


def test_nothing_happens_outside_the_main_thread():
    seen = []

    def enter():
        with exit_on_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


@pytest.fixture
def target(tmp_path):
    torch.manual_seed(0)
    model = GPTModel(257, 16, 2, 2, max_seq_len=80)
    model.tokenizer = ByteTokenizer()
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text("The cat sat on the mat, and the dog sat on the log.\n\n" * 30)
    return str(tmp_path / "model")


COMMANDS = {
    "tokenize": (
        "tokenize --tokenizer byte --source {0}/text.txt --folder {0}/out",
        (ByteTokenizer, "encode_batch"),
    ),
    "analyze": (
        "analyze {0}/model --patterns tokens --data {0}/text.txt --run-folder {0}/out",
        (analyze, "collect_sums"),
    ),
    "ablate": (
        "ablate {0}/model --heads 0.1 --items 2 --tasks copying --run-folder {0}/out",
        (PartialResults, "write"),
    ),
    "prune": ("prune {0}/model {0}/out --heads 0.1", (GPTModel, "save_pretrained")),
    "demo": (
        "demo --source {0}/text.txt --run-folder {0}/out/run --steps 2",
        (demo, "ngram_evaluations"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_a_command_in_order(target, tmp_path, capsys, monkeypatch, name, number):
    line, (owner, function) = COMMANDS[name]
    command = line.format(tmp_path).split()
    with monkeypatch.context() as patch:
        patch.setattr(owner, function, lambda *_, **__: signal.raise_signal(number))
        with pytest.raises(SystemExit) as caught:
            main(command)
    assert caught.value.code == 128 + number
    assert "Traceback" not in capsys.readouterr().err
    assert [path for path in tmp_path.rglob(".*") if path.is_file()] == []
    if name not in ("demo", "analyze"):  # which take long
        assert main(command) == 0
