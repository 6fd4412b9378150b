"""Writing GGUF files, which llama.cpp runs, through the package ``gguf``.

An architecture is chosen that can express the model; its tensor names are those with which files are read.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from glassformer.files import atomic_path
from glassformer.models import GPTModel, TransformerModel
from glassformer.pretrained.checkpoint_format import CheckpointFormat, check_expressible
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.gguf.architectures import ARCHITECTURES
from glassformer.pretrained.gguf.file import import_gguf
from glassformer.pretrained.gguf.tensors import weight_table
from glassformer.pretrained.gguf.tokenizer_writing import tokenizer_metadata
from glassformer.pretrained.weight_table import TensorReader, revert_weights

MATRICES = ("F32", "F16", "BF16", "Q8_0", "Q4_0")
"""Types of the matrices of a file; norms and biases are always F32."""


def write_gguf(model: TransformerModel, path: str | Path, matrices: str = "F32") -> None:
    """Write a model as a GGUF file, atomically.

    Args:
        model: a decoder.
        path: of the file.
        matrices: their type, one of ``MATRICES``; rows whose length the type does not divide are F16.

    Raises:
        ImportError: the package ``gguf`` is not installed.
        OSError: not writable, or the disk is full.
        ValueError: an unknown type, or a model that no architecture can express.
    """
    gguf = import_gguf()
    if matrices not in MATRICES:
        raise ValueError(f"matrices must be one of {', '.join(MATRICES)}, got {matrices!r}")
    check_expressible(model, "a .gguf file")
    name, metadata = choose_architecture(model)
    texts: dict[str, Any] = {} if model.name is None else {"general.name": model.name}
    if model.tokenizer is not None:
        texts |= tokenizer_metadata(model.tokenizer, model.config["vocab_size"])
    tensors = revert_weights(weight_table(model.config, architecture=name), model.untied_state_dict())
    with atomic_path(path) as temporary:
        writer = gguf.GGUFWriter(temporary, name)
        for key, value in {**{f"{name}.{key}": value for key, value in metadata.items()}, **texts}.items():
            _add(writer, key, value)
        for tensor_name, tensor in tensors.items():
            _add_tensor(gguf, writer, tensor_name, tensor.float().numpy(), matrices)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _add(writer: Any, key: str, value: Any) -> None:
    """Add a value with the type in which llama.cpp reads it."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    else:
        writer.add_string(key, value)


def _add_tensor(gguf: Any, writer: Any, name: str, values: np.ndarray[Any, Any], matrices: str) -> None:
    values = np.ascontiguousarray(values)
    if values.ndim == 1 or matrices == "F32" or name.startswith("position_embd"):
        writer.add_tensor(name, values)
        return
    kind = gguf.GGMLQuantizationType[matrices]
    if values.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
        kind = gguf.GGMLQuantizationType.F16
    writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


def choose_architecture(model: TransformerModel) -> tuple[str, dict[str, Any]]:
    """Return the architecture of GGUF files that can express a model, and its metadata.

    Raises:
        ValueError: none can; gives the reason for each.
    """
    if not isinstance(model, GPTModel):
        raise ValueError(f"a {type(model).__name__} cannot be written as a .gguf file, only a GPTModel")
    problems = []
    for name, architecture in ARCHITECTURES.items():
        table = partial(weight_table, architecture=name)
        form = CheckpointFormat(GPTModel, _read_nothing, architecture.write, table)
        try:
            return name, form.config_of(model)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    raise ValueError(f"no architecture of GGUF files can express this model ({'; '.join(problems)})")


def _read_nothing(config: ConfigReader, tensors: TensorReader) -> dict[str, Any]:
    raise NotImplementedError("files are read by read_gguf")
