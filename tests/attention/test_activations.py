"""Recorded activations add up to the model's computation."""

from __future__ import annotations

import pytest
import torch

from glassformer.attention import causal, record_activations
from glassformer.models import BERTModel, GPTModel, T5Model

SIZES = {"vocab_size": 50, "d_model": 24, "num_layers": 3, "num_heads": 4}


def test_resid_pre_runs_from_the_embedding_to_the_final_norm():
    model, ids = GPTModel(**SIZES, positions="none"), torch.arange(6)[None]
    plain = model(ids)
    with record_activations(model) as seen:
        watched = model(ids)
    assert torch.equal(plain, watched)
    assert sorted(seen.resid_pre) == [0, 1, 2, 3]
    assert torch.equal(seen.resid_pre[0], model.token_embedding(ids))
    assert torch.equal(model.lm_head(model.norm(seen.resid_pre[3])), plain)


def test_head_outputs_are_the_input_of_the_output_projection():
    model, ids = GPTModel(**SIZES, residual="parallel", num_kv_heads=2), torch.arange(6)[None]
    with record_activations(model, [1]) as seen:
        model(ids)
    assert seen.head_outputs[1].shape == (1, 4, 6, 6)
    assert sorted(seen.resid_pre) == [1]
    block = model.blocks[1]
    positions = torch.arange(6)
    mixed = block.attention.out_proj(seen.head_outputs[1].transpose(1, 2).flatten(2))
    normed = block.norm1(seen.resid_pre[1])
    again, _ = block.attention(normed, mask=causal(), positions=positions)
    torch.testing.assert_close(mixed, again)


@pytest.mark.parametrize("kind", ["encoder", "decoder", "cross"])
def test_every_kind_of_an_encoder_decoder(kind):
    model = T5Model(**SIZES, num_decoder_layers=2)
    with record_activations(model, kind=kind) as seen:
        model(torch.arange(5)[None], torch.arange(3)[None])
    layers, length = (3, 5) if kind == "encoder" else (2, 3)
    assert sorted(seen.resid_pre) == list(range(layers + 1))
    assert seen.head_outputs[1].shape == (1, 4, length, 6)


def test_a_callback_gets_each_activation_once():
    taken = []
    model = BERTModel(**SIZES, gradient_checkpointing=True).train()
    with record_activations(model, callback=lambda what, layer, x: taken.append((what, layer))) as seen:
        model(torch.arange(5)[None]).sum().backward()
    each = [(what, layer) for layer in range(3) for what in ("resid_pre", "head_outputs", "resid_mid")]
    assert taken == [*each, ("resid_pre", 3)]
    assert not seen.resid_pre
    assert not seen.head_outputs


def test_hooks_are_removed_and_gradients_are_bit_equal():
    gradients = []
    for layers in ([], None):
        torch.manual_seed(0)
        model = GPTModel(**SIZES)
        with record_activations(model, layers, dtype=torch.float64) as seen:
            model(torch.arange(6)[None]).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        assert all(x.dtype == torch.float64 and not x.requires_grad for x in seen.head_outputs.values())
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def sublayers(block, x, mask):
    """What attention adds to the stream of a block with its norm before, and what the network makes of it."""
    added, _ = block.attention(block.norm1(x), mask=mask, positions=torch.arange(x.size(1)))
    return added, block.feed_forward


def test_resid_mid_of_pre_norm_blocks():
    ids = torch.arange(6)[None]
    model = GPTModel(**SIZES).eval()
    with record_activations(model, 1) as seen:
        model(ids)
    block = model.blocks[1]
    added, network = sublayers(block, seen.resid_pre[1], causal())
    torch.testing.assert_close(seen.resid_mid[1], seen.resid_pre[1] + added)
    with record_activations(model, 2) as above:
        model(ids)
    torch.testing.assert_close(
        above.resid_pre[2], seen.resid_mid[1] + network(block.norm2(seen.resid_mid[1]))
    )


