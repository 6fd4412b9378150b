"""Predictions of a session: those of the model, with and without ablated heads."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from glassformer.analysis.ablation import ablate, reference_outputs
from glassformer.analysis.head_patterns import HeadReport
from glassformer.attention import record_attention
from glassformer.models import GPTModel, ViTModel
from glassformer.visualization import server
from glassformer.visualization.explorer.encoding import PackedMaps, dequantize, unpack_maps
from glassformer.visualization.server import ModelSession
from glassformer.visualization.server import session as session_module
from glassformer.visualization.server.schema import PredictionRequest

TEXT = "The cat sat."


def test_probabilities_are_those_of_the_model_with_and_without_heads(model, probabilities):
    session = ModelSession(model, name="small")
    ids = torch.tensor([[*TEXT.encode(), 65]])
    with torch.no_grad():
        before = probabilities(model(ids)[0, -1])
        with ablate(model, [(0, 1), (1, 2)]):
            after = probabilities(model(ids)[0, -1])
        reference = reference_outputs(model, [list(TEXT.encode())])
        with ablate(model, [(0, 1), (1, 2)], "mean", reference=reference):
            averaged = probabilities(model(ids)[0, -1])
    for ablation, expected in (("zero", after), ("mean", averaged)):
        response = session.predict(
            PredictionRequest(TEXT, generated=(65,), ablated_heads=("0.1", "1.2"), ablation=ablation)
        )
        assert response["tokens"] == ["·" if char == " " else char for char in TEXT]
        assert response["generated"] == [{"id": 65, "label": "A"}]
        for prediction in response["predictions"]:
            assert prediction["before"] == pytest.approx(float(before[prediction["id"]]), rel=1e-4)
            assert prediction["after"] == pytest.approx(float(expected[prediction["id"]]), rel=1e-4)
        divergence = float((before * (before / expected).log()).sum())
        assert response["divergence"] == pytest.approx(divergence, rel=1e-3)
        best = {prediction["id"] for prediction in response["predictions"]}
        assert {int(before.argmax()), int(expected.argmax())} <= best
    assert session.predict(PredictionRequest(TEXT))["divergence"] == 0


@pytest.mark.parametrize("off", [(), ("0.1", "1.0")])
def test_steps_are_those_of_generate_and_can_be_undone(model, off):
    session = ModelSession(model, name="small")
    heads = [tuple(map(int, head.split("."))) for head in off]
    with ablate(model, heads):
        expected = model.generate(list(TEXT.encode()), 6, temperature=0)[-6:]
    generated = ()
    for _ in range(6):
        response = session.step(
            PredictionRequest(TEXT, generated=generated, ablated_heads=off, temperature=0)
        )
        generated = (*generated, response["token"])
        assert [token["id"] for token in response["generated"]] == list(generated)
    assert list(generated) == expected
    back = session.predict(PredictionRequest(TEXT, generated=generated[:2], ablated_heads=off))
    fresh = ModelSession(model, name="fresh").predict(
        PredictionRequest(TEXT, generated=generated[:2], ablated_heads=off)
    )
    assert [prediction["id"] for prediction in back["predictions"]] == [
        prediction["id"] for prediction in fresh["predictions"]
    ]
    for one, other in zip(back["predictions"], fresh["predictions"], strict=True):
        assert one["after"] == pytest.approx(other["after"], rel=1e-4)


def test_top_k_of_one_is_greedy_and_no_token_is_added_at_the_limit(model):
    session = ModelSession(model, name="small")
    greedy = session.step(PredictionRequest(TEXT, temperature=0))["token"]
    assert session.step(PredictionRequest(TEXT, temperature=5.0, top_k=1))["token"] == greedy
    full = session.step(PredictionRequest("x" * 32, generated=(1,)))
    assert full["token"] is None
    assert full["predictions"] == []
    assert full["message"] == "No token can be added: the model accepts at most 32 tokens."


def test_under_dynamic_scaling_each_token_is_predicted_from_the_whole_text():
    torch.manual_seed(0)
    scaling = {"kind": "dynamic", "factor": 4.0, "original_max_seq_len": 9}
    positions = {"kind": "rotary", "scaling": scaling}
    model = GPTModel(257, 16, 2, 2, max_seq_len=32, positions=positions).eval()
    session, generated = ModelSession(model, name="dynamic"), ()
    expected = model.generate(list(TEXT.encode()), 8, temperature=0, use_cache=False)[-8:]
    for _ in range(8):
        generated += (session.step(PredictionRequest(TEXT, generated=generated, temperature=0))["token"],)
    assert list(generated) == expected


@pytest.mark.slow
def test_an_encoder_decoder_generates_a_target_and_has_three_kinds_of_attention(t5):
    model = t5()
    session = ModelSession(model, name="t5")
    expected = model.generate([*TEXT.encode(), model.end_token], 3, temperature=0, stop_tokens=[])
    generated = ()
    for _ in range(3):
        generated = (
            *generated,
            session.step(PredictionRequest(TEXT, generated=generated, temperature=0))["token"],
        )
    assert list(generated) == expected
    plain = session.predict(PredictionRequest(TEXT))["predictions"]
    for off in ("encoder:0.1", "decoder:1.0", "cross:1.2"):
        response = session.predict(PredictionRequest(TEXT, ablated_heads=(off,)))
        assert response["divergence"] > 0
        assert {g["id"]: g["before"] for g in plain if g["id"] in (h["id"] for h in response["predictions"])}
        assert (
            session.predict(PredictionRequest(TEXT, ablated_heads=(off,), ablation="mean"))["divergence"] > 0
        )
    assert session.predict(PredictionRequest(TEXT))["predictions"] == plain
    assert "cross" in session.explore(PredictionRequest(TEXT, generated=generated))


def test_masks_are_filled_from_left_to_right(bert):
    model = bert(head="masked_lm")
    session = ModelSession(model, name="bert")
    request = PredictionRequest("the [MASK] sat on the [MASK]", temperature=0, ablated_heads=("0.0",))
    first = session.step(request)
    second = session.step(
        PredictionRequest(request.text, generated=(first["token"],), temperature=0, ablated_heads=("0.0",))
    )
    mask = model.tokenizer.mask_token
    ids = model.tokenizer.add_special_tokens(
        [*model.tokenizer.encode("the"), mask, *model.tokenizer.encode("sat on the"), mask]
    )
    for token in (first["token"], second["token"]):
        with torch.no_grad(), ablate(model, [(0, 0)]):
            position = ids.index(mask)
            assert token == int(model(torch.tensor([ids]))[0, position].argmax())
        ids[position] = token
    assert second["predictions"] == []
    none = session.step(PredictionRequest("the cat"))
    assert none["token"] is None
    assert none["message"].startswith("No [MASK] is left: write one into the text")
    assert f"“{request.text}”".replace("“", "\\u201c").replace("”", "\\u201d") in session.explore(request)


def test_an_encoder_without_language_modeling_head_shows_only_its_attention(bert):
    session = ModelSession(bert(), name="bert")
    assert session.describe()["predicts"] == ""
    assert session.predict(PredictionRequest("the cat"))["predictions"] == []
    with pytest.raises(ValueError, match="has no language modeling head"):
        session.step(PredictionRequest("the cat"))
    page = session.explore(PredictionRequest("the cat", ablated_heads=("0.1",)))
    assert "ablated heads (zero): 0.1" in page
    assert '"rollouts":[]' in page
    assert '"rollouts":[]' not in session.explore(PredictionRequest("the cat", analyses=True))


def test_ablation_in_an_encoder_without_head_is_measured_by_cosines_of_hidden_states(bert):
    model = bert()
    session = ModelSession(model, name="bert")
    assert session.predict(PredictionRequest("the cat"))["cosines"] == []
    ids = torch.tensor([model.tokenizer.add_special_tokens(model.tokenizer.encode("the cat"))])
    response = session.predict(PredictionRequest("the cat", ablated_heads=("0.1", "1.0")))
    with torch.no_grad():
        before = model(ids)[0]
        with ablate(model, [(0, 1), (1, 0)]):
            after = model(ids)[0]
    assert len(response["cosines"]) == len(response["tokens"]) == ids.numel()
    for cosine, one, other in zip(response["cosines"], before, after, strict=True):
        assert cosine == pytest.approx(float(one @ other / (one.norm() * other.norm())), abs=1e-5)
    assert min(response["cosines"]) < 0.99
    model.embedding_norm.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="hidden states are not finite"):
        session.predict(PredictionRequest("the cat", ablated_heads=("0.1",)))


def test_analyses_that_would_take_too_long_are_left_out_with_a_note(model, monkeypatch):
    work = model.num_parameters() * 2
    monkeypatch.setattr(session_module, "MAX_ANALYSIS_COST", 5 * work)
    session = ModelSession(model, name="small")
    assert session.describe()["max_analysis_tokens"] == 5
    assert '"rollouts":[]' not in session.explore(PredictionRequest("abc", generated=(7, 7), analyses=True))
    page = page_of(session, PredictionRequest("abcd", generated=(7, 7), analyses=True))
    assert page["rollouts"] == []
    assert page["notes"] == [
        "no logit lens, rollout or score decomposition: they would take too long for 6 tokens; "
        "the limit for this model is 5 tokens"
    ]
    assert page_of(session, PredictionRequest("abcdef"))["notes"] == []


def test_models_that_cannot_take_text_are_refused(gpt, random_model):
    with pytest.raises(TypeError, match="a ViTModel takes images, .* use glassformer explore --image"):
        ModelSession(random_model(ViTModel, image_size=8, patch_size=4), name="vit")
    with pytest.raises(ValueError, match="vocabulary of 31"):
        ModelSession(random_model(GPTModel, vocab_size=31, max_seq_len=8), name="ids")
    with pytest.raises(ValueError, match="max_tokens must be at least 1, got 0"):
        ModelSession(gpt(), name="none", max_tokens=0)


def test_heads_have_the_labels_of_an_analysis_and_means_can_be_over_other_texts(model, probabilities):
    row = {"layer": 1, "head": 2, "name": "previous", "score": 0.9, "low": 0.8, "high": 1.0, "main": True}
    row |= {"control": "chance", "control_score": 0.1, "measure": "rate"}
    report = HeadReport("small", {"kind": "self"}, [row])
    session = ModelSession(model, name="small", heads_report=report, mean_texts=["abc", "defg"])
    assert session.describe()["labels"] == [{"kind": "self", "layer": 1, "head": 2, "label": "previous"}]
    assert session.describe()["mean_over"] == "2 texts"
    assert '"name":"previous"' in session.explore(PredictionRequest(TEXT))
    reference = reference_outputs(model, ["abc", "defg"])
    with torch.no_grad(), ablate(model, [(0, 0)], "mean", reference=reference):
        expected = probabilities(model(torch.tensor([list(TEXT.encode())]))[0, -1])
    for prediction in session.predict(PredictionRequest(TEXT, ablated_heads=("0.0",), ablation="mean"))[
        "predictions"
    ]:
        assert prediction["after"] == pytest.approx(float(expected[prediction["id"]]), rel=1e-4)


def test_damaged_weights_are_reported(model):
    model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="logits are not finite"):
        ModelSession(model, name="broken").predict(PredictionRequest(TEXT))


def test_attention_is_that_of_the_model_without_the_ablated_heads(model):
    session = ModelSession(model, name="small")
    ids = torch.tensor([list(TEXT.encode())])
    for off in ([], [(0, 1), (0, 2)]):
        names = tuple(f"{layer}.{head}" for layer, head in off)
        contents = session.attention(PredictionRequest(TEXT, ablated_heads=names))
        json.dumps(contents)  # the server sends it
        packed = PackedMaps(**contents["attention"][0]["maps"][1])
        with torch.no_grad(), ablate(model, off), record_attention(model) as recorded:
            model(ids)
        shown = np.nan_to_num(dequantize(unpack_maps(packed)))
        np.testing.assert_allclose(shown, recorded[1][0].numpy(), atol=0.008)
        assert contents["rollouts"] == contents["notes"] == []
    assert session.attention(PredictionRequest(TEXT, analyses=True))["rollouts"] != []


def test_attention_of_an_encoder_decoder_without_a_target_is_of_its_first_token(t5, monkeypatch):
    model = t5()
    session = ModelSession(model, name="t5")
    monkeypatch.setattr(model, "generate", None)  # would take long
    for off in ((), ("cross:1.2", "encoder:0.0")):
        request = PredictionRequest(TEXT, ablated_heads=off)
        best = max(session.predict(request)["predictions"], key=lambda one: one["after"])
        attention = session.attention(request)["attention"]
        assert attention[2]["queries"] == [best["label"]]
        assert len(attention[0]["queries"]) == len(TEXT) + 1
        assert page_of(session, request)["attention"][2]["queries"] == [best["label"]]
        assert "generated" not in page_of(session, request)["text"]


@pytest.mark.parametrize("family", ["gpt", "bert", "t5"])
@pytest.mark.parametrize("off", [(), ("1.2",)])
def test_attention_comes_with_the_predictions_from_one_forward_pass(family, off, gpt, bert, t5, monkeypatch):
    model = {"gpt": gpt, "bert": lambda: bert(head="masked_lm"), "t5": t5}[family]()
    off = tuple(f"cross:{name}" if family == "t5" else name for name in off)
    request = PredictionRequest("the [MASK] sat", ablated_heads=off, generated=(40,) * (family != "bert"))
    expected = ModelSession(model, name="apart").predict(request)
    attention = ModelSession(model, name="small").attention(request)
    calls, forward = [], model.hidden_states

    def count(*args, **kwargs):
        calls.append(1)
        return forward(*args, **kwargs)

    if family != "t5":
        monkeypatch.setattr(model, "hidden_states", count)
    session = ModelSession(model, name="small")
    together = session.predict(replace(request, attention=True))
    assert together.pop("attention") == attention
    assert len(calls) == {"t5": 0}.get(family, 1 + bool(off))
    for one, other in zip(together["predictions"], expected["predictions"], strict=True):
        assert one["id"] == other["id"]
        assert one["before"] == pytest.approx(other["before"], rel=1e-4)
        assert one["after"] == pytest.approx(other["after"], rel=1e-4)
    step = replace(request, temperature=0)  # goes on from there
    assert session.step(step)["token"] == ModelSession(model, name="apart").step(step)["token"]


def test_probabilities_of_wanted_tokens_are_given(model, probabilities):
    session = ModelSession(model, name="small")
    with torch.no_grad():
        expected = probabilities(model(torch.tensor([list(TEXT.encode())]))[0, -1])
    wanted = session.predict(PredictionRequest(TEXT, tokens=(5, 250)))["wanted"]
    assert [one["id"] for one in wanted] == [5, 250]
    assert [one["before"] for one in wanted] == pytest.approx(expected[[5, 250]].tolist(), rel=1e-4)
    assert session.predict(PredictionRequest(TEXT))["wanted"] == []
    assert session.predict(PredictionRequest("x" * 32, generated=(1,), tokens=(5,)))["wanted"] == []


def test_the_last_texts_are_computed_once(model, monkeypatch):
    calls, hidden_states = [], model.hidden_states

    def count(*args, **kwargs):
        calls.append(1)
        return hidden_states(*args, **kwargs)

    monkeypatch.setattr(model, "hidden_states", count)
    texts = ["One text", "another"]
    for off in ((), ("0.1",)):
        for ablation in ("zero", "mean"):
            session = ModelSession(model, name="small")
            requests = [PredictionRequest(text, ablated_heads=off, ablation=ablation) for text in texts]
            first = [session.predict(request) for request in requests]
            computed = len(calls)
            assert computed > 0
            assert [session.predict(request) for request in requests] == first
            assert len(calls) == computed
    for number in range(session_module.NUM_CACHED):
        session.predict(PredictionRequest(f"text {number}"))
    assert len(session._predictors) == session_module.NUM_CACHED
    computed = len(calls)
    session.predict(PredictionRequest(texts[0]))
    assert len(calls) > computed


def page_of(session, request):
    """The data of an explorer page."""
    (contents,) = re.findall(
        '<script type="application/json" id="contents">(.*?)</script>', session.explore(request)
    )
    return json.loads(contents)


@pytest.mark.parametrize(
    ("family", "text", "kind", "fitting"),
    [("gpt", "abcdef", "self", 2), ("t5", "abcdef", "decoder", 8), ("bert", "the [MASK] sat", "self", 1)],
)
def test_an_explorer_page_has_no_more_tokens_than_the_limit(family, text, kind, fitting, gpt, t5, bert):
    model = {"gpt": gpt, "t5": t5, "bert": lambda: bert(head="masked_lm")}[family]()
    page = page_of(
        ModelSession(model, name="small", max_tokens=8), PredictionRequest(text, generated=(7,) * 5000)
    )
    lengths = {item["kind"]: len(item["queries"]) for item in page["attention"]}
    assert max(lengths.values()) <= 8
    assert lengths[kind] == (5 if family == "bert" else 8)
    assert f"only {fitting} of 5,000 generated tokens fit" in page["notes"]
    assert page["text"].endswith(f"and {fitting} generated token{'s' * (fitting > 1)}")
    assert page["name"] == "small"
    whole = page_of(ModelSession(model, name="small"), PredictionRequest(text, generated=(7,)))
    assert not any("generated tokens fit" in note for note in whole["notes"])


def test_a_tiny_temperature_is_greedy(model):
    session = ModelSession(model, name="small")
    expected = session.step(PredictionRequest(TEXT, temperature=0.0))["token"]
    assert session.step(PredictionRequest(TEXT, temperature=1e-60))["token"] == expected


def test_the_end_token_of_a_target_has_a_label(t5):
    session = ModelSession(t5(), name="t5")
    assert session.predict(PredictionRequest("a"))["tokens"] == ["a", "⟨end⟩"]
    assert session.predict(PredictionRequest("a", generated=(1, 66)))["generated"] == [
        {"id": 1, "label": "⟨end⟩"},
        {"id": 66, "label": "B"},
    ]


def test_old_names_work_with_a_warning(model):
    with pytest.warns(DeprecationWarning, match="LiveModel is now called ModelSession"):
        old_class = server.LiveModel
    with pytest.warns(DeprecationWarning, match="'longest' .* is now called 'max_tokens'"):
        session = old_class(model, name="small", longest=5)
    assert session.limit.max_tokens == 5
    with pytest.warns(DeprecationWarning, match="'seconds' .* is now called 'timeout'"):
        worker = server.ModelWorker(model, seconds=3.0)
    assert worker.timeout == 3.0
    assert worker.close(timeout=20)
