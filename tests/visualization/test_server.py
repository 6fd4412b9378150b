"""The server: what it answers, whom it refuses, and that nothing that is sent to it brings it down."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import shutil
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from glassformer.analysis.ablation import ablate, reference_outputs
from glassformer.analysis.head_report import HeadReport
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.tokenization import ByteTokenizer, WordPieceTokenizer
from glassformer.visualization.server import (
    ComputingThread,
    LiveModel,
    build_app,
    guard,
    listening,
    open_socket,
    url_of,
)
from glassformer.visualization.server.asking import LARGEST_BODY, LONGEST_TEXT, Question, read_question
from glassformer.visualization.server.computing import AbandonedError, BusyError, TooLongError

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
TEXT = "The cat sat."
FUZZED = 10_000


def drawn_at_random(family, **options):
    torch.manual_seed(7)
    model = family(**{"d_model": 24, "num_layers": 2, "num_heads": 3, **options})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def gpt(**options):
    model = drawn_at_random(GPTModel, **{"vocab_size": 257, "max_seq_len": 32, **options})
    model.tokenizer = ByteTokenizer()
    return model


def bert(**options):
    tokenizer = WordPieceTokenizer.train(["the cat sat on the mat"] * 9, 60)
    model = drawn_at_random(BERTModel, vocab_size=tokenizer.vocab_size, max_seq_len=32, **options)
    model.tokenizer = tokenizer
    return model


def t5():
    model = drawn_at_random(T5Model, vocab_size=257, max_seq_len=32)
    model.tokenizer = ByteTokenizer()
    return model


@contextmanager
def computing_for(model, **options):
    computing = ComputingThread(model, **options)
    try:
        yield computing
    finally:
        assert computing.close(patience=20)


@pytest.fixture
def model():
    return gpt()


@pytest.fixture
def app(model):
    with computing_for(model) as computing:
        yield build_app(LiveModel(model, name="small"), computing)


# ---- what it answers


def probabilities(logits):
    return logits.double().softmax(-1)


def test_probabilities_are_those_of_the_model_with_and_without_heads(model):
    live = LiveModel(model, name="small")
    ids = torch.tensor([[*TEXT.encode(), 65]])
    with torch.no_grad():
        before = probabilities(model(ids)[0, -1])
        with ablate(model, [(0, 1), (1, 2)]):
            after = probabilities(model(ids)[0, -1])
        reference = reference_outputs(model, [list(TEXT.encode())])
        with ablate(model, [(0, 1), (1, 2)], "mean", reference=reference):
            averaged = probabilities(model(ids)[0, -1])
    for how, expected in (("zero", after), ("mean", averaged)):
        answer = live.look(Question(TEXT, written=(65,), off=("0.1", "1.2"), how=how))
        assert answer["tokens"] == ["·" if char == " " else char for char in TEXT]
        assert answer["written"] == [{"id": 65, "label": "A"}]
        for guess in answer["guesses"]:
            assert guess["before"] == pytest.approx(float(before[guess["id"]]), rel=1e-4)
            assert guess["after"] == pytest.approx(float(expected[guess["id"]]), rel=1e-4)
        divergence = float((before * (before / expected).log()).sum())
        assert answer["divergence"] == pytest.approx(divergence, rel=1e-3)
        best = {guess["id"] for guess in answer["guesses"]}
        assert {int(before.argmax()), int(expected.argmax())} <= best
    assert live.look(Question(TEXT))["divergence"] == 0


@pytest.mark.parametrize("off", [(), ("0.1", "1.0")])
def test_steps_are_those_of_generate_and_can_be_taken_back(model, off):
    live = LiveModel(model, name="small")
    heads = [tuple(map(int, head.split("."))) for head in off]
    with ablate(model, heads):
        expected = model.generate(list(TEXT.encode()), 6, temperature=0)[-6:]
    written = ()
    for _ in range(6):
        answer = live.step(Question(TEXT, written=written, off=off, temperature=0))
        written = (*written, answer["token"])
        assert [token["id"] for token in answer["written"]] == list(written)
    assert list(written) == expected
    back = live.look(Question(TEXT, written=written[:2], off=off))
    fresh = LiveModel(model, name="fresh").look(Question(TEXT, written=written[:2], off=off))
    assert [guess["id"] for guess in back["guesses"]] == [guess["id"] for guess in fresh["guesses"]]
    for one, other in zip(back["guesses"], fresh["guesses"], strict=True):
        assert one["after"] == pytest.approx(other["after"], rel=1e-4)


def test_top_k_of_one_is_the_likeliest_and_a_full_text_takes_no_token(model):
    live = LiveModel(model, name="small")
    greedy = live.step(Question(TEXT, temperature=0))["token"]
    assert live.step(Question(TEXT, temperature=5.0, top_k=1))["token"] == greedy
    full = live.step(Question("x" * 32, written=(1,)))
    assert full["token"] is None
    assert full["guesses"] == []
    cut = live.look(Question("x" * 40))
    assert cut["notes"] == ["cut to the model's 32 tokens of 40"]
    assert len(cut["tokens"]) == 32
    assert LiveModel(model, name="short", longest=5).look(Question("x" * 9))["notes"] == [
        "cut to 5 tokens of 9"
    ]


def test_an_encoder_decoder_writes_its_target_and_has_heads_of_three_kinds():
    model = t5()
    live = LiveModel(model, name="t5")
    expected = model.generate([*TEXT.encode(), model.end_token], 3, temperature=0, stop_tokens=[])
    written = ()
    for _ in range(3):
        written = (*written, live.step(Question(TEXT, written=written, temperature=0))["token"])
    assert list(written) == expected
    plain = live.look(Question(TEXT))["guesses"]
    for off in ("encoder:0.1", "decoder:1.0", "cross:1.2"):
        answer = live.look(Question(TEXT, off=(off,)))
        assert answer["divergence"] > 0
        assert {g["id"]: g["before"] for g in plain if g["id"] in (h["id"] for h in answer["guesses"])}
        assert live.look(Question(TEXT, off=(off,), how="mean"))["divergence"] > 0
    assert live.look(Question(TEXT))["guesses"] == plain
    assert "cross" in live.explore(Question(TEXT, written=written))


def test_an_encoder_fills_its_masks_from_the_left():
    model = bert(head="masked_lm")
    live = LiveModel(model, name="bert")
    question = Question("the [MASK] sat on the [MASK]", temperature=0, off=("0.0",))
    first = live.step(question)
    second = live.step(Question(question.text, written=(first["token"],), temperature=0, off=("0.0",)))
    mask = model.tokenizer.mask_token
    ids = model.tokenizer.add_marks(
        [*model.tokenizer.encode("the"), mask, *model.tokenizer.encode("sat on the"), mask]
    )
    for token in (first["token"], second["token"]):
        with torch.no_grad(), ablate(model, [(0, 0)]):
            hole = ids.index(mask)
            assert token == int(model(torch.tensor([ids]))[0, hole].argmax())
        ids[hole] = token
    assert second["guesses"] == []
    assert live.step(Question("the cat"))["token"] is None
    assert f"“{question.text}”".replace("“", "\\u201c").replace("”", "\\u201d") in live.explore(question)


def test_an_encoder_without_a_head_shows_its_attention_only():
    live = LiveModel(bert(), name="bert")
    assert live.about()["says"] == ""
    assert live.look(Question("the cat"))["guesses"] == []
    with pytest.raises(ValueError, match="without a head over a vocabulary"):
        live.step(Question("the cat"))
    page = live.explore(Question("the cat", off=("0.1",)))
    assert "heads off (zero): 0.1" in page
    assert '"flows":[]' in page
    assert '"flows":[]' not in live.explore(Question("the cat", analyses=True))


def test_what_is_no_model_of_text_is_refused():
    with pytest.raises(TypeError, match="a ViTModel reads no text: glassformer explore --image"):
        LiveModel(drawn_at_random(ViTModel, image_size=8, patch_size=4), name="vit")
    with pytest.raises(ValueError, match="vocabulary of 31 has no room for bytes"):
        LiveModel(drawn_at_random(GPTModel, vocab_size=31, max_seq_len=8), name="ids")
    with pytest.raises(ValueError, match="at least 1 token"):
        LiveModel(gpt(), name="none", longest=0)


def test_heads_bear_the_names_of_an_analysis_and_means_can_be_over_other_texts(model):
    row = {"layer": 1, "head": 2, "name": "previous", "score": 0.9, "low": 0.8, "high": 1.0, "main": True}
    row |= {"control": "chance", "control_score": 0.1, "measure": "rate"}
    report = HeadReport("small", {"kind": "self"}, [row])
    live = LiveModel(model, name="small", names=report, texts=["abc", "defg"])
    assert live.about()["names"] == [{"kind": "self", "layer": 1, "head": 2, "name": "previous"}]
    assert live.about()["mean_over"] == "2 texts"
    assert '"name":"previous"' in live.explore(Question(TEXT))
    reference = reference_outputs(model, ["abc", "defg"])
    with torch.no_grad(), ablate(model, [(0, 0)], "mean", reference=reference):
        expected = probabilities(model(torch.tensor([list(TEXT.encode())]))[0, -1])
    for guess in live.look(Question(TEXT, off=("0.0",), how="mean"))["guesses"]:
        assert guess["after"] == pytest.approx(float(expected[guess["id"]]), rel=1e-4)


def test_broken_weights_are_said(model):
    model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="no numbers"):
        LiveModel(model, name="broken").look(Question(TEXT))


# ---- the application, without a network between


LOCAL = [(b"host", b"localhost:8000")]
JSON = (b"content-type", b"application/json")


async def request(app, method="GET", path="/", headers=(), body=b"", chunks=None, local=True):
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


def ask(app, path, question, headers=()):
    body = question if isinstance(question, bytes) else json.dumps(question).encode()
    status, _, content = asyncio.run(request(app, "POST", path, [JSON, *headers], body))
    return status, json.loads(content)


def get(app, path="/", **options):
    return asyncio.run(request(app, path=path, **options))


def test_the_page_and_all_its_parts_are_sent_with_strict_headers(app):
    status, headers, page = get(app)
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert b"<script>" not in page
    assert b"style=" not in page
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    for path in ("/live.js", "/live.css", "/switches.js", "/bars.js", "/panel.js", "/colours.js"):
        status, part, _ = get(app, path)
        assert status == 200
        assert part["content-type"].startswith("text/css" if path.endswith("css") else "text/javascript")
    for path in ("/", "/live.js", "/health", "/api/model", "/nothing"):
        _, headers, _ = get(app, path)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "'unsafe" not in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


def test_an_explorer_page_is_kept_in_a_sandbox_and_the_last_four_are_kept(app):
    pages = []
    for _ in range(5):
        status, answer = ask(app, "/api/explore", {"text": "abc"})
        assert status == 200
        pages.append(answer["page"])
    assert len(set(pages)) == 5
    status, headers, html = get(app, pages[-1])
    assert status == 200
    assert b"window.glassformer" in html
    policy = headers["content-security-policy"]
    assert "sandbox allow-scripts allow-downloads" in policy
    assert "allow-same-origin" not in policy
    assert "frame-ancestors 'self'" in policy
    assert "script-src 'sha256-" in policy
    assert get(app, pages[0])[0] == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost", 200),
        (b"LOCALHOST:9", 200),
        (b"127.0.0.1:8000", 200),
        (b"[::1]:8000", 200),
        (b"evil.example", 403),
        (b"localhost.evil.example:8000", 403),
        (b"127.0.0.1.nip.io", 403),
        (b"192.168.1.9:8000", 403),
        (b"localhost:8000@evil.example", 400),
        (b"localhost:x", 400),
        (b"", 400),
        (b"\xff\xfe", 400),
    ],
)
def test_only_its_own_names_are_answered(app, host, status):
    for path in ("/", "/health", "/api/model"):
        assert get(app, path, headers=[(b"host", host)], local=False)[0] == status
    assert get(app, headers=[*LOCAL, *LOCAL], local=False)[0] == 400
    assert get(app, local=False)[0] == 400


def test_a_server_for_the_network_answers_to_addresses_and_no_foreign_names(model):
    with computing_for(model) as computing:
        app = build_app(LiveModel(model, name="small"), computing, {"box.lan"}, any_address=True)
        for host, status in [
            (b"192.168.1.9:80", 200),
            (b"[fe80::1]", 200),
            (b"box.lan", 200),
            (b"x.lan", 403),
        ]:
            assert get(app, headers=[(b"host", host)], local=False)[0] == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (b"http://localhost:8000", 200),
        (b"https://localhost:8000", 200),
        (b"http://localhost:3000", 403),
        (b"http://127.0.0.1:8000", 403),
        (b"https://evil.example", 403),
        (b"null", 403),
        (b"", 403),
    ],
)
def test_pages_from_elsewhere_may_not_ask(app, origin, status):
    assert ask(app, "/api/look", {"text": "abc"}, [(b"origin", origin)])[0] == status
    assert get(app, "/api/model", headers=[(b"origin", origin)])[0] == status
    assert get(app, "/api/model", headers=[(b"origin", origin), (b"origin", origin)])[0] == 403


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"text": "a", "top_k": ' + b"9" * 5000 + b"}", ""),
        (b'{"text": "a", "text": "b"}', "'text' is there twice"),
        (b'{"text": "a", "temperature": NaN}', "NaN is no JSON number"),
        (b'{"text": "a", "temperature": 1e999}', "temperature must be a number from 0 to 100, not inf"),
        (b'{"text": "\\ud800"}', "half a character at 0"),
        ([], "must be a JSON object, not []"),
        ({}, 'key "text" is missing'),
        ({"text": "a", "of": []}, "unknown key 'of', did you mean 'off'?"),
        ({"text": 3}, "text must be a string, not 3"),
        ({"text": ""}, "the text is empty"),
        ({"text": "a" * (LONGEST_TEXT + 1)}, "text has 20,001 characters: 20,000 are read at most"),
        ({"text": "a", "written": 3}, "written must be a list, not 3"),
        ({"text": "a", "written": [True]}, "written must hold token ids, not True"),
        ({"text": "a", "written": [-1]}, "written must hold token ids, not -1"),
        ({"text": "a", "written": [257]}, "token id 257 does not exist: ids are 0 to 256"),
        ({"text": "a", "written": [0] * 20_001}, "written has 20,001 entries"),
        ({"text": "a", "off": ["x"]}, "'x' names no head"),
        ({"text": "a", "off": [3]}, 'off must hold heads such as "4.7", not 3'),
        ({"text": "a", "off": ["2.0"]}, "layer 2 does not exist: layers are 0 to 1"),
        ({"text": "a", "off": ["0.3"]}, "head 3 does not exist in layer 0"),
        ({"text": "a", "off": ["0.1", "0.1"]}, "named twice"),
        ({"text": "a", "off": ["cross:0.1"]}, "cross"),
        ({"text": "a", "how": "mena"}, "did you mean 'mean'?"),
        ({"text": "a", "how": None}, 'how must be "zero" or "mean", not None'),
        ({"text": "a", "temperature": -1}, "temperature must be a number from 0 to 100, not -1"),
        ({"text": "a", "temperature": True}, "temperature must be a number"),
        ({"text": "a", "analyses": 1}, "analyses must be true or false, not 1"),
        ({"text": "a", "top_k": 1.5}, "top_k must be a whole number, 0 or above, not 1.5"),
    ],
)
def test_what_is_wrong_with_a_question_is_said_in_one_sentence(app, question, message):
    for path in ("/api/look", "/api/step", "/api/explore"):
        status, answer = ask(app, path, question)
        assert status == 400
        assert list(answer) == ["error"]
        assert message in answer["error"]
        assert len(answer["error"]) < 300


def test_bodies_of_another_type_size_or_pace_are_refused(app, monkeypatch):
    def post(headers, **options):
        status, _, content = asyncio.run(request(app, "POST", "/api/look", headers, **options))
        return status, json.loads(content)["error"]

    for kind in (b"text/plain", b"application/x-www-form-urlencoded", b"application/json; charset=utf-16"):
        assert post([(b"content-type", kind)], body=b'{"text": "a"}')[0] == 415
    assert post([], body=b'{"text": "a"}')[0] == 415
    assert post([JSON, (b"content-encoding", b"gzip")], body=b"x")[0] == 415
    assert post([JSON, (b"content-length", b"9" * 30)], body=b"{}")[0] == 413
    assert post([JSON], chunks=[b" " * 65536] * 9) == (413, f"the body may have {LARGEST_BODY:,} bytes")
    monkeypatch.setattr(guard, "SLOWEST_BODY", 0.05)

    async def never():
        message = {"type": "http.request", "body": b"{", "more_body": True}
        scope = {
            **{"type": "http", "method": "POST", "path": "/api/look", "headers": [*LOCAL, JSON]},
            **{"query_string": b"", "root_path": "", "server": None, "client": None, "scheme": "http"},
        }
        sent = []

        async def receive():
            if sent:
                await asyncio.sleep(60)
            sent.append(1)
            return message

        answers = []

        async def send(part):
            answers.append(part)

        await app(scope, receive, send)
        return answers[0]["status"]

    assert asyncio.run(never()) == 408


def test_addresses_and_methods_that_are_not_there(app):
    status, _, content = get(app, "/nothing")
    assert (status, json.loads(content)) == (404, {"error": "there is nothing at this address"})
    for path in ("/../live.js", "/live.js/", "//", "/%2e%2e/app.py", "/explorer/../../app.py", "/app.py"):
        assert get(app, path)[0] == 404
    for method, path in [("POST", "/"), ("PUT", "/api/look"), ("GET", "/api/look"), ("OPTIONS", "/api/look")]:
        assert asyncio.run(request(app, method, path))[0] == 405


def test_thousands_of_malformed_requests_are_each_refused(app):
    """Every answer is a refusal in JSON, or right; none is an error of the server's own."""
    draw = random.Random(5)
    valid = {"text": "ab", "written": [3], "off": ["0.1"], "how": "zero", "temperature": 1, "top_k": 2}
    values = [None, True, -1, 1e308, 10**30, "", "\x00", "0.0", "é" * 9, [], {}, [[]], ["0.1"], [1], {"a": 1}]
    paths = ["/api/look", "/api/model", "/", "/health", "/explorer/x", "/api//", "/\x00", "/é"]
    noise = [b"host", b"origin", b"content-type", b"content-length", b"cookie", b"x", b"transfer-encoding"]

    def body():
        question = dict(valid)
        for _ in range(draw.randint(1, 3)):
            question[draw.choice([*valid, "x"])] = draw.choice(values)
        text = json.dumps(question).encode()
        how = draw.random()
        if how < 0.4:
            return text
        if how < 0.8:  # bytes changed, lost and added
            broken = bytearray(text)
            for _ in range(draw.randint(1, 6)):
                place = draw.randrange(len(broken))
                broken[place : place + draw.randint(0, 3)] = draw.randbytes(draw.randint(0, 3))
            return bytes(broken)
        return draw.randbytes(draw.randint(0, 60))

    async def fuzz():
        statuses = []
        for _ in range(FUZZED):
            headers = [JSON] if draw.random() < 0.8 else []
            while draw.random() < 0.25:
                headers.append((draw.choice(noise), draw.randbytes(draw.randint(0, 12))))
            method, path = "POST", draw.choice(["/api/look", "/api/step", "/api/explore"])
            if draw.random() < 0.2:
                method, path = draw.choice(["POST", "GET", "PUT", "\x01", ""]), draw.choice(paths)
            local = draw.random() < 0.95
            status, sent, content = await request(app, method, path, headers, body(), local=local)
            assert "content-security-policy" in sent
            if status != 200:
                assert json.loads(content)["error"]
            statuses.append(status)
        return statuses

    statuses = asyncio.run(fuzz())
    assert set(statuses) <= {200, 400, 403, 404, 405, 413, 415}
    assert statuses.count(400) > FUZZED / 2
    assert ask(app, "/api/look", {"text": "abc"})[0] == 200


