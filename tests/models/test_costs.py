"""Costs against PyTorch's counters."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from glassformer.layers import BLOCKS, FEED_FORWARDS, NORMS
from glassformer.models import BERTModel, GPTModel, T5Model, TransformerModel, ViTModel
from glassformer.models.bert import HEADS
from glassformer.models.costs import Size, cost_of, describe, total, with_attention
from glassformer.positions.build import SCHEMES

yarn = {"kind": "yarn", "factor": 2.0, "original_max_seq_len": 8}
every_scheme = [*sorted(SCHEMES), {"kind": "rotary", "d_rotary": 2}, {"kind": "rotary", "scaling": yarn}]
choices = st.fixed_dictionaries(
    {
        "vocab_size": st.integers(1, 60),
        "num_layers": st.integers(1, 3),
        "num_heads": st.sampled_from([1, 4]),
        "num_kv_heads": st.sampled_from([None, 1]),
        "d_head": st.sampled_from([None, 2, 6]),
        "d_ff": st.integers(1, 40),
        "positions": st.sampled_from(every_scheme),
        "norm": st.sampled_from(sorted(NORMS)),
        "activation": st.sampled_from(sorted(FEED_FORWARDS)),
        "residual": st.sampled_from(sorted(BLOCKS)),
        "bias": st.booleans(),
        "tie_embeddings": st.booleans(),
        "window": st.sampled_from([None, 1, 4]),
    }
)
lengths, batches = st.integers(1, 12), st.integers(1, 3)


def build(options, **more):
    return GPTModel(d_model=16, max_seq_len=12, **{**options, **more})


@given(options=choices)
def test_parameters_add_up(options):
    model = build(options)
    assert total(describe(model, 5)).parameters == model.num_parameters()


@pytest.mark.slow
@given(options=choices, n=lengths, batch=batches)
def test_flops_are_those_that_pytorch_counts(options, n, batch):
    model = build(options, kernel="textbook")
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(batch, n, dtype=torch.long))
    assert total(describe(model, n, batch)).flops == counter.get_total_flops()


TILED = [
    {"kind": "flash", "query_tile": 4, "key_tile": 3},
    {"kind": "block_sparse", "block_size": 4},
    {"kind": "block_sparse", "block_size": 3, "key_block_size": 2},
]
PATTERNS = [
    None,
    {"kind": "longformer", "window": 2, "global_tokens": [0, 5]},
    {"kind": "big_bird", "window": 2, "random_blocks": 1, "block_size": 2},
]


@pytest.mark.slow
@given(
    options=choices,
    n=lengths,
    batch=batches,
    kernel=st.sampled_from(TILED),
    pattern=st.sampled_from(PATTERNS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=12)
def test_flops_and_memory_of_kernels_that_work_on_tiles(options, n, batch, kernel, pattern, dtype):
    model = build(options, kernel=kernel, pattern=pattern).to(dtype)
    expected = total(describe(model, n, batch))
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(batch, n, dtype=torch.long))
    assert expected.flops == counter.get_total_flops()
    assert expected.memory == kept_bytes(model, n, batch)
    check_formulas(build(options, kernel=kernel, pattern=pattern), n)


@pytest.mark.slow
@given(
    options=choices,
    n=lengths,
    batch=batches,
    feature_map=st.sampled_from(["elu", "favor"]),
)
@settings(max_examples=12)
def test_flops_and_memory_of_linear_attention(options, n, batch, feature_map):
    options = {**options, "window": None}
    if options["positions"] in ("alibi", "relative_bias"):
        options["positions"] = "none"
    kernel = {"kind": "linear", "feature_map": feature_map, "num_features": 5, "chunk_size": 2}
    model = build(options, kernel=kernel)
    expected = total(describe(model, n, batch))
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(batch, n, dtype=torch.long))
    assert expected.flops == counter.get_total_flops()
    assert expected.memory == kept_bytes(model, n, batch)
    check_formulas(build(options, kernel=kernel), n)


def test_patterns_and_linear_attention_cost_in_proportion_to_the_length():
    def cost(n, kernel, pattern):
        parts = describe(BERTModel(30, 16, 1, 2, max_seq_len=4096, kernel=kernel, pattern=pattern), n)
        return next(part for part in parts if part.component.endswith("scores and mixing"))

    longformer = {"kind": "longformer", "window": 64}
    for kernel, pattern in (("block_sparse", longformer), ("linear", None)):
        short, long = (cost(n, kernel, pattern) for n in (1024, 4096))
        assert 3.9 < long.flops / short.flops < 4.2
        assert 3.9 < long.memory / short.memory < 4.2
    assert cost(1024, "fused", longformer).memory > 1024**2 * 4  # the table
    assert cost(1024, "flash", longformer).memory < 1024**2
    assert cost(4096, "block_sparse", longformer).flops < cost(4096, "fused", longformer).flops / 15


def test_describe_with_another_kernel_and_pattern():
    model = BERTModel(30, 16, 2, 2)
    assert with_attention(model) is model
    changed = with_attention(model, "block_sparse", "longformer")
    assert (changed.config.kernel, changed.config.pattern) == ("block_sparse", "longformer")
    assert changed.device.type == "meta"
    with pytest.raises(ValueError, match="vit models have no attention pattern"):
        with_attention(ViTModel(8, 4, d_model=8, num_layers=1, num_heads=1), pattern="longformer")


@given(options=choices, n=lengths, batch=batches, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_memory_equals_what_autograd_stores(options, n, batch, dtype):
    model = build(options).to(dtype)
    assert kept_bytes(model, n, batch) == total(describe(model, n, batch)).memory


@pytest.mark.parametrize("positions", every_scheme, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_memory_and_formulas_hold_for_every_position_scheme_and_precision(positions, dtype):
    model = GPTModel(50, 16, 2, 4, num_kv_heads=2, max_seq_len=12, positions=positions, norm="rms").to(dtype)
    assert kept_bytes(model, 11, 2) == total(describe(model, 11, 2)).memory
    check_formulas(model.float(), 11)


def test_memory_of_a_single_token_under_a_learned_bias_needs_no_mask():
    model = GPTModel(50, 16, 2, 4, positions="relative_bias")
    assert kept_bytes(model, 1, 1) == total(describe(model, 1)).memory


PARTS = {
    "norms of queries and keys": {"qk_norm": "head", "norm": "rms", "num_kv_heads": 2},
    "norms of all heads": {"qk_norm": "projection", "norm": "rms", "input_norm": False, "output_norm": True},
    "norms per head": {"qk_norm": {"kind": "per_head", "bias": False}},
    "layer norms of queries and keys": {"qk_norm": "head", "num_kv_heads": 2},
    "Gemma's": {
        "qk_norm": "head",
        "norm": "unit_offset_rms",
        "output_norm": True,
        "scale_embeddings": True,
        "window": [4, None],
        "positions": ["rotary", {"kind": "rotary", "theta": 50.0}],
    },
    "limited": {"attention_softcap": 2.0, "logit_softcap": 2.0},
    "limited, grouped": {"attention_softcap": 2.0, "num_kv_heads": 2},
    "limited, one key head": {"attention_softcap": 2.0, "num_kv_heads": 1},
    "limited, learned bias": {"attention_softcap": 2.0, "positions": "relative_bias"},
    "limited, biased": {"attention_softcap": 2.0, "positions": "alibi"},
    "limited, flash": {"attention_softcap": 2.0, "kernel": {"kind": "flash", "query_tile": 4, "key_tile": 3}},
    "Granite's": {"residual_scale": 0.5, "logit_scale": 0.5, "scale_embeddings": 2.0},
    "OPT's": {"d_embedding": 8, "positions": {"kind": "learned", "offset": 2}, "residual": "post"},
    "BLOOM's": {"embedding_norm": True, "positions": "alibi", "head_bias": True},
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parameters_flops_and_memory_of_the_parts_of_published_models(name, dtype):
    model = GPTModel(50, 16, 2, 4, max_seq_len=12, **PARTS[name]).to(dtype)
    expected = total(describe(model, 11, 2))
    assert expected.parameters == model.num_parameters()
    assert expected.memory == kept_bytes(model, 11, 2)
    check_formulas(model.float(), 11)
    if "flash" not in name:
        textbook = GPTModel(50, 16, 2, 4, max_seq_len=12, **PARTS[name], kernel="textbook")
        with FlopCounterMode(display=False) as counter:
            textbook(torch.zeros(2, 11, dtype=torch.long))
        assert total(describe(textbook, 11, 2)).flops == counter.get_total_flops()


def kept_bytes(model, n, batch):
    """Bytes of all storages, parameters apart, that the backward pass needs."""
    return bytes_kept_by(model, torch.zeros(batch, n, dtype=torch.long))


def bytes_kept_by(model, *inputs):
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(*inputs)
    bytes_kept = sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in own)
    del logits
    return bytes_kept


@given(options=choices, n=st.integers(2, 12))
def test_formulas_give_the_numbers(options, n):
    check_formulas(build(options), n)


def check_formulas(model, n, **more):
    config = model.config
    heads, d = config["num_heads"], config["d_model"]
    sizes = {"n": n, "d": d, "h": heads, "V": config.get("vocab_size"), **more}
    sizes |= {"f": config["d_ff"] or 4 * d, "g": config.get("num_kv_heads") or heads}
    sizes |= {"e": config.get("d_head") or d // heads, "max_seq_len": config.get("max_seq_len")}
    for cost in describe(model, n, target_len=more.get("m")):
        decodes = cost.component.startswith("decoder")
        sizes["L"] = config.get("num_decoder_layers" if decodes else "num_layers")
        for formula, number in (
            (cost.parameter_formula, cost.parameters),
            (cost.flop_formula, cost.flops),
            (cost.memory_formula, cost.memory / 4),
        ):
            if formula not in ("", "tied"):
                assert evaluate(formula, sizes) * cost.copies == number, (cost.component, formula)


def evaluate(formula, sizes):
    """A formula as printed: letters side by side are multiplied."""
    program = ""
    for word in re.findall(r"max_seq_len|[a-zA-Z]|\d+|[-+/^()]", formula):
        if program and (word[0].isalnum() or word == "(") and (program[-1].isdigit() or program[-1] == ")"):
            program += "*"
        program += "**" if word == "^" else f"{sizes[word]}" if word[0].isalpha() else word
    return eval(program)


def test_layers_that_cost_the_same_are_one_entry_and_a_tied_head_is_free():
    costs = describe(GPTModel(50, 16, 3, 4, max_seq_len=12), 10)
    assert [cost.copies for cost in costs] == [1, 1, 3, 3, 3, 3, 3, 3, 1, 1]
    assert (costs[-1].component, costs[-1].parameters) == ("lm_head", 0)
    assert costs[-1].parameter_formula == "tied"
    assert costs[-1].flops == 2 * 10 * 16 * 50


def test_attention_grows_with_the_square_of_the_text_and_the_rest_with_its_length():
    model = GPTModel(50, 16, 3, 4, max_seq_len=64)
    short, long = ({cost.component: cost.flops for cost in describe(model, n)} for n in (16, 64))
    assert long["attention: scores and mixing"] == 16 * short["attention: scores and mixing"]
    assert long["feed-forward"] == 4 * short["feed-forward"]


def test_invalid_arguments_raise():
    model = GPTModel(50, 16, 1, 4, max_seq_len=12)
    with pytest.raises(ValueError, match="seq_len must be at least 1, not 0"):
        describe(model, 0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, not -1"):
        describe(model, 3, -1)
    with pytest.raises(ValueError, match="a sequence of 13 tokens exceeds the learned table of 12 positions"):
        describe(model, 13)
    with pytest.raises(TypeError, match="no cost is registered for Conv1d"):
        cost_of(torch.nn.Conv1d(1, 1, 1), None)


def test_the_formula_of_a_head_with_a_bias():
    (cost,) = cost_of(torch.nn.Linear(3, 5), Size(n=1, batch=1, width=4, layers=1))
    assert (cost.parameters, cost.parameter_formula) == (20, "V d + V")


# Other families: the same claims

common = {
    "num_layers": st.integers(1, 3),
    "num_heads": st.sampled_from([1, 4]),
    "d_ff": st.integers(1, 40),
    "norm": st.sampled_from(sorted(NORMS.keys() - {"nonparametric"})),
    "activation": st.sampled_from(sorted(FEED_FORWARDS)),
    "residual": st.sampled_from(sorted(BLOCKS)),
    "bias": st.booleans(),
}
text = {"vocab_size": st.integers(2, 60), "positions": st.sampled_from(every_scheme)}
berts = st.fixed_dictionaries(
    {
        **common,
        **text,
        "head": st.sampled_from(sorted(HEADS)),
        "pooler": st.booleans(),
        "labels": st.integers(1, 5),
        "num_token_types": st.integers(1, 3),
    }
)
t5s = st.fixed_dictionaries(
    {
        **common,
        **text,
        "num_decoder_layers": st.integers(1, 3),
        "d_head": st.sampled_from([None, 2, 6]),
        "tie_embeddings": st.booleans(),
        "attention_scale": st.sampled_from([None, 1.0]),
    }
)
vits = st.fixed_dictionaries(
    {
        **common,
        "num_channels": st.integers(1, 3),
        "qkv_bias": st.sampled_from([None, False, True]),
        "layer_scale": st.sampled_from([None, 0.1]),
        "num_registers": st.integers(0, 2),
        "pooler": st.booleans(),
        "head": st.sampled_from(["none", "classification"]),
        "labels": st.integers(1, 5),
    }
)
dtypes = st.sampled_from([torch.float32, torch.float64])


def check(model, costs, inputs, textbook):
    """Parameters, FLOPs and memory are those of PyTorch."""
    sums = total(costs)
    assert sums.parameters == model.num_parameters()
    assert sums.memory == bytes_kept_by(model, *inputs)
    with FlopCounterMode(display=False) as counter:
        textbook(*inputs)
    assert sums.flops == counter.get_total_flops()


@pytest.mark.slow
@given(options=berts, n=lengths, batch=batches, dtype=dtypes)
def test_bert_costs_what_pytorch_counts(options, n, batch, dtype):
    sizes = {"d_model": 16, "max_seq_len": 12, **options}
    model, textbook = (BERTModel(**sizes, kernel=kernel).to(dtype) for kernel in ("fused", "textbook"))
    check(model, describe(model, n, batch), (torch.zeros(batch, n, dtype=torch.long),), textbook)


@pytest.mark.slow
@given(options=t5s, n=lengths, m=lengths, batch=batches, dtype=dtypes)
def test_encoder_decoders_cost_what_pytorch_counts(options, n, m, batch, dtype):
    sizes = {"d_model": 16, "max_seq_len": 12, "end_token": 0, **options}
    model, textbook = (T5Model(**sizes, kernel=kernel).to(dtype) for kernel in ("fused", "textbook"))
    inputs = [torch.zeros(batch, length, dtype=torch.long) for length in (n, m)]
    check(model, describe(model, n, batch, m), inputs, textbook)


@pytest.mark.slow
@given(options=vits, batch=batches, dtype=dtypes)
def test_vit_costs_what_pytorch_counts(options, batch, dtype):
    sizes = {"image_size": 8, "patch_size": 4, "d_model": 16, **options}
    model, textbook = (ViTModel(**sizes, kernel=kernel).to(dtype) for kernel in ("fused", "textbook"))
    pixels = torch.zeros(batch, options["num_channels"], 8, 8, dtype=dtype)
    check(model, describe(model, batch_size=batch), (pixels,), textbook)


@given(options=berts, n=st.integers(2, 12))
def test_formulas_of_bert_give_the_numbers(options, n):
    check_formulas(BERTModel(d_model=16, max_seq_len=12, **options), n)


@pytest.mark.slow
@given(options=t5s, n=st.integers(2, 12), m=st.integers(2, 12))
def test_formulas_of_encoder_decoders_give_the_numbers(options, n, m):
    check_formulas(T5Model(d_model=16, max_seq_len=12, end_token=0, **options), n, m=m)


@given(options=vits)
def test_formulas_of_vit_give_the_numbers(options):
    model = ViTModel(image_size=8, patch_size=4, d_model=16, **options)
    check_formulas(model, 5 + options["num_registers"], P=4)


PRESETS = [(family, name) for family in TransformerModel.families.values() for name in family.presets]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), PRESETS, ids=[name for _, name in PRESETS])
def test_presets_are_described_on_the_meta_device(family, name):
    with torch.device("meta"):
        model = family.from_preset(name)
    assert total(describe(model)).parameters == model.num_parameters()


def test_memory_of_the_encoder_output_does_not_depend_on_depth():
    model = T5Model(50, 16, 1, 4, num_decoder_layers=3)
    costs = {cost.component: cost for cost in describe(model, 10, 2, 7)}
    assert costs["encoder output, read by every decoder layer"].memory == 4 * 2 * 10 * 16
    assert costs["decoder cross-attention: scores and mixing"].copies == 3
    assert costs["decoder cross-attention: scores and mixing"].flops == 3 * 4 * 2 * 7 * 10 * 16
    assert costs["decoder cross-attention: scores and mixing"].flop_formula == "4 h e m n"
    assert costs["encoder attention: scores and mixing"].flop_formula == "4 h e n^2"
    assert costs["decoder attention: scores and mixing"].flop_formula == "4 h e m^2"
    assert costs["decoder token_embedding"].parameter_formula == "tied"


def test_invalid_lengths_raise():
    with pytest.raises(ValueError, match="a GPTModel has no target sequence: omit target_len"):
        describe(GPTModel(50, 16, 1, 4), 3, 1, 3)
    with pytest.raises(ValueError, match="an image has 5 tokens, not 6: omit seq_len"):
        describe(ViTModel(8, 4, 16, 1, 4), 6)
    with pytest.raises(ValueError, match="target_len must be at least 1, not 0"):
        describe(T5Model(50, 16, 1, 4), 3, 1, 0)
    with pytest.raises(ValueError, match="a sequence of 13 tokens exceeds the learned table of 12"):
        describe(T5Model(50, 16, 1, 4, max_seq_len=12, positions="learned"), 3, 1, 13)
