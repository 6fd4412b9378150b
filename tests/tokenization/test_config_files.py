"""Config files beside a tokenizer, compared with ``AutoTokenizer`` of `transformers`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from glassformer.tokenization import PretrainedTokenizer, WordPieceTokenizer, load_tokenizer, pre_tokenization

Files = Mapping[str, Mapping[str, Any]]
CONFIG, SPECIAL, ADDED, MODEL = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
)

PIECES = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[S1]", "the", *"abehlotné语言ÉEHlA12[]S"),
    *("##a", "##b", "##e", "##l", "##o", "##é", "##h"),
]
PIECES = list(dict.fromkeys(PIECES))
NUM_MERGED = 264  # tokens of ``byte_level`` below

TEXTS = [
    "Hello é Élan 语言 ab",
    "[E1] hello",
    "hello[e1] a",
    "a [E1] b",
    " hello the 12",
    "the [MASK] a",
    "x<mask>  the",
    "A<|endoftext|>b",
    "\u2028a\x85b",
    "[S1]a [S2] b",
]


def write_vocab_txt(folder: Path) -> None:
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES), "utf-8")


def write_wordpiece(folder: Path, *, lowercase: bool) -> None:
    model = models.WordPiece({piece: i for i, piece in enumerate(PIECES)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(PIECES[:5])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))


MakeTokenizer = Callable[..., tokenizers.Tokenizer]


@pytest.fixture
def byte_level(make_byte_level_bpe: MakeTokenizer) -> MakeTokenizer:
    """Make a byte-level BPE in whose vocabulary are ``<|endoftext|>``, ``<s>`` and ``</s>``."""

    def make(**parts: Any) -> tokenizers.Tokenizer:
        tokenizer = make_byte_level_bpe(**parts)
        tokenizer.add_special_tokens(["<|endoftext|>", "<s>", "</s>"])
        description = json.loads(tokenizer.to_str())
        description["model"]["vocab"] = tokenizer.get_vocab()
        return tokenizers.Tokenizer.from_str(json.dumps(description))

    return make


def write_files(folder: Path, files: Files) -> None:
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), "utf-8")


def merged(parts: tuple[Files, ...]) -> Files:
    files: dict[str, dict[str, Any]] = {}
    for part in parts:
        for name, content in part.items():
            files.setdefault(name, {}).update(content)
    return files


def assert_equal_to_transformers(folder: Path) -> PretrainedTokenizer:
    ours, theirs = load_tokenizer(folder), transformers.AutoTokenizer.from_pretrained(folder)
    assert isinstance(ours, PretrainedTokenizer)
    for text in TEXTS:
        ids = ours.encode(text)
        assert ours.add_special_tokens(ids) == theirs(text, split_special_tokens=True)["input_ids"]
        pair = theirs(text, "a b", split_special_tokens=True)["input_ids"]
        assert ours.add_special_tokens(ids, ours.encode("a b")) == pair
        special = theirs(text, add_special_tokens=False, split_special_tokens=False)["input_ids"]
        assert ours.encode(text, special_tokens=True) == special
        assert ours.decode(special) == theirs.decode(special)
    for token in ("pad_token", "mask_token"):
        theirs_id = getattr(theirs, f"{token}_id")
        if theirs_id is not None and theirs_id < ours.vocab_size:  # names without an id are added there
            assert getattr(ours, token) == theirs_id
    return ours


OPTIONS = {"lstrip": True, "normalized": False, "rstrip": False, "single_word": False}


def added_tokens(next_id: int, mask: str) -> dict[str, Files]:
    """Config files that add tokens, by what is special about them."""
    first, second = str(next_id), str(next_id + 1)
    return {
        "added_tokens.json": {ADDED: {"[E1]": next_id}},
        "strips spaces": {CONFIG: {"added_tokens_decoder": {first: {"content": "[E1]", **OPTIONS}}}},
        "special": {ADDED: {"[E1]": next_id}, CONFIG: {"additional_special_tokens": ["[E1]"]}},
        "two": {
            ADDED: {"[S2]": next_id + 1, "[E1]": next_id},
            SPECIAL: {"mask_token": {"content": mask, **OPTIONS}},
        },
        "decoder before map": {
            CONFIG: {
                "added_tokens_decoder": {
                    second: {"content": "[S2]", "rstrip": True, "normalized": True},
                    first: {"content": "[E1]", "special": True},
                }
            },
            ADDED: {"[other]": next_id},
            SPECIAL: {"pad_token": mask},
        },
    }


BERT_SETTINGS = [
    *({"do_lower_case": value} for value in (True, False)),
    *({"do_lower_case": lower, "strip_accents": strip} for lower in (True, False) for strip in (True, False)),
    {"tokenize_chinese_chars": False},
    {"strip_accents": None, "do_lower_case": False},
    {"cls_token": "[S1]", "additional_special_tokens": ["[S1]"]},
    {},
]
BERT_FOLDERS: dict[str, Files] = {
    **{str(settings): {CONFIG: settings} for settings in BERT_SETTINGS},
    **added_tokens(len(PIECES), "[MASK]"),
    "map before config": {SPECIAL: {"cls_token": "[S1]"}, CONFIG: {"cls_token": "[CLS]"}},
}


@pytest.mark.parametrize("source", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("name", BERT_FOLDERS)
def test_vocab_txt(tmp_path: Path, name: str, source: str) -> None:
    write_vocab_txt(tmp_path)
    kinds = {MODEL: {"model_type": "bert"}, CONFIG: {"tokenizer_class": "BertTokenizer"}}
    write_files(tmp_path, merged(({source: kinds[source]}, BERT_FOLDERS[name])))
    tokenizer = assert_equal_to_transformers(tmp_path)
    assert isinstance(tokenizer, WordPieceTokenizer)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("name", BERT_FOLDERS)
def test_settings_of_bert_override_tokenizer_json(tmp_path: Path, name: str, lowercase: bool) -> None:
    write_wordpiece(tmp_path, lowercase=lowercase)
    write_files(tmp_path, merged(({CONFIG: {"tokenizer_class": "BertTokenizerFast"}}, BERT_FOLDERS[name])))
    tokenizer = assert_equal_to_transformers(tmp_path)
    write_files(tmp_path, {MODEL: {"model_type": "bert"}})
    for file in (CONFIG, SPECIAL, ADDED):
        (tmp_path / file).unlink(missing_ok=True)
    tokenizer.save_for_transformers(tmp_path)
    again = assert_equal_to_transformers(tmp_path)
    assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]


def test_tokenizer_json_of_another_class_is_not_overridden(tmp_path: Path) -> None:
    write_wordpiece(tmp_path, lowercase=False)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True, "unk_token": "[UNK]"}
    write_files(tmp_path, {CONFIG: settings})
    assert_equal_to_transformers(tmp_path)


def test_without_a_class_only_the_settings_that_are_there_override(tmp_path: Path) -> None:
    write_wordpiece(tmp_path, lowercase=False)
    assert PIECES.index("É") in load_tokenizer(tmp_path).encode("É")
    write_files(tmp_path, {CONFIG: {"strip_accents": True}})
    assert load_tokenizer(tmp_path).encode("É") == [PIECES.index("E")]


GPT2_FOLDERS: dict[str, Files] = {
    **{
        f"{prefix} {bos} {eos}": {
            CONFIG: {"add_prefix_space": prefix, "add_bos_token": bos, "add_eos_token": eos}
        }
        for prefix, bos, eos in product((True, False), repeat=3)
    },
    **added_tokens(NUM_MERGED, "[S2]"),
    "no settings": {},
    "named": {
        CONFIG: {
            "bos_token": "<s>",
            "eos_token": {"__type": "AddedToken", "content": "</s>"},
            "add_bos_token": True,
        }
    },
    "named in the map": {SPECIAL: {"bos_token": "<s>", "pad_token": "</s>"}, CONFIG: {"add_bos_token": True}},
}


@pytest.mark.parametrize("kind", ["GPT2Tokenizer", "GPTNeoXTokenizer", "Qwen2TokenizerFast"])
@pytest.mark.parametrize("name", GPT2_FOLDERS)
def test_merges_txt(tmp_path: Path, byte_level: MakeTokenizer, name: str, kind: str) -> None:
    byte_level().model.save(str(tmp_path))
    write_files(tmp_path, merged(({CONFIG: {"tokenizer_class": kind}}, GPT2_FOLDERS[name])))
    assert_equal_to_transformers(tmp_path)


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_neox", "qwen2"])
def test_the_class_follows_from_the_model_type(
    tmp_path: Path, byte_level: MakeTokenizer, model_type: str
) -> None:
    byte_level().model.save(str(tmp_path))
    write_files(tmp_path, {MODEL: {"model_type": model_type}, CONFIG: {"add_eos_token": True}})
    assert_equal_to_transformers(tmp_path)


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize(
    "settings", [{"add_prefix_space": True}, {"add_prefix_space": False}, {}, {"add_bos_token": True}]
)
def test_add_prefix_space_overrides_tokenizer_json(
    tmp_path: Path, byte_level: MakeTokenizer, prefix: bool, settings: dict[str, bool]
) -> None:
    byte_level(add_prefix_space=prefix).save(str(tmp_path / "tokenizer.json"))
    write_files(tmp_path, {CONFIG: {"tokenizer_class": "GPT2Tokenizer", **settings}})
    assert_equal_to_transformers(tmp_path)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({CONFIG: {"do_lower_case": "no"}}, "its do_lower_case must be true or false, got 'no'"),
        ({CONFIG: {"strip_accents": 1}}, "its strip_accents must be true or false, got 1"),
        ({CONFIG: {"tokenizer_class": ["BertTokenizer"]}}, "its tokenizer_class must be a string"),
        ({CONFIG: {"tokenizer_class": "EsmTokenizer"}}, "unknown tokenizer_class 'EsmTokenizer'"),
        ({MODEL: {"model_type": "tapas"}}, "unknown tokenizer_class 'PreTrainedTokenizer'"),
        ({MODEL: {"tokenizer_class": "TapasTokenizer"}}, "unknown tokenizer_class 'TapasTokenizer'"),
        ({CONFIG: {"added_tokens_decoder": ["x"]}}, "added_tokens_decoder must map ids to tokens"),
        ({CONFIG: {"added_tokens_decoder": {"x": "y"}}}, "added_tokens_decoder must map ids to tokens"),
        (
            {CONFIG: {"added_tokens_decoder": {str(len(PIECES)): {"content": "x", "lstrip": 1}}}},
            "lstrip of the added token 'x' must be true or false, got 1",
        ),
        ({ADDED: {"[E1]": len(PIECES), "[E2]": len(PIECES)}}, "added_tokens.json gives the same id to two"),
        ({ADDED: {"[E1]": 2**31}}, rf"'\[E1\]' must have id {2**31}, but .* gives it {len(PIECES)}"),
        ({ADDED: {"the": 2}}, "'the' must have id 2, but its place in the vocabulary gives it 6"),
        ({CONFIG: {"cls_token": "<s>"}}, "the special token <s> is missing"),
    ],
)
def test_invalid_config_files_raise(tmp_path: Path, files: Files, problem: str) -> None:
    write_vocab_txt(tmp_path)
    write_files(tmp_path, files)
    with pytest.raises(ValueError, match=rf"vocab\.txt is not a tokenizer that can be read: .*{problem}"):
        load_tokenizer(tmp_path)


def test_a_token_to_be_added_must_be_in_the_vocabulary(tmp_path: Path, byte_level: MakeTokenizer) -> None:
    byte_level().model.save(str(tmp_path))
    write_files(tmp_path, {CONFIG: {"bos_token": "<bos>", "add_bos_token": True}})
    with pytest.raises(ValueError, match="'<bos>' to be added to each text is not in the vocabulary"):
        load_tokenizer(tmp_path)


SPLITS: dict[str, Callable[[tokenizers.Tokenizer], None]] = {
    "gpt2": pre_tokenization.split_like_gpt2,
    "llama3": pre_tokenization.split_like_llama3,
    "smollm": pre_tokenization.split_like_smollm,
    "qwen2": pre_tokenization.split_like_qwen2,
    "prefix": lambda tokenizer: pre_tokenization.set_prefix_space(tokenizer, True),
}


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("kind", [*SPLITS, "uncased", "cased"])
def test_a_saved_tokenizer_is_the_same_for_transformers(
    tmp_path: Path, byte_level: MakeTokenizer, kind: str, model_type: str
) -> None:
    texts = ["The cat sat on the mat, é 123 1234\n" * 5]
    if kind in SPLITS:
        built = byte_level()
        SPLITS[kind](built)
        tokenizer = PretrainedTokenizer(built)
    else:
        tokenizer = WordPieceTokenizer.train(texts, 60, lowercase=kind == "uncased")
    tokenizer.save_for_transformers(tmp_path)
    write_files(tmp_path, {MODEL: {"model_type": model_type}})
    again, theirs = load_tokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in [*texts, "1234 the  e\u0301 É ", "The"]:
        ids = tokenizer.add_special_tokens(tokenizer.encode(text))
        assert again.add_special_tokens(again.encode(text)) == ids
        assert theirs(text, split_special_tokens=True)["input_ids"] == ids
    assert again.end_of_text == tokenizer.end_of_text == theirs.eos_token_id
    assert again.pad_token == tokenizer.pad_token == theirs.pad_token_id
    assert again.mask_token == tokenizer.mask_token == theirs.mask_token_id


def test_saving_removes_older_config_files(tmp_path: Path) -> None:
    write_vocab_txt(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    write_files(tmp_path, {SPECIAL: {"cls_token": "[S1]"}, ADDED: {"[other]": len(PIECES)}})
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.add_special_tokens([5]) == tokenizer.add_special_tokens([5]) == [2, 5, 3]
    assert again.vocab_size == len(PIECES)
