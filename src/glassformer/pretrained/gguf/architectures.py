"""Architectures of GGUF files: their metadata, and the tensor names of a layer.

The conventions are those of llama.cpp. Its rotation of "llama" files pairs the dimensions 2i and 2i + 1, so
that the rows of queries and keys are in another order; norms of Gemma are stored as 1 + w; queries, keys and
values of some architectures are one matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from glassformer.pretrained.gguf.gemma import (
    read_gemma,
    read_gemma2,
    read_gemma3,
    write_gemma,
    write_gemma2,
    write_gemma3,
)
from glassformer.pretrained.gguf.gpt2 import (
    read_falcon,
    read_gpt2,
    read_gpt_neox,
    read_starcoder2,
    write_falcon,
    write_gpt2,
    write_gptneox,
    write_starcoder2,
)
from glassformer.pretrained.gguf.llama import (
    read_llama,
    read_olmo2,
    read_phi3,
    read_qwen3,
    read_smollm3,
    write_llama,
    write_olmo2,
    write_phi3,
    write_qwen2,
    write_qwen3,
    write_smollm3,
)
from glassformer.pretrained.gguf.metadata import Metadata
from glassformer.pretrained.weight_table import TensorReader

ATTENTION = {f"attention.{part}_proj": f"attn_{part}" for part in "qkv"}
OUTPUT = {"attention.out_proj": "attn_output"}
NORMS = {"norm1": "attn_norm", "norm2": "ffn_norm"}
GATED = {f"feed_forward.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")}
PLAIN = {f"feed_forward.{part}_proj": f"ffn_{part}" for part in ("up", "down")}
QK_NORM = {"attention.q_norm": "attn_q_norm", "attention.k_norm": "attn_k_norm"}
OUTPUT_NORMS = {"output_norms.0": "post_attention_norm", "output_norms.1": "post_ffw_norm"}
LLAMA = {**NORMS, **ATTENTION, **OUTPUT, **GATED}
OLMO2 = {**OUTPUT_NORMS, **QK_NORM, **ATTENTION, **OUTPUT, **GATED}

Read = Callable[[Metadata, TensorReader], dict[str, Any]]
Write = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Architecture:
    """One architecture of GGUF files.

    Args:
        read: keywords besides the sizes, from the metadata and tensors.
        write: metadata of a model; raises ValueError if the architecture cannot express it.
        modules: of a layer of this library to those of the file.
        interleaved: whether rows of queries and keys are in the order of pairs (2i, 2i + 1).
        unit_offset: whether norms are stored as 1 + w.
        fused_qkv: whether query, key and value are one matrix, one below the other.
        fused_gate: whether gate and up are one matrix, one below the other.
        others: modules outside of the layers, besides the token embedding and the last norm.
    """

    read: Read
    write: Write
    modules: Mapping[str, str]
    interleaved: bool = False
    unit_offset: bool = False
    fused_qkv: bool = False
    fused_gate: bool = False
    others: Mapping[str, str] | None = None


ARCHITECTURES: dict[str, Architecture] = {
    "falcon": Architecture(read_falcon, write_falcon, {**OUTPUT, **PLAIN}, fused_qkv=True),
    "gemma": Architecture(read_gemma, write_gemma, LLAMA, unit_offset=True),
    "gemma2": Architecture(read_gemma2, write_gemma2, {**LLAMA, **OUTPUT_NORMS}, unit_offset=True),
    "gemma3": Architecture(read_gemma3, write_gemma3, {**LLAMA, **OUTPUT_NORMS, **QK_NORM}, unit_offset=True),
    "gpt2": Architecture(
        read_gpt2,
        write_gpt2,
        {**NORMS, **OUTPUT, **PLAIN},
        fused_qkv=True,
        others={"positions.embedding": "position_embd"},
    ),
    "gptneox": Architecture(read_gpt_neox, write_gptneox, {**NORMS, **OUTPUT, **PLAIN}, fused_qkv=True),
    "llama": Architecture(read_llama, write_llama, LLAMA, interleaved=True),
    "olmo2": Architecture(read_olmo2, write_olmo2, OLMO2),
    "phi3": Architecture(
        read_phi3,
        write_phi3,
        {**NORMS, **OUTPUT, "feed_forward.down_proj": "ffn_down"},
        fused_qkv=True,
        fused_gate=True,
    ),
    "qwen2": Architecture(read_llama, write_qwen2, LLAMA),
    "qwen3": Architecture(read_qwen3, write_qwen3, {**LLAMA, **QK_NORM}),
    "smollm3": Architecture(read_smollm3, write_smollm3, LLAMA, interleaved=True),
    "starcoder2": Architecture(read_starcoder2, write_starcoder2, {**NORMS, **ATTENTION, **OUTPUT, **PLAIN}),
}
"""Architectures by ``general.architecture``."""
FALCON_NORMS = {
    "parallel": {"norm1": "attn_norm_2", "norm2": "attn_norm"},
    "parallel_shared": {"norm1": "attn_norm"},
}
"""Norms of a layer of Falcon by ``residual``."""
