"""A text past what is read: where it was cut, what is lost, and whose limit it is."""

from __future__ import annotations

import pytest

from glassformer.visualization.server import LiveModel
from glassformer.visualization.server.asking import Question

LONG = "the cat sat on the mat " * 20


def test_a_text_past_the_model_s_own_length(model):
    found = LiveModel(model, name="small").look(Question("a bird " * 6))
    assert found["notes"] == [
        "10 of 42 tokens are not read: the last words that are read are “a bird a bird a bird a bird a bi”; "
        "the model reads 32 tokens at most"
    ]
    assert found["cut"] == {"at": 32, "left_out": 10}
    assert len(found["tokens"]) == 32
    assert found["why"] == ""


def test_a_text_past_the_server_s_limit(model):
    live = LiveModel(model, name="short", longest=5)
    assert live.look(Question("x" * 5))["cut"] is None
    found = live.look(Question("xx yy z", written=(3,)))
    assert found["notes"] == [
        "2 of 7 tokens are not read: the last words that are read are “xx yy”; "
        "this server reads 5 tokens at most (--max-tokens), the model itself 32"
    ]
    assert found["why"] == (
        "Nothing can be added: this server reads 5 tokens at most (--max-tokens), the model itself 32."
    )
    assert live.look(Question("x" * 6))["notes"][0].startswith("1 of 6 tokens is not read")
    assert live.about()["limit"] == "this server reads 5 tokens at most (--max-tokens), the model itself 32"


def test_of_a_long_word_its_last_letters_are_said(gpt):
    live = LiveModel(gpt(max_seq_len=100), name="small")
    (note,) = live.look(Question("words before " + "abcdefghij" * 10))["notes"]
    assert f"are “… {('abcdefghij' * 10)[47:87]}”" in note
    (note,) = live.look(Question("and so on " * 20))["notes"]
    assert "are “… and so on and so on and so on and so on”" in note


def test_the_end_of_a_source_stays(t5):
    found = LiveModel(t5(), name="t5", longest=8).look(Question("x" * 20))
    assert found["tokens"] == ["x"] * 7 + ["⟨end⟩"]
    assert found["cut"] == {"at": 7, "left_out": 13}
    assert found["guesses"]


@pytest.mark.parametrize("head", ["masked_lm", "none"])
def test_the_marks_around_a_text_stay(bert, head):
    live = LiveModel(bert(head=head), name="bert", longest=10)
    found = live.look(Question(LONG + "[MASK]"))
    assert len(found["tokens"]) == 10
    assert (found["tokens"][0], found["tokens"][-1]) == ("[CLS]", "[SEP]")
    assert found["cut"]["at"] == 9
    assert "this server reads 10 tokens at most (--max-tokens), the model itself 32" in found["notes"][0]
    assert len(page_tokens := live.look(Question("the cat"))["tokens"]) < 10, page_tokens


def test_a_mask_that_is_not_read_is_said_to_be_there(bert):
    live = LiveModel(bert(head="masked_lm"), name="bert", longest=10)
    past = live.step(Question(LONG + "[MASK] [MASK]"))
    assert past["token"] is None
    assert past["why"] == (
        "The [MASK] is past the 10 tokens that are read: "
        "this server reads 10 tokens at most (--max-tokens), the model itself 32."
    )
    assert "tokens are not read, 2 [MASK] among them: the last words" in past["notes"][0]
    one = Question("[MASK] " + LONG + "[MASK]")
    first = live.step(one)
    assert first["token"] is not None
    assert first["why"].startswith("The next [MASK] is past the 10 tokens that are read")
    assert "1 [MASK] among them" in first["notes"][0]
    whole = live.step(Question("[MASK] the", written=(first["token"],)))
    assert whole["why"].startswith("No [MASK] is open")
