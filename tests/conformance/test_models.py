"""Conformance of language models. Add a model to ``MODELS``."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.attention import KERNELS
from glassformer.layers import BLOCKS, FEED_FORWARDS, NORMS
from glassformer.models import GPTModel, TransformerModel
from glassformer.positions.build import SCHEMES

SIZES = {"vocab_size": 43, "d_model": 24, "num_layers": 3, "num_heads": 6, "d_ff": 40, "max_seq_len": 16}
MODELS = {
    **{f"positions={kind}": {"positions": kind} for kind in SCHEMES},
    **{f"norm={kind}": {"norm": kind} for kind in NORMS},
    **{f"activation={kind}": {"activation": kind} for kind in FEED_FORWARDS},
    **{f"residual={kind}": {"residual": kind} for kind in BLOCKS},
    "textbook kernel": {"kernel": "textbook"},
    "grouped-query": {"num_kv_heads": 2},
    "multi-query, wide heads": {"num_kv_heads": 1, "d_head": 10},
    "untied, no biases": {"tie_embeddings": False, "bias": False},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "Llama's parts": {
        "positions": {"kind": "rotary", "theta": 5e5, "pairing": "interleaved"},
        "norm": "rms",
        "activation": "swiglu",
        "num_kv_heads": 3,
        "bias": False,
    },
    "Qwen3's parts": {"qk_norm": "head", "norm": "rms", "positions": "rotary", "num_kv_heads": 2},
    "StableLM 2's parts": {"qk_norm": {"kind": "per_head", "bias": False}, "residual": "parallel_shared"},
    "OLMo 2's parts": {"qk_norm": "projection", "norm": "rms", "input_norm": False, "output_norm": True},
    "Gemma 2's parts": {
        "norm": "unit_offset_rms",
        "output_norm": True,
        "attention_softcap": 2.0,
        "logit_softcap": 20.0,
        "scale_embeddings": True,
        "window": [3, None, 4],
        "positions": "rotary",
    },
    "Gemma 3's parts": {
        "qk_norm": "head",
        "positions": [{"kind": "rotary", "theta": 50.0}, "rotary", "none"],
        "window": [4, None, None],
    },
    "softcap, flash": {"attention_softcap": 0.5, "kernel": {"kind": "flash", "query_tile": 2, "key_tile": 3}},
    "Granite's parts": {"residual_scale": 0.3, "scale_embeddings": 3.0, "logit_scale": 0.4},
    "OPT's parts": {
        "d_embedding": 10,
        "positions": {"kind": "learned", "offset": 2},
        "residual": "post",
        "norm_bias": False,
    },
    "BLOOM's parts": {"embedding_norm": True, "positions": "alibi", "window": [None, 3, 2]},
    "Phi's parts": {"head_bias": True, "tie_embeddings": False, "qk_norm": "head"},
    "LongRoPE": {
        "positions": {
            "kind": "rotary",
            "scaling": {
                "kind": "longrope",
                "short_factors": [1.0, 1.5],
                "long_factors": [1.0, 4.0],
                "original_max_seq_len": 64,
                "factor": 4.0,
            },
        }
    },
    "pruned, norm per head": {"qk_norm": "per_head", "pruned_heads": {"self": [[0], [], [1, 2]]}},
    "sliding window": {"window": 4},
    "sliding window, grouped-query": {"window": 3, "num_kv_heads": 2, "positions": "rotary"},
    "sliding window, ALiBi, block-sparse": {"window": 3, "positions": "alibi", "kernel": "block_sparse"},
    "sliding window, learned bias": {"window": 4, "positions": "relative_bias"},
    "Longformer": {
        "pattern": {"kind": "longformer", "window": 4, "global_tokens": [0, 2]},
        "kernel": {"kind": "block_sparse", "block_size": 2},
    },
    "BigBird": {
        "pattern": {
            "kind": "big_bird",
            "window": 2,
            "global_tokens": [1],
            "random_blocks": 1,
            "block_size": 2,
        },
        "kernel": {"kind": "block_sparse", "block_size": 4, "key_block_size": 2},
    },
    "flash, grouped-query, ALiBi, pruned": {
        "kernel": {"kind": "flash", "query_tile": 2, "key_tile": 3},
        "positions": "alibi",
        "num_kv_heads": 3,
        "pruned_heads": {"self": [[0, 1], [2, 3, 4, 5], []]},
    },
    "linear, rotary": {
        "kernel": {"kind": "linear", "chunk_size": 4},
        "positions": "rotary",
        "num_kv_heads": 3,
    },
    "linear, FAVOR+": {"kernel": {"kind": "linear", "feature_map": "favor", "num_features": 16}},
    "biases of queries, keys and values alone": {"bias": False, "qkv_bias": True, "norm": "rms"},
    "rotary, scaled": {
        "positions": {"kind": "rotary", "scaling": {"kind": "yarn", "factor": 4, "original_max_seq_len": 8}}
    },
    "rotary, scaled as the text grows": {
        "positions": {
            "kind": "rotary",
            "scaling": {"kind": "dynamic", "factor": 2, "original_max_seq_len": 64},
        }
    },
    "NeoX's parts": {"positions": {"kind": "rotary", "d_rotary": 2}, "residual": "parallel"},
    "pruned, ALiBi": {"positions": "alibi", "pruned_heads": {"self": [[1, 4], [], [0, 1, 2, 3, 5]]}},
    "pruned, learned bias": {"positions": "relative_bias", "pruned_heads": {"self": [[], [2], [0, 5]]}},
    "pruned, grouped-query": {"num_kv_heads": 3, "pruned_heads": {"self": [[0, 1], [2, 3, 4, 5], []]}},
}
models = pytest.mark.parametrize("parts", MODELS)


def build(parts, **overrides):
    torch.manual_seed(1)
    model = GPTModel(**{**SIZES, **MODELS[parts], **overrides}).double()
    for parameter in model.parameters():  # so that biases and norms count
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def tokens(*shape):
    return torch.randint(0, SIZES["vocab_size"], shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.slow
@models
@given(cuts=st.lists(st.integers(1, 8), max_size=3, unique=True), changed=st.integers(0, 8))
@settings(max_examples=8)
def test_logits_are_causal_for_any_state_of_the_cache(parts, cuts, changed):
    model, ids = build(parts), tokens(2, 9)
    other = ids.clone()
    other[:, changed] = (other[:, changed] + 1) % SIZES["vocab_size"]

    def logits(ids):
        cache, pieces, start = model.make_cache(9), [], 0
        for end in [*sorted(cuts), 9]:
            pieces.append(model(ids[:, start:end], cache=cache))
            start = end
        return torch.cat(pieces, dim=1)

    before, after = logits(ids), logits(other)
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert not torch.allclose(before[:, changed], after[:, changed])


@pytest.mark.slow
@models
@given(
    cuts=st.lists(st.integers(1, 8), max_size=4, unique=True), left=st.integers(0, 3), right=st.integers(0, 3)
)
@settings(max_examples=8)
def test_with_and_without_cache_and_padding_the_logits_agree(parts, cuts, left, right):
    model, ids = build(parts), tokens(2, 9)
    expected = model(ids)
    real = torch.cat([torch.zeros(2, left), torch.ones(2, 9), torch.zeros(2, right)], dim=1).long()
    padded = torch.cat([tokens(2, left), ids, tokens(2, right)], dim=1)
    whole = model(padded, attention_mask=real)[:, left : left + 9]
    torch.testing.assert_close(whole, expected, atol=1e-10, rtol=0)
    cache, pieces, start = model.make_cache(padded.size(1)), [], 0
    for end in [*sorted(cuts), padded.size(1)]:
        pieces.append(model(padded[:, start:end], attention_mask=real[:, :end], cache=cache))
        start = end
    cached = torch.cat(pieces, dim=1)[:, left : left + 9]
    torch.testing.assert_close(cached, expected, atol=1e-10, rtol=0)


@pytest.mark.slow
@models
def test_padding_of_a_row_does_not_affect_others(parts):
    model, ids = build(parts), tokens(3, 7)
    mask = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]])
    for given_mask in (mask, mask.bool()):
        logits = model(ids, attention_mask=given_mask)
        torch.testing.assert_close(logits[0], model(ids[:1])[0])
        torch.testing.assert_close(logits[1, 2:], model(ids[1:2, 2:])[0])
        torch.testing.assert_close(logits[2, :4], model(ids[2:, :4])[0])
    assert torch.equal(model(ids, attention_mask=torch.ones_like(ids)), model(ids))


INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.uint64]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_ids_and_masks_may_be_integers_of_any_type(dtype):
    model, ids = build("positions=learned"), tokens(2, 7)
    mask = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 0]])
    assert torch.equal(model(ids.to(dtype), mask.to(dtype)), model(ids, mask))
    if dtype.is_signed:
        with pytest.raises(ValueError, match="token id -1 at position 0 of row 0 is outside the vocabulary"):
            model(torch.full((1, 2), -1, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("token_id", [-1, SIZES["vocab_size"]])
def test_a_wrong_id_after_a_cache_raises_and_leaves_the_cache_unchanged(dtype, token_id):
    model, ids = build("positions=learned").to(dtype), tokens(2, 7)
    cache = model.make_cache(9)
    with torch.no_grad():
        model(ids, cache=cache)
        wrong = torch.tensor([[1], [token_id]])
        with pytest.raises(ValueError, match=f"token id {token_id} at position 0 of row 1 is outside"):
            model(wrong, cache=cache)
    assert cache[0].length == 7


@models
def test_gradients_reach_every_parameter(parts):
    model = build(parts).train()
    ids = torch.arange(32).view(2, 16) % SIZES["vocab_size"]
    F.cross_entropy(model(ids).flatten(0, 1), tokens(2, 16).flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith("k_proj.bias"):  # adds the same to all scores of a query
            reached = parameter.grad.abs().sum()
            assert reached > 0, name


@pytest.mark.slow
@models
def test_fast_kernels_give_the_logits_and_gradients_of_the_textbook(parts):
    ids, targets = tokens(2, 9), tokens(2, 9).flatten()
    reference = build(parts, kernel="textbook")
    expected = reference(ids)
    F.cross_entropy(expected.flatten(0, 1), targets).backward()
    for kernel in [kernel for kernel in KERNELS if kernel != "linear"]:
        model = build(parts, kernel=kernel)
        logits = model(ids)
        torch.testing.assert_close(logits, expected, atol=1e-10, rtol=1e-8)
        F.cross_entropy(logits.flatten(0, 1), targets).backward()
        for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-10, rtol=1e-8)


def assert_same_tensors(again, model):
    there, here = again.state_dict(), model.state_dict()
    assert list(there) == list(here)
    assert [name for name in here if not torch.equal(there[name], here[name])] == []


@pytest.mark.slow
@models
def test_saving_and_loading_gives_the_same_model(parts, tmp_path):
    model = build(parts)
    model.save_pretrained(tmp_path / "new" / "folder")
    for family in (type(model), TransformerModel):
        again = family.from_pretrained(tmp_path / "new" / "folder")
        assert type(again) is type(model)
        assert again.config == model.config
        assert_same_tensors(again, model)
        # Products of the same numbers may differ in their last bits where these lie otherwise in memory.
        torch.testing.assert_close(again(tokens(2, 9)), model(tokens(2, 9)), rtol=0, atol=1e-12)
        assert again.num_parameters() == model.num_parameters()
        assert [name for name, _ in again.named_parameters()] == [
            name for name, _ in model.named_parameters()
        ]


@models
def test_copies_give_the_same_logits_and_share_no_parameters(parts):
    model, ids, file = build(parts), tokens(2, 9), io.BytesIO()
    expected = model(ids)
    torch.save(model, file)
    file.seek(0)
    for copied in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert torch.equal(copied(ids), expected)
        for name, source in copied.tied_parameters().items():
            assert copied.get_parameter(name) is copied.get_parameter(source)
        for parameter in copied.parameters():
            torch.nn.init.zeros_(parameter)
    assert torch.equal(model(ids), expected)


@pytest.mark.slow
@models
def test_overfits_a_small_batch(parts):
    torch.manual_seed(0)
    model = GPTModel(**{**SIZES, **MODELS[parts]})
    ids = tokens(4, 9)
    ids[:, 0] = torch.arange(4)  # rows that start alike could not be told apart
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for step in range(500):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1.0, (step + 1) / 20)
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        if loss.item() < 0.01:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01


def test_an_untrained_model_predicts_uniformly():
    torch.manual_seed(0)
    model = GPTModel(**SIZES)
    loss = F.cross_entropy(model(tokens(8, 16)).flatten(0, 1), tokens(8, 16).flip(0).flatten())
    assert abs(loss.item() - math.log(SIZES["vocab_size"])) < 0.1
