"""Recording of attention weights."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch

from glassformer.attention import record_attention
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel

KINDS = ["learned", "rotary", "alibi", "relative_bias"]


def build(kind, kernel="fused", num_kv_heads=2, **options):
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "d_model": 24, "num_layers": 3, "num_heads": 6, "max_seq_len": 20}
    return GPTModel(**sizes, positions=kind, kernel=kernel, num_kv_heads=num_kv_heads, **options)


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


@pytest.mark.parametrize("num_kv_heads", [1, 2, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_chosen_layers_and_heads_only(kind, num_kv_heads):
    model, ids = build(kind, num_kv_heads=num_kv_heads), torch.randint(0, 50, (1, 5))
    with record_attention(model) as everything:
        model(ids)
    with record_attention(model, layers=[2], heads=[4, 1]) as chosen:
        model(ids)
    assert list(chosen) == [2]
    torch.testing.assert_close(chosen[2], everything[2][:, [4, 1]])


def test_masks_with_one_entry_per_head():
    model = build("none")
    attention = model.blocks[0].attention
    x, mask = torch.randn(1, 4, 24), torch.rand(1, 6, 4, 4) < 0.7
    with record_attention(model, layers=[0], heads=[5]) as recording:
        attention(x, mask=mask)
    torch.testing.assert_close(recording[0], attention.get_attention_maps(x, mask=mask)[:, [5]])


def test_hooks_are_removed_after_an_exception():
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


def test_layers_and_heads_out_of_range_raise():
    model = build("learned")
    with (
        pytest.raises(ValueError, match="layer 3 does not exist: layers are 0 to 2"),
        record_attention(model, [3]),
    ):
        pass
    with pytest.raises(ValueError, match="head 6 does not exist in layer 1: heads are 0 to 5"):
        with record_attention(model, [1], [6]):
            pass
    with pytest.raises(TypeError, match="not a Linear"), record_attention(torch.nn.Linear(2, 2)):
        pass


def test_layers_heads_and_queries_may_be_ints_or_lists():
    model, ids = build("learned"), torch.arange(5)[None]
    with record_attention(model) as every, record_attention(model, 1, 2, queries=3) as one:
        with record_attention(model, [1, 1], [2, 0, 2], queries=[3, 3]) as some:
            model(ids)
    torch.testing.assert_close(one[1], every[1][:, [2]][:, :, [3]], atol=1e-7, rtol=0)
    torch.testing.assert_close(some[1], every[1][:, [2, 0]][:, :, [3]], atol=1e-7, rtol=0)
    assert (list(some), some.map(1).heads, some.map(1).queries) == ([1], [2, 0], [3])
    for wrong, message in (
        ({"layers": "1"}, "layers must be an int or a list of ints, got '1'"),
        ({"heads": [0.5]}, r"heads must be .* got \[0.5\]"),
        ({"queries": 1.5}, "queries must be .* got 1.5"),
    ):
        with pytest.raises(TypeError, match=message), record_attention(model, **wrong):
            pass
    with pytest.raises(ValueError, match="queries must not be empty"):
        with record_attention(model, queries=[]):
            pass


def test_weights_are_those_before_dropout():
    model, ids = build("rotary", dropout=0.5).train(), torch.arange(6)[None]
    with record_attention(model, 0) as recording:
        model(ids)
    torch.testing.assert_close(recording[0].sum(-1), torch.ones(1, 6, 6))


def test_slots_are_counted_from_the_start_of_the_window_after_overflow():
    model = build("learned").eval()
    length = model.max_seq_len
    with record_attention(model, 0) as recording:
        text = model.generate([1], max_new_tokens=length + 3, temperature=0, stop_tokens=[])
    seen = recording.map(0)
    assert seen.queries == list(range(len(seen.queries)))
    assert len(seen.queries) <= length < len(text)
    with record_attention(model, 0) as alone:
        model(torch.tensor([text[-len(seen.queries) - 1 : -1]]))
    torch.testing.assert_close(recording[0], alone[0], atol=1e-6, rtol=0)


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


def test_the_mask_is_recorded():
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


def test_kind_is_required_if_there_are_several():
    model = T5Model(**TEXT)
    with pytest.raises(ValueError, match='T5Model .* give kind="encoder", "decoder" or "cross"'):
        with record_attention(model):
            pass
    with pytest.raises(ValueError, match="unknown kind of attention 'corss', did you mean 'cross'"):
        with record_attention(model, kind="corss"):
            pass
    with record_attention(build("none"), kind="self"):
        pass


def test_nested_recordings_of_different_kinds():
    model = T5Model(**TEXT)
    with (
        record_attention(model, kind="encoder") as encoder,
        record_attention(model, kind="decoder") as decoder,
        record_attention(model, [1], kind="cross") as cross,
    ):
        model(SOURCE, TARGET)
    assert [tuple(recording[1].shape[2:]) for recording in (encoder, decoder, cross)] == [
        (5, 5),
        (3, 3),
        (3, 5),
    ]
    assert cross.map(1).kind == "cross"


@pytest.mark.parametrize("name", ["GPT", *FAMILIES])
@pytest.mark.parametrize("training", [False, True])
def test_logits_and_gradients_of_every_family_are_bit_equal(name, training):
    family, sizes, inputs = FAMILIES.get(name, (GPTModel, TEXT, (SOURCE,)))
    results = []
    for watched in (False, True):
        torch.manual_seed(0)
        model = family(**sizes, dropout=0.1).train(training)
        layers = None if watched else []
        with ExitStack() as stack:
            for kind in model.attentions():
                stack.enter_context(record_attention(model, layers, kind=kind))
            output = model(*inputs)
            output.square().sum().backward()
        results.append([output, *(parameter.grad for parameter in model.parameters())])
    for plain, seen in zip(*results, strict=True):
        assert plain is seen or torch.equal(plain, seen)


@pytest.mark.parametrize("kind", KINDS)
def test_only_selected_queries_are_recorded(kind):
    model, ids = build(kind), torch.randint(0, 50, (2, 6))
    real = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]])
    with record_attention(model) as everything, record_attention(model, queries=[5, 2]) as some:
        model(ids, real)
    torch.testing.assert_close(some[1], everything[1][:, :, [5, 2]], atol=1e-7, rtol=0)
    assert some.map(1).queries == [5, 2]
    assert torch.equal(
        some.allowed[1].expand_as(some[1]), everything.allowed[1].expand_as(everything[1])[:, :, [5, 2]]
    )


def test_a_query_out_of_range_raises():
    model = build("learned")
    with pytest.raises(ValueError, match="query 9 does not exist: the pass has queries 0 to 4"):
        with record_attention(model, queries=[9]):
            model(torch.arange(5)[None])
    with pytest.raises(ValueError, match="query -1 does not exist"), record_attention(model, queries=[-1]):
        pass
    assert torch.isfinite(model(torch.arange(5)[None])).all()  # and the model goes on as it was


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [None, 3])
def test_rows_of_a_generation_with_cache_are_concatenated(kind, window):
    model = build(kind, window=window).eval()
    prompts = [[1, 2, 3], [4, 5, 6, 7, 8]]  # the first is padded
    with record_attention(model) as recording:
        texts = model.generate(prompts, max_new_tokens=4, temperature=0)
    for row, text in enumerate(texts):
        with record_attention(model) as alone:
            model(torch.tensor([text[:-1]]))  # the last token was written, and never read
        padding = recording[0].size(-1) - len(text) + 1
        for layer in range(3):
            joined = recording[layer][row, :, padding:, padding:]
            torch.testing.assert_close(joined, alone[layer][0], atol=1e-6, rtol=0)
            seen = recording.allowed[layer].expand_as(recording[layer])[row, :, padding:, padding:]
            assert torch.equal(seen, alone.allowed[layer].expand_as(alone[layer])[0])
    assert recording.map(0).queries == list(range(8))
    with record_attention(model, [1], queries=[6]) as later:
        model.generate(prompts, max_new_tokens=4, temperature=0)
    torch.testing.assert_close(later[1], recording[1][:, :, [6], :7], atol=1e-7, rtol=0)


def test_rows_follow_the_beams():
    torch.manual_seed(3)
    model = T5Model(**TEXT, num_decoder_layers=3).eval()
    sources = [[1, 2, 3], [4, 5, 6]]
    with (
        record_attention(model, kind="decoder") as decoder,
        record_attention(model, kind="cross") as cross,
    ):
        beams = model.generate(sources, 6, num_beams=3, num_return_sequences=3, stop_tokens=[])
    assert decoder[1].shape == (6, 6, 6, 6)
    for number, text in enumerate(beams):
        source = number // 3
        with (
            record_attention(model, kind="decoder") as own,
            record_attention(model, kind="cross") as own_cross,
        ):
            model(torch.tensor([sources[source]]), torch.tensor([[0, *text[:-1]]]))
        rows = range(3 * source, 3 * source + 3)  # one of them was continued by the last token
        assert any(
            torch.allclose(decoder[1][row], own[1][0], atol=1e-6)
            and torch.allclose(cross[1][row], own_cross[1][0], atol=1e-6)
            for row in rows
        )


def test_a_pass_without_cache_replaces_earlier_rows():
    model = build("rotary").eval()
    with record_attention(model) as recording:
        model.generate([1, 2, 3], max_new_tokens=3)
        model(torch.arange(4)[None])
    assert recording[0].shape == (1, 6, 4, 4)


def test_gradient_checkpointing_records_each_map_once():
    maps = []
    model = build("rotary", gradient_checkpointing=True).train()
    with record_attention(model, callback=maps.append):
        model(torch.arange(6)[None]).sum().backward()
    assert [part.layer for part in maps] == [0, 1, 2]


def test_with_a_callback_no_map_is_stored():
    model, maps = build("learned"), []
    with record_attention(model, [0, 2], [5], callback=maps.append) as recording:
        model(torch.arange(5)[None])
        model(torch.arange(4)[None])
    assert [(part.layer, part.heads, len(part.queries)) for part in maps] == [
        (0, [5], 5),
        (2, [5], 5),
        (0, [5], 4),
        (2, [5], 4),
    ]
    assert len(recording) == 0
    with pytest.raises(KeyError, match="no attention was recorded for layer 0: .* without a callback"):
        recording[0]


def test_the_error_for_missing_weights_gives_the_reason():
    with record_attention(build("learned"), [1]) as recording:
        pass
    with pytest.raises(KeyError, match="no attention was recorded for layer 1: call the model inside"):
        recording[1]
    with pytest.raises(KeyError, match="layer 0 is not recorded, only 1"):
        recording[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_a_half_precision_model_are_float32(dtype):
    model, ids = build("rotary").to(dtype), torch.arange(5)[None]
    with record_attention(model) as recording, record_attention(model, dtype=dtype) as kept_small:
        model(ids)
    assert recording[0].dtype == torch.float32
    torch.testing.assert_close(recording[0].sum(-1), torch.ones(1, 6, 5), atol=1e-6, rtol=0)
    assert torch.equal(kept_small[0], recording[0].to(dtype))


def test_under_autocast_weights_are_still_exact():
    model, ids = build("rotary"), torch.arange(5)[None]
    with torch.autocast("cpu", torch.bfloat16), record_attention(model) as recording:
        model(ids)
    assert recording[2].dtype == torch.float32
    torch.testing.assert_close(recording[2].sum(-1), torch.ones(1, 6, 5), atol=1e-6, rtol=0)


def test_weights_can_be_stored_on_another_device():
    model = build("rotary")
    with record_attention(model, device="meta") as recording:
        model(torch.arange(5)[None])
    assert recording[0].device.type == "meta"


def test_rows_without_allowed_keys_are_zero():
    model = build("none")
    x, mask = torch.randn(2, 4, 24), torch.ones(2, 4, 4, dtype=torch.bool)
    mask[1, 2] = False
    with record_attention(model, layers=[0]) as recording:
        model.blocks[0].attention(x, mask=mask)
    assert (recording[0][1, :, 2] == 0).all()
    torch.testing.assert_close(recording[0], model.blocks[0].attention.get_attention_maps(x, mask=mask))
