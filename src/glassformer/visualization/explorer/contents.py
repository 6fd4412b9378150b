"""What an explorer page holds: all of it JSON values, and what is None or empty is left out of the page."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from glassformer.visualization.explorer.packing import LEVELS, Packed, PackedJson
from glassformer.visualization.explorer.scores import PackedScores

FORMAT = "glassformer-explorer-1"


@dataclass(frozen=True)
class Attention:
    """Every head of one kind of attention."""

    kind: str
    """As in ``model.attentions()``."""
    title: str
    """For the eye: "the target looks at the source"."""
    queries: list[str]
    """Labels of what looks."""
    keys: list[str]
    """Labels of what is looked at."""
    layers: list[int]
    """Numbers of the layers that are here."""
    heads: list[list[int]]
    """Numbers of the heads of each."""
    maps: list[Packed]
    """Of each layer a map for each head."""
    thumbnails: list[Packed]
    """Of each layer a small map for each head, and one more: their mean."""
    row: str = "looks"
    """What a query does, as in "this token looks at"."""


@dataclass(frozen=True)
class HeadName:
    """What the pattern analysis calls a head."""

    kind: str
    layer: int
    head: int
    name: str
    score: float
    low: float | None = None
    high: float | None = None
    control: str = ""
    """What the score is compared with."""
    control_score: float | None = None


@dataclass(frozen=True)
class Guesses:
    """The likeliest tokens at each position, of the model's end or of the ends of its layers."""

    title: str
    """What is guessed: "the next token"."""
    kinds: list[str]
    """Kinds of attention whose queries are these positions."""
    rows: list[str]
    """What guesses: "after layer 3"; the last one is the model itself."""
    tokens: list[str]
    """Labels that the guesses point into."""
    data: str
    """``pack_json`` of ``[position][row]`` = ``[token, probability, token, probability, ...]``."""
    truth: PackedJson | None = None
    """Packed ``[position]`` = ``[label, probability, rank]`` or None: what really stands there."""
    note: str = ""


@dataclass(frozen=True)
class Decomposition:
    """Attention scores of single cells, before the softmax, split into parts that sum to them."""

    kind: str
    parts: list[str]
    """Names: "content", "position", "bias"."""
    layers: list[PackedScores]
    """Of each layer that the attention has."""
    note: str = ""
    """Which cells are there, if not all."""


@dataclass(frozen=True)
class Flow:
    """Attention followed through all layers: how much each output takes from each input."""

    kind: str
    """Of attention, whose tokens are its rows and columns."""
    name: str
    """ "rollout", "gradient-weighted rollout"."""
    map: Packed
    note: str = ""
    faithfulness: float | None = None
    """How much further its deletion test went than random orders, where there was one; 0 is chance."""
    low: float | None = None
    high: float | None = None
    """The difference to 95 % of random orders."""
    query: int | None = None
    """The row that was tested: of the token whose answer it is; None where it is that of all of them."""


@dataclass(frozen=True)
class Picture:
    """The image that a vision model was given."""

    kind: str
    source: str
    """A data: address."""
    width: int
    height: int
    rows: int
    columns: int
    first: int
    """Number of the token that is the first patch; those before are no part of the image."""


@dataclass(frozen=True)
class Contents:
    """A page."""

    title: str
    text: str
    """What was read, shortened."""
    notes: list[str]
    """What a reader should know: that the text was cut, that the image was resized."""
    attention: list[Attention]
    names: list[HeadName] = field(default_factory=list)
    names_source: str = ""
    """Where they were measured."""
    guesses: list[Guesses] = field(default_factory=list)
    decompositions: list[Decomposition] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    picture: Picture | None = None
    name: str = ""
    """Of the model, as a person calls it."""

    @property
    def heading(self) -> str:
        """Which model, and what of it."""
        return f"{self.name} - {self.title}" if self.name else self.title

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {"format": FORMAT, "levels": LEVELS, **asdict(self)}
