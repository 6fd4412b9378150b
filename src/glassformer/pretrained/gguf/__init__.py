"""GGUF files: models in one file with their tokenizer, as llama.cpp reads and writes them."""

from glassformer.pretrained.gguf.reading import read_gguf
from glassformer.pretrained.gguf.writing import MATRICES, write_gguf

__all__ = ["MATRICES", "read_gguf", "write_gguf"]
