"""GGUF files of the llama architecture, written with the package ``gguf``."""

from __future__ import annotations

import builtins
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import glassformer
from glassformer.pretrained.gguf.file import GGUFFile
from glassformer.pretrained.gguf.tokenizers import read_tokenizer
from glassformer.tokenization import BPETokenizer, PretrainedTokenizer

gguf = pytest.importorskip("gguf")

SIZES = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 61,
    "max_position_embeddings": 40,
    "rms_norm_eps": 1e-5,
}


def peer(**changes: Any) -> nn.Module:
    config = transformers.LlamaConfig(**{**SIZES, "initializer_range": 0.1, **changes})
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) / 4)
    return model


KINDS = ["F32", "F16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K"]


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_logits_equal_those_of_the_dequantized_peer(
    kind: str, tied: bool, tmp_path: Path, write: Any, as_read: Any
) -> None:
    theirs = peer(tie_word_embeddings=tied)
    with pytest.warns(UserWarning, match="loaded without its tokenizer: unknown tokenizer.ggml.model 'none'"):
        ours = glassformer.from_pretrained(write(theirs, tmp_path / "model.gguf", kind))
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    ids = torch.randint(0, 61, (2, 17))
    expected = as_read(theirs, kind)(ids).logits
    assert float((ours(ids) - expected).abs().max()) <= 1e-5
    assert float(expected.std()) > 0.02


@pytest.mark.filterwarnings("ignore:.*loaded without its tokenizer")
@torch.no_grad()
def test_biases_scaled_positions_and_another_head_width(tmp_path: Path, write: Any) -> None:
    theirs = peer(attention_bias=True, head_dim=32, rope_parameters={"rope_type": "linear", "factor": 2.0})
    for layer in theirs.model.layers:
        layer.self_attn.o_proj.bias = None
    path = write(
        theirs,
        tmp_path / "model.gguf",
        llama__attention__key_length=(32, gguf.GGUFValueType.UINT32),
        llama__attention__value_length=(32, gguf.GGUFValueType.UINT32),
        llama__rope__scaling__type=("linear", gguf.GGUFValueType.STRING),
        llama__rope__scaling__factor=(2.0, gguf.GGUFValueType.FLOAT32),
    )
    ours = glassformer.from_pretrained(path, dtype=torch.float64)
    ids = torch.randint(0, 61, (2, 17))
    assert float((ours(ids) - theirs(ids).logits).abs().max()) <= 1e-5


UINT, TEXT = gguf.GGUFValueType.UINT32, gguf.GGUFValueType.STRING


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({"architecture": "mamba"}, "general.architecture = 'mamba' is not implemented"),
        ({"llama__expert_count": (8, UINT)}, "llama.expert_count = 8 is not implemented, only 0"),
        (
            {"llama__rope__scaling__type": ("yarn", TEXT)},
            "llama.rope.scaling.type = 'yarn' is not implemented",
        ),
        ({"llama__rope__dimension_count": (32, UINT)}, "llama.rope.dimension_count = 32 is not implemented"),
        (
            {"llama__attention__sliding_window": (9, UINT)},
            "unknown key 'llama.attention.sliding_window' = 9",
        ),
        ({"llama__vocab_size": (62, UINT)}, "llama.vocab_size = 62 is not implemented, only 61"),
        (
            {"llama__attention__value_length": (5, UINT)},
            "llama.attention.value_length = 5 is not implemented",
        ),
    ],
)
def test_metadata_that_are_not_implemented_are_errors(
    metadata: dict[str, Any], problem: str, tmp_path: Path, write: Any
) -> None:
    path = write(peer(), tmp_path / "model.gguf", **metadata)
    with pytest.raises(ValueError, match=problem) as error:
        glassformer.from_pretrained(path)
    assert str(path) in str(error.value)


@pytest.mark.filterwarnings("ignore:.*loaded without its tokenizer")
def test_an_unknown_key_can_be_ignored(tmp_path: Path, write: Any) -> None:
    path = write(peer(), tmp_path / "model.gguf", llama__attention__sliding_window=(9, UINT))
    model = glassformer.from_pretrained(path, ignore=["llama.attention.sliding_window"])
    assert model.config["window"] is None


