"""What may be asked: anything else is refused in one sentence."""

from __future__ import annotations

import asyncio
import json

import pytest

from glassformer.visualization.server import guard
from glassformer.visualization.server.asking import LARGEST_BODY, LONGEST_TEXT, Question, read_question

LOCAL = [(b"host", b"localhost:8000")]
JSON = (b"content-type", b"application/json")


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"text": "a", "top_k": ' + b"9" * 5000 + b"}", "a number has 5,000 digits: 20 are read at most"),
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
def test_what_is_wrong_with_a_question_is_said_in_one_sentence(app, question, message, ask):
    for path in ("/api/look", "/api/step", "/api/explore"):
        status, answer = ask(app, path, question)
        assert status == 400
        assert list(answer) == ["error"]
        assert message in answer["error"]
        assert len(answer["error"]) < 300


def test_bodies_of_another_type_size_or_pace_are_refused(app, monkeypatch, requested):
    def post(headers, **options):
        status, _, content = asyncio.run(requested(app, "POST", "/api/look", headers, **options))
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


def test_the_reader_of_questions_reads_what_is_right():
    asked = {"text": "é\u2028", "written": [1, 2], "off": ["0.1"], "how": "mean", "temperature": 0}
    expected = Question("é\u2028", (1, 2), ("0.1",), "mean", 0.0, 3, analyses=True)
    assert read_question(json.dumps({**asked, "top_k": 3, "analyses": True}).encode()) == expected
