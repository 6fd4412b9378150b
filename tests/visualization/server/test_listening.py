"""A real server: where it listens, how many it answers, and how long it waits for them."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import suppress

import pytest

from glassformer.visualization.server import app, listening, open_socket, patience, url_of


def health(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/health")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer["status"]


def test_connections_that_say_nothing_are_closed(model, monkeypatch, served, talk):
    monkeypatch.setattr(patience, "SLOWEST_REQUEST", 2.0)
    with served(model) as (_, port):
        silent = [talk(port) for _ in range(30)]
        silent[0].socket.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        silent[1].say(b"GET /health", b"\r\n")
        assert silent[1].hear()[0] == 200
        silent[1].socket.sendall(b"GET /hea")
        assert [client.hear() for client in silent] == [None] * 30
        assert health(port) == "ok"


def test_a_connection_too_many_is_refused_in_the_server_s_own_words(model, served, talk):
    with served(model) as (_, port):
        for number in range(patience.MOST_CONNECTIONS):
            one = talk(port)
            one.say(b"GET /health", b"\r\n")
            assert one.hear()[0] == 200, number
        more = talk(port)
        more.say(b"GET /health", b"\r\n")
        status, headers, body = more.hear()
        assert status == 503
        assert b"64 connections are open" in body
        assert json.loads(body)["error"]
        assert (headers[b"retry-after"], headers[b"connection"]) == (b"1", b"close")
        assert more.hear() is None
        guarded(headers)
        one.close()
        until = time.monotonic() + 20
        while (last := talk(port)).say(b"GET /health", b"\r\n") or last.hear()[0] != 200:
            assert time.monotonic() < until
            last.close()


def guarded(headers):
    """Whether an answer that is not the application's has the headers of those that are."""
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"content-security-policy"].startswith(b"default-src 'none'; ")


def test_what_is_no_http_is_refused_with_the_same_headers(model, served, talk):
    with served(model) as (_, port):
        client = talk(port)
        client.socket.sendall(b"hello\r\n\r\n")
        status, headers, body = client.hear()
        assert (status, json.loads(body)) == (400, {"error": "this is no HTTP request"})
        guarded(headers)
        assert client.hear() is None


@pytest.mark.parametrize("rest", [b"x", b"x" * 1000], ids=["one byte", "all of it"])
def test_a_body_that_nobody_reads_holds_no_connection(model, monkeypatch, served, talk, rest):
    with served(model) as (_, port):
        clients = [talk(port) for _ in range(patience.MOST_CONNECTIONS)]
        monkeypatch.setattr(patience, "SLOWEST_REQUEST", 2.0)  # from here on: to connect takes its time, too
        for client in clients:
            client.say(b"GET /health", b"Content-Length: 1000\r\n\r\n")
            assert client.hear()[0] == 200
            client.socket.sendall(rest)
        assert [client.hear() for client in clients] == [None] * len(clients)
        assert health(port) == "ok"


def test_who_does_not_read_an_answer_is_left(model, monkeypatch, served, talk):
    monkeypatch.setattr(patience, "SLOWEST_READER", 0.5)
    monkeypatch.setattr(app, "_text", lambda package, name: "x" * 30_000_000)
    with served(model) as (_, port):
        client = talk(port)
        client.say(b"GET /", b"\r\n")
        time.sleep(2)
        heard = 0
        with suppress(ConnectionError):  # closed in the middle of the answer, with a reset or without
            while piece := client.socket.recv(1 << 20):
                heard += len(piece)
        assert heard < 30_000_000
        assert health(port) == "ok"


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 403), ("0.0.0.0", 200)])
def test_another_port_in_host_is_for_this_machine_alone_a_foreign_name(model, served, host, status):
    """Where others may come from afar, something in between may have changed it."""
    with served(model, host=host) as (_, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/health", headers={"Host": f"127.0.0.1:{port - 1}"})
        assert connection.getresponse().status == status
        connection.close()


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
