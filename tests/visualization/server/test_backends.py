"""Truncation of texts that exceed the limit of the model or the server."""

from __future__ import annotations

import pytest

from glassformer.visualization.server import ModelSession
from glassformer.visualization.server.schema import PredictionRequest

LONG = "the cat sat on the mat " * 20


def test_a_text_is_truncated_to_the_limit_of_the_model(model):
    response = ModelSession(model, name="small").predict(PredictionRequest("a bird " * 6))
    assert response["notes"] == [
        "10 of 42 tokens were truncated after “a bird a bird a bird a bird a bi”: "
        "the model accepts at most 32 tokens"
    ]
    assert response["truncation"] == {"at": 32, "count": 10}
    assert len(response["tokens"]) == 32
    assert response["message"] == ""


def test_a_text_is_truncated_to_the_limit_of_the_server(model):
    session = ModelSession(model, name="short", max_tokens=5)
    assert session.predict(PredictionRequest("x" * 5))["truncation"] is None
    response = session.predict(PredictionRequest("xx yy z", generated=(3,)))
    assert response["notes"] == [
        "2 of 7 tokens were truncated after “xx yy”: "
        "this server accepts at most 5 tokens (--max-tokens), the model 32"
    ]
    assert response["message"] == (
        "No token can be added: this server accepts at most 5 tokens (--max-tokens), the model 32."
    )
    assert session.describe()["limit"] == "this server accepts at most 5 tokens (--max-tokens), the model 32"


def test_the_note_quotes_the_end_of_a_long_word(gpt):
    session = ModelSession(gpt(max_seq_len=100), name="small")
    (note,) = session.predict(PredictionRequest("words before " + "abcdefghij" * 10))["notes"]
    assert f"after “… {('abcdefghij' * 10)[47:87]}”" in note
    (note,) = session.predict(PredictionRequest("and so on " * 20))["notes"]
    assert "after “… and so on and so on and so on and so on”" in note


def test_the_end_token_of_a_source_is_kept(t5):
    response = ModelSession(t5(), name="t5", max_tokens=8).predict(PredictionRequest("x" * 20))
    assert response["tokens"] == ["x"] * 7 + ["⟨end⟩"]
    assert response["truncation"] == {"at": 7, "count": 13}
    assert response["predictions"]


@pytest.mark.parametrize("head", ["masked_lm", "none"])
def test_the_special_tokens_around_a_text_are_kept(bert, head):
    session = ModelSession(bert(head=head), name="bert", max_tokens=10)
    response = session.predict(PredictionRequest(LONG + "[MASK]"))
    assert len(response["tokens"]) == 10
    assert (response["tokens"][0], response["tokens"][-1]) == ("[CLS]", "[SEP]")
    assert response["truncation"]["at"] == 9
    assert "this server accepts at most 10 tokens (--max-tokens), the model 32" in response["notes"][0]
    assert len(page_tokens := session.predict(PredictionRequest("the cat"))["tokens"]) < 10, page_tokens


def test_truncated_masks_are_counted(bert):
    session = ModelSession(bert(head="masked_lm"), name="bert", max_tokens=10)
    past = session.step(PredictionRequest(LONG + "[MASK] [MASK]"))
    assert past["token"] is None
    assert past["message"] == (
        "The [MASK] was truncated: this server accepts at most 10 tokens (--max-tokens), the model 32."
    )
    assert "tokens (with 2 [MASK]) were truncated after" in past["notes"][0]
    one = PredictionRequest("[MASK] " + LONG + "[MASK]")
    first = session.step(one)
    assert first["token"] is not None
    assert first["message"].startswith("The next [MASK] was truncated")
    assert "(with 1 [MASK])" in first["notes"][0]
    whole = session.step(PredictionRequest("[MASK] the", generated=(first["token"],)))
    assert whole["message"].startswith("No [MASK] is left")
