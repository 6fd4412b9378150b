"""Config files beside a tokenizer: ``tokenizer_config.json``, and the older files that it replaces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassformer.files import parse_json
from glassformer.tokenization.base import TOKENIZER_CONFIG_FILE
from glassformer.tokenization.special_tokens import special_token_entries, token_content

SPECIAL_TOKENS_FILE = "special_tokens_map.json"
ADDED_TOKENS_FILE = "added_tokens.json"
OLD_CONFIG_FILES = (SPECIAL_TOKENS_FILE, ADDED_TOKENS_FILE)
"""Files that are read only if ``tokenizer_config.json`` has no ``added_tokens_decoder``."""

CLASS_OF_TOKENIZER_FILE = "PreTrainedTokenizerFast"
"""The ``tokenizer_class`` whose ``tokenizer.json`` no setting overrides."""

_CLASS_OF_MODEL_TYPE = {
    "bert": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "gpt2": "GPT2Tokenizer",
    "gpt_neox": "GPTNeoXTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "roberta": "RobertaTokenizer",
}


def read_settings(folder: Path) -> dict[str, Any]:
    """Merge the config files beside a tokenizer, with the precedence of `transformers`.

    Returns:
        The content of ``tokenizer_config.json``. If it has no ``added_tokens_decoder``, then
        ``special_tokens_map.json`` overrides it, and the tokens of ``added_tokens.json`` become its
        ``added_tokens_decoder``.

    Raises:
        ValueError: a file is not a JSON object, or two added tokens have the same id.
    """
    settings = _read_object(folder / TOKENIZER_CONFIG_FILE)
    special_tokens = _read_object(folder / SPECIAL_TOKENS_FILE)
    if "added_tokens_decoder" in settings:
        return {key: settings[key] for key in (*special_tokens, *settings) if key in settings}
    settings = special_tokens | settings | special_tokens  # the order is that of saved files
    added = _read_object(folder / ADDED_TOKENS_FILE)
    if added:
        special = [token_content(entry) for entry in special_token_entries(settings)]
        settings["added_tokens_decoder"] = {
            str(token_id): {"content": content, "special": content in special}
            for content, token_id in added.items()
        }
        if len(settings["added_tokens_decoder"]) < len(added):
            raise ValueError(f"its {ADDED_TOKENS_FILE} gives the same id to two tokens")
    return settings


def tokenizer_class(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """Return the class that `transformers` would use, without ``Fast``; None if the files do not say.

    It is named in ``tokenizer_config.json`` or ``config.json``, or follows from the ``model_type`` of the
    latter.

    Raises:
        ValueError: ``config.json`` is not a JSON object, or the class is not a string.
    """
    name = settings.get("tokenizer_class")
    if name is None:
        config = _read_object(folder / "config.json")
        name = config.get("tokenizer_class")
        if name is None and "model_type" in config:
            name = _CLASS_OF_MODEL_TYPE.get(str(config["model_type"]), CLASS_OF_TOKENIZER_FILE)
    if name is not None and not isinstance(name, str):
        raise ValueError(f"its tokenizer_class must be a string, got {name!r}")
    return name and name.removesuffix("Fast")


def boolean_setting(settings: Mapping[str, Any], key: str, default: bool = False) -> bool:
    """Return a setting that is true or false.

    Raises:
        ValueError: it is something else.
    """
    value = settings.get(key, default)
    if not isinstance(value, bool):
        raise ValueError(f"its {key} must be true or false, got {value!r}")
    return value


def with_types(value: Any) -> Any:
    """Mark the tokens in a setting as `transformers` expects them in ``tokenizer_config.json``."""
    if isinstance(value, list):
        return [with_types(each) for each in value]
    return {"__type": "AddedToken", **value} if isinstance(value, dict) and "content" in value else value


def _read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one if there is no such file."""
    if not path.is_file():
        return {}
    content = parse_json(path.read_bytes(), f"its {path.name}")
    if not isinstance(content, dict):
        raise ValueError(f"its {path.name} is not a JSON object")
    return content
