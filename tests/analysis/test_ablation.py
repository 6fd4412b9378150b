"""Ablation equals zero columns of ``out_proj``, and leaves the model unchanged."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.analysis.ablation import ReferenceOutputs, ablate, head_name, parse_heads, reference_outputs
from glassformer.attention import record_activations
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel

TEXT = {"vocab_size": 50, "d_model": 24, "num_layers": 3, "num_heads": 6}
IDS, TARGET = torch.arange(14).view(2, 7), torch.arange(6).view(2, 3)
FAMILIES = {
    "GPT": (GPTModel, {**TEXT, "max_seq_len": 20, "num_kv_heads": 2, "positions": "rotary"}, (IDS,)),
    "BERT": (BERTModel, TEXT, (IDS,)),
    "T5": (T5Model, {**TEXT, "num_decoder_layers": 3}, (IDS, TARGET)),
    "ViT": (
        ViTModel,
        {"image_size": 8, "patch_size": 4, "d_model": 24, "num_layers": 3, "num_heads": 6},
        (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),),
    ),
}


def build(name="GPT", **options):
    torch.manual_seed(0)
    family, sizes, inputs = FAMILIES[name]
    model = family(**sizes, **options).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model, inputs


@contextmanager
def zero_columns(model, heads, kind):
    """Set columns of ``out_proj`` to zero."""
    before = {}
    with torch.no_grad():
        for layer, head in heads:
            attention = model.attentions()[kind][layer]
            weight = attention.out_proj.weight
            before.setdefault(weight, weight.clone())
            weight[:, head * attention.d_head : (head + 1) * attention.d_head] = 0
    yield
    with torch.no_grad():
        for weight, values in before.items():
            weight.copy_(values)


def zero_reference(model, kind):
    """Reference outputs whose mean is zero."""
    attentions = model.attentions()[kind]
    mean = [torch.zeros(a.num_heads, a.d_head) for a in attentions]
    return ReferenceOutputs(kind, mean, [m[None] for m in mean], 1)


HEADS = st.sets(st.tuples(st.integers(0, 2), st.integers(0, 5)), min_size=1, max_size=18)


@pytest.mark.slow
@given(heads=HEADS, data=st.data())
def test_zero_ablation_equals_zero_columns_of_out_proj(heads, data):
    name = data.draw(st.sampled_from(sorted(FAMILIES)))
    model, inputs = build(name)
    kind = data.draw(st.sampled_from(sorted(model.attentions())))
    with torch.no_grad():
        intact = model(*inputs)
        with zero_columns(model, heads, kind):
            expected = model(*inputs)
        with ablate(model, heads, kind=kind):
            found = model(*inputs)
        with ablate(model, heads, "mean", reference=zero_reference(model, kind), kind=kind):
            by_mean = model(*inputs)
        assert torch.equal(model(*inputs), intact)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(by_mean, found)
    assert not torch.equal(found, intact)


def test_nested_blocks_ablate_the_union_of_heads_of_several_kinds():
    model, inputs = build("T5")
    with ExitStack() as stack, torch.no_grad():
        for kind in ("encoder", "cross"):
            stack.enter_context(zero_columns(model, [(1, 2), (0, 0)], kind))
        expected = model(*inputs)
    with ablate(model, [(1, 2)], kind="encoder"), ablate(model, [(0, 0)], kind="encoder"):
        with ablate(model, [(0, 0), (1, 2)], kind="cross"), torch.no_grad():
            torch.testing.assert_close(model(*inputs), expected)


def test_ablation_of_every_head_of_a_layer_leaves_the_bias():
    model, inputs = build()
    attention = model.blocks[1].attention
    torch.nn.init.normal_(attention.out_proj.bias)
    seen = []
    attention.register_forward_hook(lambda module, args, output: seen.append(output[0]))
    with ablate(model, [(1, head) for head in range(6)]):
        model(*inputs)
    assert torch.equal(seen[0], attention.out_proj.bias.expand_as(seen[0]))


EXAMPLES = [[1, 2, 3, 4, 5], [6, 7], [8, 9, 10, 11]]


def test_the_reference_has_the_mean_and_samples_of_all_positions():
    model, _ = build()
    found = reference_outputs(model.train(), iter(EXAMPLES), num_samples=4)
    assert model.training
    model.eval()
    assert found.num_positions == 11
    outputs = [[], [], []]
    for ids in EXAMPLES:
        with record_activations(model) as activations, torch.no_grad():
            model(torch.tensor([ids]))
        for layer in range(3):
            outputs[layer].append(activations.head_outputs[layer][0].transpose(0, 1))
    rows = []
    for layer in range(3):
        everything = torch.cat(outputs[layer])  # (place, head, d_head)
        torch.testing.assert_close(found.mean[layer], everything.mean(0))
        distances = (found.samples[layer][:, None] - everything).abs().amax((2, 3))
        assert (distances.amin(1) < 1e-6).all()
        rows.append(distances.argmin(1).tolist())
    assert rows[0] == rows[1] == rows[2]  # the same positions in every layer
    assert len(set(rows[0])) == 4
    everything = reference_outputs(model, EXAMPLES)
    torch.testing.assert_close(everything.samples[2], torch.cat(outputs[2]))


@pytest.mark.slow
def test_samples_are_uniform():
    torch.manual_seed(0)
    model = GPTModel(50, 8, 1, 1, max_seq_len=20)
    ids = list(range(10))
    everything = reference_outputs(model, [ids]).samples[0][:, 0]
    counts = torch.zeros(10)
    for seed in range(300):
        for place in reference_outputs(model, [ids], num_samples=3, seed=seed).samples[0][:, 0]:
            counts[(everything - place).abs().sum(1).argmin()] += 1
    assert counts.sum() == 900
    assert (counts - 90).abs().max() < 35  # five standard deviations of about 8


def test_reference_outputs_of_other_families():
    t5, _ = build("T5")
    pairs = [([1, 2, 3], [4, 5]), ([6], [7, 8, 9])]
    assert reference_outputs(t5, pairs, "encoder").num_positions == 4
    assert reference_outputs(t5, pairs, "cross").num_positions == 5
    assert reference_outputs(t5, [[1, 2]], "encoder").num_positions == 2  # the model generates the target
    vit, (images,) = build("ViT")
    assert reference_outputs(vit, images).num_positions == 2 * 5


@pytest.mark.parametrize("how", ["mean", "resample"])
def test_only_the_given_heads_of_a_layer_are_replaced(how):
    model, inputs = build()
    reference = reference_outputs(model, EXAMPLES)
    with torch.no_grad():
        with record_activations(model, [0]) as intact:
            model(*inputs)
        with (
            ablate(model, [(0, 2), (0, 4)], how, reference=reference),
            record_activations(model, [0]) as found,
        ):
            model(*inputs)
    for head in (0, 1, 3, 5):
        assert torch.equal(found.head_outputs[0][:, head], intact.head_outputs[0][:, head])
    replaced = found.head_outputs[0][:, [2, 4]]  # (batch, head, query, d_head)
    if how == "mean":
        assert torch.equal(replaced, reference.mean[0][[2, 4]][:, None].expand_as(replaced))
        return
    places = reference.samples[0][:, [2, 4]].flatten(1)
    drawn = (replaced.transpose(1, 2).flatten(2)[:, :, None] - places).abs().amax(-1)
    assert (drawn.amin(-1) == 0).all()  # both heads from the same sample
    rows = drawn.argmin(-1)
    assert not torch.equal(rows[0], rows[1])
    assert all(len(set(row)) == 7 for row in rows.tolist())  # no sample twice in a row


def test_resampling_is_seeded():
    model, inputs = build()
    reference = reference_outputs(model, EXAMPLES)
    outputs = []
    for seed in (0, 0, 1):
        with ablate(model, [(1, 1)], "resample", reference=reference, seed=seed), torch.no_grad():
            outputs.append(model(*inputs))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("how", ["zero", "mean", "resample"])
def test_generation_is_the_same_with_and_without_a_cache(how):
    model, _ = build()
    reference = reference_outputs(model, EXAMPLES)
    heads = [(layer, head) for layer in range(3) for head in range(5)]
    cache = model.make_cache(7)
    prompts = [[1, 2, 3], [4, 5, 6, 7, 8]]
    with torch.no_grad():
        intact = model(IDS)
        with ablate(model, heads, how, reference=reference):
            whole = model(IDS)
            pieces = [model(IDS[:, a:b], cache=cache) for a, b in ((0, 4), (4, 5), (5, 6), (6, 7))]
            cached = model.generate(prompts, 8, temperature=0)
            uncached = model.generate(prompts, 8, temperature=0, use_cache=False)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-4, atol=1e-5)
    assert (whole - intact).abs().amax() > 0.1
    assert cached == uncached


@pytest.mark.parametrize("how", ["zero", "mean", "resample"])
def test_gradients_are_the_same_with_and_without_checkpointing(how):
    gradients = []
    for checkpointing in (False, True):
        model, inputs = build(gradient_checkpointing=checkpointing)
        reference = reference_outputs(model, EXAMPLES)
        with ablate(model.train(), [(0, 3), (2, 1)], how, reference=reference):
            model(*inputs).square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        assert (model.blocks[2].attention.out_proj.weight.grad[:, 4:8] != 0).any() == (how != "zero")
        assert not model.blocks[0].attention.v_proj.bias.grad.isnan().any()
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, rtol=1e-5, atol=1e-8)


def test_hooks_are_removed_after_an_exception():
    model, _ = build()
    with pytest.raises(RuntimeError, match="stop"), ablate(model, [(0, 1), (2, 2)]):
        raise RuntimeError("stop")
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_invalid_arguments_raise_errors():
    model, _ = build()

    def error_of(*arguments, **options):
        with pytest.raises(ValueError, match=r".") as error, ablate(*arguments, **options):
            pass
        assert not any(module._forward_pre_hooks for module in model.modules())
        return str(error.value)

    assert "layer 3 does not exist: layers are 0 to 2" in error_of(model, [(3, 0)])
    assert "head 6 does not exist in layer 1: heads are 0 to 5" in error_of(model, [(0, 0), (1, 6)])
    assert "head 1.2 is given twice" in error_of(model, [(1, 2), (0, 2), (1, 2)])
    assert "unknown ablation 'zeros', did you mean 'zero'" in error_of(model, [(0, 0)], "zeros")
    assert "how='mean' needs reference=reference_outputs" in error_of(model, [(0, 0)], "mean")
    other = reference_outputs(GPTModel(50, 24, 2, 6), [[1, 2]])
    assert "2 layers of self attention and does not fit" in error_of(model, [(0, 0)], "mean", reference=other)
    assert "give kind=" in error_of(build("T5")[0], [(0, 0)])
    with pytest.raises(ValueError, match="data set is empty"):
        reference_outputs(model, [])
    with pytest.raises(ValueError, match="num_samples must be at least 1, not 0"):
        reference_outputs(model, EXAMPLES, num_samples=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # from the compiler
def test_compiled_functions_are_ablated_too():
    torch.compiler.reset()
    model, (ids,) = build()
    run = torch.compile(lambda ids: model(ids), backend="eager")
    run(ids)
    with ablate(model, [(0, 0)]):
        expected = model(ids)
        assert torch.equal(run(ids), expected)
    assert not torch.allclose(run(ids), expected)
    torch.compiler.reset()
    with pytest.raises(TypeError, match="_orig_mod"), ablate(torch.compile(model), [(0, 0)]):
        pass


def test_heads_are_parsed_from_layer_and_head_numbers():
    assert parse_heads("4.7, 5.1") == [(4, 7), (5, 1)]
    assert [head_name(head) for head in parse_heads("4.7,10.11")] == ["4.7", "10.11"]
    assert parse_heads("4.0-2,5.1") == [(4, 0), (4, 1), (4, 2), (5, 1)]
    assert parse_heads("0-1.3") == [(0, 3), (1, 3)]
    assert parse_heads("1-2.0-1") == [(1, 0), (1, 1), (2, 0), (2, 1)]
    for wrong in ("4.2-1", "3-2.0", "0-999999.0-999999"):
        with pytest.raises(ValueError, match="must stand for 1 to 100,000 heads"):
            parse_heads(wrong)
    for wrong in ("4", "4.", ".7", "4.x", "4.7,", "-1.2", "", "4.1-", "4.-2", "1-.2", "4.1-2-3", "\u0664.1"):
        with pytest.raises(ValueError, match=r"heads must be LAYER\.HEAD"):
            parse_heads(wrong)