def test_a_fault_of_its_own_is_hidden_from_the_page(app, model, monkeypatch):
    monkeypatch.setattr(ByteTokenizer, "encode", lambda self, text: 1 / 0)

    async def broken():
        sent = []

        async def receive():
            if not sent:
                return {"type": "http.request", "body": b'{"text": "a"}', "more_body": False}
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        scope = {
            **{"type": "http", "method": "POST", "path": "/api/look", "headers": [*LOCAL, JSON]},
            **{"query_string": b"", "root_path": "", "server": None, "client": None, "scheme": "http"},
        }
        with pytest.raises(ZeroDivisionError):  # which the server writes to the terminal
            await app(scope, waiting(receive), send)
        return sent

    def waiting(receive):
        calls = []

        async def once():
            calls.append(1)
            if len(calls) > 1:
                await asyncio.sleep(60)
            return await receive()

        return once

    start, content = asyncio.run(broken())[:2]
    assert start["status"] == 500
    assert b"ZeroDivision" not in content["body"]
    assert any(name == b"content-security-policy" for name, _ in start["headers"])


# ---- one thread that computes


def slowed(model, seconds=30.0):
    """The model, waiting in its first block, and two events: it has begun, and it may go on."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(module, args):
        begun.set()
        go_on.wait(seconds)

    handle = model.blocks[0].register_forward_pre_hook(wait)
    return begun, go_on, handle


def test_the_line_is_short_and_what_nobody_waits_for_ends(model):
    with computing_for(model, waiting=2) as computing:
        begun, go_on, handle = slowed(model)
        ids = torch.tensor([[1, 2]])
        running = computing.submit(lambda: model(ids))
        assert begun.wait(20)
        waiting = [computing.submit(lambda: 1), computing.submit(lambda: 2)]
        assert computing.load == {"computing": True, "waiting": 2}
        with pytest.raises(BusyError, match="the model is busy, and 2 texts wait"):
            computing.submit(lambda: 3)
        computing.abandon(waiting[0])
        computing.abandon(running)
        last = computing.submit(lambda: 4)
        go_on.set()
        assert (waiting[1].result.result(20), last.result.result(20)) == (2, 4)
        for job in (waiting[0], running):
            with pytest.raises(AbandonedError):
                job.result.result(20)
        handle.remove()
        assert computing.submit(lambda: model(ids)).result.result(20).shape == (1, 2, 257)
        model(ids)  # of another thread: nobody's job
    with pytest.raises(AbandonedError, match="ending"):
        computing.submit(lambda: 1)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_computation_past_its_time_ends(model):
    with computing_for(model, seconds=0.0) as computing:
        job = computing.submit(lambda: model(torch.tensor([[1]])))
        with pytest.raises(TooLongError, match="more than 0 seconds"):
            job.result.result(20)


def test_it_answers_while_it_computes_and_refuses_what_is_too_much(model):
    async def crowd(app, computing):
        begun, go_on, handle = slowed(model)
        asks = [request(app, "POST", "/api/look", [JSON], b'{"text": "abc"}') for _ in range(3)]
        tasks = [asyncio.create_task(question) for question in asks]
        await asyncio.to_thread(begun.wait, 20)
        began = time.monotonic()
        status, _, content = await request(app, path="/health")
        assert (status, json.loads(content)["computing"]) == (200, True)
        assert (await request(app))[0] == 200
        assert time.monotonic() - began < 5
        done, _ = await asyncio.wait(tasks, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        status, headers, content = done.pop().result()
        assert (status, headers["retry-after"]) == (503, "1")
        assert "busy" in json.loads(content)["error"]
        go_on.set()
        handle.remove()
        return sorted([(await task)[0] for task in tasks])

    with computing_for(model, waiting=1) as computing:
        app = build_app(LiveModel(model, name="small"), computing)
        assert asyncio.run(crowd(app, computing)) == [200, 200, 503]


# ---- a real server


@contextmanager
def served(model, **options):
    listener = open_socket("127.0.0.1", 0)
    computing = ComputingThread(model)
    servers = []
    original = listening._Server.__init__

    def remember(self, *args):
        servers.append(self)
        original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listening._Server, "__init__", remember)
        arguments = (LiveModel(model, name="small", **options), computing, listener)
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


def health(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/health")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer["status"]


POST = b"POST /api/look HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BROKEN = [
    b"",
    b"\r\n\r\n",
    b"\x00" * 50,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n bad: fold\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \x00\r\n\r\n",
    b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 9000 + b"\r\n",
    b"POST /api/look HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /api/look HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /api/look HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /api/look HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    POST + b"Content-Length: 9\r\n\r\n{",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


def test_broken_http_brings_nothing_down(model, capfd):
    draw = random.Random(3)
    whole = POST + b'Content-Length: 15\r\n\r\n{"text": "abc"}'
    messages = list(BROKEN)
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(draw.randint(1, 8)):
            broken[draw.randrange(len(broken))] = draw.randrange(256)
        messages.append(bytes(broken[: draw.randint(1, len(broken))]))
    with served(model) as (_, port):
        for message in messages:
            with socket.create_connection(("127.0.0.1", port), 20) as client:
                try:
                    client.sendall(message)
                    client.shutdown(socket.SHUT_WR)
                    answer = client.recv(65536)
                except ConnectionError:
                    continue  # closed before all was sent
                assert not answer or answer.startswith(b"HTTP/1.1 "), message
                assert not answer.startswith(b"HTTP/1.1 500"), message
        assert health(port) == "ok"
    assert capfd.readouterr().err == ""


def test_connections_that_say_nothing_are_closed_and_too_many_refused(model, monkeypatch):
    monkeypatch.setattr(listening, "SLOWEST_REQUEST", 0.3)
    with served(model) as (_, port):
        silent = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(30)]
        silent[0].sendall(b"GET / HTTP/1.1\r\nHost: loc")
        second = silent[1]
        second.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert second.recv(65536).startswith(b"HTTP/1.1 200")
        second.sendall(b"GET /hea")
        assert all(client.recv(65536) in (b"", b'{"status":"ok"}') or client is second for client in silent)
        assert health(port) == "ok"
        for client in silent:
            client.close()


def test_who_goes_away_is_not_computed_for(model):
    begun, go_on, handle = slowed(model)
    with served(model) as (_, port):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        client.request("POST", "/api/look", b'{"text": "abc"}', {"Content-Type": "application/json"})
        assert begun.wait(20)
        client.close()
        time.sleep(0.2)
        go_on.set()
        handle.remove()
        assert health(port) == "ok"


@pytest.mark.parametrize(
    ("host", "port", "error", "message"),
    [
        ("127.0.0.1", 70000, ValueError, "a port is a number from 0 to 65535, not 70000"),
        ("no.such.host.invalid", 0, OSError, "is no address of this machine"),
        ("192.0.2.1", 0, OSError, "cannot listen on port 0 of 192.0.2.1"),
    ],
)
def test_where_it_cannot_listen(host, port, error, message):
    with pytest.raises(error, match=message):
        open_socket(host, port)


def test_a_port_in_use_and_one_that_is_not_for_everyone(monkeypatch):
    with open_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 is in use: give another with --port"):
            open_socket("127.0.0.1", port)
        assert url_of(listener) == f"http://127.0.0.1:{port}/"
        assert listening.is_local(listener)

    def forbidden(self, address):
        raise PermissionError(13, "Permission denied")

    with open_socket("0.0.0.0", 0) as listener:
        assert url_of(listener).startswith("http://127.0.0.1:")
        assert not listening.is_local(listener)
    monkeypatch.setattr(socket.socket, "bind", forbidden)
    with pytest.raises(OSError, match="port 80 of 127.0.0.1 may not be used: give one above 1023"):
        open_socket("127.0.0.1", 80)


# ---- in a browser


def missing(what):
    """Without what a test needs it is skipped; where everything has to be there, it fails."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="module")
