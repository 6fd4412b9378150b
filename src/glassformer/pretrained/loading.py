"""``from_pretrained`` and ``save_pretrained``: any checkpoint in, and out in a layout of choice."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from glassformer.choices import choose
from glassformer.models import TransformerModel
from glassformer.models.base import FORMAT
from glassformer.pretrained.configs import read_config
from glassformer.pretrained.gguf_files import read_gguf
from glassformer.pretrained.hub import download
from glassformer.pretrained.huggingface import read_folder, write_folder


def from_pretrained(
    source: str | Path,
    *,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    ignore: Sequence[str] = (),
) -> TransformerModel:
    """A published model, or one of our own, ready to be used; its tokenizer is ``model.tokenizer``.

    A folder in our own format, or in Hugging Face's layout of ``bert``, ``gpt2``, ``gpt_neox``, ``llama``,
    ``mistral``, ``qwen2``, ``t5`` or ``vit``; a ``.gguf`` file of the llama architecture; or a name on the
    Hugging Face hub. Weights that are only renamed stay mapped from their file. Nothing is ever executed.

    Args:
        source: a path, or a name like ``"openai-community/gpt2"`` where no such path exists.
        dtype: of the parameters. Default: that of the file; quantised weights become float32.
        revision: branch, tag or commit, for a name on the hub.
        ignore: keys of a Hugging Face config that are refused because they are not known, and that you know
            to change nothing.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: no such path or name, a missing file, or no network.
        OSError: a download that failed for another reason.
        ValueError: a kind of model, or a feature of one, that is not implemented, damaged files, tensors that
            are missing, extra or misshapen, or a tokenizer with more tokens than the model.

    """
    path = Path(source)
    if not path.exists():
        path = download(_hub_name(source), revision)
    if path.is_file():
        if path.suffix != ".gguf":
            raise ValueError(f"{path} is a file, but no .gguf: give the folder that holds config.json")
        model = read_gguf(path, dtype, ignore)
    else:
        model = _from_folder(path, dtype, ignore)
    check_tokenizer(model, path)
    return model


def save_pretrained(model: TransformerModel, folder: str | Path, format: str = "glassformer") -> None:
    """Write a model, with its tokenizer, each file whole or not at all.

    Args:
        model: to be saved.
        folder: created where it does not exist.
        format: ``"glassformer"``, or ``"huggingface"`` for what `transformers` loads.

    Raises:
        OSError: not writable, or the disk is full; files that were there stay as they were.
        ValueError: an unknown format, or a model that the layouts of Hugging Face cannot express.

    """
    formats: dict[str, Callable[[TransformerModel, Path], None]] = {
        "glassformer": TransformerModel.save_pretrained,
        "huggingface": write_folder,
    }
    choose(formats, format, "format")(model, Path(folder))


def check_tokenizer(model: TransformerModel, source: Path) -> None:
    """Refuse a tokenizer that has ids which the model does not know; the model may have more.

    Raises:
        ValueError: with both sizes.

    """
    known = model.config.get("vocab_size")
    if model.tokenizer is not None and known is not None and model.tokenizer.vocab_size > known:
        raise ValueError(
            f"{source}: the tokenizer has {model.tokenizer.vocab_size} tokens, the model only {known}: "
            "they do not belong together"
        )


def _from_folder(folder: Path, dtype: torch.dtype | None, ignore: Sequence[str]) -> TransformerModel:
    values = read_config(folder / "config.json")
    if values.get("format") == FORMAT:
        model = TransformerModel.from_pretrained(folder)
        return model if dtype is None else model.to(dtype)
    return read_folder(folder, values, dtype, ignore)


def _hub_name(source: str | Path) -> str:
    """A name on the hub, unless it looks like a path.

    Raises:
        FileNotFoundError: a path that does not exist.

    """
    name = str(source)
    if (
        isinstance(source, Path)
        or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name)
        or name.endswith(".gguf")
    ):
        raise FileNotFoundError(f"no model: {name} does not exist")
    return name
