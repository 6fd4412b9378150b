"""``from_pretrained`` and ``save_pretrained`` for all checkpoint formats, and the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from glassformer.choices import choose
from glassformer.files import read_json_object
from glassformer.models import TransformerModel
from glassformer.models.base import FORMAT
from glassformer.models.weights import FLOATING_TYPES
from glassformer.pretrained.adapters import CONFIG as ADAPTER_CONFIG
from glassformer.pretrained.adapters import read_adapter
from glassformer.pretrained.gguf import read_gguf, write_gguf
from glassformer.pretrained.huggingface import read_folder, write_folder
from glassformer.terminal import count_of

_CONFIG_FILES = [
    "adapter_config.json",
    "added_tokens.json",
    "additional_chat_templates/*.jinja",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
]
_SAFETENSORS_FILES = [
    "adapter_model.safetensors",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
]
_BIN_FILES = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"]


def from_pretrained(
    source: str | Path,
    *,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    ignore: Sequence[str] = (),
) -> TransformerModel:
    """Load a model and its tokenizer, ``model.tokenizer``.

    The source is a folder in the format of this library, or in the Hugging Face format of a ``model_type`` of
    ``CHECKPOINT_FORMATS``; a folder with a LoRA adapter, which is merged into its base model; a ``.gguf``
    file; or a name on the Hugging Face hub. Weights that are only renamed stay
    memory-mapped. No code of a checkpoint is ever executed.

    Args:
        source: a path, or a name such as ``"openai-community/gpt2"`` if no such path exists.
        dtype: of the parameters: float64, float32, float16 or bfloat16. Default: the type in the file;
            quantized weights become float32.
        revision: branch, tag or commit, for a name on the hub.
        ignore: unknown keys of a Hugging Face config to accept because they do not change the model.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: no such path or name, a missing file, or no network.
        OSError: a download that failed for another reason.
        ValueError: a model or a feature that is not implemented, damaged files, tensors that do not match the
            config, a tokenizer with more tokens than the model, or another dtype.
    """
    if dtype is not None and dtype not in FLOATING_TYPES.values():
        raise ValueError(
            f"dtype must be one of {', '.join(map(str, FLOATING_TYPES.values()))}, got {dtype!r}"
        )
    path = Path(source)
    if not path.exists():
        path = download(_hub_name(source), revision)
    if path.is_file():
        if path.suffix != ".gguf":
            raise ValueError(f"source must be a .gguf file or a folder with config.json, got the file {path}")
        model = read_gguf(path, dtype, ignore)
    else:
        model = _from_folder(path, dtype, ignore)
    check_tokenizer(model, path)
    return model


def save_pretrained(model: TransformerModel, folder: str | Path, format: str = "glassformer") -> None:
    """Save a model and its tokenizer; each file is written atomically.

    Args:
        model: to be saved.
        folder: created if it does not exist; of the format ``"gguf"`` the path of the file.
        format: ``"glassformer"``, ``"huggingface"`` for a folder that `transformers` loads, or ``"gguf"`` for
            a file that llama.cpp runs, with matrices in float32; see ``gguf.write_gguf`` for others.

    Raises:
        ImportError: the package ``gguf`` is not installed.
        OSError: not writable, or the disk is full; existing files are unchanged.
        ValueError: an unknown format, or a model that no format of that kind can express.
    """
    formats: dict[str, Callable[[TransformerModel, Path], None]] = {
        "glassformer": TransformerModel.save_pretrained,
        "gguf": write_gguf,
        "huggingface": write_folder,
    }
    choose(formats, format, "format")(model, Path(folder))


def check_tokenizer(model: TransformerModel, source: Path) -> None:
    """Check that the model has an embedding for every token of its tokenizer.

    Raises:
        ValueError: the tokenizer has more tokens than the model.
    """
    vocab_size = model.config.get("vocab_size")
    if model.tokenizer is not None and vocab_size is not None and model.tokenizer.vocab_size > vocab_size:
        tokens = count_of(model.tokenizer.vocab_size, "token")
        raise ValueError(
            f"{source}: the tokenizer has {tokens}, but the model has vocab_size={vocab_size}: they do not "
            "belong together"
        )


def _from_folder(folder: Path, dtype: torch.dtype | None, ignore: Sequence[str]) -> TransformerModel:
    if (folder / ADAPTER_CONFIG).exists() and not (folder / "config.json").exists():
        return _from_adapter(folder, dtype, ignore)
    values = read_json_object(folder / "config.json")
    if values.get("format") == FORMAT:
        model = TransformerModel.from_pretrained(folder)
        return model if dtype is None else model.to(dtype)
    return read_folder(folder, values, dtype, ignore)


def _from_adapter(folder: Path, dtype: torch.dtype | None, ignore: Sequence[str]) -> TransformerModel:
    """Load the base model of a LoRA adapter, with the adapter merged into it."""
    adapter = read_adapter(folder)
    base = Path(adapter.base)
    if not base.exists():
        base = download(_hub_name(adapter.base), adapter.revision)
    values = read_json_object(base / "config.json")
    if values.get("format") == FORMAT:
        raise ValueError(f"{adapter.source}: the base model {base} is not in the layout of Hugging Face")
    return read_folder(base, values, dtype, ignore, adapter)


def _hub_name(source: str | Path) -> str:
    """Return a source that may be a name on the hub.

    Raises:
        FileNotFoundError: a path that does not exist.
    """
    name = str(source)
    is_name = re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) and not name.endswith(".gguf")
    if isinstance(source, Path) or not is_name:
        raise FileNotFoundError(f"no model: {name} does not exist")
    return name


def download(name: str, revision: str | None = None) -> Path:
    """Download a model of the Hugging Face hub, unless it is in the cache, and return its folder.

    Args:
        name: such as ``"openai-community/gpt2"``.
        revision: branch, tag or commit.

    Raises:
        FileNotFoundError: the hub has no such model or cannot be reached.
        OSError: the download failed for another reason.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        patterns = [*_CONFIG_FILES, *_SAFETENSORS_FILES]
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
        if not any(folder.glob("*model*.safetensors")):
            patterns = [*_CONFIG_FILES, *_BIN_FILES]
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise FileNotFoundError(
            f"there is no folder {name!r}, and no accessible model of that name on the Hugging Face hub"
        ) from error
    except (LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        raise FileNotFoundError(
            f"there is no folder {name!r}, and the Hugging Face hub cannot be reached "
            f"({type(error).__name__}). On a machine with a network connection, 'hf download {name}' prints "
            "the folder it downloads to: copy that folder here and give its path"
        ) from error
    except Exception as error:  # a full disk, a server error, or another failure of the download
        reason = str(error).partition("\n")[0]
        raise OSError(
            f"there is no folder {name!r}, and downloading it from the Hugging Face hub failed: "
            f"{type(error).__name__}: {reason}"
        ) from error
    return folder
