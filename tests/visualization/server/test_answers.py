"""What the server's model answers: the model's own numbers, with and without heads."""

from __future__ import annotations

import json
import re

import pytest
import torch

from glassformer.analysis.ablation import ablate, reference_outputs
from glassformer.analysis.head_report import HeadReport
from glassformer.models import GPTModel, ViTModel
from glassformer.visualization.server import LiveModel, session
from glassformer.visualization.server.asking import Question

TEXT = "The cat sat."


def test_probabilities_are_those_of_the_model_with_and_without_heads(model, probabilities):
    live = LiveModel(model, name="small")
    ids = torch.tensor([[*TEXT.encode(), 65]])
    with torch.no_grad():
        before = probabilities(model(ids)[0, -1])
        with ablate(model, [(0, 1), (1, 2)]):
            after = probabilities(model(ids)[0, -1])
        reference = reference_outputs(model, [list(TEXT.encode())])
        with ablate(model, [(0, 1), (1, 2)], "mean", reference=reference):
            averaged = probabilities(model(ids)[0, -1])
    for how, expected in (("zero", after), ("mean", averaged)):
        answer = live.look(Question(TEXT, written=(65,), off=("0.1", "1.2"), how=how))
        assert answer["tokens"] == ["·" if char == " " else char for char in TEXT]
        assert answer["written"] == [{"id": 65, "label": "A"}]
        for guess in answer["guesses"]:
            assert guess["before"] == pytest.approx(float(before[guess["id"]]), rel=1e-4)
            assert guess["after"] == pytest.approx(float(expected[guess["id"]]), rel=1e-4)
        divergence = float((before * (before / expected).log()).sum())
        assert answer["divergence"] == pytest.approx(divergence, rel=1e-3)
        best = {guess["id"] for guess in answer["guesses"]}
        assert {int(before.argmax()), int(expected.argmax())} <= best
    assert live.look(Question(TEXT))["divergence"] == 0


@pytest.mark.parametrize("off", [(), ("0.1", "1.0")])
def test_steps_are_those_of_generate_and_can_be_taken_back(model, off):
    live = LiveModel(model, name="small")
    heads = [tuple(map(int, head.split("."))) for head in off]
    with ablate(model, heads):
        expected = model.generate(list(TEXT.encode()), 6, temperature=0)[-6:]
    written = ()
    for _ in range(6):
        answer = live.step(Question(TEXT, written=written, off=off, temperature=0))
        written = (*written, answer["token"])
        assert [token["id"] for token in answer["written"]] == list(written)
    assert list(written) == expected
    back = live.look(Question(TEXT, written=written[:2], off=off))
    fresh = LiveModel(model, name="fresh").look(Question(TEXT, written=written[:2], off=off))
    assert [guess["id"] for guess in back["guesses"]] == [guess["id"] for guess in fresh["guesses"]]
    for one, other in zip(back["guesses"], fresh["guesses"], strict=True):
        assert one["after"] == pytest.approx(other["after"], rel=1e-4)


def test_top_k_of_one_is_the_likeliest_and_a_full_text_takes_no_token(model):
    live = LiveModel(model, name="small")
    greedy = live.step(Question(TEXT, temperature=0))["token"]
    assert live.step(Question(TEXT, temperature=5.0, top_k=1))["token"] == greedy
    full = live.step(Question("x" * 32, written=(1,)))
    assert full["token"] is None
    assert full["guesses"] == []
    assert full["why"] == "Nothing can be added: the model reads 32 tokens at most."