@pytest.mark.filterwarnings("ignore:.*loaded without its tokenizer")
def test_the_model_has_the_name_in_the_file(tmp_path: Path, write: Any) -> None:
    for value, expected in (("Tiny Llama", "Tiny Llama"), (" ", None)):
        name = {"general__name": (value, gguf.GGUFValueType.STRING)}
        assert glassformer.from_pretrained(write(peer(), tmp_path / "a.gguf", **name)).name == expected
    assert glassformer.from_pretrained(write(peer(), tmp_path / "b.gguf")).name is None


def test_a_missing_architecture_is_an_error(tmp_path: Path, write: Any) -> None:
    path = write(peer(), tmp_path / "model.gguf")
    path.write_bytes(path.read_bytes().replace(b"general.architecture", b"general.architectura"))
    with pytest.raises(ValueError, match="model.gguf: the key 'general.architecture' is missing"):
        glassformer.from_pretrained(path)


@pytest.mark.filterwarnings("ignore:.*loaded without its tokenizer")
@torch.no_grad()
def test_factors_per_frequency_are_llama_3_scaling(tmp_path: Path, write: Any) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    theirs = peer(rope_parameters=scaling, max_position_embeddings=256)
    plain = 10_000.0 ** (-torch.arange(0, 64, 2, dtype=torch.float64) / 64)
    factors = (plain / theirs.model.rotary_emb.inv_freq.double()).float()
    assert 1 < float(factors.min().clamp(min=1.01)) < float(factors.max()) == pytest.approx(8.0)
    ids = torch.randint(0, 61, (2, 50))
    expected = theirs(ids).logits
    path = write(theirs, tmp_path / "model.gguf", rope_freqs=factors)
    ours = glassformer.from_pretrained(path)
    assert float((ours(ids) - expected).abs().max()) <= 1e-4
    ours.save_pretrained(tmp_path / "own")
    assert torch.equal(glassformer.from_pretrained(tmp_path / "own")(ids), ours(ids))
    without = glassformer.from_pretrained(write(theirs, tmp_path / "plain.gguf"))
    assert float((without(ids) - expected).abs().max()) > 0.1  # so the factors matter
    path = write(theirs, tmp_path / "short.gguf", rope_freqs=factors[:-1])
    with pytest.raises(ValueError, match=r"rope_freqs.weight has shape .31,., expected .32,."):
        glassformer.from_pretrained(path)


FLOAT = gguf.GGUFValueType.FLOAT32


@pytest.mark.parametrize(
    ("metadata", "scaling"),
    [
        ({"type": ("none", gguf.GGUFValueType.STRING), "factor": (4.0, FLOAT)}, None),
        ({"type": ("linear", gguf.GGUFValueType.STRING), "factor": (4.0, FLOAT)}, 4.0),
        ({"factor": (4.0, FLOAT)}, 4.0),  # llama.cpp: linear if there is no type
        ({"type": ("linear", gguf.GGUFValueType.STRING)}, None),
        ({"type": ("linear", gguf.GGUFValueType.STRING), "factor": (0.0, FLOAT)}, None),
        ({}, None),
    ],
)
@pytest.mark.filterwarnings("ignore:.*loaded without its tokenizer")
def test_a_factor_scales_unless_the_type_is_none(
    metadata: dict[str, Any], scaling: float | None, tmp_path: Path, write: Any
) -> None:
    keys = {f"llama__rope__scaling__{name}": value for name, value in metadata.items()}
    positions = glassformer.from_pretrained(write(peer(), tmp_path / "m.gguf", **keys)).config["positions"]
    expected = {} if scaling is None else {"scaling": {"kind": "linear", "factor": scaling}}
    assert positions == {"kind": "rotary", "theta": 10_000.0, **expected}


def test_a_type_that_cannot_be_dequantized_is_an_error(tmp_path: Path, write: Any) -> None:
    path = tmp_path / "model.gguf"
    model = peer()
    write(model, path)
    file = GGUFFile(path)
    file._tensors["output.weight"] = file._tensors["output.weight"]._replace(
        type=gguf.GGMLQuantizationType.Q8_K
    )
    with pytest.raises(ValueError, match="output.weight has the type Q8_K, which cannot be dequantized"):
        file.read("output.weight")


