"""Configs and tensors of each checkpoint format: what is accepted, rejected, and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import glassformer
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.pretrained import save_pretrained

LLAMA = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
BERT = {name: size for name, size in LLAMA.items() if name != "num_key_value_heads"}
T5 = {"vocab_size": 61, "d_model": 24, "d_kv": 6, "d_ff": 20, "num_layers": 2, "num_heads": 3}
GPT2 = {"vocab_size": 61, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 40}
VIT = {"hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 3}

PEERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "bert": (transformers.BertForMaskedLM, transformers.BertConfig, BERT),
    "gpt2": (transformers.GPT2LMHeadModel, transformers.GPT2Config, GPT2),
    "gpt_neox": (transformers.GPTNeoXForCausalLM, transformers.GPTNeoXConfig, {**BERT, "rotary_pct": 1.0}),
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig, LLAMA),
    "mistral": (transformers.MistralForCausalLM, transformers.MistralConfig, LLAMA),
    "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config, LLAMA),
    "t5": (transformers.T5ForConditionalGeneration, transformers.T5Config, T5),
    "vit": (transformers.ViTForImageClassification, transformers.ViTConfig, {**VIT, "image_size": 32}),
}


def make(kind: str, **changes: Any) -> nn.Module:
    peer, config, sizes = PEERS[kind]
    return peer(config(**{**sizes, **changes})).eval()


def write(kind: str, folder: Path, **changes: Any) -> Path:
    """Save a peer, then change its config; ``...`` removes a key."""
    make(kind).save_pretrained(folder)
    edit(folder, **changes)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    config = {key: value for key, value in config.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "changes", "problem"),
    [
        ("gpt2", {"model_type": "gpt22"}, "unknown model_type 'gpt22', did you mean 'gpt2'"),
        (
            "gpt2",
            {"model_type": "unheard-of"},
            "unknown model_type 'unheard-of'.* .there are: bert, bloom, falcon, gemma",
        ),
        ("gpt2", {"model_type": ...}, "neither the format of glassformer nor a model_type"),
        ("gpt2", {"n_embd": ...}, "the key 'n_embd' is missing"),
        ("gpt2", {"n_embd": "24"}, "n_embd must be an int of at least 1, got '24'"),
        ("gpt2", {"n_layer": -1}, "n_layer must be an int of at least 1, got -1"),
        ("gpt2", {"n_layer": 10**9}, "1,000,000,000 layers cannot be made of 28 tensors"),
        ("gpt2", {"n_head": 5}, "does not describe a model: d_model=24 .*num_heads=5"),
        ("gpt2", {"layer_norm_epsilon": "small"}, "layer_norm_epsilon must be a number, got 'small'"),
        (
            "gpt2",
            {"activation_function": "mish"},
            "activation_function = 'mish' is not implemented.* .there are",
        ),
        (
            "gpt2",
            {"activation_function": "gelu_mew"},
            "'gelu_mew' is not implemented, did you mean 'gelu_new'",
        ),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights = False is not implemented, only True"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True is not"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention = True is not implemented, only False"),
        (
            "gpt2",
            {"quantization_config": {"bits": 4}},
            "the weights are quantized by None, which is not implemented",
        ),
        (
            "gpt2",
            {"attention_sinks": 3},
            r"unknown key 'attention_sinks' = 3.*ignore=\['attention_s",
        ),
        ("llama", {"attention_bias": "yes"}, "attention_bias must be true or false, got 'yes'"),
        (
            "bert",
            {"problem_type": "regression"},
            "problem_type = 'regression' is not implemented, only None or",
        ),
        ("llama", {"rms_norm_eps": -1}, "norm_eps must be a small number above 0, not -1"),
        ("llama", {"hidden_act": "relu2"}, "hidden_act = 'relu2' is not implemented, did you mean 'relu'"),
        ("llama", {"sliding_window": 7}, "sliding_window = 7 is not implemented, only None"),
        ("llama", {"rope_interleaved": True}, "rope_interleaved = True is not implemented, only False"),
        (
            "mistral",
            {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
            "layer_types must be 'sliding_attention' in all layers with sliding_window = ",
        ),
        ("qwen2", {"layer_types": ["linear_attention"] * 3}, "layer_types has 'linear_attention', which is"),
        (
            "mistral",
            {"layer_types": ["full_attention"]},
            "layer_types must have one entry for each layer, 3, got 1",
        ),
        ("mistral", {"layer_types": 5}, "layer_types must be a list of strings, got 5"),
        ("mistral", {"layer_types": [["a"]] * 3}, "layer_types must be a list of strings, got "),
        ("mistral", {"sliding_window": 4.5}, "sliding_window must be an int of at least 1, got 4.5"),
        ("mistral", {"num_key_value_heads": 0}, "num_key_value_heads must be an int of at least 1, got 0"),
        ("qwen2", {"sliding_window": "8"}, "sliding_window must be an int of at least 1, got '8'"),
        (
            "qwen2",
            {"use_sliding_window": True, "max_window_layers": "3", "layer_types": ...},
            "max_window_layers must be an int of at least 0, got '3'",
        ),
        ("gpt_neox", {"rope_scaling": {"type": "su", "factor": 2.0}}, "rope_type = 'default and su' is"),
        (
            "bert",
            {"position_embedding_type": "relative_key"},
            "position_embedding_type = 'relative_key' is not",
        ),
        (
            "bert",
            {"architectures": ["BertForMaskedLN"]},
            "'BertForMaskedLN' is not implemented, did you mean",
        ),
        ("bert", {"architectures": 5}, "architectures must be a list of strings, got 5"),
        ("bert", {"architectures": "BertModel"}, "architectures must be a list of strings, got 'BertModel'"),
        ("bert", {"id2label": 5}, "id2label must number the classes from 0, got 5"),
        ("llama", {"rms_norm_eps": float("nan")}, "rms_norm_eps must be a number, got nan"),
        ("gpt_neox", {"rotary_emb_base": 10**400}, "rotary_emb_base must be a number, got 1000"),
        ("gpt_neox", {"rotary_pct": "x"}, "rotary_pct must be a number, got 'x'"),
        ("bert", {"is_decoder": True}, "is_decoder = True is not implemented, only False"),
        ("bert", {"tie_word_embeddings": False}, "tie_word_embeddings = False is not implemented, only True"),
        ("bert", {"id2label": {"1": "a", "2": "b"}}, "id2label must number the classes from 0"),
        ("t5", {"feed_forward_proj": "gated-tanh"}, "feed_forward_proj = 'gated-tanh' is not implemented"),
        ("t5", {"dense_act_fn": "silu"}, "dense_act_fn = 'silu' is not implemented, only 'relu'"),
        ("t5", {"architectures": ["T5EncoderModel"]}, "architectures = 'T5EncoderModel' is not implemented"),
        ("t5", {"eos_token_id": "one"}, "eos_token_id must be a token id, got 'one'"),
        ("vit", {"image_size": [32, 48]}, r"image_size = \[32, 48\] is not implemented, only a square"),
        ("vit", {"image_size": {"height": 32}}, "image_size = {'height': 32} is not implemented, only"),
        ("vit", {"image_size": "32"}, "image_size = '32' is not implemented, only a square"),
        ("vit", {"pooler_act": "relu"}, "pooler_act = 'relu' is not implemented, only 'tanh'"),
    ],
)
def test_configs_that_are_not_implemented_are_errors(
    kind: str, changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=problem) as error:
        glassformer.from_pretrained(write(kind, tmp_path, **changes))
    assert str(tmp_path) in str(error.value)


def test_an_unknown_key_can_be_ignored(tmp_path: Path) -> None:
    write("gpt2", tmp_path, favorite_color="blue")
    assert isinstance(glassformer.from_pretrained(tmp_path, ignore=["favorite_color"]), GPTModel)


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "\xff", "[" * 100_000], ids=["empty", "cut", "list", "bytes", "deep"]
)
def test_an_invalid_config_file_is_an_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config.json (is not valid JSON|must hold a JSON object)"):
        glassformer.from_pretrained(tmp_path)


def test_an_unused_window_is_ignored(tmp_path: Path) -> None:
    write("qwen2", tmp_path, sliding_window=131072, use_sliding_window=False, max_window_layers=21)
    assert glassformer.from_pretrained(tmp_path).config["window"] is None


def test_a_key_that_is_null_differs_from_a_missing_key(tmp_path: Path) -> None:
    write("mistral", tmp_path, sliding_window=None, layer_types=..., num_key_value_heads=...)
    with pytest.raises(ValueError, match="num_heads=4 is not divisible by num_kv_heads=8"):
        glassformer.from_pretrained(tmp_path)
    edit(tmp_path, num_key_value_heads=None)
    tensors(tmp_path, lambda found: found.update({n: t.repeat(2, 1) for n, t in _keys_and_values(found)}))
    config = glassformer.from_pretrained(tmp_path).config
    assert (config["window"], config["num_kv_heads"]) == (None, 4)


def _keys_and_values(found: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    return [(name, found[name]) for name in found if "k_proj" in name or "v_proj" in name]


def test_different_dropouts_give_a_warning(tmp_path: Path) -> None:
    write("gpt2", tmp_path, attn_pdrop=0.3)
    with pytest.warns(UserWarning, match="attn_pdrop = 0.3 is replaced by resid_pdrop = 0.1"):
        assert glassformer.from_pretrained(tmp_path).config["dropout"] == 0.1


def test_missing_keys_have_the_defaults_of_the_peer(tmp_path: Path) -> None:
    keys = (
        "sliding_window",
        "rope_parameters",
        "rms_norm_eps",
        "hidden_act",
        "tie_word_embeddings",
        "head_dim",
    )
    write("mistral", tmp_path, **dict.fromkeys(keys, ...))
    ours = glassformer.from_pretrained(tmp_path)
    theirs = transformers.MistralForCausalLM.from_pretrained(tmp_path).eval()
    assert (ours.config["window"], theirs.config.sliding_window) == (4096, 4096)
    ids = torch.randint(0, 61, (2, 9))
    with torch.no_grad():
        assert float((ours(ids) - theirs(ids).logits).abs().max()) <= 1e-6


def tensors(folder: Path, change: Any) -> None:
    """Change the tensors of a folder."""
    found = load_file(folder / "model.safetensors")
    change(found)
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("kind", "change", "problem"),
    [
        ("gpt2", lambda t: t.pop("transformer.ln_f.weight"), "transformer.ln_f.weight is missing"),
        ("gpt2", lambda t: t.update(more=torch.ones(1)), "more is not part of the model"),
        ("gpt2", lambda t: t.update({"e" * 10**5: torch.ones(1)}), "config: e{200} is not part of the model"),
        (
            "gpt2",
            lambda t: t.update({"transformer.wpe.weight": torch.ones(41, 24)}),
            r"transformer.wpe.weight has shape \(41, 24\), the model needs \(40, 24\)",
        ),
        (
            "gpt2",
            lambda t: t.update({"transformer.h.1.attn.c_attn.weight": torch.ones(24, 71)}),
            r"transformer.h.1.attn.c_attn.weight has shape \(24, 71\), the model needs \(24, 72\)",
        ),
        (
            "gpt_neox",
            lambda t: t.update({"gpt_neox.layers.1.attention.query_key_value.weight": torch.ones(71, 24)}),
            r"layers.1.attention.query_key_value.weight has shape \(71, 24\), the model needs \(72, 24\)",
        ),
        (
            "llama",
            lambda t: t.update({"model.norm.weight": torch.ones(24, dtype=torch.int32)}),
            "model.norm.weight has type torch.int32, expected a floating-point type",
        ),
        (
            "gpt2",
            lambda t: t.update({"lm_head.weight": torch.ones(61, 24)}),
            "lm_head.weight must be the same tensor as transformer.wte.weight",
        ),
        (
            "gpt2",
            lambda t: t.update({"wte.weight": torch.ones(61, 24)}),
            r"(transformer\.)?wte.weight and (transformer\.)?wte.weight are the same tensor",
        ),
        (
            "gpt2",
            lambda t: t.update({"transformer.h.0.attn.c_attn.bias": torch.ones(())}),
            r"transformer.h.0.attn.c_attn.bias has shape \(\), the model needs \(72,\)",
        ),
        ("llama", lambda t: t.clear(), "3 layers cannot be made of 0 tensors"),
        (
            "llama",
            lambda t: [t.pop(name) for name in list(t) if ".0." in name],
            "is missing; .*, and 4 more",
        ),
    ],
)
def test_tensors_that_do_not_match_the_config_are_errors(
    kind: str, change: Any, problem: str, tmp_path: Path
) -> None:
    write(kind, tmp_path)
    tensors(tmp_path, change)
    with pytest.raises(ValueError, match=problem) as error:
        glassformer.from_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value)


HUGE = [2**31, 2**62, 2**63, 10**400]
LENGTHS = {
    "max_position_embeddings",
    "max_window_layers",
    "relative_attention_max_distance",
    "sliding_window",
}
UNUSED = {"encoder_stride", "initializer_factor", "n_ctx", "pretraining_tp"}


@pytest.mark.slow
@pytest.mark.parametrize("huge", HUGE, ids=["2**31", "2**62", "2**63", "10**400"])
@pytest.mark.parametrize("kind", PEERS)
def test_a_huge_count_is_refused_before_anything_is_built(
    kind: str, huge: int, tmp_path: Path, little_memory: None
) -> None:
    write(kind, tmp_path, layer_types=...)
    config = json.loads((tmp_path / "config.json").read_text())
    counts = {key for key, value in config.items() if type(value) is int and "token_id" not in key} - UNUSED
    assert len(counts) >= 5
    for key in counts:
        edit(tmp_path, **{key: huge})
        if key not in LENGTHS or huge >= 2**63:
            with pytest.raises(ValueError, match=str(tmp_path)) as error:
                glassformer.from_pretrained(tmp_path)
            assert "alloc" not in str(error.value)
        edit(tmp_path, **{key: config[key]})


@pytest.mark.slow
def test_labels_are_read_in_linear_time(tmp_path: Path, assert_linear_time: Any) -> None:
    def read(size: int) -> None:
        names = {str(number): f"class {number}" for number in range(size)}
        write("vit", tmp_path, id2label=names | {"1": "class 0"})
        change = {"classifier.weight": torch.ones(size, 24), "classifier.bias": torch.ones(size)}
        tensors(tmp_path, lambda found: found.update(change))
        labels = glassformer.from_pretrained(tmp_path).labels
        assert labels == ["class 0", "class 0 (1)", *[*names.values()][2:]]

    assert_linear_time(read, 15_000)


def with_leftovers(kind: str, found: dict[str, Tensor]) -> None:
    """Add what older checkpoints hold: buffers, repeated tensors, unused heads."""
    leftovers: dict[str, dict[str, Tensor]] = {
        "bert": {
            "bert.embeddings.position_ids": torch.arange(512)[None],
            "cls.seq_relationship.weight": torch.ones(2, 24),
            "cls.seq_relationship.bias": torch.ones(2),
            "cls.predictions.decoder.weight": found.get(
                "bert.embeddings.word_embeddings.weight", torch.ones(1)
            ),
            "cls.predictions.decoder.bias": found.get("cls.predictions.bias", torch.ones(1)),
        },
        "gpt2": {
            "transformer.h.0.attn.bias": torch.ones(1, 1, 40, 40, dtype=torch.bool),
            "transformer.h.1.attn.masked_bias": torch.tensor(-1e4),
            "lm_head.weight": found.get("transformer.wte.weight", torch.ones(1)),
        },
        "gpt_neox": {
            "gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 40, 40, dtype=torch.bool),
            "gpt_neox.layers.2.attention.rotary_emb.inv_freq": torch.ones(3),
        },
        "llama": {"model.layers.1.self_attn.rotary_emb.inv_freq": torch.ones(3)},
        "t5": {
            "encoder.embed_tokens.weight": found.get("shared.weight", torch.ones(1)),
            "lm_head.weight": found.get("shared.weight", torch.ones(1)),
            "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": torch.ones(32, 3),
        },
        "vit": {"vit.embeddings.mask_token": torch.ones(1, 1, 24)},
    }
    found.update({name: tensor.clone() for name, tensor in leftovers[kind].items()})


@pytest.mark.parametrize("kind", ["bert", "gpt2", "gpt_neox", "llama", "t5", "vit"])
def test_leftovers_of_older_checkpoints_are_ignored(kind: str, tmp_path: Path) -> None:
    before = glassformer.from_pretrained(write(kind, tmp_path)).state_dict()
    tensors(tmp_path, lambda found: with_leftovers(kind, found))
    after = glassformer.from_pretrained(tmp_path).state_dict()
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_legacy_names_of_norms_are_loaded(tmp_path: Path) -> None:
    before = glassformer.from_pretrained(write("bert", tmp_path)).state_dict()

    def rename(found: dict[str, Tensor]) -> None:
        for name in list(found):
            older = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            )
            found[older] = found.pop(name)

    tensors(tmp_path, rename)
    after = glassformer.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_checkpoints_of_the_body_alone_are_loaded(kind: str, tmp_path: Path) -> None:
    prefix = {"gpt2": "transformer.", "llama": "model."}[kind]
    write(kind, tmp_path, **({"tie_word_embeddings": True} if kind == "llama" else {}))
    tensors(
        tmp_path,
        lambda found: [found.update({name.removeprefix(prefix): found.pop(name)}) for name in list(found)],
    )
    if kind == "llama":
        tensors(tmp_path, lambda found: found.pop("lm_head.weight"))
    assert isinstance(glassformer.from_pretrained(tmp_path), GPTModel)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_dtype_of_the_file_is_kept_unless_another_is_requested(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    make("gpt2").to(dtype).save_pretrained(tmp_path)
    assert {p.dtype for p in glassformer.from_pretrained(tmp_path).parameters()} == {dtype}
    ours = glassformer.from_pretrained(tmp_path, dtype=torch.float32)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.equal(ours.token_embedding.weight, theirs.transformer.wte.weight)  # type: ignore[union-attr]


def test_a_file_of_several_dtypes_is_loaded_in_the_dtype_of_its_config(tmp_path: Path) -> None:
    write("llama", tmp_path, dtype="bfloat16")
    tensors(tmp_path, lambda found: found.update({"lm_head.weight": found["lm_head.weight"].half()}))
    assert {p.dtype for p in glassformer.from_pretrained(tmp_path).parameters()} == {torch.bfloat16}
    edit(tmp_path, dtype="float99")
    assert {p.dtype for p in glassformer.from_pretrained(tmp_path).parameters()} == {torch.float32}


GPT_SIZES = {"vocab_size": 61, "d_model": 24, "num_layers": 1, "num_heads": 4}


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (lambda: GPTModel(**GPT_SIZES, positions="alibi"), "gpt2: positions must be 'learned'.*got 'alibi'"),
        (
            lambda: GPTModel(**GPT_SIZES, window=3),
            "gpt2: window must be None, got 3.*gpt_neox: window.*llama: ",
        ),
        (
            lambda: GPTModel(**GPT_SIZES, activation="swiglu"),
            "gpt2: activation must be one of gelu, gelu_tanh",
        ),
        (lambda: GPTModel(**GPT_SIZES, tie_embeddings=False), "gpt2: tie_embeddings must be True, got False"),
        (
            lambda: GPTModel(**GPT_SIZES, positions="rotary", norm="rms", activation="gelu", bias=False),
            "llama: activation must be one of geglu, geglu_tanh, reglu, swiglu, got 'gelu'",
        ),
        (
            lambda: GPTModel(**GPT_SIZES, positions="rotary", qkv_bias=False),
            "gpt_neox: out_bias must equal qkv_bias, False",
        ),
        (
            lambda: GPTModel(
                **GPT_SIZES, positions="rotary", norm="rms", activation="swiglu", bias=False, out_bias=True
            ),
            "llama: out_bias must equal qkv_bias, False.*mistral: out_bias must be False.*qwen2: qkv_bias",
        ),
        (lambda: BERTModel(**GPT_SIZES, residual="pre"), "bert: residual must be 'post', got 'pre'"),
        (lambda: BERTModel(**GPT_SIZES, head="classification", pooler=False), "bert: pooler must be True"),
        (lambda: T5Model(**GPT_SIZES, norm="layer"), "t5: norm must be 'rms', got 'layer'"),
        (lambda: T5Model(**GPT_SIZES, positions="rotary"), "t5: kind must be 'relative_bias', got 'rotary'"),
        (lambda: T5Model(**GPT_SIZES, attention_scale=None), "t5: attention_scale must be 1.0, got None"),
        (lambda: ViTModel(32, 16, 24, 1, 4, layer_scale=1e-5), "vit: layer_scale must be None, got 1e-05"),
        (lambda: ViTModel(32, 16, 24, 1, 4, pooler=True), "vit: pooler must be False, got True"),
    ],
)
def test_models_that_no_format_can_express_are_errors(model: Any, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no Hugging Face format can express this model .*{problem}"):
        save_pretrained(model(), tmp_path / "new", format="huggingface")
    assert not (tmp_path / "new").exists()
