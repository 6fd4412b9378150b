"""Decoders beside `transformers`: every format, each key that changes the mathematics on and off.

``LAYOUTS`` is the matrix: for each ``model_type`` uneven sizes and the variants. The quick test loads one
model of each format; the slow ones go through all variants, with padding, cache, generation, gradients and
the way back.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

import glassformer
from glassformer.pretrained import CHECKPOINT_FORMATS

VOCABULARY = 61
LENGTHS = (11, 7, 4)

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 36,
    "intermediate_size": 29,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
PARTIAL = {**SIZES, "hidden_size": 48}
NO_GROUPS = {
    key: value for key, value in SIZES.items() if key not in ("num_key_value_heads", "intermediate_size")
}
GPT_J = {
    "vocab_size": VOCABULARY,
    "n_embd": 36,
    "n_layer": 3,
    "n_head": 3,
    "n_inner": 29,
    "n_positions": 40,
    "rotary_dim": 6,
    "pad_token_id": 0,
}
GPT_NEO = {
    "vocab_size": VOCABULARY,
    "hidden_size": 36,
    "num_layers": 3,
    "num_heads": 3,
    "intermediate_size": 29,
    "max_position_embeddings": 40,
    "attention_types": [[["global", "local", "global"], 1]],
    "window_size": 4,
    "pad_token_id": 0,
}
OPT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 36,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "ffn_dim": 29,
    "max_position_embeddings": 40,
    "word_embed_proj_dim": 36,
    "attention_dropout": 0.1,
    "pad_token_id": 0,
}
BLOOM = {"vocab_size": VOCABULARY, "hidden_size": 36, "n_layer": 3, "n_head": 6, "pad_token_id": 0}
GRANITE = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.3,
    "residual_multiplier": 0.4,
    "logits_scaling": 2.5,
}
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 8}
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 20,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.3],
    "long_factor": [1.0, 2.0, 5.0],
}
LOCAL = {"rope_type": "default", "rope_theta": 50.0}
GEMMA3_ROPE = {"full_attention": LINEAR, "sliding_attention": LOCAL}

LAYOUTS: dict[str, tuple[str, dict[str, Any], dict[str, dict[str, Any]]]] = {
    "llama": (
        "Llama",
        SIZES,
        {
            "llama3": {"rope_parameters": LLAMA3},
            "linear": {"rope_parameters": LINEAR},
            "yarn": {"rope_parameters": YARN},
            "theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 77.0}},
            "biases": {"attention_bias": True, "mlp_bias": True},
            "tied, wide heads": {"tie_word_embeddings": True, "head_dim": 10},
        },
    ),
    "mistral": (
        "Mistral",
        SIZES,
        {"window": {"sliding_window": 4}, "none": {"sliding_window": None}, "wide": {"head_dim": 8}},
    ),
    "qwen2": (
        "Qwen2",
        SIZES,
        {
            "window": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
            "mixed": {"use_sliding_window": True, "sliding_window": 4, "layer_types": MIXED},
        },
    ),
    "qwen3": (
        "Qwen3",
        {**SIZES, "head_dim": 10},
        {
            "biases": {"attention_bias": True},
            "window": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2},
            "tied": {"tie_word_embeddings": True},
            "eps": {"rms_norm_eps": 0.1},
            "yarn": {"rope_parameters": YARN},
        },
    ),
    "smollm3": (
        "SmolLM3",
        SIZES,
        {
            "every layer": {"no_rope_layers": [1, 1, 1]},
            "no layer": {"no_rope_layers": [0, 0, 0]},
            "one layer": {"no_rope_layers": [0, 1, 0]},
            "interval": {"no_rope_layer_interval": 2},
            "window": {"no_rope_layers": [1, 0, 1], "use_sliding_window": True, "sliding_window": 4},
            "biases": {"attention_bias": True, "mlp_bias": True},
            "untied": {"tie_word_embeddings": False},
        },
    ),
    "gemma": (
        "Gemma",
        {**SIZES, "head_dim": 10},
        {
            "legacy": {"hidden_act": "gelu"},
            "biases": {"attention_bias": True},
            "relu": {"hidden_act": "relu"},
        },
    ),
    "gemma2": (
        "Gemma2",
        {**SIZES, "head_dim": 10, "query_pre_attn_scalar": 17, "sliding_window": 4},
        {
            "no limits": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
            "low limits": {"attn_logit_softcapping": 0.5, "final_logit_softcapping": 2.0},
            "full": {"layer_types": ["full_attention"] * 3},
            "sliding": {"layer_types": ["sliding_attention"] * 3},
            "biases, untied": {"attention_bias": True, "tie_word_embeddings": False},
        },
    ),
    "gemma3_text": (
        "Gemma3",
        {
            **SIZES,
            "head_dim": 10,
            "query_pre_attn_scalar": 17,
            "sliding_window": 4,
            "layer_types": MIXED,
            "rope_parameters": {"full_attention": LINEAR, "sliding_attention": LOCAL},
        },
        {
            "limit": {"final_logit_softcapping": 3.0},
            "full": {"layer_types": ["full_attention"] * 3},
            "biases": {"attention_bias": True},
        },
    ),
    "phi": (
        "Phi",
        PARTIAL,
        {
            "norm of q and k": {"qk_layernorm": True},
            "whole heads": {
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}
            },
            "no groups": {"num_key_value_heads": 6},
        },
    ),
    "phi3": (
        "Phi3",
        SIZES,
        {
            "long, within": {"rope_parameters": LONG, "original_max_position_embeddings": 20},
            "long, beyond": {"rope_parameters": LONG, "original_max_position_embeddings": 5},
            "partial": {
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.7}
            },
            "window": {"sliding_window": 4},
            "tied": {"tie_word_embeddings": True},
        },
    ),
    "olmo": ("Olmo", SIZES, {"biases": {"attention_bias": True}, "tied": {"tie_word_embeddings": True}}),
    "olmo2": ("Olmo2", SIZES, {"biases": {"attention_bias": True}, "no groups": {"num_key_value_heads": 6}}),
    "granite": (
        "Granite",
        {**SIZES, **GRANITE},
        {
            "biases": {"attention_bias": True, "mlp_bias": True},
            "tied": {"tie_word_embeddings": True},
            **{f"no {key}": {key: 1.0} for key in GRANITE},
        },
    ),
    "stablelm": (
        "StableLm",
        PARTIAL,
        {
            "parallel": {"use_parallel_residual": True},
            "norm of q and k": {"qk_layernorm": True},
            "biases": {"use_qkv_bias": True},
        },
    ),
    "starcoder2": (
        "Starcoder2",
        SIZES,
        {
            "no biases": {"use_bias": False},
            "window": {"sliding_window": 4},
            "untied": {"tie_word_embeddings": False},
        },
    ),
    "gptj": ("GPTJ", GPT_J, {"whole heads": {"rotary_dim": 12}}),
    "gpt_neo": ("GPTNeo", GPT_NEO, {"global": {"attention_types": [[["global"], 3]]}}),
    "opt": (
        "OPT",
        OPT,
        {
            "as 350M": {"word_embed_proj_dim": 20, "do_layer_norm_before": False},
            "no biases": {"enable_bias": False},
            "no weights": {"layer_norm_elementwise_affine": False},
            "gelu": {"activation_function": "gelu"},
        },
    ),
    "bloom": ("Bloom", BLOOM, {"twelve heads": {"n_head": 12}}),
    "falcon": (
        "Falcon",
        {**NO_GROUPS, "ffn_hidden_size": 29},
        {
            "new": {"new_decoder_architecture": True, "num_kv_heads": 2},
            "new, one norm": {
                "new_decoder_architecture": True,
                "num_kv_heads": 3,
                "num_ln_in_parallel_attn": 1,
            },
            "in sequence": {"parallel_attn": False, "multi_query": False},
            "biases": {"bias": True, "multi_query": False},
            "untied": {"tie_word_embeddings": False},
        },
    ),
}
CASES = [(name, "") for name in LAYOUTS] + [
    (name, variant) for name, (_, _, variants) in LAYOUTS.items() for variant in variants
]
cases = pytest.mark.parametrize(
    ("layout", "variant"), CASES, ids=[f"{name} {what}".strip() for name, what in CASES]
)


def make(layout: str, variant: str = "") -> nn.Module:
    """A model of `transformers` with random weights, norms and biases included."""
    prefix, sizes, variants = LAYOUTS[layout]
    changes = copy.deepcopy({**sizes, **variants.get(variant, {})})
    config_name = {"Gemma3": "Gemma3TextConfig"}.get(prefix, f"{prefix}Config")
    config = getattr(transformers, config_name)(**changes, attn_implementation="eager")
    model: nn.Module = getattr(transformers, f"{prefix}ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            width = parameter.shape[-1] if parameter.dim() > 1 else 16
            parameter.add_(torch.randn(parameter.shape, generator=generator) / width**0.5)
    return model


def padded(side: str) -> tuple[Tensor, Tensor]:
    """Ids and mask of rows of different lengths."""
    ids = torch.randint(
        2, VOCABULARY, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(3)
    )
    columns, lengths = torch.arange(max(LENGTHS)), torch.tensor(LENGTHS)[:, None]
    mask = columns < lengths if side == "right" else columns >= max(LENGTHS) - lengths
    return ids * mask, mask.long()


def row_by_row(peer: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Logits of each row alone, without padding; zeros at padding."""
    logits = torch.zeros(*ids.shape, VOCABULARY)
    for row, (own, real) in enumerate(zip(ids, mask.bool(), strict=True)):
        logits[row, real] = peer(own[real][None], use_cache=False).logits[0]
    return logits


