"""Loading of tokenizers from ``tokenizer.json`` and vocabulary files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import normalizers

from glassformer.tokenization import (
    TOKENIZER_FILE,
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    PretrainedTokenizer,
    SymbolTokenizer,
    load_tokenizer,
)


def test_the_path_may_be_the_file_itself(tmp_path: Path) -> None:
    ByteTokenizer().save(tmp_path)
    assert isinstance(load_tokenizer(tmp_path / TOKENIZER_FILE), ByteTokenizer)


def test_a_missing_file_raises_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no tokenizer at .*tokenizer\.json"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"kind": "by', "not valid JSON"),
        ("\udce9", "not valid JSON"),
        ('{"kind": "word"}', "kind must be 'byte', 'character' or 'symbols', got 'word'"),
        ('{"kind": "symbols", "symbols": [1]}', "a symbol must be a nonempty string .* got 1"),
        ('{"kind": "character", "characters": ""}', "at least one character"),
        ("[1]", "neither a 'kind' nor a 'model'"),
        ('{"model": {}}', "tokenizers library cannot read it"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_an_invalid_file_raises_with_its_path(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / TOKENIZER_FILE
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=rf"{path}.*{problem}"):
        load_tokenizer(tmp_path)


def test_files_of_earlier_versions_load(tmp_path: Path) -> None:
    path = tmp_path / TOKENIZER_FILE
    path.write_text('{"kind": "byte"}')
    assert isinstance(load_tokenizer(tmp_path), ByteTokenizer)
    path.write_text('{"kind": "character", "characters": "ab"}')
    characters = load_tokenizer(tmp_path)
    assert isinstance(characters, CharacterTokenizer)
    assert characters.characters == "ab"
    path.write_text('{"kind": "symbols", "symbols": ["AH0", "B"]}')
    symbols = load_tokenizer(tmp_path)
    assert isinstance(symbols, SymbolTokenizer)
    assert symbols.symbols == ("AH0", "B")


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ({}, BPETokenizer),
        ({"normalizer": normalizers.NFC()}, PretrainedTokenizer),
        ({"add_prefix_space": True}, PretrainedTokenizer),
    ],
)
def test_only_a_lossless_byte_level_bpe_becomes_a_bpe_tokenizer(
    make_byte_level_bpe: Callable[..., Any], tmp_path: Path, parts: dict[str, Any], kind: type[Any]
) -> None:
    make_byte_level_bpe(**parts).save(str(tmp_path / "tokenizer.json"))
    assert type(load_tokenizer(tmp_path)) is kind


@pytest.fixture
def write_vocabulary_files(make_byte_level_bpe: Callable[..., Any], tmp_path: Path) -> Callable[..., None]:
    """Write ``vocab.json``, ``merges.txt`` and the given settings."""

    def write(**settings: Any) -> None:
        make_byte_level_bpe().model.save(str(tmp_path))
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))

    return write


def test_vocabulary_and_merges_in_two_files(
    tmp_path: Path, write_vocabulary_files: Callable[..., None]
) -> None:
    write_vocabulary_files(
        eos_token="<|end|>",
        added_tokens_decoder={"261": {"content": "<|end|>", "special": True}, "262": {"content": "the end"}},
    )
    tokenizer = load_tokenizer(tmp_path)
    assert isinstance(tokenizer, BPETokenizer)
    assert (tokenizer.end_of_text, tokenizer.vocab_size) == (261, 263)
    assert tokenizer.decode(tokenizer.encode(" the 12 é")) == " the 12 é"
    assert 262 in tokenizer.encode("in the end")
    assert 261 not in tokenizer.encode("in<|end|>")


@pytest.mark.parametrize("name", ["GPT2Tokenizer", "Qwen2TokenizerFast"])
def test_words_are_split_as_in_transformers(
    tmp_path: Path, write_vocabulary_files: Callable[..., None], merges: list[tuple[str, str]], name: str
) -> None:
    write_vocabulary_files(
        tokenizer_class=name,
        eos_token="<|endoftext|>",
        added_tokens_decoder={"261": {"content": "<|endoftext|>", "special": True}},
    )
    ours = load_tokenizer(tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    theirs = getattr(transformers, name.removesuffix("Fast"))(vocab=vocabulary, merges=merges)
    for text in ["then (the) 12\u0301 12the\n\n the  the!\n e\u0301", "it's THE'S 1212 [the]\r\nthe \t x"]:
        assert ours.encode(text) == theirs(text)["input_ids"]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"tokenizer_class": "Qwen2Tokenizr"},
            "unknown tokenizer_class 'Qwen2Tokenizr', did you mean 'Qwen2",
        ),
        ({"added_tokens_decoder": {"300": {"content": "<x>"}}}, "'<x>' must have id 300"),
        ({"added_tokens_decoder": {"261": {}}}, "added token 261 has no content"),
    ],
)
def test_vocabulary_files_with_invalid_settings_raise(
    tmp_path: Path, write_vocabulary_files: Callable[..., None], settings: dict[str, Any], problem: str
) -> None:
    write_vocabulary_files(**settings)
    with pytest.raises(ValueError, match=problem):
        load_tokenizer(tmp_path)


def test_merges_without_vocabulary_raise(tmp_path: Path, write_vocabulary_files: Callable[..., None]) -> None:
    write_vocabulary_files()
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(FileNotFoundError, match="needs vocab.json beside it"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text("[]")
    with pytest.raises(ValueError, match=r"merges\.txt is not .* vocab\.json is not a byte-pair vocabulary"):
        load_tokenizer(tmp_path)
