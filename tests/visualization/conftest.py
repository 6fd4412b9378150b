"""Small models, and browsers for pages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time

import pytest
import torch

from glassformer.models import BERTModel, GPTModel, T5Model
from glassformer.tokenization import ByteTokenizer, SymbolTokenizer, WordPieceTokenizer


def randomize(model):
    """Weights that are large enough for attention to differ from uniform."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(name="randomize")
def randomize_fixture():
    return randomize


@pytest.fixture
def decoder():
    """A GPT that reads bytes."""
    model = randomize(GPTModel(257, 24, 2, 4, max_seq_len=80))
    model.tokenizer = ByteTokenizer()
    return model


@pytest.fixture
def make_encoder():
    """A function that builds a BERT with a given head."""

    def make(head):
        tokenizer = WordPieceTokenizer.train(["the cat sat"] * 9, 40)
        model = randomize(BERTModel(tokenizer.vocab_size, 8, 2, 4, head=head))
        model.tokenizer = tokenizer
        return model

    return make


@pytest.fixture
def encoder_decoder():
    """A T5 from letters to sounds."""
    model = randomize(T5Model(12, 8, 2, 4, num_decoder_layers=3))
    model.tokenizer = SymbolTokenizer([*"abc", "AH", "B", "K"])
    return model


@pytest.fixture
def texts_of():
    """A function that returns the texts of a figure without the controls for the direction of writing."""

    def join(figure):
        text = " ".join(text.get_text() for text in figure.texts)
        return " ".join(text.translate(dict.fromkeys(map(ord, "\u2068\u2069\u200e"))).split())

    return join


@pytest.fixture(scope="session")
def missing():
    """Skip a test with the reason; in CI, where everything is installed, fail."""

    def end(what):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(what)

    return end


@pytest.fixture(scope="module")
def browser(missing):
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("needs the package playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        missing("needs chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class Firefox:
    """A headless Firefox that is driven by WebDriver BiDi, which needs no driver."""

    def __init__(self, socket):
        self.socket, self.number, self.complaints = socket, 0, []
        self.command("session.new", capabilities={})
        self.command("session.subscribe", events=["log.entryAdded"])
        self.context = self.command("browsingContext.getTree")["contexts"][0]["context"]

    def command(self, method, **params):
        """The result of a command; log entries that arrive before it are kept as complaints."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("method") == "log.entryAdded":
                self.complaints.append(message["params"]["text"])
            elif message.get("id") == self.number:
                assert message["type"] == "success", message
                return message["result"]

    def goto(self, url, width=1280, height=800):
        size = {"width": width, "height": height}
        self.command("browsingContext.setViewport", context=self.context, viewport=size)
        self.command("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def evaluate(self, expression):
        """The value of a JavaScript expression, which may be a promise."""
        json_of = f"Promise.resolve({expression}).then((value) => JSON.stringify(value ?? null))"
        target = {"context": self.context}
        found = self.command("script.evaluate", expression=json_of, target=target, awaitPromise=True)
        assert found["type"] == "success", found
        return json.loads(found["result"]["value"])

    def wait_until(self, condition):
        waiting = (
            f"(async () => {{ while (!({condition})) await new Promise((done) => setTimeout(done, 20)); }})()"
        )
        self.evaluate(waiting)


@pytest.fixture(scope="module")
def firefox(missing, tmp_path_factory):
    """A Firefox; its pages must not log anything."""
    try:
        from websockets.sync.client import connect
    except ImportError:
        missing("needs the package websockets")
    program = shutil.which("firefox") or shutil.which("firefox-esr")
    if program is None:
        missing("needs firefox")

    folder = tmp_path_factory.mktemp("firefox")
    options = ["--headless", "--no-remote", "--remote-debugging-port=0", "--profile", str(folder)]
    with (folder / "output").open("w") as output:
        process = subprocess.Popen([program, *options, "about:blank"], stderr=output, stdout=output)
    try:
        for _ in range(600):
            found = re.search(r"BiDi listening on (ws://\S+)\n", (folder / "output").read_text())
            if found or process.poll() is not None:
                break
            time.sleep(0.1)
        assert found, (folder / "output").read_text()
        with connect(f"{found[1]}/session", max_size=None) as socket:
            browser = Firefox(socket)
            yield browser
        assert browser.complaints == []
    finally:
        process.kill()
        process.wait()