def convert(peer: nn.Module, folder: Path) -> Any:
    peer.save_pretrained(folder)
    return glassformer.from_pretrained(folder)


def assert_equal(own: Tensor, theirs: Tensor) -> None:
    """At most 1e-5 of the scale of the logits."""
    assert float(theirs.std()) > 1e-2
    assert float((own - theirs).abs().max() / theirs.abs().max().clamp(min=1)) <= 1e-5


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_each_format_gives_the_logits_of_transformers(layout: str, tmp_path: Path) -> None:
    peer = make(layout)
    ids, mask = padded("right")
    assert_equal(convert(peer, tmp_path)(ids, mask)[mask.bool()], row_by_row(peer, ids, mask)[mask.bool()])


def test_every_decoder_is_in_the_matrix() -> None:
    decoders = {name for name, form in CHECKPOINT_FORMATS.items() if form.model_class is glassformer.GPTModel}
    assert decoders - {"gpt2", "gpt_neox"} == set(LAYOUTS)  # those two are in test_parity.py


@pytest.mark.slow
@cases
@torch.no_grad()
def test_padding_and_cache_change_nothing(layout: str, variant: str, tmp_path: Path) -> None:
    peer = make(layout, variant)
    ours = convert(peer, tmp_path)
    for side in ("left", "right"):
        ids, mask = padded(side)
        assert_equal(ours(ids, mask)[mask.bool()], row_by_row(peer, ids, mask)[mask.bool()])
    ids = padded("right")[0][:1]
    expected = peer(ids, use_cache=False).logits
    limit = ours.positions.max_cached_len
    if limit is not None and limit < ids.size(1):
        return  # all keys change at this length, and a cache is refused
    cache = ours.make_cache(ids.size(1))
    parts = [ours(part, cache=cache) for part in ids.split([5, 1, 5], dim=1)]
    assert_equal(torch.cat(parts, dim=1), expected)
    other = ids.clone()
    other[0, -1] = (other[0, -1] + 1) % VOCABULARY
    assert torch.equal(ours(other)[:, :-1], ours(ids)[:, :-1])  # no future leaks


