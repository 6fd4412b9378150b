"""``glassformer serve``: start, errors, and shutdown by Ctrl-C."""

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
from glassformer.analysis.head_patterns import HeadReport
from glassformer.cli import main, serve

SLOW = """
import sys, time
from glassformer.cli import main, resolve_model

load = resolve_model.load_model

def load_slow(target, weights=None, in_memory=False):
    model = load(target)
    for module in model.modules():
        module.register_forward_pre_hook(lambda *_: time.sleep({seconds}))
    return model

resolve_model.load_model = load_slow
sys.exit(main(sys.argv[1:]))
"""

SIGNALED_IN_A_RESPONSE = """
import signal, sys
from glassformer.cli import main
from glassformer.visualization.server import app

read = app.read_json_body

async def read_and_signal(request):
    signal.raise_signal({number})
    return await read(request)

app.read_json_body = read_and_signal
sys.exit(main(sys.argv[1:]))
"""

LOADS_FOREVER = """
import sys, time
from glassformer.cli import main, resolve_model

def load_forever(target, weights=None, in_memory=False):
    print("started", flush=True)
    time.sleep(60)

resolve_model.load_model = load_forever
sys.exit(main(sys.argv[1:]))
"""


def enable_interrupts():
    """A process started in the background of a shell inherits that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def started(program, target, *arguments):
    """The process and the port that it printed."""
    command = [sys.executable, *program, "serve", str(target), "--port", "0", "--no-open", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, env=environment, preexec_fn=enable_interrupts) as process:
        try:
            assert process.stdout.readline().startswith(f"loading {target} for http://127.0.0.1:")
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/ \(Ctrl-C ends it\)", line)
            assert found, line + process.stderr.read()
            yield process, int(found[1])
        finally:
            process.kill()


@contextmanager
def requested(port, path, value=None):
    """A connection on which a request was sent: GET, or POST with a value."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = None if value is None else json.dumps(value)
    headers = {} if value is None else {"Content-Type": "application/json"}
    connection.request("GET" if value is None else "POST", path, body, headers)
    with closing(connection):
        yield connection


def receive(connection):
    with connection.getresponse() as response:
        return response.status, json.loads(response.read())


def send(port, path, value=None):
    with requested(port, path, value) as connection:
        return receive(connection)


MAX_SHUTDOWN = 1.0
"""Seconds; an idle machine needs 0.05."""


def interrupted(process, within=MAX_SHUTDOWN, again=()):
    """Exit status and output after Ctrl-C, pressed again after the given seconds."""
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    for seconds in again:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert time.monotonic() - began < within, error
    return process.returncode, out + error


