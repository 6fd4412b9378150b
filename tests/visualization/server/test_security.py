"""Routes, security headers, and refusal of foreign hosts and origins."""

from __future__ import annotations

import asyncio
import json

import pytest

from glassformer.tokenization import ByteTokenizer
from glassformer.visualization.server import ModelSession, build_app, security
from glassformer.visualization.server.schema import MAX_BODY_BYTES

LOCAL = [(b"host", b"localhost:8000")]
JSON = (b"content-type", b"application/json")


def test_the_page_and_its_files_have_strict_security_headers(app, get):
    status, headers, page = get(app)
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert b"<script>" not in page
    assert b"style=" not in page
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    for path in (
        "/main.js",
        "/server.css",
        "/head_switches.js",
        "/predictions.js",
        "/explorer-web/panel.js",
        "/explorer-web/colors.js",
    ):
        status, part, _ = get(app, path)
        assert status == 200
        assert part["content-type"].startswith("text/css" if path.endswith("css") else "text/javascript")
    for path in ("/", "/main.js", "/health", "/api/model", "/nothing"):
        _, headers, _ = get(app, path)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "'unsafe" not in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


def test_explorer_pages_are_sandboxed_and_the_last_four_are_kept(app, post, get):
    pages = []
    for _ in range(5):
        status, response = post(app, "/api/explore", {"text": "abc"})
        assert status == 200
        pages.append(response["page"])
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
        (b"evil.example", 400),
        (b"localhost.evil.example:8000", 400),
        (b"127.0.0.1.nip.io", 400),
        (b"192.168.1.9:8000", 400),
        (b"localhost:8000@evil.example", 400),
        (b"localhost:x", 400),
        (b"", 400),
        (b"\xff\xfe", 400),
    ],
)
def test_foreign_hosts_are_refused(app, host, status, get):
    for path in ("/", "/health", "/api/model"):
        assert get(app, path, headers=[(b"host", host)], local=False)[0] == status
    assert get(app, headers=[*LOCAL, *LOCAL], local=False)[0] == 400
    assert get(app, local=False)[0] == 400


def test_a_server_for_the_network_accepts_addresses_but_no_foreign_names(model, worker_for, get):
    with worker_for(model) as worker:
        app = build_app(ModelSession(model, name="small"), worker, {"box.lan"}, any_address=True)
        for host, status in [
            (b"192.168.1.9:80", 200),
            (b"[fe80::1]", 200),
            (b"box.lan", 200),
            (b"x.lan", 400),
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
def test_foreign_origins_are_refused(app, origin, status, post, get):
    assert post(app, "/api/predict", {"text": "abc"}, [(b"origin", origin)])[0] == status
    assert get(app, "/api/model", headers=[(b"origin", origin)])[0] == status
    assert get(app, "/api/model", headers=[(b"origin", origin), (b"origin", origin)])[0] == 403


@pytest.mark.parametrize(
    ("site", "status"), [(b"cross-site", 403), (b"same-site", 403), (b"same-origin", 200), (b"none", 200)]
)
def test_cross_site_requests_of_the_api_are_refused(app, site, status, post, get):
    header = (b"sec-fetch-site", site)
    assert post(app, "/api/predict", {"text": "abc"}, [header])[0] == status
    assert get(app, "/api/model", headers=[header])[0] == status
    assert get(app, headers=[header])[0] == 200  # links from other sites are allowed


def test_bodies_of_another_type_or_too_large_or_too_slow_are_refused(app, monkeypatch, request_to):
    def status_of(headers, **options):
        status, _, content = asyncio.run(request_to(app, "POST", "/api/predict", headers, **options))
        return status, json.loads(content)["error"]

    for content_type in (
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"application/json; charset=utf-16",
    ):
        assert status_of([(b"content-type", content_type)], body=b'{"text": "a"}')[0] == 415
    assert status_of([], body=b'{"text": "a"}')[0] == 415
    assert status_of([JSON, (b"content-encoding", b"gzip")], body=b"x")[0] == 415
    assert status_of([JSON, (b"content-length", b"9" * 30)], body=b"{}")[0] == 413
    assert status_of([JSON], chunks=[b" " * 65536] * 9) == (
        413,
        f"the body must have at most {MAX_BODY_BYTES:,} bytes",
    )
    monkeypatch.setattr(security, "REQUEST_TIMEOUT", 0.05)

    async def slow_body():
        message = {"type": "http.request", "body": b"{", "more_body": True}
        scope = {
            **{"type": "http", "method": "POST", "path": "/api/predict", "headers": [*LOCAL, JSON]},
            **{"query_string": b"", "root_path": "", "server": None, "client": None, "scheme": "http"},
        }
        sent = []

        async def receive():
            if sent:
                await asyncio.sleep(60)
            sent.append(1)
            return message

        responses = []

        async def send(part):
            responses.append(part)

        await app(scope, receive, send)
        return responses[0]["status"]

    assert asyncio.run(slow_body()) == 408


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (b"localhost:8000", ""),
        (b"[::1]:8000", ""),
        (b"localhost:8001", "this server answers at port 8000, not 8001: see --port"),
        (b"localhost", "this server answers at port 8000, not 80: see --port"),
    ],
)
def test_another_port_is_refused(model, worker_for, get, host, message):
    with worker_for(model) as worker:
        app = build_app(ModelSession(model, name="small"), worker, port=8000)
        status, _, content = get(app, "/health", headers=[(b"host", host)], local=False)
    assert status == (403 if message else 200)
    assert json.loads(content).get("error", "") == message


def test_unknown_paths_and_methods_are_refused(app, request_to, get):
    status, _, content = get(app, "/nothing")
    assert (status, json.loads(content)) == (404, {"error": "no page at this address"})
    for path in (
        "/../main.js",
        "/main.js/",
        "//",
        "/%2e%2e/app.py",
        "/explorer/../../app.py",
        "/app.py",
    ):
        assert get(app, path)[0] == 404
    for method, path in [
        ("POST", "/"),
        ("PUT", "/api/predict"),
        ("GET", "/api/predict"),
        ("OPTIONS", "/api/predict"),
    ]:
        assert asyncio.run(request_to(app, method, path))[0] == 405


def test_an_internal_error_is_logged_and_not_sent(app, model, monkeypatch):
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
            **{"type": "http", "method": "POST", "path": "/api/predict", "headers": [*LOCAL, JSON]},
            **{"query_string": b"", "root_path": "", "server": None, "client": None, "scheme": "http"},
        }
        with pytest.raises(ZeroDivisionError):  # which uvicorn logs
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
    assert json.loads(content["body"]) == {"error": "Internal error; see the server's log."}
    assert any(name == b"content-security-policy" for name, _ in start["headers"])