@pytest.mark.filterwarnings("ignore:.*loaded without its tokenizer")
def test_a_truncated_or_tampered_file_is_rejected(tmp_path: Path, write: Any, little_memory: None) -> None:
    path = write(peer(num_hidden_layers=1, hidden_size=64, intermediate_size=64), tmp_path / "model.gguf")
    data = path.read_bytes()
    names_end = data.rindex(b"ffn_down.weight") + 60
    for cut in [*range(0, names_end, 97), len(data) - 5000, len(data) - 64]:
        path.write_bytes(data[:cut])
        with pytest.raises(ValueError, match=rf"{path}"):
            glassformer.from_pretrained(path)
    rejected = 0
    for place in range(0, names_end, 61):
        path.write_bytes(data[:place] + b"\xff" * 8 + data[place + 8 :])
        try:
            glassformer.from_pretrained(path)
        except ValueError as error:
            rejected += str(path) in str(error)
    assert rejected > 10  # the others changed nothing that matters, such as a name


def test_without_the_package_the_error_says_what_to_install(
    tmp_path: Path, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(peer(), tmp_path / "model.gguf")
    usual = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("gguf"):
            raise ImportError(name)
        return usual(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'glassformer\[gguf\]'"):
        glassformer.from_pretrained(path)


def tokens(writer_metadata: dict[str, Any]) -> dict[str, Any]:
    kinds = gguf.GGUFValueType
    types = {
        "tokens": kinds.STRING,
        "scores": kinds.FLOAT32,
        "token_type": kinds.INT32,
        "merges": kinds.STRING,
    }
    metadata = {}
    for name, value in writer_metadata.items():
        if name in types:
            metadata[f"tokenizer__ggml__{name}"] = (value, kinds.ARRAY, types[name])
        else:
            kind = {str: kinds.STRING, bool: kinds.BOOL, int: kinds.UINT32}[type(value)]
            metadata[f"tokenizer__ggml__{name}"] = (value, kind)
    return metadata


def sentencepiece() -> dict[str, Any]:
    pieces = ["▁t", "he", "▁the", "▁c", "at", "▁cat", "▁s", "▁sat", "▁", *"thecaso"]
    listed = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    return {
        "model": "llama",
        "tokens": listed,
        "scores": [0.0] * 259 + [-float(rank) for rank in range(len(pieces))],
        "token_type": [2, 3, 3, *[6] * 256, *[1] * len(pieces)],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }


def test_a_sentencepiece_tokenizer_is_loaded(tmp_path: Path, write: Any) -> None:
    metadata = sentencepiece()
    model = peer(vocab_size=len(metadata["tokens"]))
    path = write(model, tmp_path / "model.gguf", **tokens(metadata))
    ours = glassformer.from_pretrained(path).tokenizer
    assert type(ours) is PretrainedTokenizer
    assert (ours.end_of_text, ours.vocab_size) == (2, 275)
    assert [ours.label(token) for token in ours.encode("the cat sat o")] == ["·the", "·cat", "·sat", "·", "o"]
    for text in ["the cat sat", " the  cat\n", "café 語 😀", "<s>the</s>", "x"]:
        ids = ours.encode(text)
        assert ours.decode(ids) == text
        assert {1, 2}.isdisjoint(ids)
    assert ours.add_special_tokens([9]) == [1, 9]
    assert glassformer.from_pretrained(path).token_ids == {"bos_token_id": 1, "eos_token_id": 2}
    ends = write(model, tmp_path / "ends.gguf", **tokens({**metadata, "eot_token_id": 5, "eom_token_id": 2}))
    assert glassformer.from_pretrained(ends).stop_tokens == [2, 5]
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    for text in ["the cat sat", "thecatsat the cathe o"]:
        assert theirs(text)["input_ids"] == ours.add_special_tokens(ours.encode(text))


def test_chat_templates_are_read() -> None:
    metadata = {f"tokenizer.ggml.{key}": value for key, value in sentencepiece().items()}
    metadata["tokenizer.chat_template"] = "d"
    assert read_tokenizer(metadata).chat_templates == {"default": "d"}
    metadata["tokenizer.chat_template.tool_use"] = "t"
    assert read_tokenizer(metadata).chat_templates == {"default": "d", "tool_use": "t"}


@pytest.mark.parametrize("cut", ["gpt-2", "llama-bpe", "qwen2", "smollm"])
def test_a_byte_level_tokenizer_is_loaded(cut: str, tmp_path: Path, write: Any) -> None:
    trained = BPETokenizer.train(["the cat sat on the mat 123 123 " * 9], 275)
    trained.save(tmp_path)
    description = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    listed = sorted(description["vocab"], key=description["vocab"].get)
    metadata = {
        "model": "gpt2",
        "pre": cut,
        "tokens": listed,
        "merges": [" ".join(pair) for pair in description["merges"]],
        "token_type": [3, *[1] * (len(listed) - 1)],
        "eos_token_id": 0,
        "bos_token_id": 0,
    }
    path = write(peer(vocab_size=len(listed)), tmp_path / "model.gguf", **tokens(metadata))
    ours = glassformer.from_pretrained(path).tokenizer
    assert isinstance(ours, BPETokenizer) == (cut != "qwen2")  # which normalizes accents
    assert ours.end_of_text == 0
    assert 0 not in ours.encode("<|endoftext|>")
    assert ours.add_special_tokens([9]) == ([0, 9] if cut == "llama-bpe" else [9])
    text = "the cat  sat, on 123 1234\n\nmats it's"
    assert ours.decode(ours.encode(text)) == text
    if cut == "gpt-2":
        assert ours.encode(text) == trained.encode(text)
    assert (len(ours.encode("123")) == 3) == (cut in ("qwen2", "smollm"))  # each digit is a token


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model": "t5"}, "unknown tokenizer.ggml.model 't5'"),
        ({"model": "gpt2", "pre": "smolm"}, "unknown tokenizer.ggml.pre 'smolm', did you mean 'smollm'"),
        ({"model": "gpt2"}, "invalid tokenizer metadata: KeyError.'tokenizer.ggml.merges'"),
        ({"model": "gpt2", "merges": ["a zz"]}, "the merges do not match the tokens"),
        ({"model": "gpt2", "merges": ["a " + "z" * 10**5]}, "the merges do not match the tokens: .{,200}$"),
        ({"model": "gpt2", "merges": ["a", "b"]}, "merges must be pairs separated by a space, got 'a'"),
        ({"model": "gpt2", "merges": ["a b c"]}, "merges must be pairs separated by a space, got 'a b c'"),
        ({"token_type": [1, 2]}, "must be distinct and have one token_type each"),
        ({"scores": [1.0]}, "zip"),
    ],
)
def test_an_invalid_tokenizer_gives_a_warning(
    change: dict[str, Any], problem: str, tmp_path: Path, write: Any
) -> None:
    metadata = sentencepiece() | change
    path = write(peer(vocab_size=275), tmp_path / "model.gguf", **tokens(metadata))
    with pytest.warns(UserWarning, match=f"loaded without its tokenizer: .*{problem}"):
        assert glassformer.from_pretrained(path).tokenizer is None