@pytest.mark.slow
@cases
def test_gradients_and_the_way_back(layout: str, variant: str, tmp_path: Path) -> None:
    peer = make(layout, variant)
    ours = convert(peer, tmp_path / "theirs")
    glassformer.save_pretrained(ours, tmp_path / "ours", format="huggingface")
    theirs, own = (load_file(tmp_path / side / "model.safetensors") for side in ("theirs", "ours"))
    assert set(own) == set(theirs)
    for tensor, values in theirs.items():
        assert torch.equal(own[tensor], values), tensor
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["model_type"] == layout
    reread = type(peer).from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    ids = padded("right")[0][:1]
    with torch.no_grad():
        assert_equal(reread(ids).logits, peer(ids).logits)
    again = glassformer.from_pretrained(tmp_path / "ours")
    assert again.config == ours.config
    again.model_type = None  # as a model that was not loaded: the first format that can express it
    glassformer.save_pretrained(again, tmp_path / "first", format="huggingface")
    with torch.no_grad():
        assert_equal(glassformer.from_pretrained(tmp_path / "first")(ids), peer(ids).logits)

    for model, logits in ((peer, peer(ids).logits), (ours, ours(ids))):
        F.cross_entropy(logits[0], torch.arange(ids.size(1)) % 5).backward()
        for parameter in model.parameters():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.data = gradient
    peer.save_pretrained(tmp_path / "their gradients")
    glassformer.save_pretrained(ours, tmp_path / "our gradients", format="huggingface")
    theirs, own = (
        load_file(tmp_path / f"{side} gradients" / "model.safetensors") for side in ("their", "our")
    )
    largest = max(float(gradient.abs().max()) for gradient in theirs.values())
    for tensor, gradient in theirs.items():
        torch.testing.assert_close(own[tensor], gradient, rtol=0, atol=1e-5 * max(1.0, largest), msg=tensor)


