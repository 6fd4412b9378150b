"""GGUF files of the llama architecture, dequantised tensor by tensor, through the package ``gguf``."""

from __future__ import annotations

import mmap
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
from glassformer.pretrained.building import build
from glassformer.pretrained.configs import ConfigReader
from glassformer.pretrained.conversion import Entry, Table, layers, named, same
from glassformer.pretrained.gguf_header import check_header
from glassformer.pretrained.gguf_tokenizers import read_tokenizer
from glassformer.pretrained.tensor_files import map_file


def read_gguf(path: Path, dtype: torch.dtype | None = None, ignore: Sequence[str] = ()) -> TransformerModel:
    """The model of a GGUF file, with its tokenizer.

    Args:
        path: the file.
        dtype: of the parameters; None is float32.
        ignore: keys of its metadata that are not to be read.

    Raises:
        ImportError: the package ``gguf`` is not installed.
        ValueError: a damaged file; another architecture, or a feature of it that is not implemented; a type
            of tensor that ``gguf`` cannot dequantise.

    """
    file = GGUFFile(path)
    config = ConfigReader(file.metadata, str(path), ignore)
    keywords = read_config(config, file)
    names = partial(table, biased=has_biases(file))
    model = build(GPTModel, keywords, str(path), names, file, dtype or torch.float32)
    try:
        model.tokenizer = read_tokenizer(file.metadata)
    except ValueError as error:
        warnings.warn(f"{path}: read without its tokenizer: {error}", stacklevel=3)
    return model


class GGUFFile:
    """Metadata and tensors of a GGUF file.

    Raises:
        ImportError: the package ``gguf`` is not installed.
        ValueError: the file is truncated or damaged.

    """

    def __init__(self, path: Path) -> None:
        self._gguf = _library()
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
        except Exception as error:  # the library trusts its file, and fails in many ways
            raise ValueError(f"{path} is damaged, or no GGUF file: {error!r}") from error

    def read(self, name: str, *, lasting: bool = False) -> Tensor:
        """One tensor in float32; what is float32 in the file stays mapped.

        What is dequantised is copied to where PyTorch puts its tensors: NumPy's are aligned to 16 bytes only,
        from which a matrix is read more slowly.
        """
        tensor, shape = self._tensors[name], self.shapes[name]
        start, size = int(tensor.data_offset), int(tensor.n_bytes)
        lasting = lasting and tensor.tensor_type == self._gguf.GGMLQuantizationType.F32
        page = 0 if lasting else start - start % mmap.ALLOCATIONGRANULARITY
        mapped = self._whole if lasting else map_file(self._path, page, start - page + size)
        data = np.frombuffer(mapped, np.uint8, size, start - page)
        try:
            values = self._gguf.quants.dequantize(data.reshape(*shape[:-1], -1), tensor.tensor_type)
        except NotImplementedError:
            raise ValueError(
                f"{self.source}: {name} is of the type {tensor.tensor_type.name}, which cannot be dequantised"
            ) from None
        found = torch.from_numpy(values).view(shape)
        return found if lasting else found.clone()

    @cached_property
    def _whole(self) -> mmap.mmap:
        return map_file(self._path)

    def release(self, name: str) -> None:
        """Nothing: each tensor is read when it is asked for."""


def _library() -> ModuleType:
    try:
        import gguf
        import gguf.quants
    except ImportError as error:
        raise ImportError(
            "reading GGUF files needs the package gguf: pip install 'glassformer[gguf]'"
        ) from error
    return gguf


def has_biases(file: GGUFFile) -> bool:
    """Whether queries, keys and values have biases, which only the tensors tell."""
    return "blk.0.attn_q.bias" in file.shapes


def read_config(config: ConfigReader, file: GGUFFile) -> dict[str, Any]:
    """Keywords of ``GPTModel`` from metadata.

    Raises:
        ValueError: another architecture; a key of it that means what is not implemented.

    """
    config.take("general.architecture")  # which every file has
    config.expect("general.architecture", "llama")
    config.expect("llama.expert_count", 0)
    config.expect("llama.rope.scaling.type", "none", "linear")
    if "rope_freqs.weight" in file.shapes:
        raise ValueError(
            f"{file.source}: rope_freqs.weight (frequencies scaled one by one) is not implemented"
        )
    d_model, heads = config.size("llama.embedding_length"), config.size("llama.attention.head_count")
    d_head = config.size("llama.attention.key_length", d_model // heads)
    config.expect("llama.attention.value_length", d_head)
    config.expect("llama.rope.dimension_count", d_head)
    positions: dict[str, Any] = {
        "kind": "rotary",
        "theta": config.number("llama.rope.freq_base", default=1e4),
    }
    factor = config.number("llama.rope.scaling.factor", default=1.0)
    if factor != 1.0:
        positions["scaling"] = {"kind": "linear", "factor": factor}
    vocab_size = file.shapes.get("token_embd.weight", (0,))[0]
    config.expect("llama.vocab_size", vocab_size)
    keywords = {
        "vocab_size": vocab_size,
        "d_model": d_model,
        "num_layers": config.size("llama.block_count"),
        "num_heads": heads,
        "num_kv_heads": config.size("llama.attention.head_count_kv", heads),
        "d_head": d_head,
        "d_ff": config.size("llama.feed_forward_length"),
        "max_seq_len": config.size("llama.context_length"),
        "positions": positions,
        "norm": "rms",
        "norm_eps": config.number("llama.attention.layer_norm_rms_epsilon"),
        "activation": "swiglu",
        "bias": False,
        "qkv_bias": has_biases(file),
        "tie_embeddings": "output.weight" not in file.shapes,
    }
    config.finish(harmless=[key for key in config.values if not key.startswith("llama.")])
    return keywords


def table(config: Mapping[str, Any], *, biased: bool) -> Table:
    """All names, to be read; nothing is written in this layout."""
    entries = [
        same("token_embedding.weight", "token_embd.weight"),
        same("norm.weight", "output_norm.weight"),
    ]
    if not config["tie_embeddings"]:
        entries.append(same("lm_head.weight", "output.weight"))
    heads = {"q": config["num_heads"], "k": config["num_kv_heads"]}
    for ours, theirs in layers(config["num_layers"], "blocks.", "blk."):
        entries += named(ours, theirs, _LAYER)
        for kind in ("weight", "bias") if biased else ("weight",):
            entries.append(same(f"{ours}attention.v_proj.{kind}", f"{theirs}attn_v.{kind}"))
            for part, count in heads.items():
                own, other = f"{ours}attention.{part}_proj.{kind}", f"{theirs}attn_{part}.{kind}"
                entries.append(Entry((own,), (other,), partial(part_halves, heads=count)))
    return Table(entries)


_LAYER = {
    "norm1": "attn_norm",
    "attention.out_proj": "attn_output",
    "norm2": "ffn_norm",
    "feed_forward.gate_proj": "ffn_gate",
    "feed_forward.up_proj": "ffn_up",
    "feed_forward.down_proj": "ffn_down",
}


def part_halves(interleaved: Tensor, heads: int) -> tuple[Tensor]:
    """Rows of a head from the order in which GGUF turns them, 2i with 2i + 1, to ours, i with i + d / 2."""
    pairs = interleaved.view(heads, -1, 2, *interleaved.shape[1:])  # (head, pair, 2, ...)
    return (pairs.transpose(1, 2).contiguous().view(interleaved.shape),)
