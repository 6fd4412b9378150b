"""fill_mask: what a hole in a text hides, guessed from both sides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from glassformer.contracts import Tokenizer
from glassformer.generation.streaming import evaluating
from glassformer.generation.text import text_of

MASK = "[MASK]"
"""What stands for a hole in a text, whatever the tokenizer's own mark is."""


class MaskedLanguageModel(Protocol):
    """A model that gives logits for each token, seeing all of them."""

    vocab_size: int
    max_seq_len: int
    tokenizer: Tokenizer | None

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        ...

    def __call__(self, input_ids: Tensor) -> Tensor:
        """``(batch, seq) -> (batch, seq, vocab_size)``."""
        ...


class Guess(NamedTuple):
    """A token that a hole may hide."""

    token: str
    probability: float
    token_id: int


def fill_mask(model: MaskedLanguageModel, text: str, top_k: int = 5) -> list[list[Guess]]:
    """For each ``[MASK]`` of a text the ``top_k`` tokens x with the largest p(x | the rest of the text).

    Several masks are guessed independently: each sees the others as masks (Devlin et al. 2019, section 3.1).

    Args:
        model: with a head for masked tokens, and a tokenizer that has a mask.
        text: with ``[MASK]``, or the tokenizer's own mark, once or several times.
        top_k: guesses for each, the likeliest first.

    Raises:
        ValueError: a text without a mask or too long, a ``top_k`` outside the vocabulary, or a model without
            tokenizer, mask or head.
    """
    if not 1 <= top_k <= model.vocab_size:
        raise ValueError(f"top_k must be between 1 and the {model.vocab_size} tokens, got {top_k}")
    if model.tokenizer is None:
        raise ValueError(
            "the model has no tokenizer: set model.tokenizer, or put its tokenizer.json into the model's "
            "folder"
        )
    ids, mask = _ids(model.tokenizer, text)
    if len(ids) > model.max_seq_len:
        raise ValueError(f"the text has {len(ids)} tokens, the model reads {model.max_seq_len}: shorten it")
    with torch.no_grad(), evaluating(model):
        logits = model(torch.tensor([ids], device=model.device))[0]
    if logits.dim() != 2 or logits.shape[1] != model.vocab_size:
        raise ValueError("the model carries no head for masked tokens, so that it has no guesses to give")
    holes = [place for place, token in enumerate(ids) if token == mask]
    best = logits[holes].float().softmax(-1).topk(top_k)
    return [
        [Guess(text_of(model.tokenizer, [token]).strip(), p, token) for p, token in zip(*row, strict=True)]
        for row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def _ids(tokenizer: Tokenizer, text: str) -> tuple[list[int], int]:
    """The ids of a text with holes, marks around it, and the id of a hole."""
    mask = tokenizer.mask_token
    if mask is None:
        raise ValueError("the model's tokenizer has no token for a mask: the model was not made to fill any")
    pieces = re.split("|".join(map(re.escape, (MASK, tokenizer.label(mask)))), text)
    if len(pieces) == 1:
        raise ValueError(f"the text has no {MASK}: put one where a token is to be guessed")
    parts: list[Sequence[int]] = [tokenizer.encode(pieces[0])]
    for piece in pieces[1:]:
        parts += [[mask], tokenizer.encode(piece)]
    return tokenizer.add_marks(list(chain.from_iterable(parts))), mask
