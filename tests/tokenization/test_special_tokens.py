"""Mask tokens in a text, and deprecated names."""

from __future__ import annotations

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

import glassformer.tokenization
from glassformer.tokenization import ByteTokenizer, PretrainedTokenizer, encode_with_masks, printable_label


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
