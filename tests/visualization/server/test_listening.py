"""A real server: where it listens, and that nothing that is sent to it brings it down."""

from __future__ import annotations

import http.client
import json
import random
import socket
import time

import pytest

from glassformer.visualization.server import listening, open_socket, url_of


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


def test_broken_http_brings_nothing_down(model, capfd, served):
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


def test_connections_that_say_nothing_are_closed_and_too_many_refused(model, monkeypatch, served):
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


def test_who_goes_away_is_not_computed_for(model, slowed, served):
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
