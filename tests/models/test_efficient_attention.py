"""Models with kernels and patterns for long texts: configuration, recording, saving, and errors."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from glassformer.analysis.decomposition import score_parts
from glassformer.analysis.inputs import model_inputs
from glassformer.analysis.rollout import attention_rollout, gradient_rollout
from glassformer.attention import (
    BlockSparseAttention,
    FlashAttention,
    LinearAttention,
    LinearStateCache,
    SlidingWindowCache,
    attentions_of,
    causal,
    record_attention,
)
from glassformer.models import BERTModel, GPTModel, T5Model, TransformerModel, ViTModel
from glassformer.pretrained import save_pretrained

TEXT = {"vocab_size": 31, "d_model": 16, "num_layers": 2, "num_heads": 4, "max_seq_len": 24}
IMAGE = {"image_size": 12, "patch_size": 4, "num_channels": 1, "d_model": 16, "num_layers": 2, "num_heads": 4}
KERNELS = {
    "flash": FlashAttention,
    "block_sparse": BlockSparseAttention,
    "linear": LinearAttention,
}
LONGFORMER = {"kind": "longformer", "window": 4, "global_tokens": [0, 3]}


def kernels_of(model):
    return [attention.kernel for kind in attentions_of(model).values() for attention in kind]


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("family", [GPTModel, BERTModel, T5Model, ViTModel])
def test_every_family_takes_every_kernel_and_a_folder_keeps_it(kind, family, tmp_path):
    sizes = IMAGE if family is ViTModel else {**TEXT, "positions": "rotary"}
    options = {"linear": {"feature_map": "favor", "num_features": 6, "seed": 2}}.get(kind, {})
    model = family(**sizes, kernel={"kind": kind, **options}, dropout=0.1).eval()
    assert all(type(kernel) is KERNELS[kind] for kernel in kernels_of(model))
    model.save_pretrained(tmp_path)
    loaded = TransformerModel.from_pretrained(tmp_path)
    assert loaded.config.kernel == {"kind": kind, **options}
    inputs = {
        GPTModel: (torch.arange(9)[None],),
        BERTModel: (torch.arange(9)[None],),
        T5Model: (torch.arange(9)[None], torch.arange(5)[None]),
        ViTModel: (torch.rand(1, 1, 12, 12),),
    }[family]
    assert torch.equal(loaded(*inputs), model(*inputs))


@pytest.mark.parametrize("family", [GPTModel, BERTModel, T5Model])
def test_a_folder_keeps_the_pattern(family, tmp_path):
    model = family(**TEXT, pattern=LONGFORMER, kernel="block_sparse").eval()
    model.save_pretrained(tmp_path / "pattern")
    loaded = TransformerModel.from_pretrained(tmp_path / "pattern")
    assert loaded.config.pattern == LONGFORMER
    inputs = (
        (torch.arange(20)[None], torch.arange(20)[None]) if family is T5Model else (torch.arange(20)[None],)
    )
    assert torch.equal(loaded(*inputs), model(*inputs))
    assert not torch.allclose(family(**TEXT).eval()(*inputs), model(*inputs))
    plain = family(**TEXT)
    plain.save_pretrained(tmp_path / "plain")
    assert "pattern" not in (tmp_path / "plain" / "config.json").read_text("utf-8")  # as version 0.1 has it


@pytest.mark.parametrize("kernel", ["textbook", "fused", *KERNELS])
def test_maps_and_recordings_show_the_weights_of_the_kernel(kernel):
    model = GPTModel(**TEXT, positions="rotary", kernel=kernel).double().eval()
    ids, weights = torch.randint(0, 31, (2, 9)), {}
    attention = model.blocks[1].attention
    attention.kernel.register_forward_pre_hook(lambda _, args: weights.update(args=args))
    expected_logits = model(ids)
    with record_attention(model, layers=1, heads=[2, 0]) as recording:
        assert torch.equal(model(ids), expected_logits)
    q, k, v, mask, bias = weights["args"]
    own = attention.kernel.weights(q, k, mask, bias)
    torch.testing.assert_close(recording[1], own[:, [2, 0]], atol=1e-12, rtol=0)
    torch.testing.assert_close(own @ v, attention.kernel(q, k, v, mask, bias)[0], atol=1e-12, rtol=0)
    x = torch.randn(1, 7, 16, dtype=torch.float64)
    maps = attention.get_attention_maps(x, mask=causal())
    torch.testing.assert_close(maps.sum(-1), torch.ones(1, 4, 7, dtype=torch.float64))
    with record_attention(model, layers=1, queries=[3, 8]) as some:
        model(ids)
    torch.testing.assert_close(some[1], own[:, :, [3, 8]], atol=1e-12, rtol=0)


@pytest.mark.parametrize("options", [{"window": 3}, {"window": 3, "positions": "alibi", "kernel": "flash"}])
def test_a_recording_with_a_window_cache_has_the_columns_of_all_tokens(options):
    model = GPTModel(**TEXT, **options).double().eval()
    ids = torch.randint(0, 31, (2, 12))
    with record_attention(model) as whole:
        model(ids)
    cache = model.make_cache(12)
    assert all(isinstance(layer, SlidingWindowCache) for layer in cache)
    with record_attention(model) as recording:
        for start, end in ((0, 5), (5, 6), (6, 7), (7, 11), (11, 12)):
            model(ids[:, start:end], cache=cache)
    for layer in whole:
        torch.testing.assert_close(recording[layer], whole[layer], atol=1e-12, rtol=0)
        allowed = recording.allowed[layer].expand_as(recording[layer])
        assert torch.equal(allowed[..., :, :], (whole.allowed[layer]).expand_as(allowed))


@pytest.mark.parametrize("kernel", ["fused", "flash", "block_sparse"])
@pytest.mark.parametrize(
    "options",
    [
        {"window": 6, "pattern": {"kind": "longformer", "window": 4, "global_tokens": [0]}},
        {"window": 9, "pattern": {"kind": "big_bird", "window": 2, "random_blocks": 1, "block_size": 2}},
        {"window": 3, "pattern": {"kind": "dilated_window", "window": 3, "dilation": 2}},
    ],
)
def test_a_window_joined_with_a_pattern_generates_what_a_pass_without_cache_does(kernel, options):
    model = GPTModel(**TEXT, kernel=kernel, positions="rotary", **options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    prompts = [[1, 2, 3, 4, 5, 6, 7, 8], [5, 6, 4]]
    cached = model.generate(prompts, max_new_tokens=14, temperature=0.0)
    assert cached == model.generate(prompts, max_new_tokens=14, temperature=0.0, use_cache=False)


@pytest.mark.slow
def test_compiled_linear_attention_forms_no_table():
    model, largest = GPTModel(**{**TEXT, "max_seq_len": 1024}, kernel="linear", num_kv_heads=2), [0]

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest[0] = max(largest[0], result.numel())
            return result

    compiled = torch.compile(model.hidden_states, backend="eager")
    ids = torch.zeros(1, 1024, dtype=torch.long)
    with torch.no_grad():
        compiled(ids)
        with Watch():
            compiled(ids)
    assert 1024 <= largest[0] < 1024**2
    torch.compiler.reset()


def test_printing_a_model_shows_the_options_of_its_kernels():
    assert "query_tile=256, key_tile=256, implementation='auto'" in str(GPTModel(**TEXT, kernel="flash"))
    assert "block_size=64, key_block_size=16" in str(GPTModel(**TEXT, kernel="block_sparse"))
    kernel = {"kind": "linear", "feature_map": "favor", "num_features": 8}
    shown = "feature_map='favor', num_features=8, seed=0, chunk_size=128"
    assert shown in str(GPTModel(**TEXT, kernel=kernel))
    assert "LinearAttention(feature_map='elu', chunk_size=128)" in str(GPTModel(**TEXT, kernel="linear"))


def test_the_old_name_of_the_causal_mask_warns():
    with pytest.warns(DeprecationWarning, match="pattern.mask"):
        mask = GPTModel(**TEXT).causal_mask
    assert torch.equal(mask.dense(3, 3), torch.ones(3, 3).tril().bool())


@pytest.mark.parametrize("kernel", ["textbook", "fused", "flash", "block_sparse", "linear"])
def test_an_empty_text_has_no_logits(kernel):
    assert GPTModel(**TEXT, kernel=kernel)(torch.zeros(1, 0, dtype=torch.long)).shape == (1, 0, 31)


def test_steps_with_a_state_cannot_be_recorded():
    model = GPTModel(**TEXT, kernel="linear").eval()
    cache = model.make_cache(9)
    assert all(isinstance(layer, LinearStateCache) for layer in cache)
    with record_attention(model) as recording:
        model(torch.arange(5)[None], cache=cache)
        assert recording[0].shape == (1, 4, 5, 5)
        with pytest.raises(ValueError, match="does not keep the keys.*use_cache=False"):
            model(torch.arange(1)[None], cache=cache)


def test_analyses_of_linear_attention_use_its_own_weights():
    model = GPTModel(**TEXT, kernel="linear").double().eval()
    ids = [3, 1, 4, 1, 5, 9]
    with record_attention(model) as recording:
        model(*model_inputs(model, ids))
    rolled = attention_rollout(model, ids)
    identity = torch.eye(6, dtype=torch.float64)
    expected = identity
    for layer in range(2):
        expected = (recording[layer][0].mean(0) + identity) / 2 @ expected
    torch.testing.assert_close(rolled.double(), expected, atol=1e-6, rtol=0)
    assert torch.isfinite(gradient_rollout(model, ids)).all()
    with pytest.raises(ValueError, match="linear attention has no scores to decompose"):
        score_parts(model, ids, 0)


def test_linear_attention_is_not_saved_in_other_formats(tmp_path):
    model = GPTModel(**TEXT, kernel="linear")
    with pytest.raises(ValueError, match="softmax attention only"):
        save_pretrained(model, tmp_path / "gpt2", format="huggingface")
    assert not (tmp_path / "gpt2" / "config.json").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kernel": "flashh"}, ValueError, "unknown kernel 'flashh', did you mean 'flash'"),
        ({"kernel": {"block_size": 3}}, ValueError, 'kernel needs a "kind"'),
        ({"kernel": 3}, TypeError, "kernel must be a name or a mapping.*3"),
        ({"kernel": {"kind": "block_sparse", "size": 3}}, ValueError, "unknown option 'size'.*block_size"),
        (
            {"kernel": {"kind": "block_sparse", "block_size": 0}},
            ValueError,
            "block_size must be at least 1, not 0",
        ),
        ({"kernel": {"kind": "block_sparse", "key_block_size": -1}}, ValueError, "key_block_size.*not -1"),
        ({"kernel": {"kind": "flash", "query_tile": 0}}, ValueError, "query_tile must be at least 1, not 0"),
        ({"kernel": {"kind": "fused", "dropout": 0.1}}, ValueError, "unknown option 'dropout'"),
        ({"kernel": "linear", "window": 4}, ValueError, "sliding_window.4.*block_sparse"),
        ({"kernel": "linear", "pattern": "longformer"}, ValueError, "block_sparse"),
        ({"kernel": "linear", "positions": "alibi"}, ValueError, "no scores to which a bias.*rotary"),
        ({"window": 0}, ValueError, "window must be positive, not 0"),
        ({"pattern": {"kind": "longformer", "global_tokens": [24]}}, ValueError, "24 is outside the text"),
        ({"pattern": "longformers"}, ValueError, "did you mean 'longformer'"),
    ],
)
def test_invalid_kernels_and_patterns_raise(options, error, message):
    with pytest.raises(error, match=message):
        GPTModel(**TEXT, **options)


def test_linear_attention_cannot_take_the_bias_of_t5():
    with pytest.raises(ValueError, match='"rotary", or kernel "flash"'):
        T5Model(**TEXT, kernel="linear")


@pytest.mark.parametrize("kernel", ["flash", "block_sparse", "linear"])
def test_a_text_longer_than_a_learned_table_raises(kernel):
    with pytest.raises(ValueError, match="24"):
        BERTModel(**TEXT, kernel=kernel)(torch.zeros(1, 25, dtype=torch.long))


@pytest.mark.parametrize("kernel", ["fused", "block_sparse"])
@pytest.mark.parametrize("positions", ["alibi", "relative_bias"])
def test_extrapolation_beyond_max_seq_len_keeps_the_pattern(kernel, positions):
    pattern = {"kind": "big_bird", "window": 2, "random_blocks": 1, "block_size": 4}
    model = BERTModel(**TEXT, kernel=kernel, pattern=pattern, positions=positions).eval()
    assert model(torch.zeros(1, 40, dtype=torch.long)).isfinite().all()


def test_the_memory_of_padded_batches_is_linear(little_memory):
    length = 12_000  # of which a table of floats for each of four rows takes 2.3 GB
    ids = torch.zeros(4, length, dtype=torch.long)
    real = torch.arange(length) < torch.tensor([[length], [length // 2], [length // 3], [100]])
    sizes = {**TEXT, "num_layers": 1, "num_heads": 1, "d_model": 8, "max_seq_len": length}
    model = BERTModel(**sizes, kernel="block_sparse", pattern={"kind": "longformer", "window": 64})
    model(ids, attention_mask=real).sum().backward()


def test_memory_of_flash_and_block_sparse_attention_is_linear(little_memory):
    length = 24_000  # of which one table of scores takes 2.3 GB
    for kernel, options in (
        ("flash", {}),
        ("block_sparse", {"window": 64}),
        ("block_sparse", {"window": 64, "positions": "alibi"}),
        ("block_sparse", {"pattern": {"kind": "longformer", "window": 64}, "positions": "relative_bias"}),
    ):
        sizes = {**TEXT, "num_layers": 1, "num_heads": 1, "d_model": 8, "max_seq_len": length}
        if kernel == "flash":
            sizes["max_seq_len"] = length = 16_000
        model = GPTModel(**sizes, kernel=kernel, **options)
        model.hidden_states(torch.zeros(1, length, dtype=torch.long)).sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.blocks.parameters())
