"""Recording: exact weights of the chosen heads, the model as it was."""

from __future__ import annotations

import pytest
import torch

from glassformer.attention import record_attention
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.training.trainer import compile_blocks

KINDS = ["learned", "rotary", "alibi", "relative_bias"]


def build(kind, kernel="fused", **options):
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "d_model": 24, "num_layers": 3, "num_heads": 6, "max_seq_len": 20}
    return GPTModel(**sizes, positions=kind, kernel=kernel, num_kv_heads=2, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padded", [False, True])
def test_weights_are_those_of_the_textbook_kernel_and_the_output_is_bit_equal(kind, padded):
    model, textbook = build(kind).double(), build(kind, "textbook").double()
    ids = torch.randint(0, 50, (2, 7))
    mask = torch.ones_like(ids)
    mask[1, :3] = int(not padded)
    expected = {}
    for layer, block in enumerate(textbook.blocks):
        block.attention.kernel.register_forward_hook(
            lambda module, args, output, layer=layer: expected.__setitem__(layer, output[1])
        )
    textbook(ids, attention_mask=mask)
    plain = model(ids, attention_mask=mask)
    with record_attention(model) as recording:
        watched = model(ids, attention_mask=mask)
    assert torch.equal(plain, watched)
    assert sorted(recording) == [0, 1, 2]
    for layer in range(3):
        torch.testing.assert_close(recording[layer], expected[layer], atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_chosen_layers_and_heads_only(kind):
    model, ids = build(kind), torch.randint(0, 50, (1, 5))
    with record_attention(model) as everything:
        model(ids)
    with record_attention(model, layers=[2], heads=[4, 1]) as chosen:
        model(ids)
    assert list(chosen) == [2]
    torch.testing.assert_close(chosen[2], everything[2][:, [4, 1]])


def test_heads_under_a_mask_of_their_own():
    model = build("none")
    attention = model.blocks[0].attention
    x, mask = torch.randn(1, 4, 24), torch.rand(1, 6, 4, 4) < 0.7
    with record_attention(model, layers=[0], heads=[5]) as recording:
        attention(x, mask=mask)
    torch.testing.assert_close(recording[0], attention.get_attention_maps(x, mask=mask)[:, [5]])


def test_nothing_stays_behind_also_after_an_exception():
    model = build("learned")
    with pytest.raises(RuntimeError, match="stop"), record_attention(model):
        raise RuntimeError("stop")
    assert not any(block.attention.kernel._forward_hooks for block in model.blocks)


def test_gradients_are_bit_equal():
    gradients = []
    for watched in (False, True):
        model = build("rotary")
        with record_attention(model, layers=range(3) if watched else []):
            model(torch.arange(7)[None]).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_refuses_what_does_not_exist():
    model = build("learned")
    with (
        pytest.raises(ValueError, match="layer 3 does not exist: layers are 0 to 2"),
        record_attention(model, [3]),
    ):
        pass
    with pytest.raises(ValueError, match="head 6 does not exist in layer 1: heads are 0 to 5"):
        with record_attention(model, [1], [6]):
            pass
    with pytest.raises(TypeError, match="Linear has no attentions"), record_attention(torch.nn.Linear(2, 2)):
        pass


def test_refuses_a_compiled_model_whose_hooks_would_never_fire():
    model = build("learned")
    with pytest.raises(TypeError, match="compiled"), record_attention(torch.compile(model)):
        pass
    model.compile()
    with pytest.raises(TypeError, match="compiled"), record_attention(model):
        pass
    trained = build("learned")
    compile_blocks(trained)  # what training with compile=True leaves
    with pytest.raises(TypeError, match="compiled"), record_attention(trained):
        pass


def everything_of(model, *inputs):
    """What the textbook kernel in each layer gives as weights, by kind."""
    seen = {}
    for kind, attentions in model.attentions().items():
        for layer, attention in enumerate(attentions):
            attention.kernel.register_forward_hook(
                lambda module, args, output, place=(kind, layer): seen.__setitem__(place, output[1])
            )
    model(*inputs)
    return seen


TEXT = {"vocab_size": 50, "d_model": 24, "num_layers": 2, "num_heads": 6}
SOURCE, TARGET = torch.arange(5)[None], torch.arange(3)[None]
FAMILIES = {
    "BERT": (BERTModel, TEXT, (SOURCE,)),
    "T5": (T5Model, {**TEXT, "num_decoder_layers": 3}, (SOURCE, TARGET)),
    "ViT": (
        ViTModel,
        {
            "image_size": 8,
            "patch_size": 4,
            "d_model": 24,
            "num_layers": 2,
            "num_heads": 6,
            "num_registers": 2,
        },
        (torch.randn(1, 3, 8, 8),),
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_kind_of_every_family(name):
    family, sizes, inputs = FAMILIES[name]
    model, textbook = family(**sizes), family(**sizes, kernel="textbook")
    textbook.load_state_dict(model.state_dict())
    expected = everything_of(textbook, *inputs)
    for kind, attentions in model.attentions().items():
        with record_attention(model, kind=kind) as recording:
            model(*inputs)
        assert sorted(recording) == list(range(len(attentions)))
        for layer, weights in recording.items():
            torch.testing.assert_close(weights, expected[kind, layer], atol=1e-6, rtol=0)


def test_says_what_may_be_attended_to():
    gpt = build("none", window=2)
    with record_attention(gpt, [0], [3]) as recording:
        gpt(torch.arange(4)[None])
    seen = torch.ones(4, 4).tril().triu(-1).bool()
    assert torch.equal(recording.allowed[0].expand(1, 1, 4, 4)[0, 0], seen)
    assert torch.equal(recording[0][0, 0] > 0, seen)
    t5 = T5Model(**TEXT)
    for kind, allowed in (
        ("encoder", None),
        ("decoder", torch.ones(3, 3).tril().bool()),
        ("cross", None),
    ):
        with record_attention(t5, kind=kind) as recording:
            t5(SOURCE, TARGET)
        assert recording.allowed[1] is allowed or torch.equal(recording.allowed[1], allowed)


def test_of_several_kinds_one_must_be_named():
    model = T5Model(**TEXT)
    with pytest.raises(ValueError, match='T5Model .* give kind="encoder", "decoder" or "cross"'):
        with record_attention(model):
            pass
    with pytest.raises(ValueError, match="unknown kind of attention 'corss', did you mean 'cross'"):
        with record_attention(model, kind="corss"):
            pass
    with record_attention(build("none"), kind="self"):
        pass
