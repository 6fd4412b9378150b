"""Loading GGUF files of the llama architecture through the package ``gguf``."""

from __future__ import annotations

import mmap
import struct
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glassformer.models import GPTModel, TransformerModel
from glassformer.pretrained.checkpoint_format import build_model
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.gguf_tokenizers import read_token_ids, read_tokenizer
from glassformer.pretrained.tensor_files import map_file
from glassformer.pretrained.weight_table import (
    WeightEntry,
    WeightTable,
    layer_prefixes,
    renamed,
    renamed_modules,
)

_VALUE_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Size of a metadata value by its type code: integers, floating-point numbers and booleans."""
_STRING, _ARRAY = 8, 9
_MIN_TENSOR_BYTES = 8 + 4 + 4 + 8
"""Size of a tensor's entry with an empty name and no dimensions: length, dimensions, type, offset."""
_MIN_METADATA_BYTES = 8 + 4 + 1


def read_gguf(path: Path, dtype: torch.dtype | None = None, ignore: Sequence[str] = ()) -> TransformerModel:
    """Load the model of a GGUF file, with its tokenizer.

    Args:
        path: the file.
        dtype: of the parameters; None is float32.
        ignore: unknown keys of its metadata that are accepted.

    Raises:
        ImportError: the package ``gguf`` is not installed.
        ValueError: a damaged file, or an architecture, feature or tensor type that is not implemented.
    """
    file = GGUFFile(path)
    config = ConfigReader(file.metadata, str(path), ignore)
    keywords = read_config(config, file)
    table = partial(weight_table, qkv_bias=has_qkv_bias(file))
    model = build_model(GPTModel, keywords, str(path), table, file, dtype or torch.float32)
    model.token_ids = read_token_ids(file.metadata)
    name = file.metadata.get("general.name")
    model.name = name if isinstance(name, str) and name.strip() else None
    try:
        model.tokenizer = read_tokenizer(file.metadata)
    except ValueError as error:
        warnings.warn(f"{path}: loaded without its tokenizer: {error}", stacklevel=3)
    return model


