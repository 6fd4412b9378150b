"""Special tokens in a text, and deprecated names."""

from __future__ import annotations

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

import glassformer.tokenization
from glassformer.tokenization import (
    ByteTokenizer,
    PretrainedTokenizer,
    SymbolTokenizer,
    WordPieceTokenizer,
    encode_typed_text,
    encode_with_masks,
    printable_label,
)


@pytest.fixture
def tokenizer() -> PretrainedTokenizer:
    vocabulary = {"<unk>": 0, "<mask>": 1, "a": 2, "b": 3}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PretrainedTokenizer(tokenizer, {"mask_token": "<mask>"})


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a [MASK] b", [2, 1, 3]),
        ("[MASK]<mask>a", [1, 1, 2]),
        ("a b", [2, 3]),
        ("", []),
    ],
)
def test_masks_in_a_text_become_the_mask_token(
    tokenizer: PretrainedTokenizer, text: str, ids: list[int]
) -> None:
    assert encode_with_masks(tokenizer, text) == ids


def test_a_tokenizer_without_mask_token_raises() -> None:
    with pytest.raises(ValueError, match="has no mask token"):
        encode_with_masks(ByteTokenizer(), "a [MASK]")


def test_old_names_work_and_warn(tokenizer: PretrainedTokenizer) -> None:
    old_method, old_function = "add_marks", "visible"
    for each in (tokenizer, ByteTokenizer()):
        with pytest.warns(DeprecationWarning, match="add_special_tokens"):
            assert getattr(each, old_method)([2], [3]) == [2, 3]
    with pytest.warns(DeprecationWarning, match="printable_label"):
        assert getattr(glassformer.tokenization, old_function) is printable_label


NOTE = "ordinary text, not special tokens: "


@pytest.mark.parametrize(
    ("text", "special_tokens", "predicts_masks", "ids", "notes"),
    [
        ("a <mask> b", None, False, [2, 0, 0, 3], [f"{NOTE}<mask>"]),
        ("a <mask> b", None, True, [2, 1, 3], []),
        ("a [MASK] b", None, True, [2, 1, 3], []),
        ("a [MASK] b", None, False, [2, 0, 3], []),  # "[MASK]" is no token of this tokenizer
        ("a [MASK] <mask> b", True, False, [2, 1, 1, 3], []),
        ("a <mask> [MASK]", False, True, [2, 0, 0, 0], []),
        ("a b", None, True, [2, 3], []),
        ("", None, True, [], []),
    ],
)
def test_special_tokens_in_a_text(tokenizer, text, special_tokens, predicts_masks, ids, notes) -> None:
    expected = (ids, notes)
    assert encode_typed_text(tokenizer, text, special_tokens, predicts_masks=predicts_masks) == expected
    tokenizer.parse_special_tokens = special_tokens
    assert encode_typed_text(tokenizer, text, predicts_masks=predicts_masks) == expected


@pytest.mark.parametrize("kind", ["byte", "symbols"])
def test_special_tokens_of_our_own_tokenizers(kind) -> None:
    tokenizer = ByteTokenizer() if kind == "byte" else SymbolTokenizer([*"ab"])
    end = tokenizer.label(tokenizer.end_of_text)
    ids = [*tokenizer.encode("a"), tokenizer.end_of_text, *tokenizer.encode("b")]
    assert encode_typed_text(tokenizer, f"a{end}b", True) == (ids, [])
    assert encode_typed_text(tokenizer, f"a{end}b", False) == (tokenizer.encode(f"a{end}b"), [])
    assert encode_typed_text(tokenizer, f"a{end}b") == (tokenizer.encode(f"a{end}b"), [f"{NOTE}{end}"])


@pytest.mark.parametrize(
    "text",
    [
        "the cat [SEP] sat",
        "[CLS]the[MASK]mat[SEP]",
        "[PAD] [UNK] cat",
        "no special token",
        "[sep] [ SEP ] [SEP",
        "[MASK][MASK] mat",
    ],
)
def test_special_tokens_are_those_of_transformers(text) -> None:
    from transformers import PreTrainedTokenizerFast

    words = WordPieceTokenizer.train(["the cat sat on the mat"] * 9, 60)
    inner = tokenizers.Tokenizer.from_str(words._tokenizer.to_str())
    peer = PreTrainedTokenizerFast(tokenizer_object=inner)
    expected = peer.encode(text, add_special_tokens=False)
    assert encode_typed_text(words, text, True)[0] == expected
    assert words.encode(text, special_tokens=True) == expected
