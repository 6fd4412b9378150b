"""Models with pruned heads."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from glassformer.attention import (
    FusedAttention,
    MultiHeadAttention,
    PrunedMultiHeadAttention,
    ScaledDotProductAttention,
)
from glassformer.models import BERTModel, GPTModel, T5Model, TransformerModel, ViTModel
from glassformer.models.costs import describe, total
from glassformer.positions.build import SCHEMES
from glassformer.training import ModelConfig, TrainingConfig
from glassformer.training.pipeline import load_matching_weights

SIZES = {"vocab_size": 20, "d_model": 16, "num_layers": 3, "num_heads": 4, "max_seq_len": 12}
some_of_4 = st.lists(st.sampled_from(range(4)), max_size=3, unique=True)
layers = st.lists(some_of_4, min_size=3, max_size=3)


def pruned_attention(kernel, gone, **options):
    """A layer without some heads, and the whole one with zeros in their place."""
    whole = MultiHeadAttention(8, 4, kernel=kernel, **options)
    part = PrunedMultiHeadAttention(8, 4, kernel=kernel, pruned_heads=gone, **options)
    left = [row for head in part.head_numbers for row in (2 * head, 2 * head + 1)]
    with torch.no_grad():
        for name in ("q_proj", "k_proj", "v_proj"):
            for ours, theirs in zip(
                getattr(part, name).parameters(), getattr(whole, name).parameters(), strict=True
            ):
                ours.copy_(theirs[left])
        part.out_proj.weight.copy_(whole.out_proj.weight[:, left])
        part.out_proj.bias.copy_(whole.out_proj.bias)
        lost = [column for column in range(8) if column not in left]
        whole.out_proj.weight[:, lost] = 0
    return part, whole


@pytest.mark.parametrize("kernel", [ScaledDotProductAttention(), FusedAttention()])
@given(gone=some_of_4, rows=st.sampled_from([1, 2]))
@settings(max_examples=10)
def test_a_pruned_layer_selects_its_heads_of_masks_and_biases(kernel, gone, rows):
    part, whole = pruned_attention(kernel, gone)
    x, bias = torch.randn(2, 5, 8), torch.randn(rows, 4, 5, 5)
    mask = torch.rand(2, 4, 5, 5) > 0.3
    expected = whole(x, mask=mask, bias=bias)[0]
    torch.testing.assert_close(part(x, mask=mask, bias=bias)[0], expected)
    left = part.head_numbers  # tables of these heads alone are taken as they are, and so are shared ones
    torch.testing.assert_close(part(x, mask=mask[:, left], bias=bias[:, left])[0], expected)
    maps = part.get_attention_maps(x, mask=mask, bias=bias)
    torch.testing.assert_close(maps, whole.get_attention_maps(x, mask=mask, bias=bias)[:, left])
    shared = mask[:, :1]
    torch.testing.assert_close(part(x, mask=shared)[0], whole(x, mask=shared)[0])
    torch.testing.assert_close(part(x, mask=shared[:, 0])[0], whole(x, mask=shared)[0])


def test_a_mask_with_another_number_of_heads_raises():
    part = PrunedMultiHeadAttention(8, 4, pruned_heads=[1])
    with pytest.raises(ValueError, match="does not fit scores"):
        part(torch.randn(1, 5, 8), mask=torch.ones(1, 5, 5, 5, dtype=torch.bool))


def test_an_unpruned_layer_passes_masks_and_biases_unchanged():
    seen = []

    class Watched(ScaledDotProductAttention):
        def forward(self, q, k, v, mask=None, bias=None):
            seen.extend([mask, bias])
            return super().forward(q, k, v, mask, bias)

    mask, bias = torch.ones(1, 4, 5, 5, dtype=torch.bool), torch.randn(1, 4, 5, 5)
    MultiHeadAttention(8, 4, kernel=Watched())(torch.randn(1, 5, 8), mask=mask, bias=bias)
    assert seen[0] is mask
    assert seen[1] is bias


def test_sizes_of_a_pruned_layer():
    attention = PrunedMultiHeadAttention(24, 6, num_kv_heads=3, pruned_heads=(5, 4))
    assert attention.head_numbers == [0, 1, 2, 3]
    assert (attention.num_heads, attention.num_kv_heads, attention.d_head) == (4, 2, 4)
    shapes = [tuple(p.weight.shape) for p in (attention.q_proj, attention.k_proj, attention.out_proj)]
    assert shapes == [(16, 24), (8, 24), (24, 16)]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"pruned_heads": [4]}, "head 4 does not exist in the attention: heads are 0 to 3"),
        ({"pruned_heads": [-1]}, "head -1 does not exist in the attention: heads are 0 to 3"),
        (
            {"pruned_heads": range(4)},
            "the heads of the attention cannot all be pruned: at least one of 4 must stay",
        ),
        (
            {"num_kv_heads": 2, "pruned_heads": [3]},
            "heads 2 and 3 .* share one .*: prune 2 too, or none",
        ),
        (
            {"num_kv_heads": 1, "pruned_heads": [0, 2]},
            "heads 0, 1, 2 and 3 .*: none can be pruned",
        ),
    ],
)
def test_heads_that_cannot_be_pruned_raise(keywords, message):
    with pytest.raises(ValueError, match=message):
        PrunedMultiHeadAttention(8, 4, **keywords)


@pytest.mark.parametrize(
    ("family", "pruned", "message"),
    [
        (GPTModel, {"self": [[], [9], []]}, "head 9 does not exist in layer 1: heads are 0 to 3"),
        (T5Model, {"cross": [[], [9], []]}, "head 9 does not exist in layer 1 of 'cross': heads are 0 to 3"),
        (T5Model, {"corss": [[], [], []]}, "unknown kind of attention .* 'corss', did you mean 'cross'"),
        (BERTModel, {"encoder": [[], [], []]}, r"unknown kind of attention .* \(there are: self\)"),
        (BERTModel, {"self": [[]]}, "pruned_heads of 'self' must be 3 lists, one for each layer, not 1"),
    ],
)
def test_invalid_pruned_heads_of_a_model_raise(family, pruned, message):
    with pytest.raises(ValueError, match=message):
        family(**SIZES, pruned_heads=pruned)


@pytest.mark.parametrize(
    "pruned", [3, [[0], [], []], {"self": 3}, {"self": "abc"}, {"self": [["a"], [], []]}]
)
def test_an_invalid_value_in_a_config_file_raises(tmp_path, pruned):
    GPTModel(**SIZES).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "pruned_heads": pruned}))
    with pytest.raises(ValueError, match=r"config\.json does not describe a model"):
        TransformerModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("missing", ["num_heads", "gradient_checkpointing", "kernel"])
@pytest.mark.parametrize("family", [GPTModel, BERTModel, T5Model])
def test_only_later_keys_may_be_missing_in_a_config_file(tmp_path, family, missing):
    family(**SIZES).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("pruned_heads", 0) is None
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert TransformerModel.from_pretrained(tmp_path).config["pruned_heads"] is None
    del config[missing]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"the key '{missing}' is missing"):
        TransformerModel.from_pretrained(tmp_path)


def kept_bytes(model, *inputs):
    """Bytes of all storages, parameters apart, that the backward pass needs."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(*inputs)
    total = sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in own)
    del output
    return total


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("positions", sorted(SCHEMES))
@given(gone=layers, other=layers, n=st.integers(1, 6))
@settings(max_examples=4)
def test_costs_equal_pytorchs_counters(positions, dtype, gone, other, n):
    ids, target = torch.zeros(2, n, dtype=torch.long), torch.zeros(2, 3, dtype=torch.long)
    image = torch.zeros(2, 3, 8, 8, dtype=dtype)
    vit = {"image_size": 8, "patch_size": 4, "d_model": 16, "num_layers": 3, "num_heads": 4}
    across = {"encoder": gone, "decoder": other, "cross": gone}
    for family, sizes, pruned, inputs in (
        (GPTModel, {**SIZES, "positions": positions}, {"self": gone}, (ids,)),
        (BERTModel, {**SIZES, "positions": positions}, {"self": gone}, (ids,)),
        (T5Model, {**SIZES, "positions": positions}, across, (ids, target)),
        (ViTModel, vit, {"self": gone}, (image,)),
    ):
        model = family(**sizes, pruned_heads=pruned).to(dtype)
        seq_len, target_len = (None if family is ViTModel else n), (3 if family is T5Model else None)
        sums = total(describe(model, seq_len, 2, target_len))
        assert sums.parameters == model.num_parameters()
        assert sums.memory == kept_bytes(model, *inputs)
        with FlopCounterMode(display=False) as counter:
            family(**sizes, pruned_heads=pruned, kernel="textbook").to(dtype)(*inputs)
        assert sums.flops == counter.get_total_flops()


