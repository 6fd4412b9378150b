"""GGUF files of every architecture: written, read again, and run by llama.cpp with equal greedy tokens.

The models are random ones of `transformers`; llama.cpp, through the package ``xllamacpp``, is the
implementation that the file must suit. Its heads have a width that is a multiple of 32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import glassformer
from glassformer.models import BERTModel, GPTModel
from glassformer.pretrained.gguf import MATRICES, write_gguf, writing
from glassformer.pretrained.gguf.architectures import ARCHITECTURES
from glassformer.pretrained.gguf.writing import choose_architecture
from glassformer.tokenization import BPETokenizer

gguf = pytest.importorskip("gguf")
pytestmark = pytest.mark.filterwarnings("ignore:.*loaded without its tokenizer", "ignore:.*is replaced by")

VOCABULARY, NEW = 300, 12
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
NO_GROUPS = {k: v for k, v in SIZES.items() if k not in ("num_key_value_heads", "intermediate_size")}
GEMMA = {**SIZES, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 4}
PARTIAL = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
LINEAR = {"rope_type": "linear", "rope_theta": 77.0, "factor": 2.0}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {**SIZES, "rope_parameters": LINEAR}),
    "llama with biases": ("Llama", {**SIZES, "attention_bias": True, "tie_word_embeddings": True}),
    "qwen2": ("Qwen2", SIZES),
    "qwen3": ("Qwen3", {**SIZES, "head_dim": 32}),
    "smollm3": ("SmolLM3", {**SIZES, "num_hidden_layers": 5}),
    "gemma": ("Gemma", {**SIZES, "head_dim": 32}),
    "gemma2": ("Gemma2", GEMMA),
    "gemma3": ("Gemma3", {**GEMMA, "num_hidden_layers": 7}),
    "phi3": ("Phi3", {**SIZES, "rope_parameters": PARTIAL}),
    "olmo2": ("Olmo2", SIZES),
    "starcoder2": ("Starcoder2", SIZES),
    "falcon": ("Falcon", {**NO_GROUPS, "ffn_hidden_size": 96}),
    "falcon of 40 B": (
        "Falcon",
        {**NO_GROUPS, "ffn_hidden_size": 96, "new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    "gptneox": ("GPTNeoX", {**NO_GROUPS, "intermediate_size": 96, "rotary_pct": 0.5}),
    "gptneox in sequence": (
        "GPTNeoX",
        {**NO_GROUPS, "intermediate_size": 96, "use_parallel_residual": False},
    ),
    "gpt2": ("GPT2", {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 64}),
}
IDS = torch.randint(3, VOCABULARY, (1, 9), generator=torch.Generator().manual_seed(1))


def make(name: str) -> nn.Module:
    prefix, sizes = MODELS[name]
    config_class = getattr(transformers, "Gemma3TextConfig" if prefix == "Gemma3" else f"{prefix}Config")
    head = "LMHeadModel" if prefix == "GPT2" else "ForCausalLM"
    config = config_class(**sizes, attn_implementation="eager", bos_token_id=1, eos_token_id=2)
    model: nn.Module = getattr(transformers, f"{prefix}{head}")(config).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            width = parameter.shape[-1] if parameter.dim() > 1 else 16
            parameter.add_(torch.randn(parameter.shape, generator=generator) / width**0.5)
    return model


def converted(peer: nn.Module, folder: Path) -> Any:
    peer.save_pretrained(folder)
    return glassformer.from_pretrained(folder)


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    """With all bytes and some merges."""
    texts = ["the cat sat on the mat and the dog sat on the log " * 3, "12 + 34 = 46"]
    return BPETokenizer.train(texts, VOCABULARY)


def test_every_architecture_is_in_the_matrix() -> None:
    assert {name.split()[0] for name in MODELS} == set(ARCHITECTURES)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_written_file_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    peer = make(name)
    ours = converted(peer, tmp_path)
    assert choose_architecture(ours)[0] == name.split()[0]
    write_gguf(ours, tmp_path / "model.gguf")
    again = glassformer.from_pretrained(tmp_path / "model.gguf")
    expected = peer(IDS).logits
    assert float((again(IDS) - expected).abs().max() / expected.abs().max()) <= 1e-5
    saved = {k: v for k, v in ours.config.items() if k not in ("dropout", "d_head", "head_bias")}
    for key in ("d_model", "num_layers", "residual", "norm", "window", "qk_norm", "output_norm"):
        assert again.config[key] == saved[key], key


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_llama_cpp_gives_the_same_greedy_tokens(
    name: str, tokenizer: BPETokenizer, tmp_path: Path, llama_cpp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = make(name)
    ours = converted(peer, tmp_path)
    ours.tokenizer = tokenizer
    names = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [f"t{number}" for number in range(VOCABULARY)],
        "tokenizer.ggml.token_type": [1] * VOCABULARY,
        "tokenizer.ggml.merges": ["t 0"],
        "tokenizer.ggml.eos_token_id": 0,
    }
    monkeypatch.setattr(writing, "tokenizer_metadata", lambda tokenizer, vocab_size: names)
    write_gguf(ours, tmp_path / "model.gguf")
    expected = peer.generate(IDS, max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert llama_cpp(tmp_path / "model.gguf", IDS[0].tolist(), NEW) == expected[0, IDS.size(1) :].tolist()


@pytest.mark.parametrize("matrices", MATRICES)
@torch.no_grad()
def test_matrices_of_any_type_are_read_again(matrices: str, tmp_path: Path) -> None:
    ours = converted(make("llama"), tmp_path)
    write_gguf(ours, str(tmp_path / "model.gguf"), matrices)
    again = glassformer.from_pretrained(tmp_path / "model.gguf")
    limits = {"F32": 1e-6, "F16": 2e-2, "BF16": 1e-1, "Q8_0": 3e-1, "Q4_0": 5.0}
    difference = float((again(IDS) - ours(IDS)).abs().max())
    assert difference <= limits[matrices]
    assert (difference > 1e-4) == (matrices != "F32")
    size = (tmp_path / "model.gguf").stat().st_size
    bits = {"F32": 32, "F16": 16, "BF16": 16, "Q8_0": 8.5, "Q4_0": 4.5}[matrices]
    assert size == pytest.approx(ours.num_parameters() * bits / 8, rel=0.1)


@torch.no_grad()
def test_the_tokenizer_and_the_chat_template_are_in_the_file(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    ours = GPTModel(VOCABULARY, 64, 1, 2, norm="rms", activation="swiglu", positions="rotary", bias=False)
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    ours.tokenizer = type(tokenizer)(tokenizer._tokenizer, {**tokenizer.settings, "chat_template": template})
    ours.name = "a name"
    glassformer.save_pretrained(ours, tmp_path / "model.gguf", format="gguf")
    again = glassformer.from_pretrained(tmp_path / "model.gguf")
    assert again.name == "a name"
    for text in ("the cat sat", "  Ünïcode 12\n", ""):
        assert again.tokenizer.encode(text) == ours.tokenizer.encode(text)
        assert again.tokenizer.decode(again.tokenizer.encode(text)) == text
    assert again.tokenizer.end_of_text == ours.tokenizer.end_of_text
    messages = [{"role": "user", "content": "the cat"}]
    assert again.tokenizer.apply_chat_template(messages) == ours.tokenizer.apply_chat_template(messages)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with pytest.raises(ValueError, match="a BERTModel cannot be written as a .gguf file, only a GPTModel"):
        write_gguf(BERTModel(40, 16, 1, 2), path)
    model = GPTModel(40, 16, 1, 2, positions="alibi")
    with pytest.raises(ValueError, match=r"no architecture .* \(.*gpt2: positions must be 'learned'"):
        write_gguf(model, path)
    llama_like = {"norm": "rms", "activation": "swiglu", "positions": "rotary", "bias": False}
    pruned = GPTModel(40, 16, 1, 2, **llama_like, pruned_heads={"self": [[1]]})
    with pytest.raises(ValueError, match="a model with pruned heads cannot be saved in a .gguf file"):
        write_gguf(pruned, path)
    with pytest.raises(ValueError, match="matrices must be one of F32, F16, BF16, Q8_0, Q4_0, got 'Q2_K'"):
        write_gguf(GPTModel(40, 16, 1, 2), path, "Q2_K")
    assert list(tmp_path.iterdir()) == []