@pytest.mark.slow
def test_ctrl_c_ends_an_idle_server(run_folder):
    with started(["-m", "glassformer"], run_folder) as (process, port):
        status, response = send(port, "/api/predict", {"text": "The cat"})
        assert (status, response["tokens"]) == (200, ["T", "h", "e", "·", "c", "a", "t"])
        with requested(port, "/health") as kept_open:
            assert receive(kept_open)[0] == 200
            assert interrupted(process) == (130, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.slow
def test_other_signals_end_a_server(run_folder, number):
    with started(["-m", "glassformer"], run_folder) as (process, port):
        assert send(port, "/api/predict", {"text": "The cat"})[0] == 200
        process.send_signal(number)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 128 + number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.slow
def test_a_signal_inside_a_response_ends_a_server(run_folder, number):
    program = SIGNALED_IN_A_RESPONSE.format(number=int(number))
    with (
        started(["-c", program], run_folder) as (process, port),
        requested(port, "/api/predict", {"text": "The cat"}) as waiting,
    ):
        assert receive(waiting)[0] in (200, 503)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 128 + number


@pytest.mark.parametrize("again", [(), (0.0, 0.0), (0.02, 0.05)], ids=["once", "thrice at once", "thrice"])
@pytest.mark.slow
def test_ctrl_c_ends_a_server_with_incomplete_requests(run_folder, again):
    half = "POST /api/predict HTTP/1.1\r\nHost: localhost:{}\r\nContent-Type: application/json\r\n"
    with started(["-m", "glassformer"], run_folder) as (process, port), ExitStack() as stack:
        for _ in range(30):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
            client.sendall(half.format(port).encode() + b"Content-Length: 50\r\n\r\n{")
        assert send(port, "/health")[0] == 200
        assert interrupted(process, again=again) == (130, "")


@pytest.mark.slow
def test_ctrl_c_ends_a_server_that_loads_its_model(run_folder):
    command = [sys.executable, "-c", LOADS_FOREVER, "serve", str(run_folder), "--port", "0", "--no-open"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, preexec_fn=enable_interrupts) as process:
        assert process.stdout.readline().startswith("loading ")
        assert process.stdout.readline() == "started\n"
        assert interrupted(process) == (130, "")


@pytest.mark.parametrize("seconds", [0.3, 60], ids=["between two modules", "inside one that takes a minute"])
@pytest.mark.slow
def test_ctrl_c_ends_a_server_whose_model_is_running(run_folder, seconds):
    with (
        started(["-c", SLOW.format(seconds=seconds)], run_folder) as (process, port),
        requested(port, "/api/explore", {"text": "The cat"}) as waiting,
    ):
        until = time.monotonic() + 20
        while not send(port, "/health")[1]["computing"]:
            assert time.monotonic() < until
        assert interrupted(process) == (130, "")
        assert receive(waiting) == (503, {"error": "the server is shutting down"})


def test_a_port_in_use_is_an_error_before_the_model_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "model", "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert error == (
        f"glassformer serve: port {port} of 127.0.0.1 is in use: give another with --port, or --port 0 for "
        "any free one\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "port must be from 0 to 65535, got 70000"),
        (["--port", "80x"], "--port must be a number from 0 to 65535, got '80x'"),
        (["--port=-1"], "--port must be a number from 0 to 65535, got '-1'"),
        (["--host", "no.such.host.invalid"], "'no.such.host.invalid' is not an address of this machine"),
        (["--max-tokens", "0"], "--max-texts and --max-tokens must be at least 1"),
        (["--data", "missing.txt"], "missing.txt"),
        (["--heads-report", "missing.json"], "missing.json"),
        (["--heads-report", "heads.json", "--names"], "--names and --heads-report cannot be used together"),
    ],
)
def test_errors_are_one_line(run_folder, capsys, arguments, message):
    assert main(["serve", str(run_folder), "--port", "0", "--no-open", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_error_without_the_extra_says_what_to_install(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("glassformer.visualization.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(visualization, "server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", "model"]) == 2
    assert "pip install 'glassformer[serve]'" in capsys.readouterr().err


def test_heads_are_analyzed_if_their_names_are_wanted(run_folder, monkeypatch):
    from glassformer.visualization import server

    served = []

    def run(session, worker, listener, host):
        served.append(session)
        raise KeyboardInterrupt

    row = {"layer": 0, "head": 1, "name": "previous", "score": 0.9, "low": 0.8, "high": 1.0, "main": True}
    row |= {"control": "chance", "control_score": 0.1, "measure": "rate"}
    report = HeadReport("GPT", {}, [row])
    monkeypatch.setattr(server, "run", run)
    monkeypatch.setattr(serve, "exit_process", sys.exit)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(serve, "label_heads", lambda model, name: report)
    for arguments in ([], ["--names"]):
        with pytest.raises(SystemExit, match="130"):
            main(["serve", str(run_folder), "--port", "0", "--no-open", *arguments])
    labels = [session.describe()["labels"] for session in served]
    assert labels == [[], [{"kind": "self", "layer": 0, "head": 1, "label": "previous"}]]


def test_the_page_is_opened_and_network_access_is_announced(run_folder, corpus, capsys, monkeypatch):
    from glassformer.visualization import server

    opened, served = [], []

    def run(session, worker, listener, host):
        served.append((session.mean_texts, host))
        raise KeyboardInterrupt

    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(server, "run", run)
    monkeypatch.setattr(serve, "exit_process", sys.exit)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    arguments = ["serve", str(run_folder), "--port", "0", "--data", str(corpus), "--max-texts", "1"]
    with pytest.raises(SystemExit, match="130"):
        main(arguments)
    out = capsys.readouterr().out
    assert out == f"loading {run_folder} for {opened[0]} ...\n{opened[0]} (Ctrl-C ends it)\n"
    assert "listening" not in out
    with pytest.raises(SystemExit, match="130"):
        main([*arguments, "--host", "0.0.0.0", "--no-open"])
    assert (
        "listening on 0.0.0.0: everyone who can reach this machine can use the model"
        in capsys.readouterr().out
    )
    assert len(opened) == 1
    assert [host for _, host in served] == ["127.0.0.1", "0.0.0.0"]
    assert len(served[0][0]) == 1
