"""Small models, and a server of them: without a network between, on a port, and in a browser."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from contextlib import contextmanager

import pytest
import torch

from glassformer.models import BERTModel, GPTModel, T5Model
from glassformer.tokenization import ByteTokenizer, WordPieceTokenizer
from glassformer.visualization.server import (
    ComputingThread,
    LiveModel,
    build_app,
    listening,
    open_socket,
    url_of,
)


def _drawn_at_random(family, **options):
    torch.manual_seed(7)
    model = family(**{"d_model": 24, "num_layers": 2, "num_heads": 3, **options})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def _gpt(**options):
    model = _drawn_at_random(GPTModel, **{"vocab_size": 257, "max_seq_len": 32, **options})
    model.tokenizer = ByteTokenizer()
    return model


def _bert(**options):
    tokenizer = WordPieceTokenizer.train(["the cat sat on the mat"] * 9, 60)
    model = _drawn_at_random(BERTModel, vocab_size=tokenizer.vocab_size, max_seq_len=32, **options)
    model.tokenizer = tokenizer
    return model


def _t5():
    model = _drawn_at_random(T5Model, vocab_size=257, max_seq_len=32)
    model.tokenizer = ByteTokenizer()
    return model


@contextmanager
def _computing_for(model, **options):
    computing = ComputingThread(model, **options)
    try:
        yield computing
    finally:
        assert computing.close(patience=20)


def _probabilities(logits):
    return logits.double().softmax(-1)


LOCAL = [(b"host", b"localhost:8000")]
JSON = (b"content-type", b"application/json")


async def _requested(app, method="GET", path="/", headers=(), body=b"", chunks=None, local=True):
    """Status, headers and body of the application's answer to exactly this."""
    pending = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks or [body]]
    pending.append({"type": "http.request", "body": b"", "more_body": False})
    sent, done = [], asyncio.Event()

    async def receive():
        if pending:
            return pending.pop(0)
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        **{
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "root_path": "",
        },
        **{"method": method, "path": path, "raw_path": path.encode(), "query_string": b""},
        **{"headers": [*(LOCAL if local else []), *headers], "server": ("127.0.0.1", 8000), "client": None},
    }
    try:
        await app(scope, receive, send)
    finally:
        done.set()
    assert sent[0]["type"] == "http.response.start"
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, content


def _ask(app, path, question, headers=()):
    body = question if isinstance(question, bytes) else json.dumps(question).encode()
    status, _, content = asyncio.run(_requested(app, "POST", path, [JSON, *headers], body))
    return status, json.loads(content)


def _get(app, path="/", **options):
    return asyncio.run(_requested(app, path=path, **options))


def _slowed(model, seconds=30.0):
    """The model, waiting in its first block, and two events: it has begun, and it may go on."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(module, args):
        begun.set()
        go_on.wait(seconds)

    handle = model.blocks[0].register_forward_pre_hook(wait)
    return begun, go_on, handle


@contextmanager
def _served(model, host="127.0.0.1", **options):
    listener = open_socket(host, 0)
    computing = ComputingThread(model)
    servers = []
    original = listening._Server.__init__

    def remember(self, *args):
        servers.append(self)
        original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listening._Server, "__init__", remember)
        arguments = (LiveModel(model, name="small", **options), computing, listener, host)
        thread = threading.Thread(target=listening.run, args=arguments)
        thread.start()
        try:
            yield url_of(listener), listener.getsockname()[1]
        finally:
            while not servers:
                time.sleep(0.01)
            servers[0].should_exit = True
            thread.join(20)
            listener.close()
    assert not thread.is_alive()


class _Talk:
    """A connection on which bytes are sent and answers read, one after the other."""

    def __init__(self, port):
        self.port, self.left = port, b""
        self.socket = socket.create_connection(("127.0.0.1", port), 20)

    def say(self, line, rest=b""):
        self.socket.sendall(b"%s HTTP/1.1\r\nHost: localhost:%d\r\n%s" % (line, self.port, rest))

    def hear(self):
        """Status, headers and body of an answer; None where the connection was closed."""
        head = self.until(b"\r\n\r\n")
        if head is None:
            return None
        headers = dict(re.findall(rb"(?m)^([a-z-]+): (.*)\r$", head))
        size = int(headers[b"content-length"])
        while len(self.left) < size:
            self.left += self.socket.recv(65536)
        body, self.left = self.left[:size], self.left[size:]
        return int(head[9:12]), headers, body

    def until(self, end):
        while end not in self.left:
            try:
                more = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not more:
                return None
            self.left += more
        head, _, self.left = self.left.partition(end)
        return head + end

    def close(self):
        self.socket.close()


@pytest.fixture
def model():
    return _gpt()


@pytest.fixture
def app(model):
    with _computing_for(model) as computing:
        yield build_app(LiveModel(model, name="small"), computing)


@pytest.fixture
def gpt():
    return _gpt


@pytest.fixture
def bert():
    return _bert


@pytest.fixture
def t5():
    return _t5


@pytest.fixture
def drawn_at_random():
    return _drawn_at_random


@pytest.fixture
def computing_for():
    return _computing_for


@pytest.fixture
def requested():
    return _requested


@pytest.fixture
def ask():
    return _ask


@pytest.fixture
def get():
    return _get


@pytest.fixture
def probabilities():
    return _probabilities


@pytest.fixture
def slowed():
    return _slowed


@pytest.fixture
def served():
    return _served


@pytest.fixture
def talk():
    talks = []

    def begin(port):
        talks.append(_Talk(port))
        return talks[-1]

    yield begin
    for one in talks:
        one.close()
