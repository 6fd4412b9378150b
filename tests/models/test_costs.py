"""Costs: parameters, FLOPs and memory as formulas, against what PyTorch counts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from glassformer.layers import FEED_FORWARDS, NORMS, RESIDUALS
from glassformer.models import GPTModel
from glassformer.models.costs import cost_of, describe, total
from glassformer.positions.build import SCHEMES

choices = st.fixed_dictionaries(
    {
        "vocab_size": st.integers(1, 60),
        "num_layers": st.integers(1, 3),
        "num_heads": st.sampled_from([2, 4]),
        "num_kv_heads": st.sampled_from([1, 2]),
        "d_head": st.sampled_from([None, 6]),
        "d_ff": st.integers(1, 40),
        "positions": st.sampled_from(sorted(SCHEMES)),
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


@given(options=choices, n=lengths, batch=batches, double=st.booleans())
def test_memory_is_what_autograd_keeps(options, n, batch, double):
    if options["positions"] == "relative_bias":
        options = options | {"positions": "none"}  # unfused: a lower bound, tested below
    model = build(options)
    model = model.double() if double else model
    expected = total(describe(model, n, batch)).memory
    # log-sum-exps of attention are kept in the precision of its sums
    heads = options["num_layers"] * options["num_heads"] * batch * n
    assert kept_bytes(model, n, batch) == expected + (4 * heads if double else 0)


def test_memory_of_a_learned_bias_is_a_lower_bound():
    model = GPTModel(50, 16, 3, 4, max_seq_len=12, positions="relative_bias")
    assert total(describe(model, 11, 2)).memory < kept_bytes(model, 11, 2)


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


def test_formulas_give_the_numbers():
    sizes = {"n": 11, "d": 16, "f": 40, "h": 4, "g": 2, "e": 4, "V": 50, "L": 3, "max_seq_len": 12}
    for options in ({}, {"bias": False}, {"activation": "swiglu"}, {"norm": "rms", "positions": "rotary"}):
        model = GPTModel(50, 16, 3, 4, 40, 12, num_kv_heads=2, **options)
        for cost in describe(model, 11):
            for formula, number in (
                (cost.parameter_formula, cost.parameters),
                (cost.flop_formula, cost.flops),
                (cost.memory_formula, cost.memory / 4),
            ):
                if formula not in ("", "tied"):
                    assert evaluate(formula, sizes) * cost.copies == number, (cost.component, formula)


def evaluate(formula, sizes):
    """A formula as printed: letters side by side are multiplied."""
    import re

    words = re.findall(r"max_seq_len|[a-zA-Z]|\d+|\^|[()+-]", formula)
    program = ""
    for word in words:
        if program and (word[0].isalnum() or word == "(") and (program[-1].isdigit() or program[-1] in ")]"):
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