@pytest.mark.slow
@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_generated_ids_are_equal(layout: str, num_beams: int, tmp_path: Path) -> None:
    peer = make(layout)
    ours = convert(peer, tmp_path)
    ids, mask = padded("left")
    plan = {"num_beams": num_beams, "do_sample": False, "length_penalty": 1.0, "early_stopping": False}
    theirs = peer.generate(ids, attention_mask=mask, max_new_tokens=9, eos_token_id=1, pad_token_id=2, **plan)
    own = ours.generate(
        ids, 9, attention_mask=mask, num_beams=num_beams, temperature=0, stop_tokens=[1], pad_id=2
    )
    assert own.tolist() == theirs.tolist()


@pytest.mark.parametrize(
    ("layout", "changes", "message"),
    [
        ("granite", {"logits_scaling": 0}, "logits_scaling must be positive, got 0"),
        ("gemma2", {"query_pre_attn_scalar": -4}, "query_pre_attn_scalar must be positive, got -4"),
        (
            "gpt_neo",
            {"attention_types": [[["global"], 10**12], [["local"], 3 - 10**12]]},
            "attention_types must",
        ),
        ("gpt_neo", {"attention_types": [[[["a"]], 3]]}, "attention_types must give 'global' or 'local'"),
        ("smollm3", {"no_rope_layers": [1]}, "no_rope_layers must have one entry for each layer, 3, got 1"),
        ("smollm3", {"no_rope_layers": ["a"] * 3}, "no_rope_layers must be a list of ints"),
        ("gemma3_text", {"rope_parameters": {"other": {}}}, "rope_parameters must be by kind of layer"),
    ],
)
def test_configs_that_are_not_possible_are_refused(
    layout: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    make(layout).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "attention_layers": None, **changes}))
    with pytest.raises(ValueError, match=message):
        glassformer.from_pretrained(tmp_path)
