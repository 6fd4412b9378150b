"""Streams and heads: what is recorded adds up to what the model computes."""

from __future__ import annotations

import pytest
import torch

from glassformer.attention import record_activations
from glassformer.models import BERTModel, GPTModel, T5Model

SIZES = {"vocab_size": 50, "d_model": 24, "num_layers": 3, "num_heads": 4}


def test_streams_begin_with_the_embedding_and_end_before_the_final_norm():
    model, ids = GPTModel(**SIZES, positions="none"), torch.arange(6)[None]
    plain = model(ids)
    with record_activations(model) as seen:
        watched = model(ids)
    assert torch.equal(plain, watched)
    assert sorted(seen.streams) == [0, 1, 2, 3]
    assert torch.equal(seen.streams[0], model.token_embedding(ids))
    assert torch.equal(model.lm_head(model.norm(seen.streams[3])), plain)


def test_the_heads_are_what_the_output_projection_mixes():
    model, ids = GPTModel(**SIZES, residual="parallel", num_kv_heads=2), torch.arange(6)[None]
    with record_activations(model, [1]) as seen:
        model(ids)
    assert seen.heads[1].shape == (1, 4, 6, 6)
    assert sorted(seen.streams) == [1]
    block = model.blocks[1]
    positions = torch.arange(6)
    mixed = block.attention.out_proj(seen.heads[1].transpose(1, 2).flatten(2))
    normed = block.norm1(seen.streams[1])
    again, _ = block.attention(normed, mask=model._visible(), positions=positions)
    torch.testing.assert_close(mixed, again)


@pytest.mark.parametrize("kind", ["encoder", "decoder", "cross"])
def test_every_kind_of_an_encoder_decoder(kind):
    model = T5Model(**SIZES, num_decoder_layers=2)
    with record_activations(model, kind=kind) as seen:
        model(torch.arange(5)[None], torch.arange(3)[None])
    layers, length = (3, 5) if kind == "encoder" else (2, 3)
    assert sorted(seen.streams) == list(range(layers + 1))
    assert seen.heads[1].shape == (1, 4, length, 6)


def test_with_a_callback_nothing_is_kept_and_checkpointing_gives_each_once():
    taken = []
    model = BERTModel(**SIZES, gradient_checkpointing=True).train()
    with record_activations(model, callback=lambda what, layer, x: taken.append((what, layer))) as seen:
        model(torch.arange(5)[None]).sum().backward()
    assert taken == [
        ("streams", 0),
        ("heads", 0),
        ("streams", 1),
        ("heads", 1),
        ("streams", 2),
        ("heads", 2),
        ("streams", 3),
    ]
    assert not seen.streams
    assert not seen.heads


def test_nothing_stays_behind_and_gradients_are_bit_equal():
    gradients = []
    for layers in ([], None):
        torch.manual_seed(0)
        model = GPTModel(**SIZES)
        with record_activations(model, layers, dtype=torch.float64) as seen:
            model(torch.arange(6)[None]).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        assert all(x.dtype == torch.float64 and not x.requires_grad for x in seen.heads.values())
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_what_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="layer 7 does not exist: layers are 0 to 2"):
        with record_activations(GPTModel(**SIZES), [7]):
            pass
    with pytest.raises(TypeError, match="compiled"), record_activations(torch.compile(GPTModel(**SIZES))):
        pass
