"""Ten thousand malformed requests: what is sent is answered rightly or refused, and the server lives on.

They come over real connections: ones that break off, ones that stay open, and with several requests at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket

import pytest

FUZZED = 10_000
"""Over connections; besides, a tenth as many reach the application with what no server would let pass."""
LOCAL = [(b"host", b"localhost:8000")]
JSON = (b"content-type", b"application/json")
POST = b"POST /api/look HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Type: application/json\r\n"
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
    b"POST /api/look HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Length: -1\r\n\r\n",
    b"POST /api/look HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /api/look HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /api/look HTTP/1.1\r\nHost: localhost:PORT\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    POST + b"Content-Length: 9\r\n\r\n{",
    b"GET / HTTP/1.1\r\nHost: localhost:PORT\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]
VALID = {"text": "ab", "written": [3], "off": ["0.1"], "how": "zero", "temperature": 1, "top_k": 2}
VALUES = [None, True, -1, 1e308, 10**30, "", "\x00", "0.0", "é" * 9, [], {}, [[]], ["0.1"], [1], {"a": 1}]
PATHS = ["/api/look", "/api/model", "/", "/health", "/explorer/x", "/api//", "/%00", "/%C3%A9", "*", "//a"]
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
RIGHT = {200, 400, 403, 404, 405, 413, 415}


def body(draw):
    """A question of which something is wrong: a value, a key, some bytes, or everything."""
    question = dict(VALID)
    for _ in range(draw.randint(1, 3)):
        question[draw.choice([*VALID, "x"])] = draw.choice(VALUES)
    text = json.dumps(question).encode()
    how = draw.random()
    if how < 0.4:
        return text
    return changed(draw, text) if how < 0.8 else draw.randbytes(draw.randint(0, 60))


def changed(draw, text):
    """Bytes changed, lost and added."""
    broken = bytearray(text)
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(broken) + 1)
        broken[place : place + draw.randint(0, 3)] = draw.randbytes(draw.randint(0, 3))
    return bytes(broken)


def framed(draw):
    """HTTP that is right, around a question that is not: the connection may stay open."""
    method, path, content = b"POST", draw.choice(["/api/look", "/api/step", "/api/explore"]), body(draw)
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
    """HTTP that is wrong, or ends too early."""
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
def complaints(capfd, caplog):
    """What was written to the terminal or to a log."""
    return lambda: (
        capfd.readouterr().err
        + "".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)
    )


def test_ten_thousand_malformed_requests_bring_nothing_down(model, served, talk, complaints):
    draw = random.Random(5)
    sent, statuses = 0, []
    with served(model) as (_, port):

        def here(message):
            return message.replace(b"PORT", b"%d" % port)

        while sent < FUZZED:
            client, together = talk(port), draw.random() < 0.5
            count = draw.randint(4, 12)
            messages = [here(framed(draw)) for _ in range(count)]
            for group in [b"".join(messages)] if together else messages:
                client.socket.sendall(group)
                for _ in range(count if together else 1):
                    answer = client.hear()
                    assert answer is not None, messages
                    statuses.append(answer[0])
                    if answer[0] != 200:
                        assert json.loads(answer[2])["error"], answer
            last = [here(unframed(draw)) for _ in range(draw.randint(0, 2))]
            try:
                for message in last:
                    client.socket.sendall(message)
                client.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # closed before all was sent
            while last and (answer := client.hear()):
                statuses.append(answer[0])
            sent += count + len(last)
            client.close()
        client = talk(port)
        client.say(b"GET /health", b"\r\n")
        assert json.loads(client.hear()[2]) == {"status": "ok", "computing": False, "waiting": 0}
    assert set(statuses) <= RIGHT
    assert len(statuses) > 0.9 * FUZZED
    assert statuses.count(400) > len(statuses) / 2
    assert complaints() == ""


def test_what_no_server_would_let_pass_is_refused_too(app, requested, ask):
    draw = random.Random(6)

    async def fuzz():
        statuses = []
        for _ in range(FUZZED // 10):
            headers = [JSON] if draw.random() < 0.8 else []
            while draw.random() < 0.25:
                headers.append((draw.choice(NOISE).lower(), draw.randbytes(draw.randint(0, 12))))
            method, path = "POST", draw.choice(["/api/look", "/api/step", "/api/explore"])
            if draw.random() < 0.2:
                method, path = draw.choice(["POST", "GET", "\x01", ""]), draw.choice([*PATHS, "/\x00", "/é"])
            local = draw.random() < 0.95
            status, sent, content = await requested(app, method, path, headers, body(draw), local=local)
            assert "content-security-policy" in sent
            if status != 200:
                assert json.loads(content)["error"]
            statuses.append(status)
        return statuses

    statuses = asyncio.run(fuzz())
    assert set(statuses) <= RIGHT
    assert statuses.count(400) > len(statuses) / 2
    assert ask(app, "/api/look", {"text": "abc"})[0] == 200
