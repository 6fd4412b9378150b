"""Models of the Hugging Face hub, through huggingface_hub: its progress bar, its cache."""

from __future__ import annotations

from pathlib import Path

_SMALL = [
    "config.json",
    "merges.txt",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
]
_SAFETENSORS = ["model.safetensors", "model.safetensors.index.json", "model-*.safetensors"]
_BIN = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"]


def download(name: str, revision: str | None = None) -> Path:
    """The folder in the cache that holds a model of the hub; downloads what is not there yet.

    Args:
        name: like ``"openai-community/gpt2"``.
        revision: branch, tag or commit.

    Raises:
        FileNotFoundError: no such folder, and the hub has no such model or cannot be reached.
        OSError: the download failed for another reason, which is said.

    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*_SMALL, *_SAFETENSORS]))
        if not any(folder.glob("model*.safetensors")):
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*_SMALL, *_BIN]))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise FileNotFoundError(
            f"there is no folder {name!r}, and on the hub no model of that name that you may read"
        ) from error
    except (LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        raise FileNotFoundError(
            f"there is no folder {name!r}, and it could not be fetched from the Hugging Face hub "
            f"({type(error).__name__}: is there a network?). On a machine with one, 'hf download {name}' "
            "prints the folder that it fills: copy it here and give its path"
        ) from error
    except Exception as error:  # a full disk, an answer of the server, whatever else a download may meet
        reason = str(error).partition("\n")[0]
        raise OSError(
            f"there is no folder {name!r}, and fetching it from the Hugging Face hub failed: "
            f"{type(error).__name__}: {reason}"
        ) from error
    return folder