def test_resid_mid_of_post_norm_blocks():
    model = BERTModel(**SIZES).eval()
    with record_activations(model) as seen:
        model(torch.arange(6)[None])
    for layer, block in enumerate(model.blocks):
        between = seen.resid_mid[layer]
        torch.testing.assert_close(
            seen.resid_pre[layer + 1], block.norm2(between + block.feed_forward(between))
        )


@pytest.mark.parametrize("residual", ["parallel", "parallel_shared"])
def test_parallel_blocks_have_no_resid_mid(residual):
    model = GPTModel(**SIZES, residual=residual)
    with record_activations(model) as seen:
        model(torch.arange(6)[None])
    assert seen.resid_mid == {}
    assert len(seen.resid_pre) == 4


def test_resid_mid_with_cross_attention():
    model = T5Model(**SIZES, num_decoder_layers=2).eval()
    with record_activations(model, 1, kind="cross") as seen:
        model(torch.arange(5)[None], torch.arange(3)[None])
    block = model.decoder.blocks[1]
    between = seen.resid_mid[1]
    torch.testing.assert_close(seen.resid_pre[2], between + block.feed_forward(block.norm3(between)))


def test_rows_of_a_generation_are_concatenated():
    model, prompt = GPTModel(**SIZES, max_seq_len=20).eval(), [1, 2, 3]
    with (
        record_activations(model) as seen,
        record_activations(model, [1], heads=[3, 0], queries=[5, 2]) as some,
    ):
        text = model.generate(prompt, max_new_tokens=4, temperature=0)
    with record_activations(model) as whole:
        model(torch.tensor([text[:-1]]))
    for what in ("resid_pre", "resid_mid", "head_outputs"):
        for layer, expected in getattr(whole, what).items():
            torch.testing.assert_close(getattr(seen, what)[layer], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(some.resid_pre[1], whole.resid_pre[1][:, [2, 5]], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        some.head_outputs[1], whole.head_outputs[1][:, [3, 0]][:, :, [2, 5]], atol=1e-5, rtol=0
    )
    with record_activations(model, queries=9), pytest.raises(ValueError, match="query 9 does not exist"):
        model(torch.tensor([prompt]))


def test_rows_follow_the_beams():
    torch.manual_seed(3)
    model = GPTModel(**SIZES, max_seq_len=20).eval()
    with record_activations(model) as seen:
        beams = model.generate([[1, 2, 3]], 5, num_beams=3, num_return_sequences=3, stop_tokens=[])
    assert seen.head_outputs[2].shape == (3, 4, 7, 6)
    for text in beams:
        with record_activations(model) as own:
            model(torch.tensor([text[:-1]]))
        assert any(torch.allclose(row, own.resid_pre[3][0], atol=1e-5) for row in seen.resid_pre[3])


def test_a_direct_call_after_generation_replaces_earlier_rows():
    model = GPTModel(**SIZES, max_seq_len=20).eval()
    with record_activations(model, 1) as seen:
        model.generate([1, 2, 3], max_new_tokens=4)
        model.blocks[1].attention(torch.randn(1, 5, 24))
    assert seen.head_outputs[1].shape == (1, 4, 5, 6)


def test_a_block_called_with_x_as_keyword_is_recorded():
    model, x = GPTModel(**SIZES, positions="none"), torch.randn(1, 5, 24)
    with record_activations(model, 1) as seen:
        model.blocks[1](x=x)
    assert torch.equal(seen.resid_pre[1], x)


@pytest.mark.slow
def test_layers_and_heads_out_of_range_raise():
    with pytest.raises(ValueError, match="layer 7 does not exist: layers are 0 to 2"):
        with record_activations(GPTModel(**SIZES), [7]):
            pass
    with pytest.raises(ValueError, match="head 4 does not exist in layer 0: heads are 0 to 3"):
        with record_activations(GPTModel(**SIZES), 0, 4):
            pass
    with pytest.raises(TypeError, match="_orig_mod"), record_activations(torch.compile(GPTModel(**SIZES))):
        pass
