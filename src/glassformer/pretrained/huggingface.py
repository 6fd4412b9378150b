"""Folders in the layout of Hugging Face's `transformers`: reading and writing."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from glassformer.choices import choose
from glassformer.files import atomic_path, atomic_write
from glassformer.models import TransformerModel
from glassformer.models.base import save_tokenizer
from glassformer.models.generation_config import (
    read_generation_config,
    select_token_ids,
    write_generation_config,
)
from glassformer.pretrained.adapters import AdaptedTensors, Adapter
from glassformer.pretrained.checkpoint_format import (
    CheckpointFormat,
    build_model,
    check_expressible,
    common_dtype,
)
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.formats import CHECKPOINT_FORMATS, NOT_IMPLEMENTED
from glassformer.pretrained.image_processor import read_image_processor, write_image_processor
from glassformer.pretrained.tensor_files import open_tensors
from glassformer.pretrained.weight_table import TensorReader, revert_weights
from glassformer.tokenization import TOKENIZER_FILE, PretrainedTokenizer, has_tokenizer, load_tokenizer


def read_folder(
    folder: Path,
    values: Mapping[str, Any],
    dtype: torch.dtype | None,
    ignore: Sequence[str],
    adapter: Adapter | None = None,
) -> TransformerModel:
    """Load the model in a folder, with its tokenizer.

    Args:
        folder: holds ``config.json`` and the weights.
        values: content of ``config.json``.
        dtype: of the parameters; None is the type in the file.
        ignore: unknown keys of the config that are accepted.
        adapter: merged into the weights.

    Raises:
        FileNotFoundError: no weights.
        ValueError: a model or a feature that is not implemented, damaged files, or tensors that do not match.
    """
    source = str(folder / "config.json")
    if "model_type" not in values:
        raise ValueError(f"{source} has neither the format of glassformer nor a model_type")
    checkpoint_format = _format_of(values, source)
    if "auto_map" in values:
        warnings.warn(
            f"{source}: names code of its own (auto_map), which is not run: the model is read as "
            f"{values['model_type']!r}",
            stacklevel=4,
        )
    tensors: TensorReader = open_tensors(folder)
    if adapter is not None:
        tensors = AdaptedTensors(tensors, adapter)
    config = ConfigReader(values, source, ignore, max_layers=len(tensors.shapes))
    keywords = checkpoint_format.read_config(config, tensors)
    config.check_unused_keys(checkpoint_format.ignored_keys)
    model_class = checkpoint_format.model_class
    if "pixel_mean" in model_class.keywords():
        keywords |= read_image_processor(folder, keywords["image_size"])
    if dtype is None:
        dtype = common_dtype(tensors, values.get("dtype", values.get("torch_dtype")))
    model = build_model(model_class, keywords, source, checkpoint_format.weight_table, tensors, dtype)
    model.model_type = str(values["model_type"])
    if "vocab_size" in model.config:
        _load_tokenizer(model, folder)
        model.token_ids = select_token_ids(values, source)
        model.generation_config = read_generation_config(folder)
    return model


def _format_of(values: Mapping[str, Any], source: str) -> CheckpointFormat:
    """Return the format of a config; raise ValueError if it or the quantization is not implemented."""
    name = str(values["model_type"])
    if name in NOT_IMPLEMENTED:
        raise ValueError(
            f"{source}: model_type {name!r} is not implemented: it needs {NOT_IMPLEMENTED[name]}"
        )
    try:
        checkpoint_format = choose(CHECKPOINT_FORMATS, name, "model_type")
    except ValueError as error:
        own = "; the code that it names (auto_map) is never run" if "auto_map" in values else ""
        raise ValueError(f"{source}: {error}{own}") from None
    quantization = values.get("quantization_config")
    if quantization is not None:
        method = quantization.get("quant_method") if isinstance(quantization, Mapping) else quantization
        raise ValueError(
            f"{source}: the weights are quantized by {method!r:.100}, which is not implemented: take the "
            "checkpoint that was quantized, or a .gguf file of it"
        )
    return checkpoint_format


def _load_tokenizer(model: TransformerModel, folder: Path) -> None:
    """Load the tokenizer of a folder; warn if it is in a format that is not implemented."""
    if has_tokenizer(folder):
        model.tokenizer = load_tokenizer(folder)
        return
    for name in ("tokenizer.model", "spiece.model"):
        if (folder / name).exists():
            warnings.warn(
                f"{folder}: loaded without its tokenizer, because {name} alone is not implemented; "
                f"AutoTokenizer.from_pretrained(folder).save_pretrained(folder) of transformers writes "
                f"the {TOKENIZER_FILE} that is",
                stacklevel=4,
            )


def write_folder(model: TransformerModel, folder: Path) -> None:
    """Write what `transformers` loads: ``config.json``, ``model.safetensors`` and the tokenizer.

    The ids of special tokens are those that came with the model, else those of its tokenizer.

    Raises:
        OSError: not writable, or the disk is full; existing files are unchanged.
        ValueError: no checkpoint format can express the model.
    """
    name, config = choose_format(model)
    tensors = revert_weights(CHECKPOINT_FORMATS[name].weight_table(model.config), model.untied_state_dict())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_path(folder / "model.safetensors") as path:
            save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(f"cannot write {folder / 'model.safetensors'}: {error}") from error
    save_tokenizer(model.tokenizer, folder)
    if isinstance(model.tokenizer, PretrainedTokenizer):
        model.tokenizer.save_for_transformers(folder)
    write_generation_config(model.generation_config, folder)
    if "pixel_mean" in model.config:
        write_image_processor(folder, model.config)
    atomic_write(folder / "config.json", json.dumps(config, indent=2) + "\n")


def choose_format(model: TransformerModel) -> tuple[str, dict[str, Any]]:
    """Return a checkpoint format that can express the model, and its config.

    It is the one from which the model was loaded, or else the first one.

    Raises:
        ValueError: no format can; gives the reason for each.
    """
    check_expressible(model, "a Hugging Face format")
    problems = []
    own = {name: form for name, form in CHECKPOINT_FORMATS.items() if name == model.model_type}
    for name, checkpoint_format in {**own, **CHECKPOINT_FORMATS}.items():
        if not isinstance(model, checkpoint_format.model_class):
            continue
        try:
            config = checkpoint_format.config_of(model)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        return name, {"model_type": name, **_shared_config(model), **config, **model.token_ids}
    raise ValueError(f"no Hugging Face format can express this model ({'; '.join(problems)})")


def _shared_config(model: TransformerModel) -> dict[str, Any]:
    """Return the keys that all formats share: type, labels and special tokens."""
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    config: dict[str, Any] = {"torch_dtype": dtype}
    if model.task in ("classification", "token_classification"):
        labels: list[str] = model.labels  # type: ignore[assignment]
        config["id2label"] = {str(i): label for i, label in enumerate(labels)}
        config["label2id"] = {label: i for i, label in enumerate(labels)}
    if "vocab_size" in model.config:
        tokenizer = model.tokenizer
        config["bos_token_id"] = getattr(tokenizer, "begin_of_text", None)
        config["eos_token_id"] = None if tokenizer is None else tokenizer.end_of_text
        config["pad_token_id"] = None if tokenizer is None else tokenizer.pad_token
    return config
