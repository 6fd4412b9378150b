"""Strict validation of requests."""

from __future__ import annotations

import json

import pytest

from glassformer.visualization.server.schema import (
    MAX_CHARACTERS,
    PredictionRequest,
    parse_request,
)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (
            b'{"text": "a", "top_k": ' + b"9" * 5000 + b"}",
            "an integer must have at most 20 digits, got 5,000",
        ),
        (b'{"text": "a", "text": "b"}', "the key 'text' is repeated"),
        (b'{"text": "a", "temperature": NaN}', "NaN is not a JSON number"),
        (b'{"text": "a", "temperature": 1e999}', "temperature must be a number from 0 to 100, got inf"),
        (b'{"text": "\\ud800"}', "unpaired surrogate '\\ud800' at character 0"),
        ([], "must be a JSON object, got []"),
        ({}, 'key "text" is missing'),
        ({"text": "a", "topk": []}, "unknown key 'topk', did you mean 'top_k'?"),
        ({"text": 3}, "text must be a string, got 3"),
        ({"text": ""}, "the text is empty"),
        ({"text": "a" * (MAX_CHARACTERS + 1)}, "text must have at most 20,000 characters, got 20,001"),
        ({"text": "a", "generated": 3}, "generated must be a list, got 3"),
        ({"text": "a", "generated": [True]}, "generated must be a list of token ids, got True in it"),
        ({"text": "a", "generated": [-1]}, "generated must be a list of token ids, got -1 in it"),
        ({"text": "a", "generated": [257]}, "token ids must be from 0 to 256, got 257"),
        ({"text": "a", "generated": [0] * 20_001}, "generated must have at most 20,000 items, got 20,001"),
        ({"text": "a", "tokens": ["x"]}, "tokens must be a list of token ids, got 'x' in it"),
        ({"text": "a", "tokens": [257]}, "token ids must be from 0 to 256, got 257"),
        ({"text": "a", "ablated_heads": ["x"]}, "'x'"),
        (
            {"text": "a", "ablated_heads": [3]},
            'ablated_heads must be a list of heads such as "4.7", got 3 in it',
        ),
        ({"text": "a", "ablated_heads": ["2.0"]}, "layer"),
        ({"text": "a", "ablated_heads": ["0.3"]}, "head"),
        ({"text": "a", "ablated_heads": ["0.1", "0.1"]}, "0.1"),
        ({"text": "a", "ablated_heads": ["cross:0.1"]}, "cross"),
        ({"text": "a", "ablation": "mena"}, "did you mean 'mean'?"),
        ({"text": "a", "ablation": None}, 'ablation must be "zero" or "mean", got None'),
        ({"text": "a", "temperature": -1}, "temperature must be a number from 0 to 100, got -1"),
        ({"text": "a", "temperature": True}, "temperature must be a number"),
        ({"text": "a", "analyses": 1}, "analyses must be true or false, got 1"),
        ({"text": "a", "attention": []}, "attention must be true or false, got []"),
        ({"text": "a", "chat": "yes"}, "chat must be true or false, got 'yes'"),
        ({"text": "a", "chat": True}, "this model has no chat template"),
        ({"text": "a", "top_k": 1.5}, "top_k must be an integer of at least 0, got 1.5"),
    ],
)
def test_an_invalid_request_is_refused_with_a_short_message(app, value, message, post):
    for path in ("/api/predict", "/api/step", "/api/attention", "/api/explore"):
        status, response = post(app, path, value)
        assert status == 400
        assert list(response) == ["error"]
        assert message in response["error"]
        assert len(response["error"]) < 300


def test_a_valid_request_is_parsed():
    value = {
        "text": "é\u2028",
        "generated": [1, 2],
        "ablated_heads": ["0.1"],
        "ablation": "mean",
        "temperature": 0,
    }
    expected = PredictionRequest("é\u2028", (1, 2), ("0.1",), "mean", 0.0, 3, analyses=True)
    assert parse_request(json.dumps({**value, "top_k": 3, "analyses": True}).encode()) == expected
