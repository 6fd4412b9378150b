"""When a row of the batch ends, and what is shown of it from then on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class StopRule:
    """Ends each row at its first stop token, which is still shown.

    Args:
        stop_tokens: ids at which a row ends; none, and no row ends.
        pad_id: what is shown of a row that has ended; None is the first stop token.
        vocab_size: to check that the stop tokens can occur.
        device: where the tokens will be.

    Raises:
        ValueError: a stop token outside the vocabulary.
        TypeError: stop tokens that are no sequence of ids.
    """

    def __init__(
        self, stop_tokens: Sequence[int], pad_id: int | None, vocab_size: int, device: torch.device
    ) -> None:
        if not isinstance(stop_tokens, Sequence) or isinstance(stop_tokens, str):
            raise TypeError(f"stop_tokens must be a sequence of ids, got {stop_tokens!r}")
        for token in stop_tokens:
            if not 0 <= token < vocab_size:
                raise ValueError(
                    f"stop token {token} is outside the vocabulary: ids go from 0 to {vocab_size - 1}"
                )
        self.stop_tokens = torch.tensor(list(stop_tokens), dtype=torch.long, device=device)
        self.can_stop = len(stop_tokens) > 0
        self.pad_id = next(iter(stop_tokens), 0) if pad_id is None else pad_id
        self.finished = torch.zeros(1, dtype=torch.bool, device=device)  # (batch,) once a token was seen

    def __call__(self, tokens: Tensor) -> Tensor:
        """What to show of the new tokens ``(batch,)``; remembers which rows end with them."""
        if not self.can_stop:
            return tokens
        shown = tokens.masked_fill(self.finished, self.pad_id)
        self.finished = self.finished | torch.isin(tokens, self.stop_tokens)
        return shown

    def all_finished(self) -> bool:
        """Whether every row has ended."""
        return self.can_stop and bool(self.finished.all())
