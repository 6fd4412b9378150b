"""Small random models, and servers of them: as an ASGI application and on a port."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest
import torch

from glassformer.models import BERTModel, GPTModel, T5Model
from glassformer.tokenization import BPETokenizer, ByteTokenizer, WordPieceTokenizer
from glassformer.visualization.server import ModelSession, ModelWorker, build_app, open_socket, url_of
from glassformer.visualization.server import app as server_app


def _random(family, **options):
    torch.manual_seed(7)
    model = family(**{"d_model": 24, "num_layers": 2, "num_heads": 3, **options})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def _gpt(**options):
    model = _random(GPTModel, **{"vocab_size": 257, "max_seq_len": 32, **options})
    model.tokenizer = ByteTokenizer()
    return model


def _bert(**options):
    tokenizer = WordPieceTokenizer.train(["the cat sat on the mat"] * 9, 60)
    model = _random(BERTModel, vocab_size=tokenizer.vocab_size, max_seq_len=32, **options)
    model.tokenizer = tokenizer
    return model


def _t5():
    model = _random(T5Model, vocab_size=257, max_seq_len=32)
    model.tokenizer = ByteTokenizer()
    return model


CHAT_TEMPLATE = """{% for m in messages %}
{% if m.content == 'no' %}{{ raise_exception('not this') }}{% endif %}
<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""


@pytest.fixture(scope="session")
def chat_model():
    torch.manual_seed(0)
    tokenizer = BPETokenizer.train(["the cat sat on the mat " * 9], 270)
    tokenizer._tokenizer.add_special_tokens(["<|user|>", "<|assistant|>", "<|end|>"])
    model = GPTModel(274, 24, 2, 3, max_seq_len=32).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.tokenizer = BPETokenizer(tokenizer._tokenizer, {"chat_template": CHAT_TEMPLATE})
    return model


@contextmanager
def _worker_for(model, **options):
    worker = ModelWorker(model, **options)
    try:
        yield worker
    finally:
        assert worker.close(timeout=20)


def _probabilities(logits):
    return logits.double().softmax(-1)


LOCAL = [(b"host", b"localhost:8000")]
JSON = (b"content-type", b"application/json")


async def _request(app, method="GET", path="/", headers=(), body=b"", chunks=None, local=True):
    """Status, headers and body of the application's response."""
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


def _post(app, path, value, headers=()):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    status, _, content = asyncio.run(_request(app, "POST", path, [JSON, *headers], body))
    return status, json.loads(content)


def _get(app, path="/", **options):
    return asyncio.run(_request(app, path=path, **options))


def _block(model, seconds=30.0):
    """Block the model in its first block: an event when it waits, an event that releases it, and the hook."""
    waiting, release = threading.Event(), threading.Event()

    def wait(module, args):
        waiting.set()
        release.wait(seconds)

    handle = model.blocks[0].register_forward_pre_hook(wait)
    return waiting, release, handle


@contextmanager
def _served(model, host="127.0.0.1", **options):
    listener = open_socket(host, 0)
    worker = ModelWorker(model)
    servers = []
    original = server_app._Server.__init__

    def register(self, *args):
        servers.append(self)
        original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_app._Server, "__init__", register)
        arguments = (ModelSession(model, name="small", **options), worker, listener, host)
        thread = threading.Thread(target=server_app.run, args=arguments)
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


class _Connection:
    """A raw connection on which requests are sent and responses read, one after the other."""

    def __init__(self, port):
        self.port, self.buffer = port, b""
        self.socket = socket.create_connection(("127.0.0.1", port), 20)

    def send(self, line, rest=b""):
        self.socket.sendall(b"%s HTTP/1.1\r\nHost: localhost:%d\r\n%s" % (line, self.port, rest))

    def receive(self):
        """Status, headers and body of a response; None if the connection was closed."""
        head = self._read_until(b"\r\n\r\n")
        if head is None:
            return None
        headers = dict(re.findall(rb"(?m)^([a-z-]+): (.*)\r$", head))
        if b"content-length" not in headers:  # the connection is closed after the body
            with suppress(ConnectionError):
                while chunk := self.socket.recv(65536):
                    self.buffer += chunk
        size = int(headers.get(b"content-length", len(self.buffer)))
        while len(self.buffer) < size:
            self.buffer += self.socket.recv(65536)
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return int(head[9:12]), headers, body

    def _read_until(self, end):
        while end not in self.buffer:
            try:
                more = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not more:
                return None
            self.buffer += more
        head, _, self.buffer = self.buffer.partition(end)
        return head + end

    def close(self):
        self.socket.close()


@pytest.fixture
def model():
    return _gpt()


@pytest.fixture
def app(model):
    with _worker_for(model) as worker:
        yield build_app(ModelSession(model, name="small"), worker)


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
def random_model():
    return _random


@pytest.fixture
def worker_for():
    return _worker_for


@pytest.fixture
def request_to():
    return _request


@pytest.fixture
def post():
    return _post


@pytest.fixture
def get():
    return _get


@pytest.fixture
def probabilities():
    return _probabilities


@pytest.fixture
def block():
    return _block


@pytest.fixture
def served():
    return _served


@pytest.fixture
def connect():
    connections = []

    def open_connection(port):
        connections.append(_Connection(port))
        return connections[-1]

    yield open_connection
    for connection in connections:
        connection.close()
