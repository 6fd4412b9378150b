"""Contents of an explorer page as JSON values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from glassformer.analysis.head_patterns import HeadReport
from glassformer.visualization.explorer.encoding import LEVELS, PackedJson, PackedMaps, PackedScores
from glassformer.visualization.explorer.live import LiveModel

FORMAT = "glassformer-explorer-2"
THEMES = ("auto", "light", "dark")
"""Colors of a page; "auto" takes those that the reader's system prefers."""


class Peak(NamedTuple):
    """How visible the pattern of a head is, and where to look for it.

    Left out are weights on special tokens, on the first token, and of a token on itself, which many heads
    have whatever the text.
    """

    sharpness: float
    """The mean over queries of the largest remaining weight."""
    query: int
    key: int
    """The last query whose largest remaining weight is nearly that of all queries, and its key."""


@dataclass(frozen=True)
class AttentionMaps:
    """The weights of every head of one kind of attention."""

    kind: str
    """A key of ``model.attentions()``, such as ``"self"`` or ``"cross"``."""
    title: str
    """A description such as "the target on the source"."""
    queries: list[str]
    """Labels of the query tokens."""
    keys: list[str]
    """Labels of the key tokens."""
    layers: list[int]
    """Numbers of the layers on the page."""
    heads: list[list[int]]
    """For each layer, the numbers of its heads."""
    maps: list[PackedMaps]
    """For each layer, a map of each head."""
    thumbnails: list[PackedMaps]
    """For each layer, a downsampled map of each head, then one of their mean."""
    query_axis: str = "query"
    """Name of the axis of the queries."""
    query_pieces: list[str | None] = field(default_factory=list)
    """``text_pieces`` of the queries; empty if they are no text."""
    key_pieces: list[str | None] = field(default_factory=list)
    peaks: list[list[Peak]] = field(default_factory=list)
    """For each layer, the peak of each of its heads."""


@dataclass(frozen=True)
class HeadLabel:
    """A pattern that a head was labeled with by ``analyze_heads``, with its score and its best baseline."""

    kind: str
    layer: int
    head: int
    name: str
    score: float
    low: float | None = None
    high: float | None = None
    control: str = ""
    """Name of the baseline."""
    control_score: float | None = None


@dataclass(frozen=True)
class Predictions:
    """The most probable tokens (or classes) at each position, of the model or after each of its layers."""

    title: str
    """What is predicted, such as "the next token"."""
    kinds: list[str]
    """Kinds of attention whose queries are these positions."""
    rows: list[str]
    """Names of the rows, such as "after layer 3"; the last one is the model's own output."""
    tokens: list[str]
    """Labels of all tokens that occur below, where they are referred to by index."""
    data: str
    """``pack_json`` of ``[position][row]`` = ``[token, probability, token, probability, ...]``."""
    targets: PackedJson | None = None
    """For each position ``[token, probability, rank]`` of the token that is really there, or None."""
    note: str = ""
    ends: list[int] = field(default_factory=list)
    """Indices of the tokens that end a text."""


@dataclass(frozen=True)
class Decomposition:
    """Attention scores (before the softmax) of some cells, as sums of parts."""

    kind: str
    parts: list[str]
    """Names of the parts: "content", "position", "bias"."""
    layers: list[PackedScores]
    """One for each layer of the attention of this kind."""
    note: str = ""
    """Which cells are stored, if not all."""


@dataclass(frozen=True)
class PackedVectors:
    """Encoded queries, keys and values of a layer."""

    num_heads: int
    num_kv_heads: int
    """Heads of keys and values, each for as many heads of queries (grouped-query attention)."""
    d_head: int
    data: str
    """The largest absolute number of each vector as 32-bit floats, then all numbers as shares of it in signed
    bytes, 127 for 1; both for queries, keys and values, ordered by head and token; compressed, in base 91."""


@dataclass(frozen=True)
class Vectors:
    """The queries, keys and values of one kind of attention, as the kernel is given them."""

    kind: str
    layers: list[PackedVectors]
    scale: float
    """The factor of the products of queries and keys, such as 1 / sqrt(d_head)."""
    has_bias: bool
    """Whether a bias for positions is added to the scores."""


@dataclass(frozen=True)
class Rollout:
    """How much each output depends on each input, by attention through all layers."""

    kind: str
    """The kind of attention whose tokens are the rows and columns."""
    name: str
    """The method: "rollout" or "gradient-weighted rollout"."""
    map: PackedMaps
    note: str = ""
    faithfulness: float | None = None
    """Score of the deletion test minus the mean of random orders, if a test was run; 0 is chance."""
    low: float | None = None
    """Lower end of the 95 % interval of ``faithfulness`` over random orders."""
    high: float | None = None
    query: int | None = None
    """The row that was tested; None for the mean of all rows."""


@dataclass(frozen=True)
class InputImage:
    """The image that a vision model was given."""

    kind: str
    source: str
    """A ``data:`` URL."""
    width: int
    height: int
    rows: int
    """Rows of patches."""
    columns: int
    first_patch: int
    """Index of the token that is the first patch; the tokens before it are no part of the image."""


@dataclass(frozen=True)
class Contents:
    """Everything on an explorer page."""

    title: str
    """Family and size of the model."""
    text: str
    """The input, shortened."""
    notes: list[str]
    """Remarks for the reader, such as that the text was cut."""
    attention: list[AttentionMaps]
    head_labels: list[HeadLabel] = field(default_factory=list)
    head_labels_source: str = ""
    """The analysis that the labels come from."""
    predictions: list[Predictions] = field(default_factory=list)
    decompositions: list[Decomposition] = field(default_factory=list)
    rollouts: list[Rollout] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)
    image: InputImage | None = None
    name: str = ""
    """Name of the model."""
    theme: str = "auto"
    """One of ``THEMES``."""
    live: LiveModel | None = None
    """The model itself, in a page that computes the attention of typed texts."""

    @property
    def heading(self) -> str:
        """The title of the page."""
        return f"{self.name} - {self.title}" if self.name else self.title

    def as_json(self) -> dict[str, Any]:
        """The contents as JSON values."""
        return {"format": FORMAT, "levels": LEVELS, **asdict(self)}


def with_head_labels(contents: Contents, report: HeadReport | str | Path) -> Contents:
    """Add the labels of a report to the contents of a page; layers that are not on the page are skipped.

    Args:
        contents: of a page.
        report: of an analysis of the same model, or the path of its ``heads.json``.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is no report, or labels a head that the model does not have.
    """
    source = report if isinstance(report, HeadReport) else HeadReport.load(report)
    kind = str(source.settings.get("kind") or contents.attention[0].kind)
    shown = {item.kind: dict(zip(item.layers, item.heads, strict=True)) for item in contents.attention}
    labels = []
    for row in sorted(source.names, key=lambda row: not row["main"]):
        layer, head = int(row["layer"]), int(row["head"])
        heads = shown.get(kind, {}).get(layer)
        if heads is None:
            continue
        if head not in heads:
            raise ValueError(f"The report labels head {layer}.{head}, which the model does not have.")
        values = {key: row[key] for key in ("score", "low", "high", "control", "control_score")}
        labels.append(HeadLabel(kind, layer, head, str(row["name"]), **values))
    return replace(
        contents, head_labels=labels, head_labels_source=f"Labels from an analysis of {source.model}"
    )
