"""Files that hold a tied tensor under any of its names."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file, save_model
from torch import Tensor, nn

import glassformer
from glassformer.models import BERTModel, GPTModel, T5Model, TransformerModel

LLAMA = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 20,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
BERT = {name: size for name, size in LLAMA.items() if name != "num_key_value_heads"}
T5 = {"vocab_size": 61, "d_model": 24, "d_kv": 6, "d_ff": 20, "num_layers": 1, "num_heads": 4}
GPT2 = {"vocab_size": 61, "n_embd": 24, "n_layer": 1, "n_head": 4, "n_positions": 40}
PEERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "bert": (transformers.BertForMaskedLM, transformers.BertConfig, BERT),
    "gpt2": (transformers.GPT2LMHeadModel, transformers.GPT2Config, GPT2),
    "gpt_neox": (transformers.GPTNeoXForCausalLM, transformers.GPTNeoXConfig, BERT),
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig, LLAMA),
    "mistral": (transformers.MistralForCausalLM, transformers.MistralConfig, LLAMA),
    "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config, LLAMA),
    "t5": (transformers.T5ForConditionalGeneration, transformers.T5Config, T5),
}
IDS = torch.arange(2, 11)[None]


def as_safetensors(tensors: dict[str, Tensor], folder: Path) -> None:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def as_pickle(tensors: dict[str, Tensor], folder: Path) -> None:
    torch.save(tensors, folder / "pytorch_model.bin")


def as_shards(tensors: dict[str, Tensor], folder: Path) -> None:
    file_of = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(tensors)}
    for file in set(file_of.values()):
        save_file({name: t for name, t in tensors.items() if file_of[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": file_of}))


LAYOUTS = {"safetensors": as_safetensors, "pickle": as_pickle, "shards": as_shards}


def make(kind: str) -> nn.Module:
    peer, config, sizes = PEERS[kind]
    model: nn.Module = peer(config(**sizes, architectures=[peer.__name__])).eval()
    return model


def tied_names(model: nn.Module) -> list[list[str]]:
    """The names of each tensor that has several."""
    groups: dict[int, list[str]] = {}
    for name, tensor in model.state_dict().items():
        groups.setdefault(tensor.data_ptr(), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


@torch.no_grad()
def check(model: Any, peer: Any, *, is_encoder_decoder: bool) -> None:
    inputs = {"input_ids": IDS} | ({"decoder_input_ids": IDS[:, :4]} if is_encoder_decoder else {})
    expected = getattr(result := peer(**inputs), "logits", result)
    torch.testing.assert_close(model(**inputs), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("kind", PEERS)
def test_every_name_of_a_tied_tensor_will_do(kind: str, layout: Callable[..., None], tmp_path: Path) -> None:
    peer = make(kind)
    state, groups = peer.state_dict(), tied_names(peer)
    assert groups
    rest = {name: tensor for name, tensor in state.items() if name not in itertools.chain(*groups)}
    for number, names in enumerate(itertools.product(*groups)):
        folder = tmp_path / str(number)
        peer.config.save_pretrained(folder)
        layout({**rest, **{name: state[name].clone() for name in names}}, folder)
        check(glassformer.from_pretrained(folder), peer, is_encoder_decoder=kind == "t5")


@pytest.mark.parametrize("kind", PEERS)
def test_a_file_of_save_model_is_loaded(kind: str, tmp_path: Path) -> None:
    peer = make(kind)
    peer.config.save_pretrained(tmp_path)
    save_model(peer, str(tmp_path / "model.safetensors"))
    check(glassformer.from_pretrained(tmp_path), peer, is_encoder_decoder=kind == "t5")


def test_both_names_of_an_untied_t5_are_read(tmp_path: Path) -> None:
    peer = make("t5")
    peer.lm_head.weight = nn.Parameter(torch.randn(61, 24) / 5)
    state = {name: t for name, t in peer.state_dict().items() if name not in ("shared.weight",)}
    del state["encoder.embed_tokens.weight"]
    for tied in (False, True):  # older configs call such a model tied
        peer.config.save_pretrained(tmp_path)
        as_safetensors({name: tensor.clone() for name, tensor in state.items()}, tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        config |= {"tie_word_embeddings": tied, "scale_decoder_outputs": peer.config.scale_decoder_outputs}
        (tmp_path / "config.json").write_text(json.dumps(config))
        check(glassformer.from_pretrained(tmp_path), peer, is_encoder_decoder=True)


SIZES = {"vocab_size": 61, "d_model": 24, "num_layers": 1, "num_heads": 4}
OURS: dict[str, Callable[[], TransformerModel]] = {
    "bert": lambda: BERTModel(**SIZES, head="masked_lm"),
    "gpt": lambda: GPTModel(**SIZES),
    "t5": lambda: T5Model(**SIZES),
}


@pytest.mark.parametrize("kind", OURS)
def test_either_name_will_do_in_the_format_of_this_library(kind: str, tmp_path: Path) -> None:
    model = OURS[kind]().eval()
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    [(alias, name)] = model.tied_parameters().items()
    assert name in load_file(path)
    save_model(model, str(path))
    assert alias in load_file(path)
    assert name not in load_file(path)
    check(glassformer.from_pretrained(tmp_path), model, is_encoder_decoder=kind == "t5")
    both = {**load_file(path), name: model.state_dict()[name].clone()}
    save_file(both, path)
    check(glassformer.from_pretrained(tmp_path), model, is_encoder_decoder=kind == "t5")
    save_file({**both, alias: both[alias] + 1}, path)
    with pytest.raises(ValueError, match=f"{path}: {alias} must be the same tensor as {name}"):
        glassformer.from_pretrained(tmp_path)
    save_file({other: tensor for other, tensor in both.items() if other not in (alias, name)}, path)
    with pytest.raises(ValueError, match=f"{path} does not fit the model: {name} is missing"):
        glassformer.from_pretrained(tmp_path)
