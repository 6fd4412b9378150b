"""Published checkpoints in, and back out: other libraries' layouts as two-way tables of names."""

from glassformer.pretrained.huggingface import LAYOUTS
from glassformer.pretrained.loading import from_pretrained, save_pretrained

__all__ = ["LAYOUTS", "from_pretrained", "save_pretrained"]
