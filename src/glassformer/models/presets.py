"""Published and small sizes of the model families."""

from __future__ import annotations

from typing import Any


def _llama(theta: float = 10_000.0, scaling: dict[str, Any] | None = None, **sizes: Any) -> dict[str, Any]:
    """Llama: RMSNorm, SwiGLU, rotary positions, no biases (Touvron et al. 2023)."""
    positions = {"kind": "rotary", "theta": theta} | ({} if scaling is None else {"scaling": scaling})
    parts = {"norm": "rms", "activation": "swiglu", "bias": False, "tie_embeddings": False}
    return {"positions": positions, **parts, **sizes}


def _neox(d_rotary: int, **sizes: Any) -> dict[str, Any]:
    """GPT-NeoX: parallel blocks, partial rotary positions (Black et al. 2022, section 2.1)."""
    parts = {"activation": "gelu", "residual": "parallel", "tie_embeddings": False, "max_seq_len": 2048}
    return {"positions": {"kind": "rotary", "d_rotary": d_rotary}, **parts, **sizes}


_LLAMA_3_1 = {
    "kind": "llama3",
    "factor": 8.0,
    "original_max_seq_len": 8192,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
_LLAMA_3_2 = _LLAMA_3_1 | {"factor": 32.0}

GPT_PRESETS: dict[str, dict[str, Any]] = {
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
2024); Pythia (Biderman et al. 2023); GPT-NeoX-20B (Black et al. 2022); and four small sizes."""

BERT_PRESETS: dict[str, dict[str, Any]] = {
    "bert-base-uncased": {"vocab_size": 30522, "d_model": 768, "num_layers": 12, "num_heads": 12},
    "bert-base-cased": {"vocab_size": 28996, "d_model": 768, "num_layers": 12, "num_heads": 12},
    "bert-large-uncased": {"vocab_size": 30522, "d_model": 1024, "num_layers": 24, "num_heads": 16},
    "minilm-l6": {"vocab_size": 30522, "d_model": 384, "num_layers": 6, "num_heads": 12},
    "bert-mini": {"vocab_size": 8192, "d_model": 192, "num_layers": 6, "num_heads": 6, "max_seq_len": 128},
}
"""BERT (Devlin et al. 2019, section 3), all-MiniLM-L6-v2, and a small size."""

_V1_1 = {"vocab_size": 32128, "activation": "geglu_tanh", "tie_embeddings": False, "scale_logits": False}
_VASWANI = {
    "vocab_size": 37000,
    "num_layers": 6,
    "positions": "sinusoidal",
    "norm": "layer",
    "norm_eps": 1e-5,
    "residual": "post",
    "bias": True,
    "attention_scale": None,
    "scale_embeddings": True,
    "scale_logits": False,
}

T5_PRESETS: dict[str, dict[str, Any]] = {
    "t5-small": {"vocab_size": 32128, "d_model": 512, "num_layers": 6, "num_heads": 8, "d_ff": 2048},
    "t5-base": {"vocab_size": 32128, "d_model": 768, "num_layers": 12, "num_heads": 12, "d_ff": 3072},
    "t5-large": {
        "vocab_size": 32128,
        "d_model": 1024,
        "num_layers": 24,
        "num_heads": 16,
        "d_ff": 4096,
    },
    "t5-v1_1-small": {**_V1_1, "d_model": 512, "num_layers": 8, "num_heads": 6, "d_head": 64, "d_ff": 1024},
    "t5-v1_1-base": {**_V1_1, "d_model": 768, "num_layers": 12, "num_heads": 12, "d_ff": 2048},
    "t5-v1_1-large": {**_V1_1, "d_model": 1024, "num_layers": 24, "num_heads": 16, "d_ff": 2816},
    "transformer-base": {**_VASWANI, "d_model": 512, "num_heads": 8, "d_ff": 2048, "dropout": 0.1},
    "transformer-big": {**_VASWANI, "d_model": 1024, "num_heads": 16, "d_ff": 4096, "dropout": 0.3},
    "transformer-mini": {
        **_VASWANI,
        "vocab_size": 8192,
        "d_model": 160,
        "num_layers": 3,
        "num_heads": 4,
        "d_ff": 640,
        "max_seq_len": 256,
    },
    "t5-mini": {
        "vocab_size": 8192,
        "d_model": 160,
        "num_layers": 3,
        "num_heads": 4,
        "d_ff": 448,
        "max_seq_len": 256,
        "positions": "rotary",
        "activation": "swiglu",
        "attention_scale": None,
    },
}
"""T5 1.0 (Raffel et al. 2020, section 3.6); T5 1.1, also Flan-T5 (with Shazeer 2020's gated GELU); and the
two models of Vaswani et al. 2017, table 3, which reports 65 and 213 million parameters; with a vocabulary of
37,000 ("about 37000 tokens" in the paper) ours have 63.1 and 214.2 million. Two small sizes:
``transformer-mini`` has the parts of 2017, ``t5-mini`` those that have replaced them since."""

_IMAGENET = {"image_size": 224, "patch_size": 16, "labels": 1000}

VIT_PRESETS: dict[str, dict[str, Any]] = {
    "vit-tiny": {**_IMAGENET, "d_model": 192, "num_layers": 12, "num_heads": 3},
    "vit-small": {**_IMAGENET, "d_model": 384, "num_layers": 12, "num_heads": 6},
    "vit-base": {**_IMAGENET, "d_model": 768, "num_layers": 12, "num_heads": 12},
    "vit-large": {**_IMAGENET, "d_model": 1024, "num_layers": 24, "num_heads": 16},
}
"""Base and large: Dosovitskiy et al. 2021, table 1; tiny and small: Touvron et al. 2021 (DeiT), table 1."""
