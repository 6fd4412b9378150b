"""Loading of tokenizers from ``tokenizer.json``, ``vocab.txt``, or ``vocab.json`` and ``merges.txt``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models

from glassformer.choices import choose
from glassformer.contracts import Tokenizer
from glassformer.tokenization.base import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE
from glassformer.tokenization.bpe import BPETokenizer, is_lossless
from glassformer.tokenization.character_level import ByteTokenizer, CharacterTokenizer
from glassformer.tokenization.pre_tokenization import split_like_gpt2, split_like_qwen2
from glassformer.tokenization.pretrained import PretrainedTokenizer
from glassformer.tokenization.special_tokens import END_OF_TEXT, token_content
from glassformer.tokenization.symbols import SymbolTokenizer
from glassformer.tokenization.wordpiece import WordPieceTokenizer

VOCABULARY_FILES = ("vocab.txt", "vocab.json", "merges.txt")
"""Files that ``load_tokenizer`` reads from a folder without ``tokenizer.json``."""

_SPLITS = {
    "GPT2Tokenizer": split_like_gpt2,
    "GPTNeoXTokenizer": split_like_gpt2,
    "Qwen2Tokenizer": split_like_qwen2,
}


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Load a tokenizer that was saved with ``save(folder)``, or that came with a published model.

    Args:
        folder: a folder with ``tokenizer.json``, or that file. The file may be one of ours or any of the
            `tokenizers` library. A folder without it may have ``vocab.txt`` (BERT), or ``vocab.json`` and
            ``merges.txt`` (GPT-2, Qwen2). Special tokens are named in ``tokenizer_config.json`` and
            ``special_tokens_map.json`` beside the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is not valid JSON, or does not describe a tokenizer.
    """
    path = Path(folder)
    if path.is_dir():
        path = path / TOKENIZER_FILE
    has_vocabulary = path.name == TOKENIZER_FILE and _has_vocabulary_files(path.parent)
    if not path.is_file() and not has_vocabulary:
        raise FileNotFoundError(f"no tokenizer at {path}: expected the file {TOKENIZER_FILE}")
    try:
        settings = _read_settings(path.parent)
        if not path.is_file():
            return _read_vocabulary_files(path.parent, settings)
        return _read_tokenizer_file(path.read_bytes(), settings)
    except ValueError as error:
        raise ValueError(f"{path} is not a tokenizer that can be read: {error}") from None


def has_tokenizer(folder: Path) -> bool:
    """Return whether the folder has a file that ``load_tokenizer`` reads."""
    return (folder / TOKENIZER_FILE).is_file() or _has_vocabulary_files(folder)


def _read_settings(folder: Path) -> dict[str, Any]:
    """Merge the config files beside a tokenizer."""
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", TOKENIZER_CONFIG_FILE):
        if (folder / name).is_file():
            content = _parse_json((folder / name).read_bytes(), f"its {name}")
            if not isinstance(content, dict):
                raise ValueError(f"its {name} is not a JSON object")
            settings |= content
    return settings


def _read_tokenizer_file(text: bytes, settings: Mapping[str, Any]) -> Tokenizer:
    match _parse_json(text, "it"):
        case {"kind": "byte"}:
            return ByteTokenizer()
        case {"kind": "character", "characters": str(characters)}:
            return CharacterTokenizer(characters)
        case {"kind": "symbols", "symbols": list(symbols)}:
            return SymbolTokenizer(symbols)
        case {"model": dict()}:
            return _from_library(text.decode("utf-8"), settings)
        case {"kind": kind}:
            raise ValueError(f"its kind must be 'byte', 'character' or 'symbols', got {kind!r}")
        case _:
            raise ValueError("it has neither a 'kind' nor a 'model'")


def _from_library(text: str, settings: Mapping[str, Any]) -> PretrainedTokenizer:
    """Read a file of the `tokenizers` library, as the most specific of our classes."""
    try:
        tokenizer = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(f"the tokenizers library cannot read it ({error})") from None
    if isinstance(tokenizer.model, models.WordPiece):
        return WordPieceTokenizer(tokenizer, settings)
    if is_lossless(tokenizer):
        return BPETokenizer(tokenizer, settings)
    return PretrainedTokenizer(tokenizer, settings)


def _has_vocabulary_files(folder: Path) -> bool:
    return (folder / "vocab.txt").is_file() or (folder / "merges.txt").is_file()


def _read_vocabulary_files(folder: Path, settings: Mapping[str, Any]) -> PretrainedTokenizer:
    """Read BERT's tokenizer from ``vocab.txt``, or a byte-level BPE from ``vocab.json`` and ``merges.txt``.

    The files of a byte-level BPE do not say how it splits texts into words; the ``tokenizer_class`` of
    ``tokenizer_config.json`` does.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: a malformed file, or an unknown ``tokenizer_class``.
    """
    if (folder / "vocab.txt").is_file():
        return WordPieceTokenizer.from_vocabulary(folder / "vocab.txt", settings)
    if not (folder / "vocab.json").is_file():
        raise FileNotFoundError(f"{folder / 'merges.txt'} needs vocab.json beside it, which is missing")
    name = settings.get("tokenizer_class", "GPT2Tokenizer").removesuffix("Fast")
    split = choose(_SPLITS, name, "tokenizer_class")
    try:
        model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(f"vocab.json and merges.txt are not a byte-pair vocabulary ({error})") from None
    tokenizer = tokenizers.Tokenizer(model)
    split(tokenizer)
    tokenizer.decoder = decoders.ByteLevel()
    return _with_added_tokens(tokenizer, {"eos_token": END_OF_TEXT, **settings})


def _with_added_tokens(tokenizer: tokenizers.Tokenizer, settings: dict[str, Any]) -> PretrainedTokenizer:
    """Add the ``added_tokens_decoder`` of ``tokenizer_config.json``, in the order of their ids."""
    for number, entry in sorted(settings.get("added_tokens_decoder", {}).items(), key=lambda e: int(e[0])):
        content = token_content(entry)
        if content is None:
            raise ValueError(f"the added token {number} has no content")
        add = tokenizer.add_special_tokens if entry.get("special") else tokenizer.add_tokens
        add([content])
        if tokenizer.token_to_id(content) != int(number):
            raise ValueError(f"the added token {content!r} must have id {number}, which is not the next id")
    lossless = tokenizer.normalizer is None
    return BPETokenizer(tokenizer, settings) if lossless else PretrainedTokenizer(tokenizer, settings)


def _parse_json(text: bytes, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name} is not valid JSON ({error})") from None
