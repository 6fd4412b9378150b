"""Damaged and hostile tokenizer files: each is refused with one ValueError that names the file."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from glassformer.tokenization import PretrainedTokenizer, load_tokenizer

VOCABULARY = {"<unk>": 0, "a": 1, "b": 2}
MODELS: dict[str, dict[str, Any]] = {
    "WordLevel": {"unk_token": "<unk>"},
    "BPE": {"unk_token": "<unk>", "merges": []},
    "WordPiece": {
        "unk_token": "<unk>",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    },
}


def description(vocabulary: Any = None, kind: str = "WordLevel", **parts: Any) -> dict[str, Any]:
    vocabulary = VOCABULARY if vocabulary is None else vocabulary
    return {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": kind, "vocab": vocabulary, **MODELS[kind]},
        **parts,
    }


def added(content: str, token_id: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": token_id, "content": content, **flags}


def refusal(folder: Path, content: dict[str, Any]) -> str:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=r"is not a tokenizer that can be read") as error:
        load_tokenizer(folder)
    assert str(error.value).startswith(f"{path} is not")
    return str(error.value)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("token_id", [2**31, 2**32 - 1, 2**33, 6, -1, 1.5, True, "1", None])
def test_an_id_beyond_the_vocabulary_is_refused(tmp_path: Path, kind: str, token_id: Any) -> None:
    message = refusal(tmp_path, description({**VOCABULARY, "b": token_id}, kind))
    assert f"'b' has id {token_id!r}, but the ids of 3 tokens must be integers from 0 to 5" in message


def test_a_vocabulary_may_leave_ids_out(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(description({**VOCABULARY, "b": 5})))
    assert load_tokenizer(tmp_path).vocab_size == 6


@pytest.mark.parametrize("kind", MODELS)
def test_an_id_of_two_tokens_is_refused(tmp_path: Path, kind: str) -> None:
    message = refusal(tmp_path, description({**VOCABULARY, "b": 1}, kind))
    assert "the tokens 'a' and 'b' have the same id 1" in message


@pytest.mark.parametrize(
    "tokens",
    [
        [added("x", 3), added("y", 3)],
        [added("x", 1)],
        [added("x", 3), added("x", 4)],
        [added("x", 10)],
        [added("x", 2**31)],
        [added("a", 2)],
    ],
)
def test_added_tokens_with_other_ids_are_refused(tmp_path: Path, tokens: list[dict[str, Any]]) -> None:
    message = refusal(tmp_path, description(added_tokens=tokens))
    assert f"{tokens[-1]['content']!r} must have id {tokens[-1]['id']}, but" in message


def test_an_added_token_with_the_id_of_another_is_refused(tmp_path: Path) -> None:
    tokens = [added("x", 3), added("y", 4), added("z", 5)]  # the library gives the ids from 3 on
    message = refusal(tmp_path, description({**VOCABULARY, "b": 5}, added_tokens=tokens))
    assert "the tokens 'b' and 'z' have the same id 5" in message


def test_ids_are_checked_in_vocab_json(tmp_path: Path) -> None:
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    for vocabulary, problem in (
        ({"a": 0, "b": 2**31}, "'b' has id 2147483648"),
        ({"a": 0, "b": 0}, "same id 0"),
    ):
        (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
        with pytest.raises(ValueError, match=rf"merges\.txt is not .*{problem}"):
            load_tokenizer(tmp_path)


def template(token_id: int) -> dict[str, Any]:
    token, first, second = (
        {"SpecialToken": {"id": "[X]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"Sequence": {"id": "B", "type_id": 0}},
    )
    special = {"[X]": {"id": "[X]", "ids": [token_id], "tokens": ["[X]"]}}
    return {
        "type": "TemplateProcessing",
        "single": [token, first],
        "pair": [first, second],
        "special_tokens": special,
    }


@pytest.mark.parametrize(
    "processor",
    [
        template(3),
        template(2**31),
        {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 2**31]},
        {"type": "Sequence", "processors": [template(7)]},
    ],
)
def test_ids_that_the_post_processor_adds_are_in_the_vocabulary(
    tmp_path: Path, processor: dict[str, Any]
) -> None:
    assert "not in the vocabulary: ids are 0 to 2" in refusal(tmp_path, description(post_processor=processor))


def charsmap(size: int, length: int) -> dict[str, str]:
    table = size.to_bytes(4, "little") + bytes(length)
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


@pytest.mark.parametrize(
    "normalizer",
    [
        charsmap(2**32 - 1, 8),  # for this the library allocates 8 GB
        charsmap(1024, 1020),
        charsmap(0, 8),
        {"type": "Precompiled", "precompiled_charsmap": ""},
        {"type": "Sequence", "normalizers": [{"type": "NFC"}, charsmap(2**32 - 1, 100)]},
    ],
)
def test_a_table_shorter_than_it_claims_is_refused(tmp_path: Path, normalizer: dict[str, Any]) -> None:
    assert "its precompiled_charsmap has" in refusal(tmp_path, description(normalizer=normalizer))


@pytest.mark.parametrize(
    "parts",
    [
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},  # a panic of the library
        {"post_processor": {**template(1), "special_tokens": {}}},  # a panic of the library
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAA==="}},
        {
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "(a"},
                "behavior": "Isolated",
                "invert": False,
            }
        },
        {"added_tokens": [{}]},
        {"added_tokens": 5},
        {"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 2**62}},
        {"model": {"type": "BPE", "vocab": VOCABULARY, "merges": [["a", "z"]]}},
    ],
)
def test_whatever_the_library_raises_becomes_a_value_error(tmp_path: Path, parts: dict[str, Any]) -> None:
    refusal(tmp_path, {**description(), **parts})


def test_texts_that_the_library_cannot_encode_raise() -> None:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"a": 0}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ours = PretrainedTokenizer(tokenizer)
    assert ours.encode("a a") == [0, 0]
    for encode in (ours.encode, ours.spans, lambda text: ours.encode(text, special_tokens=True)):
        with pytest.raises(ValueError, match=r"cannot encode the text \(.*Missing \[UNK\] token"):
            encode("a b")


def test_special_tokens_are_found_if_the_first_letter_is_unknown() -> None:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"x": 0, "<s>": 1}, "<unk>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    assert PretrainedTokenizer(tokenizer).add_special_tokens([0]) == [1, 0]


@pytest.mark.slow
def test_a_large_id_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(description({**VOCABULARY, "b": 2**31})))
    program = (
        "import resource, sys\n"
        "from glassformer.tokenization import load_tokenizer\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    load_tokenizer(sys.argv[1])\n"
        "except ValueError:\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 20_000  # kilobytes
