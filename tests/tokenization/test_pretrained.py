"""Tokenizers of the `tokenizers` library, and what the files beside them say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from glassformer.tokenization import BPETokenizer, PretrainedTokenizer, load_tokenizer


def words(*pieces: str) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({p: i for i, p in enumerate(pieces)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def test_roles_come_from_the_settings_before_usual_names() -> None:
    tokenizer = words("<unk>", "</s>", "[end]", "<pad>", "<hidden>", "a")
    tokenizer.add_special_tokens(["</s>", "<pad>"])
    assert PretrainedTokenizer(tokenizer).end_of_text == 1
    settings = {"eos_token": {"content": "[end]"}, "mask_token": "<hidden>", "bos_token": "<absent>"}
    named = PretrainedTokenizer(tokenizer, settings)
    assert (named.end_of_text, named.pad_token, named.mask_token) == (2, 3, 4)
    assert named.encode("[end] <hidden> a") == [0, 0, 0, 0, 5]  # "[" and "end]", "<" and "hidden>"
    assert named.encode("[end] a", special_tokens=True) == [2, 5]


def test_the_unknown_token_may_come_from_a_text() -> None:
    tokenizer = words("<unk>", "a")
    tokenizer.add_special_tokens(["<unk>"])
    assert PretrainedTokenizer(tokenizer).encode("b <unk> a") == [0, 0, 1]


def test_settings_are_saved_and_found_again(tmp_path: Path) -> None:
    settings = {"eos_token": "[end]", "chat_template": "{{ messages }}", "model_max_length": 7}
    PretrainedTokenizer(words("<unk>", "[end]", "a"), settings).save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert isinstance(again, PretrainedTokenizer)
    assert (again.end_of_text, again.settings) == (1, settings)
    PretrainedTokenizer(words("<unk>", "a")).save(tmp_path)  # another's settings do not stay behind
    assert load_tokenizer(tmp_path).end_of_text is None


def test_special_tokens_map_is_read(tmp_path: Path) -> None:
    words("<unk>", "[end]").save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": {"content": "[end]"}}')
    assert load_tokenizer(tmp_path).end_of_text == 1


@pytest.mark.parametrize(("content", "problem"), [("{", "no valid JSON"), ("[]", "no JSON object")])
def test_settings_that_are_none_are_named(tmp_path: Path, content: str, problem: str) -> None:
    words("<unk>").save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(ValueError, match=f"its tokenizer_config.json is {problem}"):
        load_tokenizer(tmp_path)


def test_marks_of_other_post_processors() -> None:
    tokenizer = words("<unk>", "<s>", "</s>")
    assert PretrainedTokenizer(tokenizer).add_marks([5], [6]) == [5, 6]
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    roberta = PretrainedTokenizer(tokenizer)
    assert roberta.add_marks([5]) == [1, 5, 2]
    assert roberta.add_marks([5], [6]) == [1, 5, 2, 2, 6, 2]


def test_a_vocabulary_that_reads_no_letter_has_no_marks() -> None:
    assert PretrainedTokenizer(tokenizers.Tokenizer(models.BPE({"\u0100\u0101": 0}, []))).add_marks(
        [0], [0]
    ) == [0, 0]


def test_an_empty_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="its vocabulary is empty"):
        PretrainedTokenizer(tokenizers.Tokenizer(models.BPE()))


def test_labels_show_what_a_token_is_made_of() -> None:
    pieces = ["<unk>", "▁the", "<0x0A>", "<0xE2>", "a"]
    model = models.BPE({p: i for i, p in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    named = PretrainedTokenizer(tokenizer)
    assert [named.label(i) for i in range(5)] == ["<unk>", "·the", "↵", r"\xe2", "a"]
    assert repr(named) == "PretrainedTokenizer(vocab_size=5)"
    assert PretrainedTokenizer(words("▁x")).label(0) == "▁x"


def byte_level(**changes: Any) -> tokenizers.Tokenizer:
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("1", "2")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=changes.pop("prefix", False))
    tokenizer.decoder = decoders.ByteLevel()
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return tokenizer


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, BPETokenizer),
        ({"normalizer": normalizers.NFC()}, PretrainedTokenizer),
        ({"prefix": True}, PretrainedTokenizer),
    ],
)
def test_only_a_bpe_that_loses_nothing_is_called_so(
    tmp_path: Path, changes: dict[str, Any], kind: type[PretrainedTokenizer]
) -> None:
    byte_level(**changes).save(str(tmp_path / "tokenizer.json"))
    assert type(load_tokenizer(tmp_path)) is kind


def write_vocabulary_files(folder: Path, **settings: Any) -> None:
    tokenizer = byte_level()
    tokenizer.model.save(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def test_vocabulary_and_merges_in_files_of_their_own(tmp_path: Path) -> None:
    write_vocabulary_files(
        tmp_path,
        eos_token="<|end|>",
        added_tokens_decoder={"260": {"content": "<|end|>", "special": True}, "261": {"content": "the end"}},
    )
    tokenizer = load_tokenizer(tmp_path)
    assert isinstance(tokenizer, BPETokenizer)
    assert (tokenizer.end_of_text, tokenizer.vocab_size) == (260, 262)
    assert tokenizer.decode(tokenizer.encode(" the 12 é")) == " the 12 é"
    assert 261 in tokenizer.encode("in the end")
    assert 260 not in tokenizer.encode("in<|end|>")


@pytest.mark.parametrize("name", ["GPT2Tokenizer", "Qwen2TokenizerFast"])
def test_words_are_cut_as_transformers_cuts_them(tmp_path: Path, name: str) -> None:
    write_vocabulary_files(
        tmp_path,
        tokenizer_class=name,
        eos_token="<|endoftext|>",
        added_tokens_decoder={"260": {"content": "<|endoftext|>", "special": True}},
    )
    ours = load_tokenizer(tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("1", "2")]
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
        ({"added_tokens_decoder": {"300": {"content": "<x>"}}}, "'<x>' should have id 300"),
        ({"added_tokens_decoder": {"260": {}}}, "added token 260 has no content"),
    ],
)
def test_vocabulary_files_that_cannot_be_read_are_named(
    tmp_path: Path, settings: dict[str, Any], problem: str
) -> None:
    write_vocabulary_files(tmp_path, **settings)
    with pytest.raises(ValueError, match=problem):
        load_tokenizer(tmp_path)


def test_a_half_of_two_files_is_not_enough(tmp_path: Path) -> None:
    write_vocabulary_files(tmp_path)
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(FileNotFoundError, match="needs vocab.json beside it"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text("[]")
    with pytest.raises(ValueError, match="no byte-pair vocabulary"):
        load_tokenizer(tmp_path)
