"""Whole models, built from the same blocks."""

from glassformer.models.base import TransformerModel
from glassformer.models.gpt import GPTModel

__all__ = ["GPTModel", "TransformerModel"]
