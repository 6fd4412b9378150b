"""Costs: parameters, FLOPs and memory as formulas, against what PyTorch counts."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from glassformer.layers import FEED_FORWARDS, NORMS, RESIDUALS
from glassformer.models import GPTModel
from glassformer.models.costs import Size, cost_of, describe, total
from glassformer.positions.build import SCHEMES

every_scheme = [*sorted(SCHEMES), {"kind": "rotary", "d_rotary": 2}]
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
        "residual": st.sampled_from(sorted(RESIDUALS)),
        "bias": st.booleans(),
        "tie_embeddings": st.booleans(),
    }
)
lengths, batches = st.integers(1, 12), st.integers(1, 3)


def build(options, **more):
    return GPTModel(d_model=16, max_seq_len=12, **{**options, **more})


@given(options=choices)
def test_parameters_add_up(options):
    model = build(options)
    assert total(describe(model, 5)).parameters == model.num_parameters()


@given(options=choices, n=lengths, batch=batches)
def test_flops_are_those_that_pytorch_counts(options, n, batch):
    model = build(options, kernel="textbook")
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(batch, n, dtype=torch.long))
    assert total(describe(model, n, batch)).flops == counter.get_total_flops()


@given(options=choices, n=lengths, batch=batches, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_memory_is_what_autograd_keeps(options, n, batch, dtype):
    assume(n > 1 or options["positions"] != "alibi")
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


def kept_bytes(model, n, batch):
    """Bytes of all storages, parameters apart, that the backward pass needs."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    ids = torch.zeros(batch, n, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(ids)
    bytes_kept = sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in own)
    del logits
    return bytes_kept


@given(options=choices, n=st.integers(2, 12))
def test_formulas_give_the_numbers(options, n):
    check_formulas(build(options), n)


def check_formulas(model, n):
    config = model.config
    heads, d = config["num_heads"], config["d_model"]
    sizes = {"n": n, "d": d, "h": heads, "V": config["vocab_size"], "L": config["num_layers"]}
    sizes |= {"f": config["d_ff"] or 4 * d, "g": config["num_kv_heads"] or heads}
    sizes |= {"e": config["d_head"] or d // heads, "max_seq_len": config["max_seq_len"]}
    for cost in describe(model, n):
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


def test_the_largest_preset_is_described_without_its_memory():
    with torch.device("meta"):
        model = GPTModel.from_preset("gpt2-xl")
    assert total(describe(model, 1024)).parameters == 1_557_611_200


def test_attention_grows_with_the_square_of_the_text_and_the_rest_with_its_length():
    model = GPTModel(50, 16, 3, 4, max_seq_len=64)
    short, long = ({cost.component: cost.flops for cost in describe(model, n)} for n in (16, 64))
    assert long["attention: scores and mixing"] == 16 * short["attention: scores and mixing"]
    assert long["feed-forward"] == 4 * short["feed-forward"]


def test_refuses_what_makes_no_sense():
    model = GPTModel(50, 16, 1, 4, max_seq_len=12)
    with pytest.raises(ValueError, match="seq_len must be at least 1, not 0"):
        describe(model, 0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, not -1"):
        describe(model, 3, -1)
    with pytest.raises(ValueError, match="seq_len 13 is past the learned table of 12 positions"):
        describe(model, 13)
    with pytest.raises(TypeError, match="cost of a Conv1d is not described"):
        cost_of(torch.nn.Conv1d(1, 1, 1), None)


def test_an_output_projection_with_a_bias_says_so():
    (cost,) = cost_of(torch.nn.Linear(3, 5), Size(n=1, batch=1, width=4, layers=1))
    assert (cost.parameters, cost.parameter_formula) == (20, "V d + V")
