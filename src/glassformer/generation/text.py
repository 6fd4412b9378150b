"""Ids as text, also where a model's vocabulary is larger than its tokenizer's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from glassformer.contracts import Tokenizer


def text_of(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of ids; U+FFFD for each that the tokenizer does not have.

    Published models often have more rows than their tokenizers have tokens, and may write such an id.
    """
    runs = groupby(ids, lambda token: token < tokenizer.vocab_size)
    return "".join(tokenizer.decode(list(run)) if known else "\ufffd" * len(list(run)) for known, run in runs)