def test_layers_with_equal_numbers_of_heads_are_one_entry():
    costs = describe(GPTModel(**SIZES, pruned_heads={"self": [[0], [3], []]}), 5)
    scores = [cost for cost in costs if cost.component == "attention: scores and mixing"]
    assert [cost.copies for cost in scores] == [2, 1]
    assert [cost.flops for cost in scores] == [2 * 4 * 3 * 4 * 25, 4 * 4 * 4 * 25]


def test_a_pruned_model_can_start_another_run():
    old = GPTModel(**SIZES, pruned_heads={"self": [[0], [1, 2], []]})
    new = load_matching_weights(old, TrainingConfig(model=ModelConfig(dropout=0.1)), {})
    assert new.config == {**old.config, "dropout": 0.1}
    assert all(torch.equal(a, b) for a, b in zip(new.parameters(), old.parameters(), strict=True))
    with pytest.raises(ValueError, match="pruned_heads of 'self' must be 2 lists, one for each layer, not 3"):
        load_matching_weights(old, TrainingConfig(model=ModelConfig(num_layers=2)), {})


def test_a_step_of_training_changes_every_parameter_and_lowers_the_loss():
    model = GPTModel(**SIZES, positions="relative_bias", pruned_heads={"self": [[0], [1, 2, 3], []]})
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ids = torch.randint(0, 20, (4, 9))
    losses = []
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]
    for name, parameter in model.named_parameters():
        if not name.endswith("k_proj.bias"):  # adds the same to all scores of a query
            assert not torch.equal(parameter, before[name]), name
