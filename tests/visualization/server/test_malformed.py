"""Ten thousand malformed requests: each gets an error response, and the server keeps running.

They come over real connections, some of which break off, stay open, or carry several requests at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket

import pytest

FUZZED = 10_000
"""Over connections; a tenth as many are passed directly to the application, with what uvicorn refuses."""
LOCAL = [(b"host", b"localhost:8000")]
JSON = (b"content-type", b"application/json")
POST = b"POST /api/predict HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Type: application/json\r\n"
BROKEN = [
    b"",
    b"\r\n\r\n",
    b"\x00" * 50,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost:PORT\r\n bad: fold\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost:PORT\r\nX: \x00\r\n\r\n",
    b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 9000 + b"\r\n",
    b"POST /api/predict HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Length: -1\r\n\r\n",
    b"POST /api/step HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /api/predict HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /api/predict HTTP/1.1\r\nHost: localhost:PORT\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    POST + b"Content-Length: 9\r\n\r\n{",
    b"GET / HTTP/1.1\r\nHost: localhost:PORT\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]
VALID = {
    "text": "ab",
    "generated": [3],
    "ablated_heads": ["0.1"],
    "ablation": "zero",
    "temperature": 1,
    "top_k": 2,
}
VALUES = [None, True, -1, 1e308, 10**30, "", "\x00", "0.0", "é" * 9, [], {}, [[]], ["0.1"], [1], {"a": 1}]
ROUTES = ["/api/predict", "/api/step", "/api/attention", "/api/explore"]
PATHS = ["/api/predict", "/api/model", "/", "/health", "/explorer/x", "/api//", "/%00", "/%C3%A9", "*", "//a"]
NOISE = [
    b"Host",
    b"Origin",
    b"Content-Type",
    b"Content-Length",
    b"Cookie",
    b"X",
    b"Transfer-Encoding",
    b"Expect",
]
EXPECTED_STATUSES = {200, 400, 403, 404, 405, 413, 415}


def body(draw):
    """A request body with a wrong value, key, or bytes, or random bytes."""
    request = dict(VALID)
    for _ in range(draw.randint(1, 3)):
        request[draw.choice([*VALID, "x"])] = draw.choice(VALUES)
    text = json.dumps(request).encode()
    how = draw.random()
    if how < 0.4:
        return text
    return changed(draw, text) if how < 0.8 else draw.randbytes(draw.randint(0, 60))


def changed(draw, text):
    """The bytes with some replaced, removed and added."""
    broken = bytearray(text)
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(broken) + 1)
        broken[place : place + draw.randint(0, 3)] = draw.randbytes(draw.randint(0, 3))
    return bytes(broken)


def framed(draw):
    """Valid HTTP with an invalid body: the connection may stay open."""
    method, path, content = b"POST", draw.choice(ROUTES), body(draw)
    if draw.random() < 0.2:
        method, path = draw.choice([b"POST", b"GET", b"PUT", b"TRACE"]), draw.choice(PATHS)
    lines = [b"%s %s HTTP/1.1" % (method, path.encode()), b"Host: localhost:PORT"]
    if draw.random() < 0.9:
        lines.append(b"Content-Type: application/json")
    if draw.random() < 0.2:
        noise = draw.choice([b"Origin", b"Content-Type", b"Cookie", b"Sec-Fetch-Site", b"Content-Encoding"])
        lines.append(noise + b": " + bytes(draw.choices(range(33, 127), k=draw.randint(1, 12))))
    if draw.random() < 0.2:
        size = draw.randint(0, len(content))
        content = b"".join(
            b"%x\r\n%s\r\n" % (len(part), part) for part in (content[:size], content[size:]) if part
        )
        return b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", content + b"0\r\n\r\n"])
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(content), b"", content])


def unframed(draw):
    """Invalid or incomplete HTTP."""
    how = draw.random()
    if how < 0.05:
        return draw.choice(BROKEN)
    whole = framed(draw)
    if how < 0.4:
        return whole[: draw.randrange(len(whole))]
    if how < 0.6:
        noise = draw.choice(NOISE) + b": " + draw.randbytes(draw.randint(0, 12))
        return whole.replace(b"\r\n", b"\r\n" + noise + b"\r\n", 1)
    return changed(draw, whole)


@pytest.fixture
def logged(capfd, caplog):
    """Output on stderr and log records of at least warning level."""
    return lambda: (
        capfd.readouterr().err
        + "".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)
    )


@pytest.mark.slow
def test_the_server_survives_ten_thousand_malformed_requests(model, served, connect, logged):
    draw = random.Random(5)
    sent, statuses = 0, []
    with served(model) as (_, port):

        def here(message):
            return message.replace(b"PORT", b"%d" % port)

        while sent < FUZZED:
            client, together = connect(port), draw.random() < 0.5
            count = draw.randint(4, 12)
            messages = [here(framed(draw)) for _ in range(count)]
            for group in [b"".join(messages)] if together else messages:
                client.socket.sendall(group)
                for _ in range(count if together else 1):
                    response = client.receive()
                    assert response is not None, messages
                    statuses.append(response[0])
                    if response[0] != 200:
                        assert json.loads(response[2])["error"], response
            last = [here(unframed(draw)) for _ in range(draw.randint(0, 2))]
            try:
                for message in last:
                    client.socket.sendall(message)
                client.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the server closed the connection first
            while last and (response := client.receive()):
                statuses.append(response[0])
            sent += count + len(last)
            client.close()
        client = connect(port)
        client.send(b"GET /health", b"\r\n")
        assert json.loads(client.receive()[2]) == {"status": "ok", "computing": False, "waiting": 0}
    assert set(statuses) <= EXPECTED_STATUSES
    assert len(statuses) > 0.9 * FUZZED
    assert statuses.count(400) > len(statuses) / 2
    assert logged() == ""


@pytest.mark.slow
def test_the_application_refuses_what_uvicorn_would_not_pass_on(app, request_to, post):
    draw = random.Random(6)

    async def fuzz():
        statuses = []
        for _ in range(FUZZED // 10):
            headers = [JSON] if draw.random() < 0.8 else []
            while draw.random() < 0.25:
                headers.append((draw.choice(NOISE).lower(), draw.randbytes(draw.randint(0, 12))))
            method, path = "POST", draw.choice(ROUTES)
            if draw.random() < 0.2:
                method, path = draw.choice(["POST", "GET", "\x01", ""]), draw.choice([*PATHS, "/\x00", "/é"])
            local = draw.random() < 0.95
            status, sent, content = await request_to(app, method, path, headers, body(draw), local=local)
            assert "content-security-policy" in sent
            if status != 200:
                assert json.loads(content)["error"]
            statuses.append(status)
        return statuses

    statuses = asyncio.run(fuzz())
    assert set(statuses) <= EXPECTED_STATUSES
    assert statuses.count(400) > len(statuses) / 2
    assert post(app, "/api/predict", {"text": "abc"})[0] == 200
