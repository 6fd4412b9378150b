"""Tokenizers of the `tokenizers` library, and their config files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from glassformer.tokenization import BPETokenizer, PretrainedTokenizer, WordPieceTokenizer, load_tokenizer


def word_level(*pieces: str) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({p: i for i, p in enumerate(pieces)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def test_special_tokens_are_found_by_the_settings_before_usual_names() -> None:
    tokenizer = word_level("<unk>", "</s>", "[end]", "<pad>", "<hidden>", "a")
    tokenizer.add_special_tokens(["</s>", "<pad>"])
    assert PretrainedTokenizer(tokenizer).end_of_text == 1
    settings = {"eos_token": {"content": "[end]"}, "mask_token": "<hidden>", "bos_token": "<absent>"}
    named = PretrainedTokenizer(tokenizer, settings)
    assert (named.end_of_text, named.pad_token, named.mask_token) == (2, 3, 4)
    assert named.encode("[end] <hidden> a") == [0, 0, 0, 0, 5]  # "[" and "end]", "<" and "hidden>"
    assert named.encode("[end] a", special_tokens=True) == [2, 5]


def test_a_text_may_contain_the_unknown_token() -> None:
    tokenizer = word_level("<unk>", "a")
    tokenizer.add_special_tokens(["<unk>"])
    assert PretrainedTokenizer(tokenizer).encode("b <unk> a") == [0, 0, 1]


def test_settings_are_saved_and_loaded(tmp_path: Path) -> None:
    settings = {"eos_token": "[end]", "chat_template": "{{ messages }}", "model_max_length": 7}
    PretrainedTokenizer(word_level("<unk>", "[end]", "a"), settings).save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert isinstance(again, PretrainedTokenizer)
    assert (again.end_of_text, again.settings) == (1, settings)
    PretrainedTokenizer(word_level("<unk>", "a")).save(tmp_path)  # removes the settings saved before
    assert load_tokenizer(tmp_path).end_of_text is None


def test_saved_files_do_not_change(tmp_path: Path) -> None:
    """Token files of earlier versions are found by a hash of these files."""
    BPETokenizer.train(["the cat the cat"], 258).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    WordPieceTokenizer.train(["the cat the cat"], 20).save(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text()) == {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "do_lower_case": True,
    }


def test_special_tokens_map_is_read(tmp_path: Path) -> None:
    word_level("<unk>", "[end]").save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": {"content": "[end]"}}')
    assert load_tokenizer(tmp_path).end_of_text == 1


@pytest.mark.parametrize(("content", "problem"), [("{", "not valid JSON"), ("[]", "not a JSON object")])
def test_an_invalid_config_file_raises(tmp_path: Path, content: str, problem: str) -> None:
    word_level("<unk>").save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(ValueError, match=f"its tokenizer_config.json is {problem}"):
        load_tokenizer(tmp_path)


def test_special_tokens_of_other_post_processors() -> None:
    tokenizer = word_level("<unk>", "<s>", "</s>")
    assert PretrainedTokenizer(tokenizer).add_special_tokens([5], [6]) == [5, 6]
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    roberta = PretrainedTokenizer(tokenizer)
    assert roberta.add_special_tokens([5]) == [1, 5, 2]
    assert roberta.add_special_tokens([5], [6]) == [1, 5, 2, 2, 6, 2]


def test_a_vocabulary_that_encodes_no_letter_adds_no_special_tokens() -> None:
    assert PretrainedTokenizer(tokenizers.Tokenizer(models.BPE({"\u0100\u0101": 0}, []))).add_special_tokens(
        [0], [0]
    ) == [0, 0]


def test_an_empty_vocabulary_raises() -> None:
    with pytest.raises(ValueError, match="vocabulary is empty"):
        PretrainedTokenizer(tokenizers.Tokenizer(models.BPE()))


def test_labels_show_the_bytes_of_a_token() -> None:
    pieces = ["<unk>", "▁the", "<0x0A>", "<0xE2>", "a"]
    model = models.BPE({p: i for i, p in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    named = PretrainedTokenizer(tokenizer)
    assert [named.label(i) for i in range(5)] == ["<unk>", "·the", "↵", r"\xe2", "a"]
    assert repr(named) == "PretrainedTokenizer(vocab_size=5)"
    assert PretrainedTokenizer(word_level("▁x")).label(0) == "▁x"
