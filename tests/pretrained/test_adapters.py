"""LoRA adapters: merged as their formula says, and as `peft` computes them where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import glassformer

SIZES = {
    "vocab_size": 61,
    "hidden_size": 36,
    "intermediate_size": 29,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
IDS = torch.randint(2, 61, (2, 9), generator=torch.Generator().manual_seed(0))


def base_of(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "gpt2":
        sizes = {"vocab_size": 61, "n_embd": 36, "n_layer": 2, "n_head": 3, "n_positions": 40}
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).eval()
    name = {"llama": "Llama", "phi3": "Phi3"}[kind]
    config = getattr(transformers, f"{name}Config")(**SIZES)
    return getattr(transformers, f"{name}ForCausalLM")(config).eval()


def write_adapter(
    folder: Path, kind: str, modules: list[str], rank: int = 4, **changes: Any
) -> dict[str, Any]:
    """Save a base model and an adapter to some of its modules; return the changes of the matrices."""
    base = base_of(kind)
    base.save_pretrained(folder / "base")
    (folder / "adapter").mkdir()
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": str(folder / "base"),
        "r": rank,
        "lora_alpha": 7,
        "bias": "none",
        "fan_in_fan_out": kind == "gpt2",
        "target_modules": modules,
        "task_type": "CAUSAL_LM",
        **changes,
    }
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    tensors, updates = {}, {}
    for name, module in base.named_modules():
        if name.rpartition(".")[2] in modules:
            shape = module.weight.shape[::-1] if kind == "gpt2" else module.weight.shape
            a, b = torch.randn(rank, shape[1]) / 3, torch.randn(shape[0], rank) / 3
            prefix = f"base_model.model.{name}"
            tensors |= {f"{prefix}.lora_A.weight": a, f"{prefix}.lora_B.weight": b}
            updates[f"{name}.weight"] = (b @ a).T if kind == "gpt2" else b @ a
    save_file(tensors, folder / "adapter" / "adapter_model.safetensors")
    return updates


@pytest.mark.parametrize(
    ("kind", "modules"),
    [
        ("llama", ["q_proj", "down_proj"]),
        ("phi3", ["qkv_proj", "gate_up_proj"]),
        ("gpt2", ["c_attn", "c_fc"]),
    ],
)
@pytest.mark.parametrize("rslora", [False, True])
@torch.no_grad()
def test_an_adapter_is_merged_into_its_base_model(
    kind: str, modules: list[str], rslora: bool, tmp_path: Path
) -> None:
    updates = write_adapter(tmp_path, kind, modules, use_rslora=rslora)
    scale = 7 / 4**0.5 if rslora else 7 / 4
    merged = base_of(kind)
    state = merged.state_dict()
    for name, change in updates.items():
        state[name] += scale * change
    expected = merged(IDS).logits
    ours = glassformer.from_pretrained(tmp_path / "adapter")
    torch.testing.assert_close(ours(IDS), expected, atol=1e-5, rtol=0)
    assert not torch.allclose(glassformer.from_pretrained(tmp_path / "base")(IDS), expected, atol=1e-2)


@torch.no_grad()
def test_ranks_and_scales_of_single_modules(tmp_path: Path) -> None:
    write_adapter(
        tmp_path, "llama", ["q_proj"], rank=2, r=5, rank_pattern={"q_proj": 2}, alpha_pattern={"q_proj": 6}
    )
    ours = glassformer.from_pretrained(tmp_path / "adapter")
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    prefix = "base_model.model.model.layers.1.self_attn.q_proj.lora_"
    change = 3 * tensors[f"{prefix}B.weight"] @ tensors[f"{prefix}A.weight"]
    base = glassformer.from_pretrained(tmp_path / "base")
    torch.testing.assert_close(
        ours.blocks[1].attention.q_proj.weight, base.blocks[1].attention.q_proj.weight + change
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type = 'IA3' is not implemented, only 'LORA'"),
        ({"use_dora": True}, "use_dora = True is not implemented, only False"),
        ({"bias": "all"}, "bias = 'all' is not implemented, only 'none'"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save = \['lm_head'\] is not implemented"),
        ({"new_key": 1}, "unknown key 'new_key' = 1"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa' is not implemented"),
        ({"rank_pattern": {"q_proj": 0}}, "q_proj has the rank 0 and alpha 7"),
        ({"rank_pattern": {"(": 2}}, r"the pattern '\(' is invalid"),
        ({"r": 3}, "q_proj needs matrices A and B of rank 3"),
        ({"base_model_name_or_path": "nowhere/to be found"}, "does not exist"),
    ],
)
def test_other_adapters_are_refused_by_name(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_adapter(tmp_path, "llama", ["q_proj"], **changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        glassformer.from_pretrained(tmp_path / "adapter")


def test_an_adapter_to_another_model_is_refused(tmp_path: Path) -> None:
    write_adapter(tmp_path, "llama", ["q_proj"])
    base_of("gpt2").save_pretrained(tmp_path / "base")
    with pytest.raises(ValueError, match="q_proj does not exist in the base model"):
        glassformer.from_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    path.unlink()
    with pytest.raises(FileNotFoundError, match="adapter_model.safetensors is missing"):
        glassformer.from_pretrained(tmp_path / "adapter")
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="adapter_model.safetensors is damaged"):
        glassformer.from_pretrained(tmp_path / "adapter")
    save_file({"prompt_embeddings": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="prompt_embeddings is not the matrix A or B of a layer"):
        glassformer.from_pretrained(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("kind", "modules"),
    [("llama", ["q_proj", "up_proj"]), ("phi3", ["qkv_proj", "gate_up_proj"]), ("gpt2", ["c_attn", "c_fc"])],
)
@torch.no_grad()
def test_adapters_are_those_of_peft(kind: str, modules: list[str], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base_of(kind).save_pretrained(tmp_path / "base")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    config = peft.LoraConfig(
        r=4, lora_alpha=7, target_modules=modules, task_type="CAUSAL_LM", fan_in_fan_out=kind == "gpt2"
    )
    adapted = peft.get_peft_model(model, config).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(tmp_path / "adapter")
    ours = glassformer.from_pretrained(tmp_path / "adapter")
    torch.testing.assert_close(ours(IDS), adapted(IDS).logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mixtral"}, "model_type 'mixtral' is not implemented: it needs a mixture of experts"),
        ({"model_type": "mamba"}, "it needs state-space layers in place of attention"),
        ({"model_type": "qwenn3"}, "unknown model_type 'qwenn3', did you mean 'qwen3'"),
        (
            {"model_type": "new", "auto_map": {"AutoModel": "model.New"}},
            r"the code that it names \(auto_map\) is never run",
        ),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            "the weights are quantized by 'gptq', which is not implemented: take the checkpoint that was",
        ),
    ],
)
def test_checkpoints_that_need_more_are_refused_by_what_they_need(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    base_of("llama").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ValueError, match=message):
        glassformer.from_pretrained(tmp_path)


@torch.no_grad()
def test_code_of_a_checkpoint_is_reported_and_not_run(tmp_path: Path) -> None:
    base = base_of("llama")
    base.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "model.Own"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.py").write_text("raise SystemExit('code was run')")
    with pytest.warns(UserWarning, match=r"names code of its own \(auto_map\), which is not run: .* 'llama'"):
        ours = glassformer.from_pretrained(tmp_path)
    torch.testing.assert_close(ours(IDS), base(IDS).logits, atol=1e-5, rtol=0)
