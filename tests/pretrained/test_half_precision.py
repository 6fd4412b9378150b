"""Models in float16 and bfloat16: as near to float32 as those of `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

import glassformer
from glassformer.models import T5Model

LLAMA = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 40,
}
BERT = {name: size for name, size in LLAMA.items() if name != "num_key_value_heads"}
T5 = {"vocab_size": 61, "d_model": 24, "d_kv": 6, "d_ff": 40, "num_layers": 2, "num_heads": 4}
T5["decoder_start_token_id"] = 0
GPT2 = {"vocab_size": 61, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 40}
PEERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "bert": (transformers.BertForMaskedLM, transformers.BertConfig, BERT),
    "gpt2": (transformers.GPT2LMHeadModel, transformers.GPT2Config, GPT2),
    "gpt_neox": (transformers.GPTNeoXForCausalLM, transformers.GPTNeoXConfig, BERT),
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig, LLAMA),
    "mistral": (transformers.MistralForCausalLM, transformers.MistralConfig, LLAMA),
    "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config, LLAMA),
    "t5": (transformers.T5ForConditionalGeneration, transformers.T5Config, T5),
    "t5 1.1": (
        transformers.T5ForConditionalGeneration,
        transformers.T5Config,
        {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "vit": (
        transformers.ViTForImageClassification,
        transformers.ViTConfig,
        {name: size for name, size in BERT.items() if "vocab" not in name and "max" not in name}
        | {"image_size": 12, "patch_size": 4},
    ),
}


def make(kind: str) -> nn.Module:
    peer, config, sizes = PEERS[kind]
    model = peer(config(**sizes)).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            width = parameter.shape[-1] if parameter.dim() > 1 else 16
            parameter.add_(torch.randn(parameter.shape, generator=generator) / width**0.5)
    return model


def widen(model: nn.Module, factor: float) -> nn.Module:
    """Multiply both projections of the feed-forward networks of T5, whose outputs then exceed float16."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".wi.weight", ".wi_1.weight", ".wo.weight")):
                parameter.mul_(factor)
    return model


def inputs(kind: str, dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    if kind == "vit":
        return {"pixel_values": torch.randn(2, 3, 12, 12, generator=generator).to(dtype)}
    ids = torch.randint(2, 61, (3, 9), generator=generator)
    return (
        {"input_ids": ids, "decoder_input_ids": ids[:, :5]} if kind.startswith("t5") else {"input_ids": ids}
    )


@torch.no_grad()
def errors(kind: str, folder: Path, dtype: torch.dtype) -> tuple[float, float]:
    """Our largest error and theirs against float32, in standard deviations of the logits."""
    peer = PEERS[kind][0]
    exact = peer.from_pretrained(folder, dtype=torch.float32).eval()(**inputs(kind, torch.float32)).logits
    theirs = peer.from_pretrained(folder, dtype=dtype).eval()(**inputs(kind, dtype)).logits
    ours = glassformer.from_pretrained(folder, dtype=dtype)(**inputs(kind, dtype))
    assert ours.dtype == theirs.dtype == dtype
    mine, other = (float((logits.float() - exact).abs().max() / exact.std()) for logits in (ours, theirs))
    return mine, other


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", PEERS)
def test_every_family_is_as_near_to_float32_as_its_peer(
    kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    make(kind).save_pretrained(tmp_path)
    ours, theirs = errors(kind, tmp_path, dtype)
    rounding = torch.finfo(dtype).eps
    assert ours <= 2 * theirs + rounding
    assert ours <= 100 * rounding


@pytest.mark.slow
@pytest.mark.parametrize("factor", [200.0, 1000.0])
@pytest.mark.parametrize("kind", ["t5", "t5 1.1"])
def test_sums_of_t5_that_exceed_float16_are_finite(kind: str, factor: float, tmp_path: Path) -> None:
    peer = widen(make(kind), factor)
    largest: list[float] = []
    for name, module in peer.named_modules():
        if name.endswith(".wo"):
            module.register_forward_hook(lambda *args: largest.append(float(args[2].abs().max())))
    with torch.no_grad():
        peer(**inputs(kind, torch.float32))
    assert max(largest) > torch.finfo(torch.float16).max
    peer.save_pretrained(tmp_path)
    ours, theirs = errors(kind, tmp_path, torch.float16)
    assert ours <= 3 * theirs
    assert ours <= 0.1


@torch.no_grad()
def test_all_ways_to_float16_give_the_same_model_and_files(tmp_path: Path) -> None:
    widen(make("t5"), 200.0).save_pretrained(tmp_path / "theirs")
    model = glassformer.from_pretrained(tmp_path / "theirs", dtype=torch.float16)
    expected = model(**inputs("t5", torch.float16))
    assert expected.isfinite().all()
    assert (model.dtype, model.encoder.blocks[0].feed_forward.down_proj.weight.dtype) == (
        torch.float16,
        torch.float32,
    )
    wide = glassformer.from_pretrained(tmp_path / "theirs")
    wide.save_pretrained(tmp_path / "wide")
    others = {
        "half": wide.half(),
        "own format": glassformer.from_pretrained(tmp_path / "wide", dtype=torch.float16),
    }
    for format in ("glassformer", "huggingface"):
        glassformer.save_pretrained(model, tmp_path / format, format=format)
        saved = load_file(tmp_path / format / "model.safetensors")
        assert {tensor.dtype for tensor in saved.values()} == {torch.float16}
        others[format] = glassformer.from_pretrained(tmp_path / format)
    for way, other in others.items():
        assert torch.equal(other(**inputs("t5", torch.float16)), expected), way
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "huggingface", dtype="auto")
    logits = theirs.eval()(**inputs("t5", torch.float16)).logits
    assert float((logits - expected).abs().max() / expected.std()) < 0.05


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_other_types_are_those_of_all_parameters(dtype: torch.dtype) -> None:
    model = T5Model(vocab_size=61, d_model=24, num_layers=1, num_heads=4).half().to(dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.float8_e4m3fn, "float16", float])
@pytest.mark.parametrize("format", ["glassformer", "huggingface"])
def test_a_type_that_parameters_cannot_have_is_an_error(dtype: Any, format: str, tmp_path: Path) -> None:
    model = T5Model(vocab_size=61, d_model=24, num_layers=1, num_heads=4)
    glassformer.save_pretrained(model, tmp_path, format=format)
    with pytest.raises(ValueError, match="dtype must be one of torch.float64, torch.float32, torch.float16"):
        glassformer.from_pretrained(tmp_path, dtype=dtype)
