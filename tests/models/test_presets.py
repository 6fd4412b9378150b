"""Parameter counts of the presets."""

from __future__ import annotations

import pytest
import torch

from glassformer.models import BERTModel, GPTModel, T5Model, TransformerModel, ViTModel

# Parameters counted in the published checkpoints (each shared tensor once) unless said otherwise.
PUBLISHED = {
    GPTModel: {
        "gpt2": 124_439_808,  # openai-community/gpt2
        "gpt2-medium": 354_823_168,
        "gpt2-large": 774_030_080,
        "gpt2-xl": 1_557_611_200,
        "smollm2-135m": 134_515_008,  # HuggingFaceTB/SmolLM2-135M
        "smollm2-360m": 361_821_120,
        "smollm2-1.7b": 1_711_376_384,
        "tinyllama-1.1b": 1_100_048_384,  # TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T
        "llama-2-7b": 6_738_415_616,  # meta-llama/Llama-2-7b-hf
        "llama-3-8b": 8_030_261_248,  # meta-llama/Meta-Llama-3-8B
        "llama-3.1-8b": 8_030_261_248,
        "llama-3.2-1b": 1_235_814_400,  # meta-llama/Llama-3.2-1B
        "mistral-7b": 7_241_732_096,  # mistralai/Mistral-7B-v0.1
        "qwen2-0.5b": 494_032_768,  # Qwen/Qwen2-0.5B
        "pythia-70m": 70_426_624,  # Biderman et al. 2023, table 1: embeddings and others together
        "pythia-160m": 162_322_944,
        "pythia-410m": 405_334_016,
        "pythia-1b": 1_011_781_632,
        "pythia-1.4b": 1_414_647_808,
        "pythia-2.8b": 2_775_208_960,
        "pythia-6.9b": 6_857_302_016,
        "gpt-neox-20b": 20_554_567_680,  # Black et al. 2022, section 2.1: 20,554,567,680
    },
    BERTModel: {
        "bert-base-uncased": 109_482_240,  # google-bert/bert-base-uncased: embeddings, blocks, pooler
        "bert-base-cased": 108_310_272,
        "bert-large-uncased": 335_141_888,
        "minilm-l6": 22_713_216,  # sentence-transformers/all-MiniLM-L6-v2
    },
    T5Model: {
        "t5-small": 60_506_624,  # google-t5/t5-small
        "t5-base": 222_903_552,
        "t5-large": 737_668_096,
        "t5-v1_1-small": 76_961_152,  # google/t5-v1_1-small, google/flan-t5-small
        "t5-v1_1-base": 247_577_856,
        "t5-v1_1-large": 783_150_080,
    },
    ViTModel: {
        "vit-tiny": 5_717_416,  # timm: vit_tiny_patch16_224
        "vit-small": 22_050_664,
        "vit-base": 86_567_656,  # google/vit-base-patch16-224
        "vit-large": 304_326_632,
    },
}
OWN = {"gpt-nano", "gpt-micro", "gpt-mini", "gpt-small", "bert-mini", "t5-mini", "transformer-mini"}
# Vaswani et al. 2017, table 3, counts 65 and 213 million; see the presets' docstring.
PAPER_OF_2017 = {"transformer-base": (63_082_496, 65e6), "transformer-big": (214_245_376, 213e6)}


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), [(f, name) for f in PUBLISHED for name in PUBLISHED[f]])
def test_presets_have_the_published_number_of_parameters(family, name):
    with torch.device("meta"):
        assert family.from_preset(name).num_parameters() == PUBLISHED[family][name]


@pytest.mark.parametrize("name", PAPER_OF_2017)
def test_the_transformer_presets_are_close_to_the_papers_parameter_counts(name):
    ours, paper = PAPER_OF_2017[name]
    with torch.device("meta"):
        assert T5Model.from_preset(name).num_parameters() == ours
    assert abs(ours - paper) / paper < 0.04


def test_every_preset_is_counted():
    for family in TransformerModel.families.values():
        assert set(family.presets) <= set(PUBLISHED[family]) | OWN | set(PAPER_OF_2017)
