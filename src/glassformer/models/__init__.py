"""Whole models, built from the same blocks."""

from glassformer.models.base import TransformerModel
from glassformer.models.bert import BERTModel
from glassformer.models.gpt import GPTModel
from glassformer.models.t5 import T5Model
from glassformer.models.vit import ViTModel

__all__ = ["BERTModel", "GPTModel", "T5Model", "TransformerModel", "ViTModel"]
