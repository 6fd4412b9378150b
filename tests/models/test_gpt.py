"""GPTModel."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from glassformer.attention import KVCache, causal, prefix
from glassformer.models import GPTModel


def small(**options):
    sizes = {"vocab_size": 31, "d_model": 16, "num_layers": 2, "num_heads": 4, "max_seq_len": 8}
    return GPTModel(**{**sizes, **options})


def test_the_documented_calls_work():
    model = GPTModel(
        vocab_size=211, d_model=48, num_layers=2, num_heads=12, d_ff=96, max_seq_len=32, dropout=0.1
    ).eval()
    ids = torch.randint(0, 211, (2, 5))
    assert model(ids, attention_mask=torch.ones_like(ids)).shape == (2, 5, 211)
    assert model.generate(ids, max_new_tokens=7, temperature=0.8, top_k=50).shape == (2, 12)
    assert model.device == torch.device("cpu")


def test_is_the_gpt2_of_hugging_face_with_its_weights_copied():
    config = GPT2Config(vocab_size=67, n_embd=24, n_layer=3, n_head=4, n_positions=16)
    theirs = GPT2LMHeadModel(config).double().eval()
    ours = GPTModel(vocab_size=67, d_model=24, num_layers=3, num_heads=4, max_seq_len=16).double().eval()
    copy_gpt2(theirs.transformer, ours)
    ids = torch.randint(0, 67, (2, 16))
    torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-10, rtol=0)


def copy_gpt2(theirs, ours):
    """Hugging Face keeps projections transposed, and q, k, v in one matrix."""

    def linear(source, target):
        target.weight.copy_(source.weight.T)
        target.bias.copy_(source.bias)

    with torch.no_grad():
        ours.token_embedding.weight.copy_(theirs.wte.weight)
        ours.positions.embedding.weight.copy_(theirs.wpe.weight)
        ours.norm.load_state_dict(theirs.ln_f.state_dict())
        for source, block in zip(theirs.h, ours.blocks, strict=True):
            block.norm1.load_state_dict(source.ln_1.state_dict())
            block.norm2.load_state_dict(source.ln_2.state_dict())
            projections = (block.attention.q_proj, block.attention.k_proj, block.attention.v_proj)
            width = ours.d_model
            for number, projection in enumerate(projections):
                columns = slice(number * width, (number + 1) * width)
                projection.weight.copy_(source.attn.c_attn.weight[:, columns].T)
                projection.bias.copy_(source.attn.c_attn.bias[columns])
            linear(source.attn.c_proj, block.attention.out_proj)
            linear(source.mlp.c_fc, block.feed_forward.up_proj)
            linear(source.mlp.c_proj, block.feed_forward.down_proj)


def test_starts_with_the_random_weights_of_gpt2():
    torch.manual_seed(0)
    model = GPTModel(vocab_size=1000, d_model=128, num_layers=8, num_heads=4, max_seq_len=200)
    deep = 0.02 / math.sqrt(2 * 8)
    expected = {
        "token_embedding.weight": 0.02,
        "positions.embedding.weight": 0.01,
        "blocks.3.attention.q_proj.weight": 0.02,
        "blocks.3.attention.out_proj.weight": deep,
        "blocks.3.feed_forward.up_proj.weight": 0.02,
        "blocks.3.feed_forward.down_proj.weight": deep,
    }
    for name, std in expected.items():
        assert model.get_parameter(name).std().item() == pytest.approx(std, rel=0.03), name
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name


def test_gradient_checkpointing_changes_memory_not_gradients():
    saved, gradients = [], []
    for flag in (False, True):
        torch.manual_seed(0)
        model = small(dropout=0.1, gradient_checkpointing=flag).train()
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: kept.append(t.numel()) or t, lambda t: t
        ):
            torch.manual_seed(1)
            loss = model(torch.arange(8)[None]).square().sum()
        loss.backward()
        saved.append(sum(kept))
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert saved[1] < saved[0] / 2
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_gradient_checkpointing_can_be_set_later():
    model = small().train()
    model.gradient_checkpointing = True
    model(torch.arange(8)[None]).sum().backward()
    assert model.token_embedding.weight.grad is not None


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["learned", "rotary", "alibi", "relative_bias"])
@pytest.mark.parametrize("mask", [None, torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1]])])
def test_compiles_into_one_graph(positions, mask):
    model = small(positions=positions)
    ids = torch.arange(8)[None]
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(ids, attention_mask=mask), model(ids, attention_mask=mask))


def test_a_cache_works_with_gradient_checkpointing():
    model = small(gradient_checkpointing=True).train()
    ids, cache = torch.arange(8)[None], model.make_cache(8)
    parts = [model(ids[:, :5], cache=cache), model(ids[:, 5:], cache=cache)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids))


@pytest.mark.parametrize("kernel", ["fused", "textbook"])
@pytest.mark.parametrize("positions", ["learned", "rotary", "alibi", "relative_bias"])
def test_runs_in_bfloat16(kernel, positions):
    model, ids = small(positions=positions, kernel=kernel), torch.arange(8)[None]
    expected = model(ids)
    torch.testing.assert_close(model.bfloat16()(ids).float(), expected, atol=0.05, rtol=0.1)


def test_ids_out_of_range_are_named():
    model = small()
    with pytest.raises(ValueError, match="token id 31 at position 2 of row 1 .* ids are 0 to 30"):
        model(torch.tensor([[0, 1, 2], [3, 4, 31]]))
    with pytest.raises(ValueError, match="token id -1 at position 0 of row 0"):
        model(torch.tensor([[-1]]))
    with pytest.raises(TypeError, match="integers, not torch.float32"):
        model(torch.tensor([[1.0]]))
    with pytest.raises(TypeError, match=r"torch\.bool"):
        model(torch.tensor([[True]]))
    with pytest.raises(ValueError, match=r"\(batch, seq\), not of shape \(3,\)"):
        model(torch.tensor([1, 2, 3]))


def test_a_text_longer_than_a_learned_table_raises():
    with pytest.raises(ValueError, match="position 8 is outside the learned table of 8"):
        small()(torch.zeros(1, 9, dtype=torch.long))
    for kind in ("sinusoidal", "rotary", "alibi", "relative_bias", "none"):
        assert small(positions=kind)(torch.zeros(1, 9, dtype=torch.long)).isfinite().all()


def test_attention_mask_must_cover_cached_tokens():
    model, ids = small(), torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"\(2, 3\), not \(2, 4\)"):
        model(ids, attention_mask=torch.ones(2, 4, dtype=torch.long))
    cache = model.make_cache(8)
    model(ids, cache=cache)
    with pytest.raises(ValueError, match=r"\(2, 6\) with the 3 cached tokens, not \(2, 3\)"):
        model(ids, attention_mask=torch.ones(2, 3, dtype=torch.long), cache=cache)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers must be positive, not 0"),
        ({"vocab_size": -1}, "vocab_size must be positive, not -1"),
        ({"d_model": 18}, "d_model=18 is not divisible by num_heads=4"),
        ({"num_kv_heads": 3}, "num_heads=4 is not divisible by num_kv_heads=3"),
        ({"d_model": 12, "positions": "rotary"}, "must be even.*not 3"),
        ({"d_model": 18, "positions": "rotary"}, "d_model=18 is not divisible by num_heads=4"),
        ({"d_ff": 0}, "d_ff must be positive, not 0"),
        ({"max_seq_len": 0}, "max_seq_len must be positive, not 0"),
        ({"norm": "layr"}, "unknown norm 'layr', did you mean 'layer'"),
        ({"activation": "swish"}, "unknown activation 'swish'"),
        ({"residual": "prre"}, "did you mean 'pre'"),
        ({"kernel": "flashy"}, "unknown kernel 'flashy'.*textbook, fused"),
        ({"positions": "rotery"}, "did you mean 'rotary'"),
        ({"dropout": 1.0}, r"dropout.*1\.0"),
    ],
)
def test_invalid_choices_raise(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_an_unknown_preset_suggests_the_nearest():
    with pytest.raises(ValueError, match="unknown gpt preset 'gpt2-midium', did you mean 'gpt2-medium'"):
        GPTModel.from_preset("gpt2-midium")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"window": 3}, {"window": 3, "kernel": "textbook"}])
def test_a_second_call_of_a_compiled_model_compiles_nothing(options):
    torch.compiler.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model, ids = small(**options).eval(), torch.arange(8)[None]
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for _ in range(3):
        torch.testing.assert_close(compiled(ids), model(ids))
    assert len(graphs) == 1
    torch.compiler.reset()


def test_a_mask_of_inference_mode_is_not_used_in_training():
    model, ids = small(kernel="textbook"), torch.arange(8)[None]
    with torch.inference_mode():
        model(ids)
    assert not model.pattern.mask(8).dense(8, 8).is_inference()
    model(ids).sum().backward()


@pytest.mark.parametrize("kernel", ["textbook", "fused", "flash", "block_sparse"])
@pytest.mark.parametrize(
    "options",
    [
        {"window": 4},
        {"pattern": {"kind": "sliding_window", "window": 3}, "positions": "alibi"},
        {"pattern": {"kind": "dilated_window", "window": 2, "dilation": 3}, "positions": "rotary"},
    ],
)
def test_a_window_keeps_the_last_keys_alone_and_gives_the_results_of_all(kernel, options):
    model = small(kernel=kernel, max_seq_len=40, **options).double().eval()
    ids = torch.randint(0, 31, (2, 40))
    expected, cache = model(ids), model.make_cache(40)
    full = [KVCache(40) for _ in model.blocks]
    pieces, whole = [], []
    for start, end in pairwise([0, 11, 12, 13, 14, 20, *range(21, 41)]):
        pieces.append(model(ids[:, start:end], cache=cache))
        whole.append(model(ids[:, start:end], cache=full))
    torch.testing.assert_close(torch.cat(pieces, 1), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.cat(whole, 1), expected, atol=1e-12, rtol=0)
    assert all(layer.read()[0].size(2) <= 2 * layer.window <= 8 for layer in cache)


def test_generation_beyond_the_window_is_that_of_a_full_cache():
    model = small(window=4, positions="rotary", max_seq_len=64)
    for options in ({"temperature": 0.0}, {"num_beams": 3}):
        cached = model.generate([[1, 2, 3], [5, 6]], max_new_tokens=30, **options)
        assert cached == model.generate([[1, 2, 3], [5, 6]], max_new_tokens=30, use_cache=False, **options)


@torch.no_grad()
def test_a_mask_replaces_the_causal_one():
    gpt = small(max_seq_len=16, positions="rotary").eval()
    ids = torch.randint(0, gpt.vocab_size, (2, 9))
    assert torch.equal(gpt(ids, mask=causal()), gpt(ids))
    mask = causal() | prefix(torch.tensor([4, 6]))
    logits = gpt(ids, mask=mask)
    changed = ids.clone()
    changed[:, 5] = (ids[:, 5] + 1) % gpt.vocab_size
    other = gpt(changed, mask=mask)
    torch.testing.assert_close(other[0, :5], logits[0, :5])  # slot 5 is behind the prefix of 4
    assert not torch.allclose(other[1, 0], logits[1, 0])  # and in that of 6
    padded = torch.nn.functional.pad(ids, (0, 3))
    attention_mask = torch.tensor([[1] * 9 + [0] * 3] * 2)
    torch.testing.assert_close(gpt(padded, attention_mask, mask=mask)[:, :9], logits)


def test_a_mask_for_a_model_with_a_window_is_refused():
    model = small(window=4)
    with pytest.raises(ValueError, match="mask replaces the window of 4: build the model without one"):
        model(torch.zeros(1, 4, dtype=torch.long), mask=causal())