def test_an_encoder_decoder_writes_its_target_and_has_heads_of_three_kinds(t5):
    model = t5()
    live = LiveModel(model, name="t5")
    expected = model.generate([*TEXT.encode(), model.end_token], 3, temperature=0, stop_tokens=[])
    written = ()
    for _ in range(3):
        written = (*written, live.step(Question(TEXT, written=written, temperature=0))["token"])
    assert list(written) == expected
    plain = live.look(Question(TEXT))["guesses"]
    for off in ("encoder:0.1", "decoder:1.0", "cross:1.2"):
        answer = live.look(Question(TEXT, off=(off,)))
        assert answer["divergence"] > 0
        assert {g["id"]: g["before"] for g in plain if g["id"] in (h["id"] for h in answer["guesses"])}
        assert live.look(Question(TEXT, off=(off,), how="mean"))["divergence"] > 0
    assert live.look(Question(TEXT))["guesses"] == plain
    assert "cross" in live.explore(Question(TEXT, written=written))


def test_an_encoder_fills_its_masks_from_the_left(bert):
    model = bert(head="masked_lm")
    live = LiveModel(model, name="bert")
    question = Question("the [MASK] sat on the [MASK]", temperature=0, off=("0.0",))
    first = live.step(question)
    second = live.step(Question(question.text, written=(first["token"],), temperature=0, off=("0.0",)))
    mask = model.tokenizer.mask_token
    ids = model.tokenizer.add_marks(
        [*model.tokenizer.encode("the"), mask, *model.tokenizer.encode("sat on the"), mask]
    )
    for token in (first["token"], second["token"]):
        with torch.no_grad(), ablate(model, [(0, 0)]):
            hole = ids.index(mask)
            assert token == int(model(torch.tensor([ids]))[0, hole].argmax())
        ids[hole] = token
    assert second["guesses"] == []
    none = live.step(Question("the cat"))
    assert none["token"] is None
    assert none["why"].startswith("No [MASK] is open: put one into the text")
    assert f"“{question.text}”".replace("“", "\\u201c").replace("”", "\\u201d") in live.explore(question)


def test_an_encoder_without_a_head_shows_its_attention_only(bert):
    live = LiveModel(bert(), name="bert")
    assert live.about()["says"] == ""
    assert live.look(Question("the cat"))["guesses"] == []
    with pytest.raises(ValueError, match="without a head over a vocabulary"):
        live.step(Question("the cat"))
    page = live.explore(Question("the cat", off=("0.1",)))
    assert "heads off (zero): 0.1" in page
    assert '"flows":[]' in page
    assert '"flows":[]' not in live.explore(Question("the cat", analyses=True))


def test_what_heads_change_in_an_encoder_without_a_head_is_where_its_vectors_point(bert):
    model = bert()
    live = LiveModel(model, name="bert")
    assert live.look(Question("the cat"))["cosines"] == []
    ids = torch.tensor([model.tokenizer.add_marks(model.tokenizer.encode("the cat"))])
    answer = live.look(Question("the cat", off=("0.1", "1.0")))
    with torch.no_grad():
        before = model(ids)[0]
        with ablate(model, [(0, 1), (1, 0)]):
            after = model(ids)[0]
    assert len(answer["cosines"]) == len(answer["tokens"]) == ids.numel()
    for cosine, one, other in zip(answer["cosines"], before, after, strict=True):
        assert cosine == pytest.approx(float(one @ other / (one.norm() * other.norm())), abs=1e-5)
    assert min(answer["cosines"]) < 0.99
    model.embedding_norm.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="hidden states are no numbers"):
        live.look(Question("the cat", off=("0.1",)))


def test_analyses_that_would_take_too_long_are_left_out_and_the_page_says_so(model, monkeypatch):
    work = model.num_parameters() * 2
    monkeypatch.setattr(session, "MOST_ANALYSED", 5 * work)
    live = LiveModel(model, name="small")
    assert live.about()["analysed"] == 5
    assert '"flows":[]' not in live.explore(Question("abc", written=(7, 7), analyses=True))
    page = page_of(live, Question("abcd", written=(7, 7), analyses=True))
    assert page["flows"] == []
    assert page["notes"] == [
        "no logit lens, rollout or scores in parts: for 6 tokens they would take too long; "
        "this server makes them for 5 tokens of this model at most"
    ]
    assert page_of(live, Question("abcdef"))["notes"] == []


