"""Quiet `transformers`, and GGUF files of its models as llama.cpp writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from glassformer.pretrained.gguf.tensors import deinterleave_rotary


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    yield
    transformers.logging.enable_progress_bar()


@pytest.fixture
def write() -> Callable[..., Path]:
    """``write(peer, path, type of the matrices, **metadata)``."""
    pytest.importorskip("gguf")
    return write_gguf


@pytest.fixture
def as_read() -> Callable[..., nn.Module]:
    """``as_read(peer, type)``: the peer with the dequantized weights of such a file."""
    return dequantized


NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers.": "blk.",
}


def interleaved(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Reorder queries and keys as in GGUF."""
    return rows.view(heads, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def write_gguf(model: nn.Module, path: Path, kind: str = "F32", **metadata: Any) -> Path:
    """Write a GGUF file of a peer, with matrices of a type, as llama.cpp does.

    The keyword ``rope_freqs`` adds this tensor, and ``part_tensors`` splits the file.
    """
    import gguf

    config, type_ = model.config, gguf.GGMLQuantizationType[kind]
    rope_freqs = metadata.pop("rope_freqs", None)
    part_tensors = metadata.pop("part_tensors", 0)
    writer = gguf.GGUFWriter(path, metadata.pop("architecture", "llama"), split_max_tensors=part_tensors)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    for name, value in metadata.items():
        writer.add_key_value(name.replace("__", "."), *value)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        for part, count in heads.items():
            if part in name:
                tensor = interleaved(tensor, count)
        for theirs, short in NAMES.items():
            name = name.replace(theirs, short)
        data = tensor.contiguous().numpy()
        if data.ndim == 1 or kind == "F32":
            writer.add_tensor(name, data)
        else:
            writer.add_tensor(name, quantized(data, type_), raw_dtype=type_)
    if rope_freqs is not None:
        writer.add_tensor("rope_freqs.weight", rope_freqs.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def quantized(data: np.ndarray, kind: Any) -> np.ndarray:
    """Quantize to a type; if the package cannot, return random blocks with small scales."""
    import gguf.quants

    try:
        return gguf.quants.quantize(data, kind)
    except NotImplementedError:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = np.random.default_rng(0).integers(0, 256, (data.size // block, size), dtype=np.uint8)
        for place in {"Q4_K": (0, 2), "Q6_K": (208,)}[kind.name]:
            blocks[:, place : place + 2] = np.frombuffer(np.float16(0.00005).tobytes(), np.uint8)
        return blocks.reshape(data.shape[0], -1)


def dequantized(model: nn.Module, kind: str) -> nn.Module:
    """Return the peer with the dequantized weights of the file."""
    import gguf.quants

    type_ = gguf.GGMLQuantizationType[kind]
    state = model.state_dict()
    heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
    for name, tensor in state.items():
        if tensor.dim() == 1 or kind == "F32":
            continue
        count = next((count for part, count in heads.items() if part in name), None)
        rows = tensor if count is None else interleaved(tensor, count)
        values = torch.from_numpy(gguf.quants.dequantize(quantized(rows.contiguous().numpy(), type_), type_))
        state[name] = values if count is None else deinterleave_rotary(values, num_heads=count)[0]
    model.load_state_dict(state)
    return model


@pytest.fixture
def llama_cpp() -> Callable[[Path, list[int], int], list[int]]:
    """``llama_cpp(path, ids, new)``: the ids that llama.cpp generates, if token 7 is called ``t7``."""
    xllamacpp = pytest.importorskip("xllamacpp")

    def generate(path: Path, ids: list[int], new: int) -> list[int]:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = len(ids) + new
        parameters.n_parallel = 1
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.fit_params = False
        parameters.verbosity = -1
        request = {"prompt": ids, "n_predict": new, "temperature": 0, "ignore_eos": True}
        answer = xllamacpp.Server(parameters).handle_completions(request)
        return [int(number) for number in answer["choices"][0]["text"].split("t")[1:]]

    return generate