def header(entries: bytes, count: int = 1, tensors: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, count) + entries


def entry(kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", 3) + b"key" + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"GGUF", "truncated: a GGUF header has 24 bytes, got 4"),
        (b"GGML" + bytes(60), "is not a GGUF file: it begins with b'GGML'"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + bytes(9), "little-endian GGUF version 2 or 3"),
        (header(entry(9, struct.pack("<IQ", 4, 2**21))), "array of 2097152 values has 8388608 bytes"),
        (
            header(entry(9, struct.pack("<IQ", 8, 2**60))),
            "array of .* strings has .* only 0 are left",
        ),
        (header(entry(8, struct.pack("<Q", 2**62))), "string has 4611686018427387904 bytes"),
        (header(entry(77, bytes(8))), "unknown value type 77"),
        (header(entry(9, struct.pack("<IQ", 9, 1) * 10_000)), "arrays are nested too deeply"),
        (header(b"", count=2**40), "header has .* bytes"),
        (header(b"", count=0, tensors=2**40), "header has .* bytes"),
        (header(struct.pack("<QQ", 2**50, 0)), "key has 1125899906842624 bytes"),
    ],
)
def test_a_header_that_exceeds_the_file_is_an_error(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=problem):
        glassformer.from_pretrained(path)


def test_nested_arrays_in_the_header_are_checked(tmp_path: Path) -> None:
    inner = struct.pack("<IQ", 4, 2) + struct.pack("<II", 3, 5)
    path = tmp_path / "model.gguf"
    path.write_bytes(header(entry(9, struct.pack("<IQ", 9, 2) + inner + inner)))
    assert GGUFFile(path).metadata == {"key": [[3, 5], [3, 5]]}
    path.write_bytes(header(entry(9, struct.pack("<IQ", 9, 3) + inner + inner)))
    with pytest.raises(ValueError, match="only . are left"):
        GGUFFile(path)
