"""Attribution targets: the scalar that an attribution explains and that a deletion test measures.

    a language model        log p(token): the next, a masked, or a decoder's token
    a classifier            log p(class)
    a model without a head  cosine similarity to its mean hidden state for the original input

A target is read from the model's output and from the tokens of the original input that are left: the position
of a token changes when a token before it is deleted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.models import TransformerModel


class AttributionTarget(Protocol):
    """A scalar for each row of a batch."""

    differentiable: ClassVar[bool]
    """Whether the gradient is informative; it is not at a maximum."""

    @property
    def position(self) -> int | None:
        """The token of the original input whose vector is read; None where it is not a single one."""
        ...

    def depends_on(self, length: int) -> list[int]:
        """The tokens of an input that the target may depend on, except the one at ``position``."""
        ...

    def __call__(self, output: Tensor, remaining: Tensor) -> Tensor:
        """The scalars, ``(batch,)``.

        Args:
            output: the output of the model.
            remaining: ``(batch, key)``, original positions of the tokens that are left, ascending.
        """
        ...


@dataclass(frozen=True)
class TokenLogProb:
    """log p(token), or of a class of tokens, at a position."""

    position: int
    token: int
    differentiable: ClassVar[bool] = True

    def depends_on(self, length: int) -> list[int]:
        """All other tokens."""
        return [token for token in range(length) if token != self.position]

    def __call__(self, output: Tensor, remaining: Tensor) -> Tensor:
        """From logits ``(batch, seq, vocab_size)``."""
        position = (remaining < self.position).sum(1)  # of the token among those that are left
        logits = output[torch.arange(len(output), device=output.device), position]
        return _log_softmax(logits)[:, self.token]


class NextTokenLogProb(TokenLogProb):
    """log p(token | the tokens up to a position)."""

    def depends_on(self, length: int) -> list[int]:
        """The tokens before the position."""
        return list(range(min(length, self.position)))


@dataclass(frozen=True)
class DecoderTokenLogProb:
    """log p(token | the source, and the target up to a position) of an encoder-decoder."""

    target_position: int
    token: int
    position: None = None
    differentiable: ClassVar[bool] = True

    def depends_on(self, length: int) -> list[int]:
        """The whole source."""
        return list(range(length))

    def __call__(self, output: Tensor, remaining: Tensor) -> Tensor:
        """From logits ``(batch, target seq, vocab_size)``."""
        return _log_softmax(output[:, self.target_position])[:, self.token]


@dataclass(frozen=True)
class ClassLogProb:
    """log p(class), read from the first token."""

    label: int
    position: int = 0
    differentiable: ClassVar[bool] = True

    def depends_on(self, length: int) -> list[int]:
        """All tokens but the first."""
        return list(range(1, length))

    def __call__(self, output: Tensor, remaining: Tensor) -> Tensor:
        """From logits ``(batch, labels)``."""
        return _log_softmax(output)[:, self.label]


@dataclass(frozen=True)
class Similarity:
    """Cosine similarity of the mean hidden state and a vector ``(d_model,)``, such as another text's."""

    vector: Tensor
    position: None = None
    differentiable: ClassVar[bool] = True

    def depends_on(self, length: int) -> list[int]:
        """All tokens."""
        return list(range(length))

    def __call__(self, output: Tensor, remaining: Tensor) -> Tensor:
        """From hidden states ``(batch, seq, d_model)``."""
        return F.cosine_similarity(_at_least_float32(output).mean(1), _at_least_float32(self.vector)[None])


class SimilarityToOriginal(Similarity):
    """The same with the original input's own vector: its gradient is zero there, at the maximum of 1."""

    differentiable = False


def default_target(
    model: TransformerModel,
    inputs: tuple[Tensor, ...],
    output: Tensor,
    position: int | None = None,
    answer: int | None = None,
) -> AttributionTarget:
    """The attribution target for the task of a model.

    Args:
        model: of any family.
        inputs: from ``model_inputs``.
        output: ``model(*inputs)``.
        position: the token whose output is read. Default: the last of a text to be continued, the last of a
            target text, or the first mask token; a classifier of whole inputs has no position.
        answer: id of the token or class. Default: the most probable.

    Raises:
        ValueError: a position or answer that does not exist, or no position and no default.
        TypeError: a position or answer for a model that does not take one, or an unknown task.
    """
    task = model.task
    if task == "seq2seq_lm":
        return _at(DecoderTokenLogProb, output, -1 if position is None else position, answer)
    if task == "causal_lm":
        return _at(NextTokenLogProb, output, -1 if position is None else position, answer)
    if task == "masked_lm":
        position = _first_mask(model, inputs[0][0]) if position is None else position
        return _at(TokenLogProb, output, position, answer)
    if task == "token_classification":
        if position is None:
            raise ValueError("each token has a class of its own: give position=")
        return _at(TokenLogProb, output, position, answer)
    if task == "classification":
        if position is not None:
            raise TypeError("the class of a whole input is read from its first token: give no position")
        return ClassLogProb(_choose_answer(output[0], answer))
    if task == "none":
        if position is not None or answer is not None:
            raise TypeError("a model without a head predicts no tokens: give neither position nor answer")
        return SimilarityToOriginal(output[0].detach().mean(0))
    raise TypeError(f"there is no default attribution target for the task {task!r}: give one")


def _first_mask(model: TransformerModel, ids: Tensor) -> int:
    mask_token = None if model.tokenizer is None else model.tokenizer.mask_token
    masked = [] if mask_token is None else (ids == mask_token).nonzero().flatten().tolist()
    if not masked:
        raise ValueError("the text has no mask token: give position=, the token to be predicted")
    return int(masked[0])


def _at(
    target: Callable[[int, int], AttributionTarget], output: Tensor, position: int, answer: int | None
) -> AttributionTarget:
    length = output.size(1)
    if not -length <= position < length:
        raise ValueError(f"position {position} does not exist: positions are 0 to {length - 1}")
    position %= length
    return target(position, _choose_answer(output[0, position], answer))


def _choose_answer(logits: Tensor, answer: int | None) -> int:
    if answer is not None and not 0 <= answer < len(logits):
        raise ValueError(f"answer {answer} does not exist: ids are 0 to {len(logits) - 1}")
    return int(logits.argmax()) if answer is None else answer


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _log_softmax(logits: Tensor) -> Tensor:
    return _at_least_float32(logits).log_softmax(-1)
