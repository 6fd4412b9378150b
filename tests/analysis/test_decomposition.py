"""The parts of attention scores: their sum, and their meaning, for every scheme and family."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from glassformer.analysis import decomposition
from glassformer.analysis.decomposition import each_score_parts, score_parts
from glassformer.analysis.inputs import model_inputs
from glassformer.attention import record_activations
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.positions import RotaryPositions

TEXT = {"vocab_size": 40, "d_model": 24, "num_layers": 3, "num_heads": 4}
IDS, PAIR = [3, 1, 4, 1, 5, 9], ([3, 1, 4, 1, 5], [7, 8, 9])
IMAGE = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
SCHEMES = ["none", "learned", "sinusoidal", "rotary", "alibi", "relative_bias"]


def gpt(**options):
    return GPTModel(**TEXT, max_seq_len=8, **options)


def vit(**options):
    return ViTModel(8, 4, 24, 3, 4, **options)


def transformer_of_2017():
    return T5Model(
        **TEXT, positions="sinusoidal", residual="post", norm="layer", bias=True, attention_scale=None
    )


CASES = {
    **{scheme: (lambda scheme=scheme: gpt(positions=scheme), IDS, None) for scheme in SCHEMES},
    "grouped queries": (lambda: gpt(positions="rotary", num_kv_heads=2, norm="rms", bias=False), IDS, None),
    "one key head": (lambda: gpt(positions="rotary", num_kv_heads=1, norm="rms", bias=False), IDS, None),
    "pruned": (lambda: gpt(positions="alibi", pruned_heads={"self": [[0], [], [1, 3]]}), IDS, None),
    "rotary in part": (lambda: gpt(positions={"kind": "rotary", "d_rotary": 2, "theta": 5e5}), IDS, None),
    "parallel": (lambda: gpt(positions="learned", residual="parallel"), IDS, None),
    "parallel, one norm": (lambda: gpt(positions="learned", residual="parallel_shared"), IDS, None),
    "pre-norm RMS, learned": (lambda: gpt(positions="learned", norm="rms"), IDS, None),
    "norms of queries and keys": (lambda: gpt(positions="rotary", qk_norm="head", norm="rms"), IDS, None),
    "layer norms per head": (lambda: gpt(positions="learned", qk_norm="per_head"), IDS, None),
    "norms per head without biases": (
        lambda: gpt(positions="learned", qk_norm={"kind": "per_head", "bias": False}, num_kv_heads=2),
        IDS,
        None,
    ),
    "norms of all heads, of outputs": (
        lambda: gpt(
            positions="learned", qk_norm="projection", norm="rms", input_norm=False, output_norm=True
        ),
        IDS,
        None,
    ),
    "unit offset, by layer": (
        lambda: gpt(
            norm="unit_offset_rms",
            qk_norm="projection",
            positions=["rotary", "none", "rotary"],
            window=[2, None, None],
            scale_embeddings=True,
        ),
        IDS,
        None,
    ),
    "nonparametric": (lambda: gpt(positions="learned", norm="nonparametric", residual_scale=0.5), IDS, None),
    "OPT's": (
        lambda: gpt(
            positions={"kind": "learned", "offset": 2},
            d_embedding=10,
            residual="post",
            embedding_norm=True,
        ),
        IDS,
        None,
    ),
    "BERT": (lambda: BERTModel(**TEXT), IDS, None),
    "BERT, rotary": (lambda: BERTModel(**TEXT, positions="rotary"), IDS, None),
    "BERT, pre-norm RMS": (lambda: BERTModel(**TEXT, residual="pre", norm="rms"), IDS, None),
    "ViT": (lambda: vit(num_registers=2, layer_scale=0.5), IMAGE, None),
    "ViT of another size": (vit, torch.cat((IMAGE, IMAGE), -1), None),
    **{f"T5 {kind}": (lambda: T5Model(**TEXT), PAIR, kind) for kind in ("encoder", "decoder", "cross")},
    **{f"2017 {kind}": (transformer_of_2017, PAIR, kind) for kind in ("encoder", "decoder", "cross")},
}


def randomize(model):
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def textbook_scores(model, attention, example, kind):
    """Q k^T * scale + bias from the arguments of the kernel."""
    given = []
    handle = attention.kernel.register_forward_pre_hook(lambda kernel, args: given.append(args))
    with torch.no_grad():
        model(*model_inputs(model, example))
    handle.remove()
    q, k, _, _, bias = given[0]
    k = k.repeat_interleave(q.size(1) // k.size(1), dim=1)
    scale = 1 / math.sqrt(attention.d_head) if attention.kernel.scale is None else attention.kernel.scale
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k)[0] * scale
    return scores if bias is None else scores + bias[0]


@pytest.mark.slow
@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_the_parts_sum_to_the_score(name, dtype, layer):
    build, example, kind = CASES[name]
    model = randomize(build()).to(dtype)
    example = example.to(dtype) if isinstance(example, torch.Tensor) else example
    parts = score_parts(model, example, layer, kind)
    attention = model.attentions()[kind or "self"][layer]
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-12}[dtype]
    expected = textbook_scores(model, attention, example, kind).double()
    together = parts.content + parts.position + parts.bias
    torch.testing.assert_close(parts.score, expected, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(together, expected, atol=tolerance, rtol=tolerance)
    assert parts.max_error == float((together - parts.score).abs().max())
    assert parts.content.abs().max() > 1e-3
    has_bias = attention.q_proj.bias is not None
    assert bool(parts.bias.abs().max() > 1e-3) == has_bias
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_limited_scores_are_refused():
    with pytest.raises(ValueError, match="scores with a softcap are no sum of parts"):
        score_parts(gpt(attention_softcap=2.0), IDS, 0)


def test_the_position_part_is_zero_without_positions():
    for layer in range(3):
        assert not score_parts(randomize(gpt(positions="none")), IDS, layer).position.any()


@pytest.mark.parametrize("name", ["learned", "sinusoidal", "pre-norm RMS, learned", "BERT", "2017 encoder"])
def test_only_the_position_part_is_left_where_all_else_is_zero(name):
    """Token embeddings, sublayers and biases of norms are zero: the stream is the direct path."""
    build, example, kind = CASES[name]
    model = randomize(build()).double()
    with torch.no_grad():
        model.token_embedding.weight.zero_()
        for parameter_name, parameter in model.named_parameters():
            is_output = "out_proj" in parameter_name or "down_proj" in parameter_name
            is_norm_bias = "norm" in parameter_name and parameter_name.endswith("bias")
            if is_output or is_norm_bias or "token_type" in parameter_name:
                parameter.zero_()
    for layer in range(3):
        parts = score_parts(model, example, layer, kind)
        assert float(parts.content.abs().max()) < 1e-12
        assert float(parts.position.abs().max()) > 1e-6


def test_a_deep_layer_against_a_decomposition_by_hand():
    """Pre-norm: the path is the position table after the norm with its statistics held."""
    model = randomize(gpt(positions="learned")).double()
    with record_activations(model) as activations, torch.no_grad():
        model(torch.tensor([IDS]))
    block, stream = model.blocks[2], activations.resid_pre[2][0]
    attention, norm = block.attention, block.norm1
    table = model.positions.embedding.weight.detach()[: len(IDS)]
    deviation = stream.std(-1, unbiased=False, keepdim=True).square().add(norm.eps).sqrt()
    path = (table - table.mean(-1, keepdim=True)) / deviation * norm.weight
    rest = norm(stream) - path

    def heads(linear, h, bias=None):
        return F.linear(h, linear.weight, bias).view(len(IDS), 4, 6).transpose(0, 1)

    def product(query, key):
        return query @ key.mT / math.sqrt(6)

    q, k = attention.q_proj, attention.k_proj
    contents, positions = (heads(q, rest), heads(k, rest)), (heads(q, path), heads(k, path))
    biases = q.bias.view(4, 1, 6), k.bias.view(4, 1, 6)
    parts = score_parts(model, IDS, 2)
    with torch.no_grad():
        torch.testing.assert_close(parts.content, product(*contents))
        torch.testing.assert_close(
            parts.position,
            product(contents[0], positions[1])
            + product(positions[0], contents[1])
            + product(positions[0], positions[1]),
        )
        torch.testing.assert_close(
            parts.bias,
            product(contents[0] + positions[0], biases[1])
            + product(biases[0], contents[1] + positions[1])
            + product(*biases),
        )


def test_an_additive_bias_is_the_position_part():
    model = randomize(gpt(positions="alibi")).double()
    here = torch.arange(len(IDS))
    expected = model.positions.bias(here, here)[0].double()
    torch.testing.assert_close(score_parts(model, IDS, 1).position, expected, atol=1e-12, rtol=0)


def test_the_effect_of_rotation_is_the_position_part():
    """Content is the score of the same model without rotation; the diagonal does not change."""
    model = randomize(gpt(positions="rotary", bias=False)).double()
    still = randomize(gpt(positions="none", bias=False)).double()
    assert isinstance(model.positions, RotaryPositions)
    found, expected = score_parts(model, IDS, 0), score_parts(still, IDS, 0)
    torch.testing.assert_close(found.content, expected.score)
    assert float(found.position.diagonal(dim1=1, dim2=2).abs().max()) < 1e-12
    assert float(found.position.abs().max()) > 1e-2


def test_invalid_arguments_raise_errors():
    with pytest.raises(ValueError, match="layer 3 does not exist: layers are 0 to 2"):
        score_parts(gpt(), IDS, 3)
    for part, message in (
        (lambda x: decomposition._linear_part(x, torch.ones(1)), "a Linear is not known to be linear"),
        (lambda x: decomposition._path_into_first_block(x, {}, ()), "a Linear has no position scheme"),
    ):
        with pytest.raises(TypeError, match=message):
            part(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="give kind="):
        score_parts(T5Model(**TEXT), PAIR, 0)


def test_several_layers_are_decomposed_from_one_forward_pass(monkeypatch):
    model, read = randomize(gpt()), []
    forward = type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda self, *ids: read.append(ids) or forward(self, *ids))
    found = list(each_score_parts(model, IDS, [0, 2]))
    assert len(read) == 1
    assert len(list(each_score_parts(model, IDS))) == 3
    for layer, parts in zip([0, 2], found, strict=True):
        alone = score_parts(model, IDS, layer)
        for name in ("content", "position", "bias", "score"):
            torch.testing.assert_close(getattr(parts, name), getattr(alone, name), rtol=0, atol=1e-12)
