"""Loading published checkpoints, and saving models in their formats."""

from typing import TYPE_CHECKING

from glassformer.deprecation import renamed_attributes
from glassformer.pretrained.formats import CHECKPOINT_FORMATS
from glassformer.pretrained.loading import from_pretrained, save_pretrained

__all__ = ["CHECKPOINT_FORMATS", "from_pretrained", "save_pretrained"]

if not TYPE_CHECKING:
    __getattr__ = renamed_attributes(__name__, {"LAYOUTS": "CHECKPOINT_FORMATS"})
