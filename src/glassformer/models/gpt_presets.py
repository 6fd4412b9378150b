"""Sizes of decoder-only models: GPT-2, the Llama kind, the NeoX kind, and small ones to learn with."""

from __future__ import annotations

from typing import Any


def _llama(theta: float = 10_000.0, scaling: dict[str, Any] | None = None, **sizes: Any) -> dict[str, Any]:
    """RMSNorm, SwiGLU, rotary positions, no biases (Touvron et al. 2023)."""
    positions = {"kind": "rotary", "theta": theta} | ({} if scaling is None else {"scaling": scaling})
    parts = {"norm": "rms", "activation": "swiglu", "bias": False, "tie_embeddings": False}
    return {"positions": positions, **parts, **sizes}


def _neox(d_rotary: int, **sizes: Any) -> dict[str, Any]:
    """Attention and feed-forward side by side, partial rotary positions (Black et al. 2022, section 2.1)."""
    parts = {"activation": "gelu", "residual": "parallel", "tie_embeddings": False, "max_seq_len": 2048}
    return {"positions": {"kind": "rotary", "d_rotary": d_rotary}, **parts, **sizes}


_LLAMA_3_1 = {"kind": "llama3", "factor": 8.0, "original_length": 8192, "low_factor": 1.0, "high_factor": 4.0}
_LLAMA_3_2 = _LLAMA_3_1 | {"factor": 32.0}

PRESETS: dict[str, dict[str, Any]] = {
    "gpt2": {"vocab_size": 50257, "d_model": 768, "num_layers": 12, "num_heads": 12},
    "gpt2-medium": {"vocab_size": 50257, "d_model": 1024, "num_layers": 24, "num_heads": 16},
    "gpt2-large": {"vocab_size": 50257, "d_model": 1280, "num_layers": 36, "num_heads": 20},
    "gpt2-xl": {"vocab_size": 50257, "d_model": 1600, "num_layers": 48, "num_heads": 25},
    "gpt-nano": {"vocab_size": 8192, "d_model": 48, "num_layers": 3, "num_heads": 3, "max_seq_len": 256},
    "gpt-micro": {"vocab_size": 8192, "d_model": 128, "num_layers": 4, "num_heads": 4, "max_seq_len": 256},
    "gpt-mini": {"vocab_size": 8192, "d_model": 192, "num_layers": 6, "num_heads": 6, "max_seq_len": 256},
    "gpt-small": {"vocab_size": 8192, "d_model": 512, "num_layers": 6, "num_heads": 8, "max_seq_len": 512},
    "smollm2-135m": _llama(
        theta=1e5,
        vocab_size=49152,
        d_model=576,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        d_ff=1536,
        max_seq_len=8192,
        tie_embeddings=True,
    ),
    "smollm2-360m": _llama(
        theta=1e5,
        vocab_size=49152,
        d_model=960,
        num_layers=32,
        num_heads=15,
        num_kv_heads=5,
        d_ff=2560,
        max_seq_len=8192,
        tie_embeddings=True,
    ),
    "smollm2-1.7b": _llama(
        theta=1.3e5,
        vocab_size=49152,
        d_model=2048,
        num_layers=24,
        num_heads=32,
        d_ff=8192,
        max_seq_len=8192,
        tie_embeddings=True,
    ),
    "tinyllama-1.1b": _llama(
        vocab_size=32000,
        d_model=2048,
        num_layers=22,
        num_heads=32,
        num_kv_heads=4,
        d_ff=5632,
        max_seq_len=2048,
    ),
    "llama-2-7b": _llama(
        vocab_size=32000, d_model=4096, num_layers=32, num_heads=32, d_ff=11008, max_seq_len=4096
    ),
    "llama-3-8b": _llama(
        theta=5e5,
        vocab_size=128256,
        d_model=4096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        d_ff=14336,
        max_seq_len=8192,
    ),
    "llama-3.1-8b": _llama(
        theta=5e5,
        scaling=_LLAMA_3_1,
        vocab_size=128256,
        d_model=4096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        d_ff=14336,
        max_seq_len=131072,
    ),
    "llama-3.2-1b": _llama(
        theta=5e5,
        scaling=_LLAMA_3_2,
        vocab_size=128256,
        d_model=2048,
        num_layers=16,
        num_heads=32,
        num_kv_heads=8,
        d_ff=8192,
        max_seq_len=131072,
        tie_embeddings=True,
    ),
    "mistral-7b": _llama(
        vocab_size=32000,
        d_model=4096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        d_ff=14336,
        max_seq_len=32768,
        window=4096,
    ),
    "qwen2-0.5b": _llama(
        theta=1e6,
        vocab_size=151936,
        d_model=896,
        num_layers=24,
        num_heads=14,
        num_kv_heads=2,
        d_ff=4864,
        max_seq_len=131072,
        norm_eps=1e-6,
        qkv_bias=True,
        tie_embeddings=True,
    ),
    "pythia-70m": _neox(16, vocab_size=50304, d_model=512, num_layers=6, num_heads=8),
    "pythia-160m": _neox(16, vocab_size=50304, d_model=768, num_layers=12, num_heads=12),
    "pythia-410m": _neox(16, vocab_size=50304, d_model=1024, num_layers=24, num_heads=16),
    "pythia-1b": _neox(64, vocab_size=50304, d_model=2048, num_layers=16, num_heads=8),
    "pythia-1.4b": _neox(32, vocab_size=50304, d_model=2048, num_layers=24, num_heads=16),
    "pythia-2.8b": _neox(20, vocab_size=50304, d_model=2560, num_layers=32, num_heads=32),
    "pythia-6.9b": _neox(32, vocab_size=50432, d_model=4096, num_layers=32, num_heads=32),
    "gpt-neox-20b": _neox(
        24, vocab_size=50432, d_model=6144, num_layers=44, num_heads=64, activation="gelu_tanh"
    ),
}
"""GPT-2 (Radford et al. 2019, table 2); SmolLM2 (Allal et al. 2025); TinyLlama (Zhang et al. 2024); Llama 2,
3, 3.1 and 3.2 (Touvron et al. 2023; Grattafiori et al. 2024); Mistral (Jiang et al. 2023); Qwen2 (Yang et al.
2024); Pythia (Biderman et al. 2023); GPT-NeoX-20B (Black et al. 2022); and small ones of our own."""
