"""Logits processors and the sampler."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from glassformer.generation import MinP, RepetitionPenalty, Sampler, Temperature, TopK, TopP
from glassformer.generation.sampling import draw

fractions = st.floats(0.01, 0.99)


@st.composite
def logits_and_context(draw_value):
    generator = torch.Generator().manual_seed(draw_value(st.integers(0, 2**32)))
    batch, vocab, seq = draw_value(st.tuples(st.integers(1, 4), st.integers(2, 40), st.integers(1, 20)))
    logits = torch.randn(batch, vocab, generator=generator) * draw_value(st.floats(0.1, 10))
    return logits, torch.randint(vocab, (batch, seq), generator=generator)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(logits_and_context(), st.floats(0.2, 5))
def test_repetition_penalty_equals_hugging_face(case, penalty):
    logits, context = case
    ours = RepetitionPenalty(penalty)(logits, context)
    torch.testing.assert_close(ours, RepetitionPenaltyLogitsProcessor(penalty)(context, logits))


@settings(deadline=None)
@given(logits_and_context(), st.floats(0.05, 20))
def test_temperature_gives_the_distribution_of_hugging_face(case, temperature):
    logits, context = case
    ours = Temperature(temperature)(logits, context).softmax(-1)
    torch.testing.assert_close(ours, TemperatureLogitsWarper(temperature)(context, logits).softmax(-1))


@settings(deadline=None)
@given(logits_and_context(), st.integers(1, 60))
def test_top_k_equals_hugging_face(case, k):
    logits, context = case
    assert TopK(k)(logits, context).equal(TopKLogitsWarper(k)(context, logits))


@settings(deadline=None)
@given(logits_and_context(), fractions)
def test_top_p_equals_hugging_face(case, p):
    logits, context = case
    assert TopP(p)(logits, context).equal(TopPLogitsWarper(p)(context, logits))


@settings(deadline=None)
@given(logits_and_context(), st.floats(0, 1))
def test_min_p_equals_hugging_face(case, p):
    logits, context = case
    assert MinP(p)(logits, context).equal(MinPLogitsWarper(p)(context, logits))


@settings(deadline=None)
@given(logits_and_context(), st.floats(0.5, 2), st.floats(0.2, 3), st.integers(1, 40), fractions, fractions)
def test_processors_apply_in_the_documented_order(case, penalty, temperature, k, p, least):
    logits, context = case
    theirs = logits
    for processor in (
        RepetitionPenaltyLogitsProcessor(penalty),
        TemperatureLogitsWarper(temperature),
        TopKLogitsWarper(k),
        TopPLogitsWarper(p),
        MinPLogitsWarper(least),
    ):
        theirs = processor(context, theirs)
    sampler = Sampler(
        repetition_penalty=penalty,
        temperature=temperature,
        top_k=k,
        top_p=p,
        min_p=least,
        generator=seeded(0),
    )
    expected = draw(theirs.softmax(-1), seeded(0))
    assert sampler(logits, context).equal(expected)


@pytest.mark.slow
@settings(deadline=None)
@given(logits_and_context(), fractions)
def test_the_nucleus_is_the_smallest_set_that_holds_p(case, p):
    logits, context = case
    probabilities = logits.softmax(-1)
    kept = TopP(p)(logits, context).isfinite()
    mass = (probabilities * kept).sum(-1)
    least_kept = probabilities.masked_fill(~kept, math.inf).amin(-1)
    assert (mass >= p - 1e-5).all()
    assert (mass - least_kept < p + 1e-5).all()


def test_the_most_likely_token_is_in_every_nucleus():
    logits, context = torch.randn(3, 20, generator=seeded(0)), torch.zeros(3, 1, dtype=torch.long)
    kept = TopP(1e-9)(logits, context).isfinite()
    assert kept.sum(-1).tolist() == [1, 1, 1]
    assert kept.int().argmax(-1).equal(logits.argmax(-1))


def test_ties_with_the_kth_token_are_kept():
    logits = torch.tensor([[1.0, 2.0, 2.0, 3.0]])
    assert TopK(2)(logits, torch.zeros(1, 1, dtype=torch.long)).isfinite().tolist() == [
        [False, True, True, True]
    ]


@pytest.mark.parametrize("off", [{"top_k": 0}, {"top_p": 1.0}, {"min_p": 0.0}, {"repetition_penalty": 1.0}])
def test_options_that_are_off_add_no_processor(off):
    assert Sampler(**off).processors == []


class Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_greedy_decoding_is_one_argmax():
    logits = torch.randn(3, 50, generator=seeded(0))
    sampler = Sampler(temperature=0, top_k=5, top_p=0.5, min_p=0.1)
    context = torch.zeros(3, 1, dtype=torch.long)
    with Operations() as operations:
        tokens = sampler(logits, context)
    assert tokens.equal(logits.argmax(-1))
    assert operations.names == {"argmax"}


def test_greedy_decoding_applies_the_repetition_penalty():
    logits = torch.tensor([[3.0, 2.0, -1.0]])
    assert Sampler(temperature=0, repetition_penalty=2.0)(logits, torch.tensor([[0]])).tolist() == [1]


@pytest.mark.parametrize("temperature", [1e-40, 1e-60, 5e-324])
def test_a_tiny_temperature_is_greedy_and_finite(temperature):
    logits = torch.randn(4, 30, generator=seeded(1)) * 100
    tokens = Sampler(temperature=temperature)(logits, torch.zeros(4, 1, dtype=torch.long))
    assert tokens.equal(logits.argmax(-1))


def test_half_precision_logits_are_sampled_in_single_precision():
    logits = torch.randn(64, 2000, generator=seeded(2)).bfloat16()
    context = torch.zeros(64, 1, dtype=torch.long)
    ours = Sampler(top_p=0.9, generator=seeded(0))(logits, context)
    assert ours.equal(Sampler(top_p=0.9, generator=seeded(0))(logits.float(), context))


def test_draws_follow_the_probabilities():
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.15, 0.05])
    n = 40_000
    counts = draw(probabilities.expand(n, -1), seeded(0)).bincount(minlength=5)
    expected = probabilities * n
    possible = probabilities > 0
    chi_square = ((counts - expected) ** 2 / expected)[possible].sum()
    assert counts[1] == 0
    assert chi_square < 16.3  # 3 degrees of freedom: exceeded once in a thousand


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 8))
def test_tokens_without_probability_are_never_drawn(seed, vocab, batch):
    generator = seeded(seed)
    probabilities = torch.rand(batch, vocab, generator=generator)
    probabilities[torch.rand(batch, vocab, generator=generator) < 0.8] = 0
    probabilities[:, seed % vocab] = 0.01
    tokens = draw(probabilities, generator)
    assert (probabilities.gather(1, tokens[:, None]) > 0).all()


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_both_ends_of_the_unit_interval_give_a_token(monkeypatch, number):
    monkeypatch.setattr(torch, "rand", lambda *size, dtype, **_: torch.full(size, number, dtype=dtype))
    token = draw(torch.tensor([[0.0, 0.2, 0.8, 0.0]]))
    assert token.tolist() == ([2] if number == 0 else [1])


def test_equal_rows_are_sampled_independently():
    logits = torch.zeros(64, 1000)
    tokens = Sampler(generator=seeded(0))(logits, torch.zeros(64, 1, dtype=torch.long))
    assert len(tokens.unique()) > 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.5}, "temperature .* -0.5"),
        ({"temperature": math.nan}, "temperature .* nan"),
        ({"temperature": math.inf}, "temperature .* inf"),
        ({"top_k": -1}, "top_k .* -1"),
        ({"top_p": 0.0}, "top_p .* 0.0"),
        ({"top_p": 1.5}, "top_p .* 1.5"),
        ({"min_p": -0.1}, "min_p .* -0.1"),
        ({"min_p": 1.1}, "min_p .* 1.1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty .* 0.0"),
        ({"temperature": 0, "top_k": -1}, "top_k .* -1"),
    ],
)
def test_options_out_of_range_raise(options, message):
    with pytest.raises(ValueError, match=message):
        Sampler(**options)


def test_top_k_must_be_an_integer():
    with pytest.raises(TypeError, match=r"top_k .* 2\.5"):
        Sampler(top_k=2.5)
