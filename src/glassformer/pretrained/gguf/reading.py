"""Loading GGUF files through the package ``gguf``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from glassformer.models import GPTModel, TransformerModel
from glassformer.pretrained.checkpoint_format import build_model
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.gguf.architectures import ARCHITECTURES
from glassformer.pretrained.gguf.file import open_gguf
from glassformer.pretrained.gguf.metadata import Metadata
from glassformer.pretrained.gguf.tensors import weight_table
from glassformer.pretrained.gguf.tokenizers import read_token_ids, read_tokenizer
from glassformer.pretrained.weight_table import TensorReader


def read_gguf(path: Path, dtype: torch.dtype | None = None, ignore: Sequence[str] = ()) -> TransformerModel:
    """Load the model of a GGUF file, with its tokenizer.

    Args:
        path: the file, or the first part of a split one.
        dtype: of the parameters; None is float32.
        ignore: unknown keys of its metadata that are accepted.

    Raises:
        ImportError: the package ``gguf`` is not installed.
        FileNotFoundError: a part of a split file is missing.
        ValueError: a damaged file, or an architecture, feature or tensor type that is not implemented.
    """
    metadata, tensors = open_gguf(path)
    config = ConfigReader(metadata, str(path), ignore, max_layers=len(tensors.shapes))
    keywords = read_config(config, tensors)
    table = partial(weight_table, architecture=metadata["general.architecture"])
    model = build_model(GPTModel, keywords, str(path), table, tensors, dtype or torch.float32)
    model.token_ids = read_token_ids(metadata)
    name = metadata.get("general.name")
    model.name = name if isinstance(name, str) and name.strip() else None
    try:
        model.tokenizer = read_tokenizer(metadata)
    except ValueError as error:
        warnings.warn(f"{path}: loaded without its tokenizer: {error}", stacklevel=3)
    return model


def read_config(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    """Return the keywords of ``GPTModel`` for the metadata.

    Raises:
        ValueError: an architecture or a feature that is not implemented.
    """
    name = config.get_choice("general.architecture", ARCHITECTURES, config.get("general.architecture"))
    metadata = Metadata(config, name)
    metadata.expect("expert_count", 0)
    heads = metadata.get_int("attention.head_count")
    vocab_size = tensors.shapes.get("token_embd.weight", (0,))[0]
    metadata.expect("vocab_size", vocab_size)
    keywords = {
        "vocab_size": vocab_size,
        "d_model": metadata.get_int("embedding_length"),
        "num_layers": config.get_num_layers(metadata.key("block_count")),
        "num_heads": heads,
        "num_kv_heads": metadata.get_int("attention.head_count_kv", heads),
        "d_ff": metadata.get_int("feed_forward_length"),
        "max_seq_len": metadata.get_int("context_length"),
        "tie_embeddings": "output.weight" not in tensors.shapes,
        **ARCHITECTURES[name].read(metadata, tensors),
    }
    config.check_unused_keys([key for key in config.values if not key.startswith(f"{name}.")])
    return keywords
