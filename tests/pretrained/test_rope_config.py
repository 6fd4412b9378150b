"""Rotary positions in Hugging Face configs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import glassformer
from glassformer.models import GPTModel
from glassformer.pretrained import save_pretrained

VOCABULARY = 61
SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"factor": 3.0},
    "dynamic": {"factor": 3.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 20, "beta_fast": 4.0},
    "yarn_with_options": {
        "factor": 4.0,
        "original_max_position_embeddings": 20,
        "attention_factor": 1.25,
        "truncate": False,
        "beta_slow": 0.5,
    },
    "llama3": {
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 3.0,
        "original_max_position_embeddings": 20,
    },
}


def peer(**rope: Any) -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=36,
        intermediate_size=29,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=10,
        max_position_embeddings=10 if rope.get("rope_type") == "dynamic" else 40,
        rope_parameters={"rope_theta": 500.0, **rope},
        initializer_range=0.15,
    )
    return transformers.LlamaForCausalLM(config).eval()


def to_older_keys(folder: Path) -> None:
    """Rewrite a config as before ``rope_parameters``."""
    config = json.loads((folder / "config.json").read_text())
    scaling = config.pop("rope_parameters")
    config["rope_theta"] = scaling.pop("rope_theta")
    config["rope_scaling"] = {"type": scaling.pop("rope_type"), **scaling}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.slow
@pytest.mark.parametrize("older", [False, True], ids=["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("name", SCALINGS)
@torch.no_grad()
def test_scaled_positions_equal_those_of_the_peer(name: str, older: bool, tmp_path: Path) -> None:
    theirs = peer(rope_type=name.removesuffix("_with_options"), **SCALINGS[name])
    theirs.save_pretrained(tmp_path)
    if older:
        to_older_keys(tmp_path)
    ours = glassformer.from_pretrained(tmp_path)
    ids = torch.randint(2, VOCABULARY, (2, 33))
    expected = theirs(ids).logits
    assert float((ours(ids) - expected).abs().max()) <= 1e-5
    plain = GPTModel(**{**ours.config, "positions": {"kind": "rotary", "theta": 500.0}})
    plain.load_state_dict(ours.state_dict())
    assert float((plain(ids) - expected).abs().max()) > 1e-3  # the scaling matters

    save_pretrained(ours, tmp_path / "ours", format="huggingface")
    reread = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "ours").eval()
    assert torch.equal(reread(ids).logits, expected)


@pytest.mark.parametrize(
    ("rope", "problem"),
    [
        (
            {"rope_type": "proportional", "factor": 2.0},
            "rope_type = 'proportional' is not implemented .there are: def",
        ),
        ({"rope_type": "yarm", "factor": 2.0}, "rope_type = 'yarm' is not implemented, did you mean 'yarn'"),
        ({"rope_type": "yarn", "type": "linear", "factor": 2.0}, "rope_type = 'linear and yarn' is not"),
        ({"rope_type": "yarn", "factor": 2.0, "mscale": 0.7}, "mscale = 0.7 of rope_type 'yarn' is not"),
        ({"rope_type": "default", "factor": 2.0}, "factor = 2.0 of rope_type 'default' is not implemented"),
        (
            {"full_attention": {"rope_type": "default"}},
            "full_attention = {'rope_type': 'default'} of rope_type",
        ),
        (
            {"partial_rotary_factor": 0.5},
            "partial_rotary_factor = 0.5 is not implemented for this model, only 1",
        ),
        ("x", "config.json: rope_parameters must be a JSON object, got 'x'"),
        ([1], r"config.json: rope_parameters must be a JSON object, got \[1\]"),
        ({"rope_type": ["a"]}, r"config.json: rope_type = .*'a'.* is not implemented"),
        ({"rope_theta": "a"}, "config.json: rope_theta must be a number, got 'a'"),
        ({"partial_rotary_factor": "x"}, "config.json: partial_rotary_factor must be a number, got 'x'"),
        ({"rope_type": "linear", "factor": "x"}, "config.json: factor must be a number, got 'x'"),
        (
            {"rope_type": "yarn", "factor": 2.0, "truncate": 3},
            "config.json: truncate must be true or false, got 3",
        ),
        (
            {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 0.5},
            "original_max_position_embeddings must be an int of at least 1, got 0.5",
        ),
        ({"rope_type": "linear"}, "linear scaling needs factor"),
        ({"rope_type": "linear", "factor": -2.0}, "factor of rotary scaling must be positive, not -2.0"),
    ],
)
def test_rope_parameters_that_are_not_implemented_are_errors(rope: Any, problem: str, tmp_path: Path) -> None:
    peer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["rope_parameters"] = rope
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=problem):
        glassformer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"pairing": "interleaved"}, 'pairing "half"'),
        ({"d_rotary": 4}, "d_rotary must be all 12 dimensions of a head"),
        (
            {"scaling": {"kind": "ntk", "factor": 2.0}},
            "must be one of linear, dynamic, yarn, llama3, longrope, got 'ntk'",
        ),
        (
            {"scaling": {"kind": "dynamic", "factor": 2.0, "original_max_seq_len": 7}},
            "dynamic scaling must start at max_seq_len=1024, got 7",
        ),
    ],
)
def test_positions_that_the_format_cannot_express_are_errors(
    changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    llama = GPTModel(
        VOCABULARY,
        24,
        1,
        2,
        positions={"kind": "rotary", **changes},
        norm="rms",
        bias=False,
        qkv_bias=True,
        activation="swiglu",
    )
    with pytest.raises(ValueError, match=problem):
        save_pretrained(llama, tmp_path, format="huggingface")


@torch.no_grad()
def test_defaults_of_llama3_scaling_are_written(tmp_path: Path) -> None:
    scaling = {"kind": "llama3", "factor": 2.0, "original_max_seq_len": 20}
    positions = {"kind": "rotary", "scaling": scaling}
    llama = GPTModel(
        VOCABULARY, 24, 1, 2, positions=positions, norm="rms", bias=False, activation="swiglu"
    ).eval()
    save_pretrained(llama, tmp_path, format="huggingface")
    ids = torch.arange(30)[None]
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    assert float((theirs(ids).logits - llama(ids)).abs().max()) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("start", [3, 47])
@pytest.mark.parametrize("name", SCALINGS)
def test_by_default_generation_beyond_max_seq_len_equals_that_of_transformers(
    tmp_path: Path, name: str, start: int
) -> None:
    """Prompts below and above ``max_seq_len``, with and without a cache."""
    torch.manual_seed(0)
    theirs = peer(rope_type=name.removesuffix("_with_options"), **SCALINGS[name])
    for matrix in (weight for weight in theirs.parameters() if weight.dim() > 1):
        nn.init.normal_(matrix, std=0.3)  # so that the output does not repeat one token
    theirs.save_pretrained(tmp_path)
    ours = glassformer.from_pretrained(tmp_path, dtype=torch.float64)
    ids = torch.randint(1, VOCABULARY, (2, start))
    # With a cache, dynamic scaling of transformers leaves old keys at the angles of shorter texts.
    options = {"use_cache": name != "dynamic", "eos_token_id": None, "pad_token_id": 0}
    expected = theirs.double().generate(ids, max_new_tokens=50, do_sample=False, **options)
    assert len(set(expected[0].tolist())) > 8
    for use_cache in (True, False):
        found = ours.generate(ids, 50, temperature=0, use_cache=use_cache, stop_tokens=[])
        assert torch.equal(found, expected)
