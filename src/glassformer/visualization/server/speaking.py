"""What a model says of a text: the token after it, the next token of a target, or what a hole hides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from glassformer.analysis import EncoderDecoder, read
from glassformer.analysis.reading import marks_of
from glassformer.contracts import Cache, LanguageModel
from glassformer.generation.fill_mask import MASK
from glassformer.models import TransformerModel
from glassformer.models.heads import MaskedLMHead
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization.server.cutting import Limit, Part, part_of


class Speaker(Protocol):
    """How a model is asked: ``voice`` of a text may then be asked for one token after the other."""

    says: str
    """What its probabilities are of; empty where it has none to give."""
    example: str
    """A text to begin with."""

    def reading(self, text: str) -> Part:
        """The text as the model reads it."""
        ...

    def full(self, reading: Part) -> str:
        """Why nothing can be said after a text, and what was written: in a sentence."""
        ...

    def voice(self, source: list[int]) -> Voice:
        """What it says of the ids of a text. Made with heads off, to be asked with the same heads off."""
        ...

    def room(self, source: list[int]) -> int:
        """How many written tokens are read along with the ids of a text."""
        ...

    def shown(self, source: list[int], written: list[int]) -> dict[str, Any]:
        """The text and what was written, as the explorer takes them."""
        ...


class Voice(Protocol):
    """What a model says of one text."""

    def logits(self, written: list[int]) -> Tensor | None:
        """``(vocab_size,)`` for the token after those written; None where there is no place for one."""
        ...


def speaker_of(model: TransformerModel, limit: Limit) -> Speaker:
    """How a model is asked, decided by what it can do.

    Args:
        model: one that reads text.
        limit: tokens that it is given to read at most.
    """
    if isinstance(model, EncoderDecoder):
        return Translating(model, limit)
    if isinstance(model, ContinuesText):
        return Continuing(model, limit)
    mask = None if model.tokenizer is None else model.tokenizer.mask_token
    if mask is not None and isinstance(getattr(model, "head", None), MaskedLMHead):
        return Filling(model, limit, mask)
    return Silent(model, limit)


class Silent:
    """A model without a head over a vocabulary: its text is read, and that is all."""

    says = ""
    example = "The cat sat on the mat because"

    def __init__(self, model: Any, limit: Limit) -> None:
        self.model, self.limit, self.longest = model, limit, limit.longest
        self.tokenizer = model.tokenizer or ByteTokenizer()
        self.add_marks = marks_of(model, model.tokenizer)

    def reading(self, text: str) -> Part:
        """The text as the model reads it."""
        reading = read(self.model, text, self.longest)
        return part_of(reading, self.tokenizer.encode(text), self.add_marks, self.tokenizer, self.limit)

    def full(self, reading: Part) -> str:
        """The limit."""
        return f"Nothing can be added: {self.limit.words}."

    def voice(self, source: list[int]) -> Voice:
        """One that says nothing."""
        return Silence()

    def room(self, source: list[int]) -> int:
        """What the text leaves."""
        return self.longest - len(source)

    def shown(self, source: list[int], written: list[int]) -> dict[str, Any]:
        """Text and continuation are one text."""
        return {"text": source + written}


class Silence:
    """Nothing to say."""

    def logits(self, written: list[int]) -> Tensor | None:
        """None."""
        return None


@runtime_checkable
class ContinuesText(Protocol):
    """A decoder."""

    def next_token_logits(self, input_ids: Tensor) -> Tensor:
        """As in ``contracts.LanguageModel``."""
        ...


class Continuing(Silent):
    """A decoder: what comes after the text."""

    says = "the next token"

    def voice(self, source: list[int]) -> Voice:
        """The text, continued."""
        return Continuation(self.model, source, self.longest)


class Translating(Silent):
    """An encoder-decoder: what it writes, having read the text."""

    says = "the next token of the target"

    def voice(self, source: list[int]) -> Voice:
        """The target, from its start."""
        decoder = self.model.conditioned_on(torch.tensor([source], device=self.model.device))
        return Continuation(decoder, [self.model.start_token], self.longest)

    def room(self, source: list[int]) -> int:
        """A target has a length of its own."""
        return self.longest

    def shown(self, source: list[int], written: list[int]) -> dict[str, Any]:
        """Source and target."""
        return {"text": source, "target_text": written or None}


class Filling(Silent):
    """An encoder with a head for masked tokens: what the first hole hides that is not filled yet."""

    says = f"the first {MASK}"
    example = f"The cat sat on the {MASK}."

    def __init__(self, model: Any, limit: Limit, mask: int) -> None:
        super().__init__(model, limit)
        self.mask = mask

    def reading(self, text: str) -> Part:
        """The text with its holes."""
        tokenizer = self.tokenizer
        pieces = re.split("|".join(map(re.escape, (MASK, tokenizer.label(self.mask)))), text)
        ids = tokenizer.encode(pieces[0])
        for piece in pieces[1:]:
            ids = [*ids, self.mask, *tokenizer.encode(piece)]
        if not ids:
            raise ValueError("the text is empty: give at least one token")
        room = self.longest - (len(self.add_marks(ids)) - len(ids))
        reading = read(self.model, self.add_marks(ids[: max(0, room)]))
        return part_of(reading, ids, self.add_marks, tokenizer, self.limit, self.mask)

    def full(self, reading: Part) -> str:
        """No hole, or none that is read."""
        if self.mask not in reading.left_out:
            return f"No {MASK} is open: put one into the text where a token is to be guessed."
        which = f"The next {MASK}" if self.mask in reading.ids else f"The {MASK}"
        return f"{which} is past the {self.longest:,} tokens that are read: {self.limit.words}."

    def voice(self, source: list[int]) -> Voice:
        """The text with its holes filled from the left."""
        return Holes(self.model, source, self.mask)

    def room(self, source: list[int]) -> int:
        """A token a hole."""
        return source.count(self.mask)

    def shown(self, source: list[int], written: list[int]) -> dict[str, Any]:
        """The text as far as it is filled."""
        return {"text": filled(source, written, self.mask)}


class Continuation:
    """Reads ids from the left, each only once as long as they go on from those that were read last."""

    def __init__(self, model: LanguageModel, begin: list[int], longest: int) -> None:
        self.model, self.begin, self.longest = model, begin, longest
        self.read: list[int] = []
        self.cache: Sequence[Cache] | None = None
        self.last: Tensor | None = None

    def logits(self, written: list[int]) -> Tensor | None:
        """For the token after those written, unless no more can be read."""
        ids = self.begin + written
        if len(ids) > self.longest:
            return None
        if ids == self.read:
            return self.last
        known, cache = len(self.read), self.cache
        if cache is None or ids[:known] != self.read:
            known, cache = 0, self.model.make_cache(self.longest)
        self.read, self.cache = [], None  # a reading that is broken off leaves nothing behind
        self.last = self.model.next_token_logits(self._row(ids[known:]), cache=cache)[0]
        self.read, self.cache = ids, cache
        return self.last

    def _row(self, ids: list[int]) -> Tensor:
        return torch.tensor([ids], device=self._device)

    @cached_property
    def _device(self) -> torch.device:
        parameters: Any = self.model
        return next(parameters.parameters()).device  # type: ignore[no-any-return]


class Holes:
    """Fills the holes of a text from the left; those still open are seen as masks."""

    def __init__(self, model: Any, source: list[int], mask: int) -> None:
        self.model, self.source, self.mask = model, source, mask

    def logits(self, written: list[int]) -> Tensor | None:
        """Of the first hole that is open; None where there is none."""
        ids = filled(self.source, written, self.mask)
        if self.mask not in ids:
            return None
        logits: Tensor = self.model(torch.tensor([ids], device=self.model.device))
        return logits[0, ids.index(self.mask)]


def filled(source: list[int], written: list[int], mask: int) -> list[int]:
    """The ids with their first masks replaced."""
    fillings = iter(written)
    return [next(fillings, mask) if token == mask else token for token in source]
