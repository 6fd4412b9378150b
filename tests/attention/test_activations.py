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
    each = [(what, layer) for layer in range(3) for what in ("streams", "heads", "middle")]
    assert taken == [*each, ("streams", 3)]
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


def sublayers(block, x, mask):
    """What attention adds to the stream of a block with its norm before, and what the network makes of it."""
    added, _ = block.attention(block.norm1(x), mask=mask, positions=torch.arange(x.size(1)))
    return added, block.feed_forward


def test_the_stream_between_attention_and_network():
    ids = torch.arange(6)[None]
    model = GPTModel(**SIZES).eval()
    with record_activations(model, 1) as seen:
        model(ids)
    block = model.blocks[1]
    added, network = sublayers(block, seen.streams[1], model._visible())
    torch.testing.assert_close(seen.middle[1], seen.streams[1] + added)
    with record_activations(model, 2) as above:
        model(ids)
    torch.testing.assert_close(above.streams[2], seen.middle[1] + network(block.norm2(seen.middle[1])))


def test_the_stream_between_them_where_norms_come_after():
    model = BERTModel(**SIZES).eval()
    with record_activations(model) as seen:
        model(torch.arange(6)[None])
    for layer, block in enumerate(model.blocks):
        between = seen.middle[layer]
        torch.testing.assert_close(
            seen.streams[layer + 1], block.norm2(between + block.feed_forward(between))
        )


@pytest.mark.parametrize("residual", ["parallel", "parallel_shared"])
def test_side_by_side_there_is_no_stream_between(residual):
    model = GPTModel(**SIZES, residual=residual)
    with record_activations(model) as seen:
        model(torch.arange(6)[None])
    assert seen.middle == {}
    assert len(seen.streams) == 4


def test_after_cross_attention_the_stream_is_still_between():
    model = T5Model(**SIZES, num_decoder_layers=2).eval()
    with record_activations(model, 1, kind="cross") as seen:
        model(torch.arange(5)[None], torch.arange(3)[None])
    block = model.decoder.blocks[1]
    between = seen.middle[1]
    torch.testing.assert_close(seen.streams[2], between + block.feed_forward(block.norm3(between)))


def test_rows_of_a_generation_are_joined_and_chosen():
    model, prompt = GPTModel(**SIZES, max_seq_len=20).eval(), [1, 2, 3]
    with (
        record_activations(model) as seen,
        record_activations(model, [1], heads=[3, 0], queries=[5, 2]) as some,
    ):
        text = model.generate(prompt, max_new_tokens=4, temperature=0)
    with record_activations(model) as whole:
        model(torch.tensor([text[:-1]]))
    for what in ("streams", "middle", "heads"):
        for layer, expected in getattr(whole, what).items():
            torch.testing.assert_close(getattr(seen, what)[layer], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(some.streams[1], whole.streams[1][:, [2, 5]], atol=1e-5, rtol=0)
    torch.testing.assert_close(some.heads[1], whole.heads[1][:, [3, 0]][:, :, [2, 5]], atol=1e-5, rtol=0)
    with record_activations(model, queries=9), pytest.raises(ValueError, match="query 9 does not exist"):
        model(torch.tensor([prompt]))


def test_rows_follow_the_beams_that_a_search_keeps():
    torch.manual_seed(3)
    model = GPTModel(**SIZES, max_seq_len=20).eval()
    with record_activations(model) as seen:
        beams = model.generate([[1, 2, 3]], 5, num_beams=3, num_return_sequences=3, stop_tokens=[])
    assert seen.heads[2].shape == (3, 4, 7, 6)
    for text in beams:
        with record_activations(model) as own:
            model(torch.tensor([text[:-1]]))
        assert any(torch.allclose(row, own.streams[3][0], atol=1e-5) for row in seen.streams[3])


def test_attention_by_itself_after_a_generation_begins_anew():
    model = GPTModel(**SIZES, max_seq_len=20).eval()
    with record_activations(model, 1) as seen:
        model.generate([1, 2, 3], max_new_tokens=4)
        model.blocks[1].attention(torch.randn(1, 5, 24))
    assert seen.heads[1].shape == (1, 4, 5, 6)


def test_a_block_that_is_given_its_stream_by_name_is_seen():
    model, x = GPTModel(**SIZES, positions="none"), torch.randn(1, 5, 24)
    with record_activations(model, 1) as seen:
        model.blocks[1](x=x)
    assert torch.equal(seen.streams[1], x)


def test_what_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="layer 7 does not exist: layers are 0 to 2"):
        with record_activations(GPTModel(**SIZES), [7]):
            pass
    with pytest.raises(ValueError, match="head 4 does not exist in layer 0: heads are 0 to 3"):
        with record_activations(GPTModel(**SIZES), 0, 4):
            pass
    with pytest.raises(TypeError, match="_orig_mod"), record_activations(torch.compile(GPTModel(**SIZES))):
        pass
