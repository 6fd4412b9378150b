"""Loading of tokenizers from ``tokenizer.json``, ``vocab.txt``, or ``vocab.json`` and ``merges.txt``."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, processors

from glassformer.choices import choose
from glassformer.contracts import Tokenizer
from glassformer.files import parse_json
from glassformer.tokenization.base import TOKENIZER_FILE, check_vocabulary, library_errors
from glassformer.tokenization.bpe import BPETokenizer, is_lossless
from glassformer.tokenization.character_level import ByteTokenizer, CharacterTokenizer
from glassformer.tokenization.chat_template import read_chat_template
from glassformer.tokenization.config_files import boolean_setting, read_settings, tokenizer_class
from glassformer.tokenization.pre_tokenization import (
    set_prefix_space,
    split_like_gpt2,
    split_like_gpt_neox,
    split_like_qwen2,
)
from glassformer.tokenization.pretrained import PretrainedTokenizer
from glassformer.tokenization.special_tokens import (
    END_OF_TEXT,
    add_tokens,
    check_added_id,
    mark_special_tokens,
    token_content,
)
from glassformer.tokenization.symbols import SymbolTokenizer
from glassformer.tokenization.wordpiece import (
    WordPieceTokenizer,
    bert_normalizer,
    normalizer_settings,
    set_template,
)

VOCABULARY_FILES = ("vocab.txt", "vocab.json", "merges.txt")
"""Files that ``load_tokenizer`` reads from a folder without ``tokenizer.json``."""

_SPLITS = {
    "GPT2Tokenizer": split_like_gpt2,
    "GPTNeoXTokenizer": split_like_gpt_neox,
    "Qwen2Tokenizer": split_like_qwen2,
}
_DEFAULT_SPECIAL_TOKENS = {
    "GPT2Tokenizer": dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT),
    "GPTNeoXTokenizer": {
        **dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT),
        "pad_token": "<|padding|>",
    },
    "Qwen2Tokenizer": dict.fromkeys(("eos_token", "unk_token", "pad_token"), END_OF_TEXT),
}
_BERT_CLASSES = {name: name for name in ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")}
_BYTE_LEVEL_CLASSES = (*_SPLITS, "RobertaTokenizer")


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Load a tokenizer that was saved with ``save(folder)``, or that came with a published model.

    Args:
        folder: a folder with ``tokenizer.json``, or that file. The file may be one of ours or any of the
            `tokenizers` library. A folder without it may have ``vocab.txt`` (BERT), or ``vocab.json`` and
            ``merges.txt`` (GPT-2, GPT-NeoX, Qwen2). ``tokenizer_config.json``, ``special_tokens_map.json``
            and ``added_tokens.json`` beside the file name the special and the added tokens. As in
            `transformers`, ``do_lower_case``, ``strip_accents`` and ``tokenize_chinese_chars`` of a BERT
            tokenizer and ``add_prefix_space`` of a byte-level one also override ``tokenizer.json``;
            ``add_bos_token`` and ``add_eos_token`` apply to ``merges.txt`` only.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is not valid JSON, or does not describe a tokenizer.
    """
    path = Path(folder)
    if path.is_dir():
        path = path / TOKENIZER_FILE
    if path.name == TOKENIZER_FILE and not path.is_file():
        path = _vocabulary_file(path.parent) or path
    if not path.is_file():
        raise FileNotFoundError(f"no tokenizer at {path}: expected the file {TOKENIZER_FILE}")
    try:
        with library_errors("read it"):
            settings = read_settings(path.parent) | read_chat_template(path.parent)
            name = tokenizer_class(path.parent, settings)
            match path.name:
                case "vocab.txt":
                    choose(_BERT_CLASSES, name or "BertTokenizer", "tokenizer_class")
                    return WordPieceTokenizer.from_vocabulary(path, settings)
                case "merges.txt":
                    return _read_merges(path, settings, name or "GPT2Tokenizer")
                case _:
                    return _read_tokenizer_file(path.read_bytes(), settings, name)
    except ValueError as error:
        raise ValueError(f"{path} is not a tokenizer that can be read: {error}") from None


def has_tokenizer(folder: Path) -> bool:
    """Return whether the folder has a file that ``load_tokenizer`` reads."""
    return (folder / TOKENIZER_FILE).is_file() or _vocabulary_file(folder) is not None


def _read_tokenizer_file(text: bytes, settings: Mapping[str, Any], name: str | None) -> Tokenizer:
    match parse_json(text, "it"):
        case {"kind": "byte"}:
            return ByteTokenizer()
        case {"kind": "character", "characters": str(characters)}:
            return CharacterTokenizer(characters)
        case {"kind": "symbols", "symbols": list(symbols)}:
            return SymbolTokenizer(symbols)
        case {"model": dict()} as description:
            return _from_library(text.decode("utf-8"), description, settings, name)
        case {"kind": kind}:
            raise ValueError(f"its kind must be 'byte', 'character' or 'symbols', got {kind!r}")
        case _:
            raise ValueError("it has neither a 'kind' nor a 'model'")


