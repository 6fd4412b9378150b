"""Pruned models have the outputs of zero ablation, in fewer parameters."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer import save_pretrained
from glassformer.analysis.ablation import ablate
from glassformer.analysis.pruning import least_important, prune_heads
from glassformer.attention import all_heads, record_activations, record_attention
from glassformer.models import BERTModel, GPTModel, T5Model, TransformerModel, ViTModel
from glassformer.models.costs import describe
from glassformer.tokenization import ByteTokenizer

TEXT = {"vocab_size": 50, "d_model": 24, "num_layers": 3, "num_heads": 6}
IDS, TARGET = torch.arange(10).view(2, 5), torch.arange(6).view(2, 3)
MODELS = {
    "learned": (GPTModel, TEXT, (IDS,)),
    "rotary": (GPTModel, {**TEXT, "positions": {"kind": "rotary", "pairing": "interleaved"}}, (IDS,)),
    "alibi": (GPTModel, {**TEXT, "positions": "alibi", "window": 3}, (IDS,)),
    "relative_bias": (GPTModel, {**TEXT, "positions": "relative_bias", "bias": False}, (IDS,)),
    "textbook": (GPTModel, {**TEXT, "kernel": "textbook", "residual": "parallel"}, (IDS,)),
    "norm of queries and keys": (GPTModel, {**TEXT, "qk_norm": "head", "output_norm": True}, (IDS,)),
    "norm per head": (GPTModel, {**TEXT, "qk_norm": "per_head", "window": [2, None, 3]}, (IDS,)),
    "softcap": (GPTModel, {**TEXT, "attention_softcap": 2.0, "norm": "unit_offset_rms"}, (IDS,)),
    "bert": (BERTModel, TEXT, (IDS,)),
    "t5": (T5Model, {**TEXT, "num_decoder_layers": 3}, (IDS, TARGET)),
    "vit": (
        ViTModel,
        {
            "image_size": 8,
            "patch_size": 4,
            "d_model": 24,
            "num_layers": 3,
            "num_heads": 6,
            "layer_scale": 0.5,
        },
        (torch.randn(2, 3, 8, 8),),
    ),
}
some_heads = st.sets(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=12).filter(
    lambda heads: all(sum(layer == n for layer, _ in heads) < 6 for n in range(3))
)


def build(name, **options):
    family, sizes, inputs = MODELS[name]
    torch.manual_seed(0)
    model = family(**{**sizes, **options}).double().eval()
    for parameter in model.parameters():  # also biases and classifiers, which are initialized to zero
        torch.nn.init.normal_(parameter, std=0.2)
    return model, tuple(x.double() if x.is_floating_point() else x for x in inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=6)
@given(heads=some_heads, data=st.data())
@torch.no_grad()
def test_pruning_gives_the_outputs_of_ablation(name, heads, data):
    model, inputs = build(name)
    kind = data.draw(st.sampled_from(sorted(model.attentions())))
    with ablate(model, heads, kind=kind):
        ablated = model(*inputs)
    smaller = prune_heads(model, heads, kind)
    torch.testing.assert_close(smaller(*inputs), ablated, atol=1e-12, rtol=0)
    if heads:
        assert not torch.allclose(ablated, model(*inputs), atol=1e-6)
    single = [_single(x) for x in inputs]
    with ablate(model.float(), heads, kind=kind):
        ablated = model(*single)
    furthest = (smaller.float()(*single) - ablated).abs().max()
    assert furthest <= 1e-6 * ablated.abs().max().clamp(min=1)
    biased = model.attentions()[kind][0].q_proj.bias is not None
    of_a_head = 4 * 24 * 4 + (3 * 4 if biased else 0) + (4 * 4 if name == "norm per head" else 0)
    assert model.num_parameters() - smaller.num_parameters() == len(heads) * of_a_head


def _single(x):
    return x.float() if x.is_floating_point() else x


@pytest.mark.slow
@settings(max_examples=10)
@given(groups=st.sets(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=6))
def test_any_heads_that_share_keys_can_be_pruned_together(groups):
    groups = {(layer, group) for layer, group in groups if group != layer}  # one of each layer is kept
    heads = [(layer, head) for layer, group in groups for head in (2 * group, 2 * group + 1)]
    for name in ("rotary", "alibi", "relative_bias"):
        model, inputs = build(name, num_kv_heads=3)
        smaller = prune_heads(model, heads)
        with ablate(model, heads):
            torch.testing.assert_close(smaller(*inputs), model(*inputs), atol=1e-12, rtol=1e-12)
        of_a_group = 24 * 4 * (2 + 2 + 2) + (0 if name == "relative_bias" else 4 * 4)
        assert model.num_parameters() - smaller.num_parameters() == len(groups) * of_a_group


def test_heads_that_share_keys_must_be_pruned_together():
    model, inputs = build("rotary", num_kv_heads=2)
    heads = [(1, 0), (1, 1), (1, 2)]
    smaller = prune_heads(model, heads)
    attention = smaller.attentions()["self"][1]
    assert (attention.num_heads, attention.num_kv_heads, attention.head_numbers) == (3, 1, [3, 4, 5])
    with ablate(model, heads):
        torch.testing.assert_close(smaller(*inputs), model(*inputs), atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="heads 3, 4 and 5 of layer 1 share one key.*prune 5 too, or none"):
        prune_heads(model, [(1, 3), (1, 4)])


def test_heads_keep_their_numbers_when_a_model_is_pruned_again():
    model, inputs = build("relative_bias")
    once = prune_heads(model, [(0, 1), (0, 4), (2, 0)])
    twice = prune_heads(once, [(0, 2), (1, 3)])
    assert twice.config["pruned_heads"] == {"self": [[1, 2, 4], [3], [0]]}
    together = prune_heads(model, [(0, 1), (0, 4), (2, 0), (0, 2), (1, 3)])
    assert torch.equal(twice(*inputs), together(*inputs))
    with pytest.raises(ValueError, match=r"head 4 does not exist in layer 0: heads are 0, 2, 3, 5 \("):
        prune_heads(once, [(0, 4)])


@pytest.mark.parametrize("num_kv_heads", [None, 3, 2])
@torch.no_grad()
def test_ablating_the_pruned_model_is_ablating_the_same_heads_of_the_whole_one(num_kv_heads):
    model, inputs = build("rotary", **({} if num_kv_heads is None else {"num_kv_heads": num_kv_heads}))
    size = 6 // (num_kv_heads or 6)
    first, last = [(0, head) for head in range(size)], [(0, head) for head in range(6 - size, 6)]
    smaller = prune_heads(model, first)
    remaining = all_heads(smaller.attentions()["self"])
    for head in remaining:
        with ablate(model, [*first, head]), ablate(smaller, [head]):
            torch.testing.assert_close(smaller(*inputs), model(*inputs), atol=1e-12, rtol=0)
    if len(remaining) > 15:  # a layer that may lose one more group
        importance = {"self": {head: float(head not in last) for head in remaining}}
        assert least_important(smaller, importance, (size + 0.5) / (18 - size)) == {"self": last}
    with record_activations(model, 0, [5, 3]) as whole, record_activations(smaller, 0, [5, 3]) as left:
        model(*inputs), smaller(*inputs)
    torch.testing.assert_close(left.head_outputs[0], whole.head_outputs[0])


def test_the_given_model_is_not_changed_and_shares_no_parameters():
    model, inputs = build("learned")
    model.tokenizer = ByteTokenizer()
    before = model(*inputs)
    smaller = prune_heads(model, [(1, 2)])
    assert smaller.tokenizer is model.tokenizer
    with torch.no_grad():
        for parameter in smaller.parameters():
            parameter.zero_()
    assert torch.equal(model(*inputs), before)
    assert smaller.lm_head.weight is smaller.token_embedding.weight


@pytest.mark.parametrize("name", ["alibi", "bert", "t5", "vit"])
def test_a_pruned_model_is_saved_and_loaded(name, tmp_path):
    model, inputs = build(name)
    smaller = prune_heads(model.float(), [(0, 1), (2, 5)], next(iter(model.attentions())))
    smaller.save_pretrained(tmp_path)
    again = TransformerModel.from_pretrained(tmp_path)
    inputs = tuple(_single(x) for x in inputs)
    assert torch.equal(again(*inputs), smaller(*inputs))
    with pytest.raises(ValueError, match="a model with pruned heads cannot be saved"):
        save_pretrained(smaller, tmp_path / "hf", format="huggingface")


def test_a_checkpoint_without_the_pruned_heads_key_is_loaded(tmp_path):
    model, inputs = build("learned")
    model.float().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["pruned_heads"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert torch.equal(TransformerModel.from_pretrained(tmp_path)(*inputs), model(*inputs))


@pytest.mark.parametrize("kind", ["learned", "rotary", "alibi"])
def test_generation_is_the_same_with_and_without_a_cache(kind):
    smaller = prune_heads(build(kind)[0].float(), [(0, 0), (1, 2), (1, 5)])
    cached = smaller.generate([[1, 2, 3], [4, 5]], 5, temperature=0)
    assert cached == smaller.generate([[1, 2, 3], [4, 5]], 5, temperature=0, use_cache=False)


def test_beam_search_with_a_pruned_encoder_decoder():
    model, _ = build("t5")
    heads = [(0, 0), (1, 1), (2, 2)]
    smaller = prune_heads(prune_heads(model, heads, "decoder"), heads, "cross")
    with ablate(model, heads, kind="decoder"), ablate(model, heads, kind="cross"):
        expected = model.generate([[1, 2, 3]], 5, num_beams=3)
    assert smaller.generate([[1, 2, 3]], 5, num_beams=3) == expected


def test_recording_numbers_the_remaining_heads():
    model, inputs = build("alibi")
    smaller = prune_heads(model, [(1, 0), (1, 3)])
    with record_attention(model) as whole, record_attention(smaller) as left:
        model(*inputs), smaller(*inputs)
    torch.testing.assert_close(left[0], whole[0])
    assert left[1].shape[1] == 4
    maps = smaller.attentions()["self"][0].get_attention_maps
    assert maps(torch.randn(1, 3, 24).double()).shape == (1, 6, 3, 3)


def test_a_pruned_model_can_be_trained():
    smaller = prune_heads(build("relative_bias")[0].train(), [(0, 0), (1, 1)])
    assert smaller.training
    smaller(IDS).square().sum().backward()
    assert all(parameter.grad is not None for parameter in smaller.parameters())


def test_costs_of_a_pruned_model():
    model, _ = build("learned")
    smaller = prune_heads(model.float(), [(0, 0), (0, 1)])
    whole, left = describe(model, seq_len=8), describe(smaller, seq_len=8)
    assert sum(cost.parameters for cost in left) == smaller.num_parameters()
    assert sum(c.flops for c in whole) - sum(c.flops for c in left) == 2 * (
        4 * 8 * 24 * 4 * 2 + 2 * 8 * 8 * 4 * 2
    )


def test_invalid_heads_raise_errors():
    model, _ = build("learned")
    with pytest.raises(ValueError, match="layer 3 does not exist: layers are 0 to 2"):
        prune_heads(model, [(3, 0)])
    with pytest.raises(ValueError, match="head 6 does not exist in layer 1: heads are 0 to 5"):
        prune_heads(model, [(1, 6)])
    with pytest.raises(
        ValueError, match="the heads of layer 1 cannot all be pruned: at least one of 6 must stay"
    ):
        prune_heads(model, [(1, head) for head in range(6)])
    with pytest.raises(ValueError, match="several kinds"):
        prune_heads(build("t5")[0], [(0, 0)])
    with pytest.raises(ValueError, match="pruned_heads.*must be 3 lists"):
        GPTModel(**TEXT, pruned_heads={"self": [[0]]})
    with pytest.raises(TypeError, match="must be a list of heads for each layer"):
        GPTModel(**TEXT, pruned_heads={"self": [0, 1, 2]})
    with pytest.raises(TypeError, match="must be a mapping"):
        GPTModel(**TEXT, pruned_heads=[[0]])
    with pytest.raises(ValueError, match="kind of attention in pruned_heads"):
        GPTModel(**TEXT, pruned_heads={"cross": [[0], [], []]})
    with pytest.raises(TypeError, match="heads must be ints, not True"):
        GPTModel(**TEXT, pruned_heads={"self": [[True], [], []]})


def importance_of(sizes):
    return {
        (layer, head): float(10 * layer + head) for layer, size in enumerate(sizes) for head in range(size)
    }


def test_the_least_important_heads_are_pruned_first_but_one_of_each_layer_is_kept():
    model, _ = build("learned")
    importance = {"self": importance_of([6, 6, 6])}
    assert least_important(model, importance, 0.2) == {"self": [(0, 0), (0, 1), (0, 2)]}
    chosen = least_important(model, importance, 0.4)["self"]
    assert chosen == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1)]
    grouped, _ = build("rotary", num_kv_heads=3)
    assert least_important(grouped, importance, 0.2) == {"self": [(0, 0), (0, 1)]}
    for fraction in (0, 1, 0.01, -1):
        with pytest.raises(ValueError, match="fraction of 18 heads"):
            least_important(model, importance, fraction)
    with pytest.raises(ValueError, match="head 2.0 of self attention has no importance"):
        least_important(model, {"self": importance_of([6, 6])}, 0.5)


def test_heads_that_are_normalized_together_cannot_be_pruned():
    model = GPTModel(**TEXT, qk_norm="projection")
    with pytest.raises(ValueError, match="heads whose queries are normalized together cannot be pruned"):
        prune_heads(model, [(0, 1)])
