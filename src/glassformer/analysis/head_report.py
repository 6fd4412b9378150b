"""What an analysis of heads found: a tidy table, and the names that heads have earned."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from glassformer.files import atomic_write

FORMAT = "glassformer-heads-1"

COLUMNS = (
    *("layer", "head", "pattern", "measure", "score", "low", "high", "control", "control_score", "lift"),
    *("p", "q", "num_queries", "num_items", "name", "main"),
)
"""Of the table. One row a head, pattern and measure:

score, low, high        on the half of the items that is for scoring, with its 95 % bootstrap interval
control, control_score  the strongest control there
lift                    score - control_score
p                       of "the score exceeds some control by the margin at most"
q                       of the head and pattern: the larger p of rate and mass, false discoveries held
num_queries, num_items  that the score is a mean over
name                    the pattern, where the head is named after it
main                    whether that is the main one of the head's names
"""

Row = dict[str, Any]


@dataclass(frozen=True)
class HeadReport:
    """The table of an analysis, and its names."""

    model: str
    """What was analysed."""
    settings: Mapping[str, Any]
    """All that the numbers depend on besides model and data."""
    rows: Sequence[Row]
    """Tidy: one for each head, pattern and measure; keys as in ``COLUMNS``."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """num_items, num_cut, as_bytes, and notes: what was done to the data."""

    @property
    def names(self) -> list[Row]:
        """Those that heads have earned: layer, head, name, score, low, high, control, control_score, main.

        Scores are rates. A head may have several names, one of them the main one.
        """
        return [
            {"layer": row["layer"], "head": row["head"], "name": row["name"]}
            | {key: row[key] for key in ("score", "low", "high", "control", "control_score", "main")}
            for row in self.rows
            if row["name"] and row["measure"] == "rate"
        ]

    @property
    def num_cut(self) -> int:
        """Texts that were longer than what was read of them."""
        return int(self.data.get("num_cut", 0))

    @property
    def as_bytes(self) -> bool:
        """Whether texts were read as bytes, because the model has no tokenizer."""
        return bool(self.data.get("as_bytes", False))

    @property
    def notes(self) -> list[str]:
        """What a reader of the numbers should know."""
        return list(self.data.get("notes", []))

    def best(self) -> list[Row]:
        """For each pattern, the row of the head with the highest rate, if it can be one that is named so."""
        best: dict[str, Row] = {}
        for row in self.rows:
            if row["measure"] == "rate":
                before = best.setdefault(row["pattern"], row)
                if (bool(row["name"]), row["score"]) > (bool(before["name"]), before["score"]):
                    best[row["pattern"]] = row
        return list(best.values())

    def save(self, path: str | Path) -> None:
        """Write the table as CSV, or all of it as JSON, by the suffix.

        Raises:
            ValueError: another suffix.

        """
        path = Path(path)
        if path.suffix == ".json":
            content: dict[str, Any] = {"format": FORMAT, "model": self.model, "settings": dict(self.settings)}
            content |= {"data": dict(self.data), "names": self.names, "rows": list(self.rows)}
            atomic_write(path, json.dumps(content, indent=1) + "\n")
        elif path.suffix == ".csv":
            text = io.StringIO()
            writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
            atomic_write(path, text.getvalue())
        else:
            raise ValueError(f"a table is saved as .csv or .json, not {path.suffix or path.name!r}")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what ``save`` wrote as JSON.

        Raises:
            FileNotFoundError: no such file.
            ValueError: something else.

        """
        try:
            content = json.loads(Path(path).read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is no JSON: {error}") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f'{path} is not of the format "{FORMAT}"')
        return cls(content["model"], content["settings"], content["rows"], content["data"])
