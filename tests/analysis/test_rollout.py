"""Rollout against its closed form, the gradient against one written by hand, and the model left as it was."""

from __future__ import annotations

import weakref
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.analysis.examples import inputs_of
from glassformer.analysis.flow import attention_flow
from glassformer.analysis.outcomes import NextTokenProbability, Similarity, outcome_of
from glassformer.analysis.rollout import (
    attention_rollout,
    gradient_rollout,
    mixing,
    relevance_for,
    rollout,
    weights_in_graph,
)
from glassformer.attention import FusedAttention, record_attention, recording
from glassformer.attention.self_attention import attention_weights
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel

TEXT = {"vocab_size": 40, "d_model": 24, "num_layers": 3, "num_heads": 4}
IDS = [3, 1, 4, 1, 5, 9]
IMAGE = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def spread(model):
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.double()


def gpt(**options):
    options = {"positions": "rotary", "num_kv_heads": 2, **options}
    return spread(GPTModel(**TEXT, max_seq_len=16, **options))


def vit():
    return spread(ViTModel(image_size=8, patch_size=4, d_model=24, num_layers=3, num_heads=4, labels=5))


MODELS = {
    "causal": (gpt, IDS),
    "window": (lambda: gpt(window=2), IDS),
    "bidirectional": (lambda: spread(BERTModel(**TEXT, head="classification")), IDS),
    "image": (vit, IMAGE),
    "encoder-decoder": (lambda: spread(T5Model(**TEXT)), (IDS, [7, 8])),
}


def maps_of(model, example):
    """The weights of each layer of the first stack, ``(head, seq, seq)``."""
    kind = next(iter(model.attentions()))
    with torch.no_grad(), record_attention(model, kind=kind) as recording:
        model(*inputs_of(model, example))
    return [recording[layer][0] for layer in recording]


def stochastic(layers, heads, length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(layers, heads, length, length, generator=generator, dtype=torch.float64)
    return list((3 * random).softmax(-1))


def test_two_layers_in_closed_form():
    """a, b: what token 0 attends to token 1, in the first and in the second layer; token 1 sees itself."""
    a, b = 0.25, 0.5
    first, second = (torch.tensor([[[1 - x, x], [0.0, 1.0]]], dtype=torch.float64) for x in (a, b))
    expected = torch.tensor([[(1 - b / 2) * (1 - a / 2), (1 - b / 2) * a / 2 + b / 2], [0, 1]])
    torch.testing.assert_close(rollout([first, second]), expected.double(), atol=1e-15, rtol=0)


def test_two_layers_as_their_product():
    first, second = stochastic(2, 3, 4)
    eye = torch.eye(4)
    expected = 0.5 * (second.mean(0) + eye) @ (0.5 * (first.mean(0) + eye))
    torch.testing.assert_close(rollout([first, second]), expected)
    assert not torch.allclose(rollout([second, first]), expected)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6), st.integers(0, 99))
def test_rows_sum_to_one(layers, heads, length, seed):
    rolled = rollout(stochastic(layers, heads, length, seed))
    assert rolled.min() >= 0
    torch.testing.assert_close(rolled.sum(-1), torch.ones(length, dtype=torch.float64))


def test_a_token_that_attends_to_nothing_keeps_itself():
    weights = torch.tensor([[[0.0, 0.0], [0.5, 0.5]]])
    assert mixing(weights).tolist() == [[1, 0], [0.25, 0.75]]


def test_refuses_what_is_no_self_attention():
    with pytest.raises(ValueError, match="are \\(head, seq, seq\\), not \\(2, 3, 4\\)"):
        mixing(torch.rand(2, 3, 4))
    with pytest.raises(ValueError, match="there are no layers"):
        rollout([])
    with pytest.raises(ValueError, match="'cross' attention also read another sequence.*give kind='encoder'"):
        attention_rollout(T5Model(**TEXT), (IDS, [1]), kind="cross")


@pytest.mark.parametrize("name", MODELS)
def test_rollout_of_a_model(name):
    build, example = MODELS[name]
    model = build()
    rolled = attention_rollout(model, example)
    torch.testing.assert_close(rolled, rollout(maps_of(model, example)))
    torch.testing.assert_close(rolled.sum(-1), torch.ones(len(rolled), dtype=torch.float64))
    if name == "causal":
        assert torch.equal(rolled, rolled.tril())
    if name == "window":
        assert rolled[5, 1] == 0 < rolled[5, 2]  # three layers, one token back in each


@pytest.mark.parametrize("follow", [attention_rollout, attention_flow])
def test_one_map_is_held_at_a_time(follow, monkeypatch):
    model, maps, exact_weights = gpt(), [], recording.exact_weights

    def watched(*arguments):
        assert all(seen() is None for seen in maps)
        weights = exact_weights(*arguments)
        maps.append(weakref.ref(weights))
        return weights

    monkeypatch.setattr(recording, "exact_weights", watched)
    follow(model, IDS)
    assert len(maps) == 3


@pytest.mark.parametrize("name", MODELS)
def test_kernels_that_keep_their_weights_change_no_output(name):
    build, example = MODELS[name]
    model = build()
    inputs = (
        (example[None],) if name == "image" else tuple(map(row, example if name[0] == "e" else [example]))
    )
    attentions = next(iter(model.attentions().values()))
    own = [attention.kernel for attention in attentions]
    assert all(isinstance(kernel, FusedAttention) for kernel in own)
    expected = model(*inputs)
    with weights_in_graph(attentions) as kernels:
        output = model(*inputs)
    torch.testing.assert_close(output, expected, atol=1e-12, rtol=1e-12)
    for kernel, weights in zip(kernels, maps_of(model, example), strict=True):
        torch.testing.assert_close(kernel.weights[0], weights, atol=1e-12, rtol=0)
    assert [attention.kernel for attention in attentions] == own


