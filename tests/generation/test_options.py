"""Options of generation: one declaration, shown by ``help``."""

import inspect
from dataclasses import fields
from typing import get_type_hints

import pytest

import glassformer.generation
from glassformer.generation import (
    GenerationConfig,
    GenerationOptions,
    LogitsProcessor,
    MaskPrediction,
    Sampler,
    beam_search,
    generate,
    stream,
)
from glassformer.models import GPTModel

NAMES = [field.name for field in fields(GenerationConfig)]


def test_the_typed_keywords_are_the_fields_of_the_config():
    assert get_type_hints(GenerationOptions) == get_type_hints(GenerationConfig)


@pytest.mark.parametrize("function", [generate, stream, beam_search, GPTModel.generate, GPTModel.stream])
def test_help_shows_every_option_with_its_default_and_meaning(function):
    parameters = inspect.signature(function).parameters
    assert list(parameters)[3:] == NAMES
    assert parameters["temperature"].default == 1.0
    for name in NAMES:
        assert f"\n    {name}: " in inspect.getdoc(function)


def test_a_bound_method_has_the_same_signature():
    model = GPTModel(vocab_size=5, d_model=8, num_layers=1, num_heads=1)
    assert list(inspect.signature(model.generate).parameters) == ["prompt", "max_new_tokens", *NAMES]


def test_an_unknown_option_raises(make_model):
    for function in (generate, stream, beam_search):
        with pytest.raises(TypeError, match="topk"):
            function(make_model(), [[1]], 3, topk=5)


def test_a_seed_out_of_range_raises(make_model):
    with pytest.raises(ValueError, match="seed must be at least 0 .* got -1"):
        generate(make_model(), [[1]], 3, seed=-1)


def test_a_sampler_takes_a_config_or_its_fields():
    assert Sampler(GenerationConfig(top_k=3)).processors == Sampler(top_k=3).processors


@pytest.mark.parametrize(
    ("old", "new"),
    [("Filter", LogitsProcessor), ("Guess", MaskPrediction), ("GenerateOptions", GenerationOptions)],
)
def test_old_names_work_and_warn(old, new):
    with pytest.warns(DeprecationWarning, match=f"generation.{old} is now called"):
        assert getattr(glassformer.generation, old) is new