def test_what_is_no_model_of_text_is_refused(gpt, drawn_at_random):
    with pytest.raises(TypeError, match="a ViTModel reads no text: glassformer explore --image"):
        LiveModel(drawn_at_random(ViTModel, image_size=8, patch_size=4), name="vit")
    with pytest.raises(ValueError, match="vocabulary of 31 has no room for bytes"):
        LiveModel(drawn_at_random(GPTModel, vocab_size=31, max_seq_len=8), name="ids")
    with pytest.raises(ValueError, match="at least 1 token"):
        LiveModel(gpt(), name="none", longest=0)


def test_heads_bear_the_names_of_an_analysis_and_means_can_be_over_other_texts(model, probabilities):
    row = {"layer": 1, "head": 2, "name": "previous", "score": 0.9, "low": 0.8, "high": 1.0, "main": True}
    row |= {"control": "chance", "control_score": 0.1, "measure": "rate"}
    report = HeadReport("small", {"kind": "self"}, [row])
    live = LiveModel(model, name="small", names=report, texts=["abc", "defg"])
    assert live.about()["names"] == [{"kind": "self", "layer": 1, "head": 2, "name": "previous"}]
    assert live.about()["mean_over"] == "2 texts"
    assert '"name":"previous"' in live.explore(Question(TEXT))
    reference = reference_outputs(model, ["abc", "defg"])
    with torch.no_grad(), ablate(model, [(0, 0)], "mean", reference=reference):
        expected = probabilities(model(torch.tensor([list(TEXT.encode())]))[0, -1])
    for guess in live.look(Question(TEXT, off=("0.0",), how="mean"))["guesses"]:
        assert guess["after"] == pytest.approx(float(expected[guess["id"]]), rel=1e-4)


def test_broken_weights_are_said(model):
    model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="no numbers"):
        LiveModel(model, name="broken").look(Question(TEXT))


def page_of(live, question):
    """What an explorer page holds."""
    (contents,) = re.findall(
        '<script type="application/json" id="contents">(.*?)</script>', live.explore(question)
    )
    return json.loads(contents)


@pytest.mark.parametrize(
    ("family", "text", "kind", "kept"),
    [("gpt", "abcdef", "self", 2), ("t5", "abcdef", "decoder", 8), ("bert", "the [MASK] sat", "self", 1)],
)
def test_an_explorer_page_holds_no_more_tokens_than_the_server_reads(family, text, kind, kept, gpt, t5, bert):
    model = {"gpt": gpt, "t5": t5, "bert": lambda: bert(head="masked_lm")}[family]()
    page = page_of(LiveModel(model, name="small", longest=8), Question(text, written=(7,) * 5000))
    lengths = {item["kind"]: len(item["queries"]) for item in page["attention"]}
    assert max(lengths.values()) <= 8
    assert lengths[kind] == (5 if family == "bert" else 8)
    assert f"there was room for {kept} of 5000 written tokens" in page["notes"]
    assert page["text"].endswith(f"and {kept} token{'s' * (kept > 1)} that the model wrote")
    assert page["name"] == "small"
    whole = page_of(LiveModel(model, name="small"), Question(text, written=(7,)))
    assert not any("room" in note for note in whole["notes"])


def test_a_tiny_temperature_draws_the_likeliest_token(model):
    live = LiveModel(model, name="small")
    expected = live.step(Question(TEXT, temperature=0.0))["token"]
    assert live.step(Question(TEXT, temperature=1e-60))["token"] == expected


def test_the_end_of_a_target_has_a_name(t5):
    live = LiveModel(t5(), name="t5")
    assert live.look(Question("a"))["tokens"] == ["a", "⟨end⟩"]
    assert live.look(Question("a", written=(1, 66)))["written"] == [
        {"id": 1, "label": "⟨end⟩"},
        {"id": 66, "label": "B"},
    ]
