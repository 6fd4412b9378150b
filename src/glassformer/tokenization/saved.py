"""``tokenizer.json``: every tokenizer writes it, ``load_tokenizer`` reads it back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from glassformer.contracts import Tokenizer
from glassformer.tokenization.bpe import BPETokenizer
from glassformer.tokenization.byte import ByteTokenizer
from glassformer.tokenization.character import CharacterTokenizer
from glassformer.tokenization.names import TOKENIZER_FILE


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer that ``save(folder)`` wrote; its ids are identical.

    Args:
        folder: the folder that holds ``tokenizer.json``, or that file itself. Besides our own kinds, the file
            may be one of the `tokenizers` library with a byte-level BPE model.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no JSON, or describes a tokenizer that this library does not have.
    """
    path = Path(folder)
    if path.is_dir():
        path = path / TOKENIZER_FILE
    if not path.is_file():
        raise FileNotFoundError(f"no tokenizer at {path}: expected the file {TOKENIZER_FILE}")
    text = path.read_bytes()
    try:
        description: Any = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not a tokenizer: it is no valid JSON ({error})") from None
    try:
        return _from_description(description, text)
    except ValueError as error:
        raise ValueError(f"{path} is not a tokenizer that can be read: {error}") from None


def _from_description(description: Any, text: bytes) -> Tokenizer:
    match description:
        case {"kind": "byte"}:
            return ByteTokenizer()
        case {"kind": "character", "characters": str(characters)}:
            return CharacterTokenizer(characters)
        case {"model": dict()}:
            return BPETokenizer.from_json(text.decode("utf-8"))
        case {"kind": kind}:
            raise ValueError(f"its kind is {kind!r}; known kinds are 'byte' and 'character'")
        case _:
            raise ValueError("it has neither a 'kind' nor a 'model'")
