"""``glassformer serve``: it listens, refuses what cannot be in one line, and Ctrl-C ends it at once."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from contextlib import ExitStack, closing, contextmanager

import pytest

from glassformer import visualization
from glassformer.cli import main, serve

SLOW = """
import sys, time
from glassformer.cli import main, targets

load = targets.load_model

def load_slow(target):
    model = load(target)
    for module in model.modules():
        module.register_forward_pre_hook(lambda *_: time.sleep({seconds}))
    return model

targets.load_model = load_slow
sys.exit(main(sys.argv[1:]))
"""

LOADS_FOR_EVER = """
import sys, time
from glassformer.cli import main, targets

def load_for_ever(target):
    print("begun", flush=True)
    time.sleep(60)

targets.load_model = load_for_ever
sys.exit(main(sys.argv[1:]))
"""


def heed_interrupts():
    """A process inherits that its parent ignores Ctrl-C, as what a shell starts in the background does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def started(program, target, *arguments):
    """The process, and the port that it says it listens on."""
    command = [sys.executable, *program, "serve", str(target), "--port", "0", "--no-open", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, env=environment, preexec_fn=heed_interrupts) as process:
        try:
            assert process.stdout.readline().startswith(f"loading {target} for http://127.0.0.1:")
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/ \(Ctrl-C ends it\)", line)
            assert found, line + process.stderr.read()
            yield process, int(found[1])
        finally:
            process.kill()


@contextmanager
def asked(port, path, question=None):
    """A connection on which a question was sent."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = None if question is None else json.dumps(question)
    headers = {} if question is None else {"Content-Type": "application/json"}
    connection.request("GET" if question is None else "POST", path, body, headers)
    with closing(connection):
        yield connection


def answer(connection):
    with connection.getresponse() as response:
        return response.status, json.loads(response.read())


def ask(port, path, question=None):
    with asked(port, path, question) as connection:
        return answer(connection)


AT_ONCE = 1.0
"""Seconds; where nothing else runs it takes a twentieth of one."""


def interrupted(process, within=AT_ONCE, again=()):
    """Its status after Ctrl-C, pressed again after so many seconds, and what it said; it has so many."""
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    for seconds in again:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert time.monotonic() - began < within, error
    return process.returncode, out + error


def test_it_answers_and_ctrl_c_ends_it(run_folder):
    with started(["-m", "glassformer"], run_folder) as (process, port):
        status, found = ask(port, "/api/look", {"text": "The cat"})
        assert (status, found["tokens"]) == (200, ["T", "h", "e", "·", "c", "a", "t"])
        with asked(port, "/health") as kept_open:
            assert answer(kept_open)[0] == 200
            assert interrupted(process) == (130, "")


@pytest.mark.parametrize("again", [(), (0.0, 0.0), (0.02, 0.05)], ids=["once", "thrice at once", "thrice"])
def test_ctrl_c_ends_it_while_questions_are_half_asked(run_folder, again):
    half = "POST /api/look HTTP/1.1\r\nHost: localhost:{}\r\nContent-Type: application/json\r\n"
    with started(["-m", "glassformer"], run_folder) as (process, port), ExitStack() as stack:
        for _ in range(30):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
            client.sendall(half.format(port).encode() + b"Content-Length: 50\r\n\r\n{")
        assert ask(port, "/health")[0] == 200
        assert interrupted(process, again=again) == (130, "")


def test_ctrl_c_ends_it_while_it_loads(run_folder):
    command = [sys.executable, "-c", LOADS_FOR_EVER, "serve", str(run_folder), "--port", "0", "--no-open"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, preexec_fn=heed_interrupts) as process:
        assert process.stdout.readline().startswith("loading ")
        assert process.stdout.readline() == "begun\n"
        assert interrupted(process) == (130, "")


@pytest.mark.parametrize("seconds", [0.3, 60], ids=["between two modules", "inside one that takes a minute"])
def test_ctrl_c_ends_it_while_it_computes(run_folder, seconds):
    with (
        started(["-c", SLOW.format(seconds=seconds)], run_folder) as (process, port),
        asked(port, "/api/explore", {"text": "The cat"}) as waiting,
    ):
        until = time.monotonic() + 20
        while not ask(port, "/health")[1]["computing"]:
            assert time.monotonic() < until
        assert interrupted(process) == (130, "")
        assert answer(waiting) == (503, {"error": "the server is ending"})


def test_a_port_in_use_is_said_before_the_model_is_looked_for(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "no/such/model", "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert error == (
        f"glassformer serve: port {port} of 127.0.0.1 is in use: give another with --port, or --port 0 for "
        "any that is free\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "a port is a number from 0 to 65535, not 70000"),
        (["--port", "80x"], "--port is a number from 0 to 65535, not '80x'"),
        (["--port=-1"], "--port is a number from 0 to 65535, not '-1'"),
        (["--host", "no.such.host.invalid"], "'no.such.host.invalid' is no address of this machine"),
        (["--max-tokens", "0"], "--max-texts and --max-tokens must be at least 1"),
        (["--data", "missing.txt"], "missing.txt"),
        (["--heads-report", "missing.json"], "missing.json"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run_folder, capsys, arguments, message):
    assert main(["serve", str(run_folder), "--port", "0", "--no-open", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_without_the_extra_it_says_what_to_install(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("glassformer.visualization.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(visualization, "server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", "no/such/model"]) == 2
    assert "pip install 'glassformer[serve]'" in capsys.readouterr().err


def test_it_opens_the_page_and_says_whom_it_lets_in(run_folder, corpus, capsys, monkeypatch):
    from glassformer.visualization import server

    opened, served = [], []

    def run(live, computing, listener, host):
        served.append((live.texts, host))
        raise KeyboardInterrupt

    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(server, "run", run)
    monkeypatch.setattr(serve, "leave", sys.exit)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    arguments = ["serve", str(run_folder), "--port", "0", "--data", str(corpus), "--max-texts", "1"]
    with pytest.raises(SystemExit, match="130"):
        main(arguments)
    out = capsys.readouterr().out
    assert out == f"loading {run_folder} for {opened[0]} ...\n{opened[0]} (Ctrl-C ends it)\n"
    assert "password" not in out
    with pytest.raises(SystemExit, match="130"):
        main([*arguments, "--host", "0.0.0.0", "--no-open"])
    assert "listening on 0.0.0.0: whoever reaches this machine can use the model" in capsys.readouterr().out
    assert len(opened) == 1
    assert [host for _, host in served] == ["127.0.0.1", "0.0.0.0"]
    assert len(served[0][0]) == 1
