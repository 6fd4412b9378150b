"""Reading ``tokenizer.json``."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassformer.tokenization import TOKENIZER_FILE, ByteTokenizer, load_tokenizer


def test_the_file_itself_can_be_given(tmp_path: Path) -> None:
    ByteTokenizer().save(tmp_path)
    assert isinstance(load_tokenizer(tmp_path / TOKENIZER_FILE), ByteTokenizer)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no tokenizer at .*tokenizer\.json"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"kind": "by', "no valid JSON"),
        ("\udce9", "no valid JSON"),
        ('{"kind": "word"}', "kind is 'word'; known kinds are 'byte', 'character' and 'symbols'"),
        ('{"kind": "symbols", "symbols": [1]}', "1 is no symbol"),
        ('{"kind": "character", "characters": ""}', "at least one character"),
        ("[1]", "neither a 'kind' nor a 'model'"),
        ('{"model": {}}', "tokenizers library cannot read it"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / TOKENIZER_FILE
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=rf"{path}.*{problem}"):
        load_tokenizer(tmp_path)