def row(ids):
    return torch.tensor([ids])


def test_kernels_are_back_after_an_exception():
    model = gpt()
    own = [attention.kernel for attention in model.attentions()["self"]]

    def broken(output, kept):
        raise RuntimeError("no outcome")

    broken.has_slope = True
    with pytest.raises(RuntimeError, match="no outcome"):
        gradient_rollout(model, IDS, broken)
    assert all(a.kernel is kernel for a, kernel in zip(model.attentions()["self"], own, strict=True))
    assert model.training


@pytest.mark.parametrize("frozen", [False, True])
def test_gradient_against_one_written_by_hand(frozen):
    """Two layers without norms or feed-forward, computed step by step; only the weights are followed."""
    torch.manual_seed(2)
    x = torch.randn(5, 8, dtype=torch.float64)
    model = spread(GPTModel(11, 8, 2, 2, max_seq_len=8, positions="none", bias=False, d_ff=8))
    model.norm = torch.nn.Identity()
    for block in model.blocks:
        block.norm1 = torch.nn.Identity()
        torch.nn.init.zeros_(block.feed_forward.down_proj.weight)
    model.token_embedding.weight.data[:5] = x
    model.requires_grad_(not frozen)

    def heads(linear, h):
        return linear(h).view(5, 2, 4).transpose(0, 1)

    stream, maps = x, []
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    for block in model.blocks:
        a = block.attention
        q, k, v = heads(a.q_proj, stream), heads(a.k_proj, stream), heads(a.v_proj, stream)
        weights = attention_weights(q, k, mask, None, None)
        weights = weights.detach().requires_grad_() if frozen and not maps else weights
        maps.append(weights)
        stream = stream + a.out_proj((weights @ v).transpose(0, 1).flatten(1))
    value = model.lm_head(stream)[3].log_softmax(-1)[7]
    slopes = torch.autograd.grad(value, maps)
    expected = torch.eye(5, dtype=torch.float64)
    for weights, slope in zip(maps, slopes, strict=True):
        expected = expected + (weights * slope).clamp(min=0).mean(0).detach() @ expected
    found = gradient_rollout(model, [0, 1, 2, 3, 4], NextTokenProbability(3, 7))
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert float(found.tril(-1).sum()) > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_gradient_of_a_model(name):
    build, example = MODELS[name]
    model = build()
    with torch.no_grad():
        rolled = gradient_rollout(model, example)
    assert rolled.shape == attention_rollout(model, example).shape
    assert rolled.min() >= 0
    assert bool((rolled.diagonal() >= 1).all())
    assert float(rolled.sum()) > len(rolled)


def test_an_outcome_at_its_top_has_no_slope():
    model = spread(BERTModel(**TEXT))
    with pytest.raises(ValueError, match="BERTModel without a head .*Give outcome=Similarity"):
        gradient_rollout(model, IDS)
    other = model(torch.tensor([[7, 8, 9]]))[0].mean(0)
    assert float(gradient_rollout(model, IDS, Similarity(other.detach())).sum()) > len(IDS)


def test_relevance_is_the_row_that_the_outcome_is_read_from():
    rolled = torch.rand(4, 4)
    assert torch.equal(relevance_for(NextTokenProbability(2, 0), rolled), rolled[2])
    assert torch.equal(relevance_for(Similarity(torch.ones(3)), rolled), rolled.mean(0))


def test_outcomes_suit_what_a_model_can_do():
    def outcome(model, example=IDS, **choice):
        inputs = (torch.tensor([example]),)
        return outcome_of(model, inputs, model(*inputs), **choice)

    causal = gpt()
    found = outcome(causal)
    assert (found.position, found.depends_on(6)) == (5, [0, 1, 2, 3, 4])
    assert found.token == int(causal(torch.tensor([IDS]))[0, -1].argmax())
    assert outcome(causal, position=2, answer=9) == NextTokenProbability(2, 9)
    masked = spread(BERTModel(**TEXT, head="masked_lm"))
    assert outcome(masked, position=1, answer=3).depends_on(4) == [0, 2, 3]
    masked.tokenizer = SimpleNamespace(mask_token=4)
    assert outcome(masked).position == 2
    masked.tokenizer = None
    tagger = spread(BERTModel(**TEXT, head="token_classification", labels=3))
    assert outcome(tagger, position=4, answer=2).token == 2
    classifier = spread(BERTModel(**TEXT, head="classification", labels=3))
    assert outcome(classifier, answer=2).label == 2
    unknown = spread(BERTModel(**TEXT))
    unknown.head = torch.nn.Linear(24, 2)
    unknown.forward = lambda ids: unknown.hidden_states(ids)
    for model, choice, error, message in (
        (unknown, {}, TypeError, "no outcome is known for a BERTModel with a Linear: give one"),
        (gpt(), {"position": 6}, ValueError, "position 6 does not exist: positions are 0 to 5"),
        (gpt(), {"answer": 40}, ValueError, "answer 40 does not exist: ids are 0 to 39"),
        (masked, {}, ValueError, "no mask to guess: give position="),
        (tagger, {}, ValueError, "each token has a class of its own: give position="),
        (classifier, {"position": 1}, TypeError, "give no position"),
        (spread(BERTModel(**TEXT)), {"answer": 1}, TypeError, "give neither position nor answer"),
    ):
        with pytest.raises(error, match=message):
            outcome(model, **choice)
