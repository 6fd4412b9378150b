"""``tokenizer.json``: every tokenizer writes it, ``load_tokenizer`` reads it back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import models

from glassformer.contracts import Tokenizer
from glassformer.tokenization.bpe import BPETokenizer, is_lossless
from glassformer.tokenization.byte import ByteTokenizer
from glassformer.tokenization.character import CharacterTokenizer
from glassformer.tokenization.names import SETTINGS_FILE, TOKENIZER_FILE
from glassformer.tokenization.pretrained import PretrainedTokenizer, read_tokenizer
from glassformer.tokenization.symbols import SymbolTokenizer
from glassformer.tokenization.vocabulary_files import has_vocabulary_files, read_vocabulary_files
from glassformer.tokenization.wordpiece import WordPieceTokenizer


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer that ``save(folder)`` wrote, its ids identical, or one that a published model came with.

    Args:
        folder: the folder that holds ``tokenizer.json``, or that file itself. Besides our own kinds, the file
            may be any of the `tokenizers` library. A folder without it may hold ``vocab.txt`` (BERT), or
            ``vocab.json`` and ``merges.txt`` (GPT-2, Qwen2). ``tokenizer_config.json`` and
            ``special_tokens_map.json`` beside the file say which special token is for what.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no JSON, or describes a tokenizer that this library does not have.
    """
    path = Path(folder)
    if path.is_dir():
        path = path / TOKENIZER_FILE
    in_vocabulary_files = path.name == TOKENIZER_FILE and has_vocabulary_files(path.parent)
    if not path.is_file() and not in_vocabulary_files:
        raise FileNotFoundError(f"no tokenizer at {path}: expected the file {TOKENIZER_FILE}")
    try:
        settings = _settings(path.parent)
        if not path.is_file():
            return read_vocabulary_files(path.parent, settings)
        return _from_file(path.read_bytes(), settings)
    except ValueError as error:
        raise ValueError(f"{path} is not a tokenizer that can be read: {error}") from None


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder holds a tokenizer that ``load_tokenizer`` may read."""
    return (folder / TOKENIZER_FILE).is_file() or has_vocabulary_files(folder)


def _settings(folder: Path) -> dict[str, Any]:
    """What the files beside a tokenizer say about it."""
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", SETTINGS_FILE):
        if (folder / name).is_file():
            content = _json((folder / name).read_bytes(), f"its {name}")
            if not isinstance(content, dict):
                raise ValueError(f"its {name} is no JSON object")
            settings |= content
    return settings


def _from_file(text: bytes, settings: Mapping[str, Any]) -> Tokenizer:
    match _json(text, "it"):
        case {"kind": "byte"}:
            return ByteTokenizer()
        case {"kind": "character", "characters": str(characters)}:
            return CharacterTokenizer(characters)
        case {"kind": "symbols", "symbols": list(symbols)}:
            return SymbolTokenizer(symbols)
        case {"model": dict()}:
            return _from_library(text.decode("utf-8"), settings)
        case {"kind": kind}:
            raise ValueError(f"its kind is {kind!r}; known kinds are 'byte', 'character' and 'symbols'")
        case _:
            raise ValueError("it has neither a 'kind' nor a 'model'")


def _from_library(text: str, settings: Mapping[str, Any]) -> PretrainedTokenizer:
    """A file of the `tokenizers` library, as the class that says most about it."""
    tokenizer = read_tokenizer(text)
    if isinstance(tokenizer.model, models.WordPiece):
        return WordPieceTokenizer(tokenizer, settings)
    if is_lossless(tokenizer):
        return BPETokenizer(tokenizer, settings)
    return PretrainedTokenizer(tokenizer, settings)


def _json(text: bytes, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{what} is no valid JSON ({error})") from None
