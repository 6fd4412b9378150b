"""What a model makes of an input, as one number: what relevance explains, and what deletion lowers.

    a language model      log p(token), next, hidden, or of a target
    a classifier          log p(class)
    a model without head  cosine of its mean hidden state and the one it had

An outcome looks at the model's output and at which tokens of the intact input are still there, because what
is read from a token moves along when one before it goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.analysis.branching import CausalModel
from glassformer.analysis.reading import EncoderDecoder
from glassformer.models import TransformerModel
from glassformer.models.heads import ClassificationHead, MaskedLMHead, NoHead, TokenClassificationHead


class Outcome(Protocol):
    """One number for each row of a batch."""

    has_slope: ClassVar[bool]
    """Whether its gradient says anything: not where it is at its top."""

    @property
    def position(self) -> int | None:
        """The token of the intact input whose vector it is read from; None where it is not one alone."""
        ...

    def depends_on(self, length: int) -> list[int]:
        """Which of so many tokens it may depend on, without the one that it is read from."""
        ...

    def __call__(self, output: Tensor, kept: Tensor) -> Tensor:
        """The number itself, ``(batch,)``.

        Args:
            output: what the model gives.
            kept: ``(batch, key)``, which tokens of the intact input are there, rising.
        """
        ...


@dataclass(frozen=True)
class TokenProbability:
    """log p(token), or of a class of tokens, as the model says at a position."""

    position: int
    token: int
    has_slope: ClassVar[bool] = True

    def depends_on(self, length: int) -> list[int]:
        """All the others."""
        return [token for token in range(length) if token != self.position]

    def __call__(self, output: Tensor, kept: Tensor) -> Tensor:
        """From ``(batch, seq, vocab_size)``."""
        place = (kept < self.position).sum(1)
        logits = output[torch.arange(len(output), device=output.device), place]
        return _log_probabilities(logits)[:, self.token]


class NextTokenProbability(TokenProbability):
    """log p(token | what stands up to a position)."""

    def depends_on(self, length: int) -> list[int]:
        """Those before the position."""
        return list(range(min(length, self.position)))


@dataclass(frozen=True)
class TargetProbability:
    """log p(token | the source, and the target up to a position), of an encoder-decoder."""

    target_position: int
    token: int
    position: None = None
    has_slope: ClassVar[bool] = True

    def depends_on(self, length: int) -> list[int]:
        """The whole source."""
        return list(range(length))

    def __call__(self, output: Tensor, kept: Tensor) -> Tensor:
        """From ``(batch, target seq, vocab_size)``."""
        return _log_probabilities(output[:, self.target_position])[:, self.token]


@dataclass(frozen=True)
class ClassProbability:
    """log p(class), read from the first token."""

    label: int
    position: int = 0
    has_slope: ClassVar[bool] = True

    def depends_on(self, length: int) -> list[int]:
        """All but the first."""
        return list(range(1, length))

    def __call__(self, output: Tensor, kept: Tensor) -> Tensor:
        """From ``(batch, labels)``."""
        return _log_probabilities(output)[:, self.label]


@dataclass(frozen=True)
class Similarity:
    """Cosine of the mean hidden state and a vector ``(d_model,)``, such as that of another text."""

    vector: Tensor
    position: None = None
    has_slope: ClassVar[bool] = True

    def depends_on(self, length: int) -> list[int]:
        """All."""
        return list(range(length))

    def __call__(self, output: Tensor, kept: Tensor) -> Tensor:
        """From ``(batch, seq, d_model)``."""
        return F.cosine_similarity(_exact(output).mean(1), _exact(self.vector)[None])


class SimilarityToIntact(Similarity):
    """The same with the input's own vector: one at the intact input, which is the top, without slope."""

    has_slope = False


def outcome_of(
    model: TransformerModel,
    inputs: tuple[Tensor, ...],
    output: Tensor,
    position: int | None = None,
    answer: int | None = None,
) -> Outcome:
    """The outcome that suits what a model can do.

    Args:
        model: of any family.
        inputs: from ``inputs_of``.
        output: ``model(*inputs)``.
        position: where it is read from. Default: the last token of a text that is to be continued, the last
            of a target, the first mask of a text with masks; classes have none to choose.
        answer: id of the token or class. Default: the likeliest.

    Raises:
        ValueError: a position or answer that does not exist, or a text without a mask and no position.
        TypeError: a position or answer for a model that has none to choose.
    """
    if isinstance(model, EncoderDecoder):
        return _at(TargetProbability, output, -1 if position is None else position, answer)
    if isinstance(model, CausalModel):
        return _at(NextTokenProbability, output, -1 if position is None else position, answer)
    head: Any = model.head
    return _of_head(head, model, inputs, output, position, answer)


@singledispatch
def _of_head(head: nn.Module, model: Any, *others: Any) -> Outcome:
    raise TypeError(
        f"no outcome is known for a {type(model).__name__} with a {type(head).__name__}: give one"
    )


@_of_head.register
def _(
    head: MaskedLMHead,
    model: Any,
    inputs: tuple[Tensor],
    output: Tensor,
    position: int | None,
    answer: int | None,
) -> Outcome:
    if position is None:
        mask = None if model.tokenizer is None else model.tokenizer.mask_token
        masks = (inputs[0][0] == mask).nonzero() if mask is not None else []
        if not len(masks):
            raise ValueError("the text has no mask to guess: give position=, the token that is to be guessed")
        position = int(masks[0])
    return _at(TokenProbability, output, position, answer)


@_of_head.register
def _(
    head: TokenClassificationHead,
    model: Any,
    inputs: Any,
    output: Tensor,
    position: int | None,
    answer: int | None,
) -> Outcome:
    if position is None:
        raise ValueError("each token has a class of its own: give position=")
    return _at(TokenProbability, output, position, answer)


@_of_head.register
def _(
    head: ClassificationHead,
    model: Any,
    inputs: Any,
    output: Tensor,
    position: int | None,
    answer: int | None,
) -> Outcome:
    if position is not None:
        raise TypeError("the class of a whole input is read from its first token: give no position")
    return ClassProbability(_answer(output[0], answer))


@_of_head.register
def _(
    head: NoHead, model: Any, inputs: Any, output: Tensor, position: int | None, answer: int | None
) -> Outcome:
    if position is not None or answer is not None:
        raise TypeError("a model without a head says nothing at a position: give neither position nor answer")
    return SimilarityToIntact(output[0].detach().mean(0))


def _at(outcome: Callable[[int, int], Outcome], output: Tensor, position: int, answer: int | None) -> Outcome:
    length = output.size(1)
    if not -length <= position < length:
        raise ValueError(f"position {position} does not exist: positions are 0 to {length - 1}")
    position %= length
    return outcome(position, _answer(output[0, position], answer))


def _answer(logits: Tensor, answer: int | None) -> int:
    if answer is not None and not 0 <= answer < len(logits):
        raise ValueError(f"answer {answer} does not exist: ids are 0 to {len(logits) - 1}")
    return int(logits.argmax()) if answer is None else answer


def _exact(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _log_probabilities(logits: Tensor) -> Tensor:
    return _exact(logits).log_softmax(-1)