def _from_library(
    text: str, description: Mapping[str, Any], settings: Mapping[str, Any], name: str | None
) -> PretrainedTokenizer:
    """Read a file of the `tokenizers` library, as the most specific of our classes.

    Args:
        text: the file.
        description: its content.
        settings: content of the config files beside it.
        name: the class that `transformers` would use, which decides what the settings override.
    """
    vocabulary = description["model"].get("vocab")
    if isinstance(vocabulary, dict):
        check_vocabulary(vocabulary)
    for charsmap in _precompiled_charsmaps(description.get("normalizer")):
        _check_charsmap(charsmap)
    tokenizer = tokenizers.Tokenizer.from_str(text)
    for token in description.get("added_tokens") or ():
        check_added_id(tokenizer, token["content"], token["id"])
    add_tokens(tokenizer, settings)
    if name in (None, *_BERT_CLASSES) and isinstance(tokenizer.normalizer, normalizers.BertNormalizer):
        defaults = {} if name else normalizer_settings(tokenizer.normalizer)
        tokenizer.normalizer = bert_normalizer({**defaults, **settings})
    if name in _BYTE_LEVEL_CLASSES or (name is None and settings.get("add_prefix_space") is not None):
        set_prefix_space(tokenizer, _adds_prefix_space(settings))
    if isinstance(tokenizer.model, models.WordPiece):
        if name in _BERT_CLASSES:
            set_template(tokenizer, settings)
        return WordPieceTokenizer(tokenizer, settings)
    return _as_byte_level(tokenizer, settings)


def _vocabulary_file(folder: Path) -> Path | None:
    """Return the file that a folder without ``tokenizer.json`` is read from."""
    return next((folder / name for name in ("vocab.txt", "merges.txt") if (folder / name).is_file()), None)


def _read_merges(path: Path, settings: dict[str, Any], name: str) -> PretrainedTokenizer:
    """Read a byte-level BPE from ``merges.txt`` and the ``vocab.json`` beside it.

    Args:
        path: of ``merges.txt``.
        settings: content of the config files beside it.
        name: the ``tokenizer_class``, which decides how texts are split into words: the files do not say.

    Raises:
        FileNotFoundError: there is no ``vocab.json``.
        ValueError: a malformed file, or an unknown ``tokenizer_class``.
    """
    vocabulary_path = path.with_name("vocab.json")
    if not vocabulary_path.is_file():
        raise FileNotFoundError(f"{path} needs vocab.json beside it, which is missing")
    split = choose(_SPLITS, name, "tokenizer_class")
    vocabulary = parse_json(vocabulary_path.read_bytes(), "its vocab.json")
    if not isinstance(vocabulary, dict):
        raise ValueError("its vocab.json is not a byte-pair vocabulary: it is not a JSON object")
    check_vocabulary(vocabulary)
    model = models.BPE.from_file(str(vocabulary_path), str(path))
    tokenizer = tokenizers.Tokenizer(model)
    split(tokenizer)
    set_prefix_space(tokenizer, _adds_prefix_space(settings))
    tokenizer.decoder = decoders.ByteLevel()
    add_tokens(tokenizer, settings)
    defaults = _DEFAULT_SPECIAL_TOKENS[name]
    mark_special_tokens(tokenizer, defaults | settings)
    _add_template(tokenizer, defaults | settings)
    added = {key: defaults[key] for key in {"pad_token"} & defaults.keys() - settings.keys()}
    return _as_byte_level(tokenizer, {"eos_token": END_OF_TEXT, **added, **settings})


def _as_byte_level(tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> PretrainedTokenizer:
    return (
        BPETokenizer(tokenizer, settings)
        if is_lossless(tokenizer)
        else PretrainedTokenizer(tokenizer, settings)
    )


def _adds_prefix_space(settings: Mapping[str, Any]) -> bool:
    return settings.get("add_prefix_space") is not None and boolean_setting(settings, "add_prefix_space")


def _add_template(tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
    """Put the tokens that ``add_bos_token`` and ``add_eos_token`` ask for around each text."""
    before, after = (
        [name] if boolean_setting(settings, f"add_{role}_token") and name else []
        for role in ("bos", "eos")
        for name in [token_content(settings.get(f"{role}_token"))]
    )
    for name in (*before, *after):
        if tokenizer.token_to_id(name) is None:
            raise ValueError(f"the token {name!r} to be added to each text is not in the vocabulary")
    if before or after:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *after],
            pair=[*before, "$A", *after, *before, "$B", *after],
            special_tokens=[(name, tokenizer.token_to_id(name)) for name in {*before, *after}],
        )


def _precompiled_charsmaps(normalizer: Any) -> Iterator[str]:
    """Yield the tables of SentencePiece in a normalizer, which may be a sequence of normalizers."""
    if not isinstance(normalizer, dict):
        return
    if isinstance(normalizer.get("precompiled_charsmap"), str):
        yield normalizer["precompiled_charsmap"]
    parts = normalizer.get("normalizers")
    for part in parts if isinstance(parts, list) else ():
        yield from _precompiled_charsmaps(part)


def _check_charsmap(charsmap: str) -> None:
    """Raise ValueError if a table is shorter than its first four bytes say.

    The library allocates what they say, and the process ends if there is not enough memory.
    """
    table = base64.b64decode(charsmap, validate=True)
    size = int.from_bytes(table[:4], "little")
    if not 0 < size <= len(table) - 4:
        raise ValueError(f"its precompiled_charsmap has {len(table)} bytes, but claims a trie of {size}")
