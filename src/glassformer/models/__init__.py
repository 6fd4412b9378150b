"""Model families built from the same blocks: GPT, BERT, T5 and ViT."""

from glassformer.models.base import TransformerModel
from glassformer.models.bert import BERTModel
from glassformer.models.config import BERTConfig, GPTConfig, T5Config, ViTConfig
from glassformer.models.gpt import GPTModel
from glassformer.models.inference import optimize_for_inference
from glassformer.models.t5 import T5Model
from glassformer.models.vit import ViTModel

__all__ = [
    "BERTConfig",
    "BERTModel",
    "GPTConfig",
    "GPTModel",
    "T5Config",
    "T5Model",
    "TransformerModel",
    "ViTConfig",
    "ViTModel",
    "optimize_for_inference",
]
