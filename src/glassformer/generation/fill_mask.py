"""Masked-token prediction."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from glassformer.contracts import Tokenizer
from glassformer.eval_mode import eval_mode
from glassformer.tokenization import MASK, encode_with_masks, safe_decode


class MaskedLanguageModel(Protocol):
    """What ``fill_mask`` needs of a model: logits for every token."""

    vocab_size: int
    max_seq_len: int
    tokenizer: Tokenizer | None

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        ...

    def __call__(self, input_ids: Tensor) -> Tensor:
        """``(batch, seq) -> (batch, seq, vocab_size)``."""
        ...


class MaskPrediction(NamedTuple):
    """A token predicted for a mask."""

    token: str
    probability: float
    token_id: int


def fill_mask(model: MaskedLanguageModel, text: str, top_k: int = 5) -> list[list[MaskPrediction]]:
    """Predict for each mask of a text the tokens x with the largest p(x | the rest of the text).

    Several masks are predicted independently: for each one the others are masked (Devlin et al. 2019, section
    3.1).

    Args:
        model: a model with a masked-LM head and a tokenizer with a mask token.
        text: a text with one or more ``[MASK]``, or the tokenizer's own mask token. See
            ``tokenization.encode_typed_text`` for other special tokens in it.
        top_k: number of predictions for each mask.

    Returns:
        For each mask, ``top_k`` predictions, the most likely first.

    Raises:
        ValueError: a text without a mask or longer than the model allows, a ``top_k`` outside the vocabulary,
            or a model without tokenizer, mask token or masked-LM head.
    """
    if not 1 <= top_k <= model.vocab_size:
        raise ValueError(f"top_k must be between 1 and the vocabulary size {model.vocab_size}, got {top_k}")
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise ValueError(
            "the model has no tokenizer: set model.tokenizer, or put its tokenizer.json into the model's "
            "folder"
        )
    ids = encode_with_masks(tokenizer, text)
    if tokenizer.mask_token not in ids:
        if getattr(tokenizer, "parse_special_tokens", None) is False:
            raise ValueError(
                "the text has no mask: with parse_special_tokens=False, every word is ordinary text"
            )
        raise ValueError(f"the text has no {MASK}: put one where a token is to be predicted")
    ids = tokenizer.add_special_tokens(ids)
    if len(ids) > model.max_seq_len:
        raise ValueError(f"the text must have at most max_seq_len={model.max_seq_len} tokens, got {len(ids)}")
    with torch.no_grad(), eval_mode(model):
        logits = model(torch.tensor([ids], device=model.device))[0]
    if logits.dim() != 2 or logits.shape[1] != model.vocab_size:
        raise ValueError("the model has no masked-LM head, so it cannot predict masked tokens")
    masked = [position for position, token in enumerate(ids) if token == tokenizer.mask_token]
    best = logits[masked].float().softmax(-1).topk(top_k)
    return [
        [
            MaskPrediction(safe_decode(tokenizer, [token]).strip(), p, token)
            for p, token in zip(*row, strict=True)
        ]
        for row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
