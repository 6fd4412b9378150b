"""Sizes of encoder-decoders: T5 1.0 and 1.1, and the two Transformers of 2017."""

from __future__ import annotations

from typing import Any

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

PRESETS: dict[str, dict[str, Any]] = {
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
two models of Vaswani et al. 2017, table 3, which gives them 65 and 213 million parameters. At a vocabulary
of 37,000 ours have 63.1 and 214.2 million: the paper says "about 37000 tokens" and not what it counted. The
two small ones are our own: the parts of 2017, and what has replaced them since."""
