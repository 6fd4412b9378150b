"""Who is answered: the server's own page, whatever else is sent, and no one else's."""

from __future__ import annotations

import asyncio
import json

import pytest

from glassformer.tokenization import ByteTokenizer
from glassformer.visualization.server import LiveModel, build_app

LOCAL = [(b"host", b"localhost:8000")]
JSON = (b"content-type", b"application/json")


def test_the_page_and_all_its_parts_are_sent_with_strict_headers(app, get):
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


def test_an_explorer_page_is_kept_in_a_sandbox_and_the_last_four_are_kept(app, ask, get):
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
def test_only_its_own_names_are_answered(app, host, status, get):
    for path in ("/", "/health", "/api/model"):
        assert get(app, path, headers=[(b"host", host)], local=False)[0] == status
    assert get(app, headers=[*LOCAL, *LOCAL], local=False)[0] == 400
    assert get(app, local=False)[0] == 400


def test_a_server_for_the_network_answers_to_addresses_and_no_foreign_names(model, computing_for, get):
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
def test_pages_from_elsewhere_may_not_ask(app, origin, status, ask, get):
    assert ask(app, "/api/look", {"text": "abc"}, [(b"origin", origin)])[0] == status
    assert get(app, "/api/model", headers=[(b"origin", origin)])[0] == status
    assert get(app, "/api/model", headers=[(b"origin", origin), (b"origin", origin)])[0] == 403


@pytest.mark.parametrize(
    ("site", "status"), [(b"cross-site", 403), (b"same-site", 403), (b"same-origin", 200), (b"none", 200)]
)
def test_what_a_browser_says_of_the_asking_site_is_heard(app, site, status, ask, get):
    header = (b"sec-fetch-site", site)
    assert ask(app, "/api/look", {"text": "abc"}, [header])[0] == status
    assert get(app, "/api/model", headers=[header])[0] == status
    assert get(app, headers=[header])[0] == 200  # a link from elsewhere may lead here


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (b"localhost:8000", ""),
        (b"[::1]:8000", ""),
        (b"localhost:8001", "this server answers at port 8000, not 8001: see --port"),
        (b"localhost", "this server answers at port 8000, not 80: see --port"),
        (
            b"localhost.:8000",
            "this server answers to 127.0.0.1, [::1], localhost, not to 'localhost.': see --host",
        ),
    ],
)
def test_only_its_own_port_is_answered(model, computing_for, get, host, message):
    with computing_for(model) as computing:
        app = build_app(LiveModel(model, name="small"), computing, port=8000)
        status, _, content = get(app, "/health", headers=[(b"host", host)], local=False)
    assert status == (403 if message else 200)
    assert json.loads(content).get("error", "") == message


def test_addresses_and_methods_that_are_not_there(app, requested, get):
    status, _, content = get(app, "/nothing")
    assert (status, json.loads(content)) == (404, {"error": "there is nothing at this address"})
    for path in ("/../live.js", "/live.js/", "//", "/%2e%2e/app.py", "/explorer/../../app.py", "/app.py"):
        assert get(app, path)[0] == 404
    for method, path in [("POST", "/"), ("PUT", "/api/look"), ("GET", "/api/look"), ("OPTIONS", "/api/look")]:
        assert asyncio.run(requested(app, method, path))[0] == 405


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
