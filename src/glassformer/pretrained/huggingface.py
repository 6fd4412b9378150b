"""A folder as Hugging Face's `transformers` lays it out: read, and written."""

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
from glassformer.pretrained.bert import BERT
from glassformer.pretrained.building import build, common_dtype
from glassformer.pretrained.configs import ConfigReader
from glassformer.pretrained.conversion import convert_back
from glassformer.pretrained.gpt2 import GPT2
from glassformer.pretrained.gpt_neox import GPT_NEOX
from glassformer.pretrained.layouts import Layout
from glassformer.pretrained.llama import LLAMA, MISTRAL, QWEN2
from glassformer.pretrained.pixels import read_pixels, write_pixels
from glassformer.pretrained.t5 import T5
from glassformer.pretrained.tensor_files import open_tensors
from glassformer.pretrained.vit import VIT
from glassformer.tokenization import TOKENIZER_FILE, has_tokenizer, load_tokenizer

LAYOUTS: dict[str, Layout] = {
    "bert": BERT,
    "gpt2": GPT2,
    "gpt_neox": GPT_NEOX,
    "llama": LLAMA,
    "mistral": MISTRAL,
    "qwen2": QWEN2,
    "t5": T5,
    "vit": VIT,
}
"""Layouts by ``model_type``."""


def read_folder(
    folder: Path, values: Mapping[str, Any], dtype: torch.dtype | None, ignore: Sequence[str]
) -> TransformerModel:
    """The model in a folder, with its tokenizer.

    Args:
        folder: holds ``config.json`` and the weights.
        values: the content of ``config.json``.
        dtype: of the parameters; None is that of the file.
        ignore: keys of the config that change nothing.

    Raises:
        FileNotFoundError: no weights.
        ValueError: a model, or a feature of one, that is not implemented; damaged files; tensors that do not
            fit.

    """
    source = str(folder / "config.json")
    if "model_type" not in values:
        raise ValueError(f"{source} has neither the format of glassformer nor a model_type")
    try:
        layout = choose(LAYOUTS, str(values["model_type"]), "model_type")
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    tensors = open_tensors(folder)
    config = ConfigReader(values, source, ignore)
    keywords = layout.read_config(config, tensors)
    config.finish(layout.harmless)
    if "pixel_mean" in layout.family.keywords():
        keywords |= read_pixels(folder, keywords["image_size"])
    if dtype is None:
        dtype = common_dtype(tensors, values.get("dtype", values.get("torch_dtype")))
    model = build(layout.family, keywords, source, layout.table, tensors, dtype)
    if "vocab_size" in model.config:
        _attach_tokenizer(model, folder)
    return model


def _attach_tokenizer(model: TransformerModel, folder: Path) -> None:
    """Give a model of texts its tokenizer, if the folder has one that can be read."""
    if has_tokenizer(folder):
        model.tokenizer = load_tokenizer(folder)
        return
    for name in ("tokenizer.model", "spiece.model"):
        if (folder / name).exists():
            warnings.warn(
                f"{folder}: read without its tokenizer: {name} alone cannot be read; "
                f"AutoTokenizer.from_pretrained(folder).save_pretrained(folder) of transformers writes "
                f"the {TOKENIZER_FILE} that can",
                stacklevel=4,
            )


def write_folder(model: TransformerModel, folder: Path) -> None:
    """Write what `transformers` loads: ``config.json``, ``model.safetensors``, and the tokenizer.

    Raises:
        OSError: not writable, or the disk is full; files that were there stay as they were.
        ValueError: no layout can express the model.

    """
    name, config = config_of(model)
    tensors = convert_back(LAYOUTS[name].table(model.config), model.own_state())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_path(folder / "model.safetensors") as path:
            save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(f"cannot write {folder / 'model.safetensors'}: {error}") from error
    save_tokenizer(model.tokenizer, folder)
    if "pixel_mean" in model.config:
        write_pixels(folder, model.config)
    atomic_write(folder / "config.json", json.dumps(config, indent=2) + "\n")


def config_of(model: TransformerModel) -> tuple[str, dict[str, Any]]:
    """The first layout that can express the model, and its config.

    Raises:
        ValueError: none can; says for each why.

    """
    if any(heads for layers in (model.config["pruned_heads"] or {}).values() for heads in layers):
        raise ValueError(
            "the layouts of Hugging Face hold the same number of heads in each layer, so that they cannot "
            'express a model with pruned heads: save it with format="glassformer"'
        )
    refused = []
    for name, layout in LAYOUTS.items():
        if not isinstance(model, layout.family):
            continue
        try:
            config = layout.write_config(model.config)
        except ValueError as error:
            refused.append(f"{name}: {error}")
            continue
        return name, {"model_type": name, **_beside(model), **config}
    raise ValueError(f"no layout of Hugging Face can express this model ({'; '.join(refused)})")


def _beside(model: TransformerModel) -> dict[str, Any]:
    """What a config says of labels, special tokens and numbers."""
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    beside: dict[str, Any] = {"torch_dtype": dtype}
    if "classification" in model.config.get("head", ""):
        labels: list[str] = model.labels  # type: ignore[assignment]
        beside["id2label"] = {str(number): label for number, label in enumerate(labels)}
        beside["label2id"] = {label: number for number, label in enumerate(labels)}
    if "vocab_size" in model.config:
        tokenizer = model.tokenizer
        beside["bos_token_id"] = None
        beside["eos_token_id"] = None if tokenizer is None else tokenizer.end_of_text
        beside["pad_token_id"] = None if tokenizer is None else tokenizer.pad_token
    return beside
