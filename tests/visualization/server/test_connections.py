"""The listening socket, connection limits and timeouts of a running server."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import suppress

import pytest

from glassformer.visualization.server import app, is_local, open_socket, security, url_of


def health(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/health")
    response = json.loads(connection.getresponse().read())
    connection.close()
    return response["status"]


@pytest.mark.slow
def test_connections_without_a_complete_request_are_closed(model, monkeypatch, served, connect):
    monkeypatch.setattr(security, "REQUEST_TIMEOUT", 2.0)
    with served(model) as (_, port):
        clients = [connect(port) for _ in range(30)]
        clients[0].socket.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        clients[1].send(b"GET /health", b"\r\n")
        assert clients[1].receive()[0] == 200
        clients[1].socket.sendall(b"GET /hea")
        assert [client.receive() for client in clients] == [None] * 30
        assert health(port) == "ok"


def test_connections_above_the_limit_are_refused(model, served, connect):
    with served(model) as (_, port):
        for number in range(app.MAX_CONNECTIONS):
            client = connect(port)
            client.send(b"GET /health", b"\r\n")
            assert client.receive()[0] == 200, number
        excess = connect(port)
        excess.send(b"GET /health", b"\r\n")
        status, headers, body = excess.receive()
        assert status == 503
        assert body == b"Service Unavailable"
        assert headers[b"content-type"].startswith(b"text/plain")
        assert headers[b"connection"] == b"close"
        assert excess.receive() is None
        client.close()
        until = time.monotonic() + 20
        while (last := connect(port)).send(b"GET /health", b"\r\n") or last.receive()[0] != 200:
            assert time.monotonic() < until
            last.close()


def test_what_is_not_http_is_refused(model, served, connect):
    with served(model) as (_, port):
        client = connect(port)
        client.socket.sendall(b"hello\r\n\r\n")
        status, headers, body = client.receive()
        assert (status, body) == (400, b"Invalid HTTP request received.")
        assert headers[b"content-type"].startswith(b"text/plain")
        assert client.receive() is None


@pytest.mark.parametrize("rest", [b"x", b"x" * 1000], ids=["one byte", "all of it"])
@pytest.mark.slow
def test_an_unread_body_does_not_keep_a_connection_open(model, monkeypatch, served, connect, rest):
    with served(model) as (_, port):
        clients = [connect(port) for _ in range(app.MAX_CONNECTIONS)]
        monkeypatch.setattr(security, "REQUEST_TIMEOUT", 2.0)  # only now, since connecting takes time too
        for client in clients:
            client.send(b"GET /health", b"Content-Length: 1000\r\n\r\n")
            assert client.receive()[0] == 200
            client.socket.sendall(rest)
        assert [client.receive() for client in clients] == [None] * len(clients)
        assert health(port) == "ok"


@pytest.mark.slow
def test_a_client_that_does_not_read_its_response_is_disconnected(model, monkeypatch, served, connect):
    monkeypatch.setattr(security, "RESPONSE_TIMEOUT", 0.5)
    monkeypatch.setattr(app, "_read", lambda path: "x" * 30_000_000)
    with served(model) as (_, port):
        client = connect(port)
        client.send(b"GET /", b"\r\n")
        time.sleep(2)
        received = 0
        with suppress(ConnectionError):  # a connection closed during the response may be reset
            while piece := client.socket.recv(1 << 20):
                received += len(piece)
        assert received < 30_000_000
        assert health(port) == "ok"


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 403), ("0.0.0.0", 200)])
def test_another_port_in_the_host_header_is_refused_only_on_a_loopback_address(model, served, host, status):
    """Port forwarding may change the port on the way to a server for the network."""
    with served(model, host=host) as (_, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/health", headers={"Host": f"127.0.0.1:{port - 1}"})
        assert connection.getresponse().status == status
        connection.close()


@pytest.mark.slow
def test_a_disconnected_client_cancels_its_job(model, block, served):
    waiting, release, handle = block(model)
    with served(model) as (_, port):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        client.request("POST", "/api/predict", b'{"text": "abc"}', {"Content-Type": "application/json"})
        assert waiting.wait(20)
        client.close()
        time.sleep(0.2)
        release.set()
        handle.remove()
        assert health(port) == "ok"


@pytest.mark.parametrize(
    ("host", "port", "error", "message"),
    [
        ("127.0.0.1", 70000, ValueError, "port must be from 0 to 65535, got 70000"),
        ("no.such.host.invalid", 0, OSError, "is not an address of this machine"),
        ("192.0.2.1", 0, OSError, "cannot listen on port 0 of 192.0.2.1"),
    ],
)
def test_addresses_that_cannot_be_listened_on_are_refused(host, port, error, message):
    with pytest.raises(error, match=message):
        open_socket(host, port)


def test_ports_that_are_in_use_or_not_permitted_are_refused(monkeypatch):
    with open_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 is in use: give another with --port"):
            open_socket("127.0.0.1", port)
        assert url_of(listener) == f"http://127.0.0.1:{port}/"
        assert is_local(listener)

    def forbidden(self, address):
        raise PermissionError(13, "Permission denied")

    with open_socket("0.0.0.0", 0) as listener:
        assert url_of(listener).startswith("http://127.0.0.1:")
        assert not is_local(listener)
    monkeypatch.setattr(socket.socket, "bind", forbidden)
    with pytest.raises(OSError, match="port 80 of 127.0.0.1 is not permitted: give one above 1023"):
        open_socket("127.0.0.1", 80)