def browser():
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


def rows(page):
    """Token and shown percentages of each row."""
    return page.evaluate(
        "Array.from(document.querySelectorAll('#guesses tr'),"
        " (row) => Array.from(row.cells, (cell) => cell.textContent))"
    )


def until(page, what):
    """Wait; Playwright's own way evaluates strings in the page, which its policy forbids."""
    for _ in range(400):
        if page.evaluate(what):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"still not: {what}")


def test_typing_stepping_and_switching_in_a_browser(browser, model):
    complaints, requests = [], []
    with served(model) as (url, _):
        page = browser.new_context(viewport={"width": 1600, "height": 900}).new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(url)
        page.wait_for_selector("#guesses tr")
        hostile = "<img src=x onerror=alert(1)>"
        page.fill("#text", hostile)
        until(page, f"document.querySelectorAll('#tokens span').length === {len(hostile)}")
        page.fill("#text", "The cat")
        until(page, "document.querySelectorAll('#tokens span').length === 7")
        page.fill("#temperature", "0")
        page.click("#next")
        page.wait_for_selector("#tokens .new")
        page.keyboard.press("Control+Enter")
        until(page, "document.querySelectorAll('#tokens .new').length === 2")
        written = page.evaluate("window.glassformer.written")
        ids = list(b"The cat")
        assert written == model.generate(ids, 2, temperature=0)[-2:]
        page.click("#undo")
        until(page, "document.querySelectorAll('#tokens .new').length === 1")
        until(page, "document.body.getAttribute('aria-busy') === 'false'")
        before = rows(page)

        page.focus("[data-head='0.0']")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Space")
        page.wait_for_selector(".guesses.two")
        until(page, "document.querySelectorAll('#guesses .after').length > 0")
        assert page.get_attribute("[data-head='1.1']", "aria-checked") == "false"
        after = rows(page)
        assert [row[3] for row in after] != [row[2] for row in after]
        shown = {row[0]: row for row in after}
        assert all(shown[row[0]][2] == row[2] for row in before if row[0] in shown and row[0] != "all others")
        context = torch.tensor([[*ids, written[0]]])
        with torch.no_grad():
            intact = probabilities(model(context)[0, -1])
            with ablate(model, [(1, 1)]):
                ablated = probabilities(model(context)[0, -1])
        for token in (int(intact.argmax()), int(ablated.argmax())):
            row = shown[model.tokenizer.label(token)]
            for text, share in ((row[2], float(intact[token])), (row[3], float(ablated[token]))):
                assert float(text.removesuffix(" %")) == pytest.approx(100 * share, rel=0.06)

        page.click("#explore")
        frame = page.frame_locator("iframe")
        frame.locator(".stage canvas").first.wait_for()
        assert "heads off (zero): 1.1" in frame.locator(".notes").inner_text()
        page.click("#all-on")
        page.wait_for_selector(".guesses:not(.two)")
        page.wait_for_selector("#stale", state="visible")
        assert rows(page)[0][:3] == before[0][:3]
        page.fill("#text", "")
        page.wait_for_selector("#problem", state="visible")
        assert "the text is empty" in page.inner_text("#problem")
        page.context.close()
    refused = [text for text in complaints if "400 (Bad Request)" in text]
    assert len(refused) == 1  # the empty text, which the browser reports by itself
    assert complaints == refused
    assert [address for address in requests if not address.startswith((url, "data:", "blob:"))] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_a_phone_and_axe_finds_nothing(browser, theme):
    if not AXE.exists():
        missing(f"needs axe-core: npm install axe-core puts it into {AXE.parents[1].name}")
    with served(t5()) as (url, _):
        for width in (400, 1600):
            size = {"width": width, "height": 900}
            page = browser.new_context(viewport=size, color_scheme=theme).new_page()
            page.goto(url)
            page.wait_for_selector("#guesses tr")
            page.click("#next")
            page.click("[data-head='cross:1.2']")
            page.wait_for_selector(".guesses.two")
            assert page.evaluate("document.documentElement.scrollWidth") == width
            page.evaluate(AXE.read_text("utf-8"))
            assert page.evaluate("axe.run()")["violations"] == []
            page.context.close()


def test_the_reader_of_questions_reads_what_is_right():
    asked = {"text": "é\u2028", "written": [1, 2], "off": ["0.1"], "how": "mean", "temperature": 0}
    expected = Question("é\u2028", (1, 2), ("0.1",), "mean", 0.0, 3, analyses=True)
    assert read_question(json.dumps({**asked, "top_k": 3, "analyses": True}).encode()) == expected