class GGUFFile:
    """Metadata and tensors of a GGUF file, a ``TensorReader``.

    Raises:
        ImportError: the package ``gguf`` is not installed.
        ValueError: the file is truncated or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._gguf = _import_gguf()
        self.source, self._path = str(path), path
        check_header(path)
        try:
            reader = self._gguf.GGUFReader(path)
            self.metadata: dict[str, Any] = {k: field.contents() for k, field in reader.fields.items()}
            self._tensors = {tensor.name: tensor for tensor in reader.tensors}
            self.shapes = {
                name: tuple(int(size) for size in reversed(tensor.shape))
                for name, tensor in self._tensors.items()
            }
            self.dtypes = dict.fromkeys(self.shapes, torch.float32)
        except Exception as error:  # the library does not validate its file, and fails in many ways
            raise ValueError(f"{path} is damaged, or not a GGUF file: {error!r}") from error

    def read(self, name: str, *, share_mapping: bool = False) -> Tensor:
        """Return a tensor in float32, memory-mapped if it is float32 in the file.

        Dequantized values are copied into memory allocated by PyTorch, because NumPy aligns to 16 bytes only,
        which makes matrix products slower.
        """
        tensor, shape = self._tensors[name], self.shapes[name]
        start, size = int(tensor.data_offset), int(tensor.n_bytes)
        share_mapping = share_mapping and tensor.tensor_type == self._gguf.GGMLQuantizationType.F32
        page = 0 if share_mapping else start - start % mmap.ALLOCATIONGRANULARITY
        mapped = self._whole if share_mapping else map_file(self._path, page, start - page + size)
        data = np.frombuffer(mapped, np.uint8, size, start - page)
        try:
            values = self._gguf.quants.dequantize(data.reshape(*shape[:-1], -1), tensor.tensor_type)
        except NotImplementedError:
            raise ValueError(
                f"{self.source}: {name} has the type {tensor.tensor_type.name}, which cannot be dequantized"
            ) from None
        read = torch.from_numpy(values).view(shape)
        return read if share_mapping else read.clone()

    @cached_property
    def _whole(self) -> mmap.mmap:
        return map_file(self._path)

    def release(self, name: str) -> None:
        """Do nothing: a tensor is read when it is requested."""


def _import_gguf() -> ModuleType:
    try:
        import gguf
        import gguf.quants
    except ImportError as error:
        raise ImportError("GGUF files need the package gguf: pip install 'glassformer[gguf]'") from error
    return gguf


def has_qkv_bias(file: GGUFFile) -> bool:
    """Return whether q, k and v have biases, which the metadata do not say."""
    return "blk.0.attn_q.bias" in file.shapes


def read_config(config: ConfigReader, file: GGUFFile) -> dict[str, Any]:
    """Return the keywords of ``GPTModel`` for the metadata.

    Raises:
        ValueError: an architecture or a feature that is not implemented.
    """
    config.get("general.architecture")  # required
    config.expect("general.architecture", "llama")
    config.expect("llama.expert_count", 0)
    config.expect("llama.rope.scaling.type", "none", "linear")
    if "rope_freqs.weight" in file.shapes:
        raise ValueError(f"{file.source}: rope_freqs.weight (one factor per frequency) is not implemented")
    d_model, heads = config.get_int("llama.embedding_length"), config.get_int("llama.attention.head_count")
    d_head = config.get_int("llama.attention.key_length", d_model // heads)
    config.expect("llama.attention.value_length", d_head)
    config.expect("llama.rope.dimension_count", d_head)
    theta = config.get_float("llama.rope.freq_base", default=1e4)
    positions: dict[str, Any] = {"kind": "rotary", "theta": theta}
    factor = config.get_float("llama.rope.scaling.factor", default=1.0)
    if factor != 1.0:
        positions["scaling"] = {"kind": "linear", "factor": factor}
    vocab_size = file.shapes.get("token_embd.weight", (0,))[0]
    config.expect("llama.vocab_size", vocab_size)
    keywords = {
        "vocab_size": vocab_size,
        "d_model": d_model,
        "num_layers": config.get_int("llama.block_count"),
        "num_heads": heads,
        "num_kv_heads": config.get_int("llama.attention.head_count_kv", heads),
        "d_head": d_head,
        "d_ff": config.get_int("llama.feed_forward_length"),
        "max_seq_len": config.get_int("llama.context_length"),
        "positions": positions,
        "norm": "rms",
        "norm_eps": config.get_float("llama.attention.layer_norm_rms_epsilon"),
        "activation": "swiglu",
        "bias": False,
        "qkv_bias": has_qkv_bias(file),
        "tie_embeddings": "output.weight" not in file.shapes,
    }
    config.check_unused_keys([key for key in config.values if not key.startswith("llama.")])
    return keywords


def weight_table(config: Mapping[str, Any], *, qkv_bias: bool) -> WeightTable:
    """Return the tensor names, for loading only."""
    entries = [
        renamed("token_embedding.weight", "token_embd.weight"),
        renamed("norm.weight", "output_norm.weight"),
    ]
    if not config["tie_embeddings"]:
        entries.append(renamed("lm_head.weight", "output.weight"))
    num_heads = {"q": config["num_heads"], "k": config["num_kv_heads"]}
    for ours, theirs in layer_prefixes(config["num_layers"], "blocks.", "blk."):
        entries += renamed_modules(ours, theirs, _LAYER)
        for kind in ("weight", "bias") if qkv_bias else ("weight",):
            entries.append(renamed(f"{ours}attention.v_proj.{kind}", f"{theirs}attn_v.{kind}"))
            for part, heads in num_heads.items():
                own, other = f"{ours}attention.{part}_proj.{kind}", f"{theirs}attn_{part}.{kind}"
                entries.append(WeightEntry((own,), (other,), partial(deinterleave_rotary, num_heads=heads)))
    return WeightTable(entries)


_LAYER = {
    "norm1": "attn_norm",
    "attention.out_proj": "attn_output",
    "norm2": "ffn_norm",
    "feed_forward.gate_proj": "ffn_gate",
    "feed_forward.up_proj": "ffn_up",
    "feed_forward.down_proj": "ffn_down",
}


def deinterleave_rotary(rows: Tensor, num_heads: int) -> tuple[Tensor]:
    """Reorder the rows of each head from rotary pairs (2i, 2i + 1), as in GGUF, to pairs (i, i + d / 2)."""
    pairs = rows.view(num_heads, -1, 2, *rows.shape[1:])  # (head, pair, 2, ...)
    return (pairs.transpose(1, 2).contiguous().view(rows.shape),)


def check_header(path: Path) -> None:
    """Check that no count or length in the header exceeds the file, before the library allocates memory.

    Raises:
        ValueError: not a GGUF file, or a truncated or damaged header.
    """
    if path.stat().st_size < 24:
        raise ValueError(f"{path} is truncated: a GGUF header has 24 bytes, got {path.stat().st_size}")
    try:
        _HeaderReader(path).check()
    except RecursionError:
        raise ValueError(f"{path} is damaged: arrays are nested too deeply in its header") from None


class _HeaderReader:
    def __init__(self, path: Path) -> None:
        self.path, self.position = path, 0
        self.file = map_file(path)

    def check(self) -> None:
        if self.file[:4] != b"GGUF":
            raise ValueError(f"{self.path} is not a GGUF file: it begins with {self.file[:4]!r}")
        self.position = 4
        version = self.number("I")
        if not 2 <= version < 2**16:  # the other byte order has the version in the upper bytes
            raise ValueError(f"{self.path} must be little-endian GGUF version 2 or 3, got version {version}")
        num_tensors, num_metadata = self.number("Q"), self.number("Q")
        self.require(num_tensors * _MIN_TENSOR_BYTES + num_metadata * _MIN_METADATA_BYTES, "header")
        for _ in range(num_metadata):
            self.string("key")
            self.value(self.number("I"))
        for _ in range(num_tensors):
            self.string("tensor name")
            self.skip(8 * self.number("I"), "shape")
            self.skip(12, "tensor offset")

    def number(self, form: str) -> int:
        size = struct.calcsize(f"<{form}")
        self.require(size, "number")
        value: int = struct.unpack_from(f"<{form}", self.file, self.position)[0]
        self.position += size
        return value

    def value(self, kind: int) -> None:
        if kind in _VALUE_BYTES:
            self.skip(_VALUE_BYTES[kind], "value")
        elif kind == _STRING:
            self.string("string")
        elif kind == _ARRAY:
            inner, count = self.number("I"), self.number("Q")
            if inner in _VALUE_BYTES:
                self.skip(count * _VALUE_BYTES[inner], f"array of {count} values")
            else:
                self.require(8 * count, f"array of {count} strings")  # a string has at least its length
                for _ in range(count):
                    self.value(inner)
        else:
            raise ValueError(f"{self.path} is damaged: unknown value type {kind} in its header")

    def string(self, what: str) -> None:
        self.skip(self.number("Q"), what)

    def skip(self, size: int, what: str) -> None:
        self.require(size, what)
        self.position += size

    def require(self, size: int, what: str) -> None:
        left = len(self.file) - self.position
        if size > left:
            raise ValueError(
                f"{self.path} is truncated or damaged: {what} has {size} bytes, but only {left} are left"
            )
