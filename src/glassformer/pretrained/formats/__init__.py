"""Checkpoint formats, one file for each family of published models: a config and a table of tensor names."""

from __future__ import annotations

from glassformer.pretrained.checkpoint_format import CheckpointFormat
from glassformer.pretrained.formats.bert import BERT
from glassformer.pretrained.formats.bloom import BLOOM, FALCON
from glassformer.pretrained.formats.gemma import GEMMA, GEMMA2, GEMMA3
from glassformer.pretrained.formats.gpt2 import GPT2
from glassformer.pretrained.formats.gpt_neox import GPT_NEOX
from glassformer.pretrained.formats.gptj import GPT_NEO, GPTJ
from glassformer.pretrained.formats.granite import GRANITE
from glassformer.pretrained.formats.llama import LLAMA, MISTRAL, SMOLLM3
from glassformer.pretrained.formats.olmo import OLMO, OLMO2
from glassformer.pretrained.formats.opt import OPT
from glassformer.pretrained.formats.phi import PHI, PHI3
from glassformer.pretrained.formats.qwen import QWEN2, QWEN3
from glassformer.pretrained.formats.stablelm import STABLELM
from glassformer.pretrained.formats.starcoder2 import STARCODER2
from glassformer.pretrained.formats.t5 import T5
from glassformer.pretrained.formats.vit import VIT

CHECKPOINT_FORMATS: dict[str, CheckpointFormat] = {
    "bert": BERT,
    "bloom": BLOOM,
    "falcon": FALCON,
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3_text": GEMMA3,
    "gpt2": GPT2,
    "gpt_neo": GPT_NEO,
    "gpt_neox": GPT_NEOX,
    "gptj": GPTJ,
    "llama": LLAMA,
    "granite": GRANITE,  # after llama, which writes what both can express
    "mistral": MISTRAL,
    "olmo": OLMO,
    "olmo2": OLMO2,
    "opt": OPT,
    "phi": PHI,
    "phi3": PHI3,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "smollm3": SMOLLM3,
    "stablelm": STABLELM,
    "starcoder2": STARCODER2,
    "t5": T5,
    "vit": VIT,
}
"""Checkpoint formats by ``model_type``. A model is written in the first one that can express it."""

_EXPERTS = "a mixture of experts"
NOT_IMPLEMENTED: dict[str, str] = {
    **dict.fromkeys(("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "phimoe", "granitemoe", "dbrx"), _EXPERTS),
    **dict.fromkeys(("llama4_text", "glm4_moe", "ernie4_5_moe", "minimax", "gpt_oss"), _EXPERTS),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3"), f"{_EXPERTS} and latent attention"),
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba"), "state-space layers in place of attention"),
    **dict.fromkeys(("jamba", "bamba", "zamba2", "granitemoehybrid"), "state-space layers beside attention"),
    **dict.fromkeys(("rwkv", "recurrent_gemma", "lfm2", "qwen3_next"), "recurrent or convolutional layers"),
    **dict.fromkeys(("deberta", "deberta-v2"), "disentangled attention to contents and positions"),
    **dict.fromkeys(("gemma3", "qwen2_vl", "qwen2_5_vl", "llava", "mllama"), "images beside text"),
    **dict.fromkeys(("whisper", "wav2vec2", "hubert"), "audio as its input"),
    "xlnet": "attention in two streams",
    "swin": "windows of patches that shrink from stage to stage",
}
"""What the models of other types need that this library does not have."""
