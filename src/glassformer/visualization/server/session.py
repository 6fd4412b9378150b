"""A model to be tried out: what it says next, with all its heads and with some of them off.

Nothing of a visit is kept here: each question brings the text, what was written and which heads are off. What
is remembered of the last one only saves reading a text twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from glassformer.analysis import EncoderDecoder, read
from glassformer.analysis.ablation import Head, ReferenceOutputs, ablate, parse_heads, reference_outputs
from glassformer.analysis.head_report import HeadReport
from glassformer.attention import attentions_of
from glassformer.generation.sampling import Sampler
from glassformer.generation.streaming import evaluating
from glassformer.models import TransformerModel
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization.explorer import gather, page_html
from glassformer.visualization.explorer.naming import with_names
from glassformer.visualization.readable import mark_names
from glassformer.visualization.server.asking import LONGEST_TEXT, Question
from glassformer.visualization.server.cutting import Limit, Part
from glassformer.visualization.server.likeness import cosines, last_vectors
from glassformer.visualization.server.speaking import Voice, speaker_of
from glassformer.visualization.shortening import shortened

SHOWN = 12
"""Tokens shown of each distribution."""
MOST_ANALYSED = 10**12
"""Weights of a model x its layers x tokens of a text, up to which an explorer page has all analyses: the lens
reads the vocabulary off after every layer. SmolLM2-135M takes about a minute of one core for as much."""

Off: TypeAlias = dict[str, list[Head]]
"""Heads that are off, by kind of attention."""


class LiveModel:
    """A model that answers questions, one at a time.

    Args:
        model: one that reads text.
        name: what it is called on the page.
        longest: tokens that it is given to read at most, its own ``max_seq_len`` aside.
        texts: what the mean of a head is over. Default: the text that is asked about.
        names: an analysis that gave names to heads.

    Raises:
        TypeError: a model of images.
        ValueError: ``longest`` below 1, a model whose vocabulary has no room for text, or names of heads that
            it does not have.
    """

    def __init__(
        self,
        model: TransformerModel,
        *,
        name: str,
        longest: int = 512,
        texts: Sequence[str] | None = None,
        names: HeadReport | None = None,
    ) -> None:
        if longest < 1:
            raise ValueError(f"a model must be given at least 1 token to read, not {longest}")
        if "vocab_size" not in model.config:
            raise TypeError(
                f"a {type(model).__name__} reads no text: glassformer explore --image shows its heads"
            )
        if model.tokenizer is None:
            read(model, "a")  # refuses a vocabulary that has no room for bytes
        self.model, self.name, self.texts, self.names = model, name, texts, names
        own = int(model.config["max_seq_len"])
        self.limit = Limit(min(longest, own), own)
        self.tokenizer = model.tokenizer or ByteTokenizer()
        self.marks = mark_names(model, self.tokenizer)
        self.speaker = speaker_of(model, self.limit)
        self.kinds = {kind: [a.num_heads for a in layers] for kind, layers in attentions_of(model).items()}
        ends = {self.tokenizer.end_of_text, getattr(model, "end_token", None)}
        self.ends = {end for end in ends if end is not None}
        self._voices: dict[str, tuple[Any, Voice]] = {}
        self._references: dict[str, tuple[Any, ReferenceOutputs]] = {}

    def about(self) -> dict[str, Any]:
        """What a page has to know of the model."""
        family = type(self.model).__name__.removesuffix("Model")
        return {
            "name": self.name,
            "family": family,
            "parameters": self.model.num_parameters(),
            "kinds": self.kinds,
            "says": self.speaker.says,
            "example": self.speaker.example,
            "two_texts": isinstance(self.model, EncoderDecoder),
            "longest": self.limit.longest,
            "limit": self.limit.words,
            "analysed": max(1, MOST_ANALYSED // self._work),
            "longest_text": LONGEST_TEXT,
            "mean_over": "the text on this page" if self.texts is None else f"{len(self.texts)} texts",
            "names": [] if self.names is None else [self._name(row) for row in self.names.names],
        }

    @torch.no_grad()
    def look(self, question: Question) -> dict[str, Any]:
        """The tokens of a text, and the likeliest to come, with all heads and without those that are off.

        Raises:
            ValueError: an empty text, a token or head that does not exist.
        """
        reading, off = self._checked(question)
        with evaluating(self.model):
            if self.speaker.says:
                return self._answer(question, reading, *self._before_and_after(question, reading, off))
            return {
                **self._answer(question, reading, None, None),
                "cosines": self._cosines(question, reading, off),
            }

    @torch.no_grad()
    def step(self, question: Question) -> dict[str, Any]:
        """Draw a token without the heads that are off, and look again; None where there is no place for it.

        Raises:
            ValueError: as ``look``, or a model that says nothing.
        """
        if not self.speaker.says:
            raise ValueError(
                f"a {type(self.model).__name__} without a head over a vocabulary writes nothing: "
                "what its heads look at can be shown"
            )
        reading, off = self._checked(question)
        sampler = Sampler(temperature=question.temperature, top_k=question.top_k)
        with evaluating(self.model):
            before, after = self._before_and_after(question, reading, off)
            if after is None:
                return {"token": None, **self._answer(question, reading, before, after)}
            token = int(sampler(after[None], torch.tensor([reading.ids], device=after.device)))
            question = replace(question, written=(*question.written, token))
            answer = self._answer(question, reading, *self._before_and_after(question, reading, off))
        return {"token": token, "ended": token in self.ends, **answer}

    def explore(self, question: Question) -> str:
        """An explorer page of the text and what was written, with the heads off that are off.

        Raises:
            ValueError: as ``look``, or a page that would be too large.
        """
        reading, off = self._checked(question)
        written = list(question.written[: self.speaker.room(reading.ids)])
        length, notes = len(reading.ids) + len(written), list(reading.notes)
        affordable = length * self._work <= MOST_ANALYSED
        if question.analyses and not affordable:
            notes.append(
                f"no logit lens, rollout or scores in parts: for {length:,} tokens they would take too long; "
                f"this server makes them for {MOST_ANALYSED // self._work:,} tokens of this model at most"
            )
        with self._without(off, question, reading):
            contents = gather(
                self.model,
                **self.speaker.shown(reading.ids, written),
                name=self.name,
                analyses=question.analyses and affordable,
                faithfulness=False,
            )
        if len(written) < len(question.written):
            notes.append(f"there was room for {len(written)} of {len(question.written)} written tokens")
        if question.off:
            notes.append(f"heads off ({question.how}): {', '.join(question.off)}")
        shown = f"“{shortened(' '.join(question.text.split()), 300)}”"
        if count := len(written):
            shown += f" and {count} token{'s' * (count > 1)} that the model wrote"
        contents = replace(contents, text=shown, notes=notes + contents.notes)
        return page_html(contents if self.names is None else with_names(contents, self.names))

    def _checked(self, question: Question) -> tuple[Part, Off]:
        """The text as it is read, and the heads by kind; everything that is asked for exists."""
        vocab_size = int(self.model.config["vocab_size"])
        for token in question.written:
            if token >= vocab_size:
                raise ValueError(f"token id {token} does not exist: ids are 0 to {vocab_size - 1}")
        off: Off = {}
        for name in question.off:
            kind, colon, head = name.rpartition(":")
            kind = kind if colon else next(iter(self.kinds))
            off.setdefault(kind, []).extend(parse_heads(head))
        for kind, heads in off.items():
            with ablate(self.model, heads, kind=kind):
                pass  # refuses what does not exist
        return self.speaker.reading(question.text), off

    def _before_and_after(
        self, question: Question, reading: Part, off: Off
    ) -> tuple[Tensor | None, Tensor | None]:
        """Logits with all heads, and with those that are on."""
        written = list(question.written)
        before = self._voice("before", tuple(reading.ids), reading).logits(written)
        if not off or before is None:
            return before, before
        with self._without(off, question, reading):
            key = (tuple(reading.ids), frozenset(question.off), question.how)
            return before, self._voice("after", key, reading).logits(written)

    def _voice(self, place: str, key: Any, reading: Part) -> Voice:
        """That of the last question, where it was of the same text with the same heads."""
        known, voice = self._voices.get(place, (None, None))
        if voice is None or known != key:
            voice = self.speaker.voice(reading.ids)
            self._voices[place] = (key, voice)
        return voice

    @contextmanager
    def _without(self, off: Off, question: Question, reading: Part) -> Iterator[None]:
        """The model with heads off."""
        references = {kind: self._reference(kind, reading) for kind in off} if question.how == "mean" else {}
        with ExitStack() as stack:
            for kind, heads in off.items():
                stack.enter_context(
                    ablate(self.model, heads, question.how, kind=kind, reference=references.get(kind))
                )
            yield

    def _reference(self, kind: str, reading: Part) -> ReferenceOutputs:
        """What heads give on average; of the last text for each kind."""
        key = None if self.texts is not None else tuple(reading.ids)
        known, reference = self._references.get(kind, (None, None))
        if reference is None or known != key:
            texts: Sequence[Any] = [reading.ids] if self.texts is None else self.texts
            reference = reference_outputs(self.model, texts, kind, places=1)
            self._references[kind] = (key, reference)
        return reference

    def _cosines(self, question: Question, reading: Part, off: Off) -> list[float]:
        """How much each token's last vector is still what it was; nothing where all heads are on."""
        if not off:
            return []
        before = last_vectors(self.model, reading.ids)
        with self._without(off, question, reading):
            return cosines(before, last_vectors(self.model, reading.ids))

    @property
    def _work(self) -> int:
        """Of the analyses, for one token."""
        return self.model.num_parameters() * max(len(layers) for layers in self.kinds.values())

    def _answer(
        self, question: Question, reading: Part, before: Tensor | None, after: Tensor | None
    ) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "tokens": [self.marks.get(*pair) for pair in zip(reading.ids, reading.labels, strict=True)],
            "notes": list(reading.notes),
            "cut": {"at": reading.cut, "left_out": len(reading.left_out)} if reading.left_out else None,
            "written": [{"id": token, "label": self._label(token)} for token in question.written],
        }
        if before is None or after is None:
            why = self.speaker.full(reading) if self.speaker.says else ""
            return {**answer, "guesses": [], "divergence": None, "why": why}
        p, q = (logits.double().log_softmax(-1).cpu() for logits in (before, after))
        if not bool(torch.isfinite(p).any() and torch.isfinite(q).any()):
            raise ValueError("the model's probabilities are no numbers: its weights are broken or diverged")
        likeliest = {token for x in (p, q) for token in x.topk(min(SHOWN, len(x))).indices.tolist()}
        order = sorted(likeliest, key=lambda token: -float(torch.maximum(p, q)[token]))[:SHOWN]
        guesses = [
            {
                "id": token,
                "label": self._label(token),
                "before": float(p[token].exp()),
                "after": float(q[token].exp()),
            }
            for token in order
        ]
        divergence = (p.exp() * (p - q)).nansum().clamp(min=0)  # a token without probability adds nothing
        return {**answer, "guesses": guesses, "divergence": float(divergence), "why": ""}

    def _label(self, token: int) -> str:
        if token >= self.tokenizer.vocab_size:
            return str(token)
        return self.marks.get(token) or self.tokenizer.label(token)

    def _name(self, row: Any) -> dict[str, Any]:
        """A head's name, for the page."""
        assert self.names is not None
        kind = str(self.names.settings.get("kind") or next(iter(self.kinds)))
        return {"kind": kind, "layer": int(row["layer"]), "head": int(row["head"]), "name": str(row["name"])}
