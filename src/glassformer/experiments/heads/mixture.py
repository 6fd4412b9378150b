"""Text that the small models are trained on: half grammar, a quarter repeated words, a quarter prose."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from glassformer.analysis.head_patterns.inputs import MAX_BLOCK, MIN_BLOCK, sentences
from glassformer.data import documents
from glassformer.experiments.heads.grammar import generate_sentences
from glassformer.files import atomic_write

SHARES = {"grammar": 0.5, "repeated": 0.25, "prose": 0.25}
"""Share of each kind of line in the words of the text."""
LINES = 40
"""Lines of a document."""
NUM_REPEATED = 500
"""Different words in repeated lines: the most frequent ones of the prose."""
EVALUATION = 5
"""Every fifth document is for evaluation, the others are for training."""


def training_prose(source: str) -> Iterator[str]:
    """Sentences of the documents that are not for evaluation."""
    return sentences(d.text for number, d in enumerate(documents(source)) if number % EVALUATION)


def evaluation_prose(source: str, blocks: int) -> list[list[str]]:
    """Sentences of the documents for evaluation: those for selection, and blocks of other documents.

    A fifth of the documents is for selection; the others are dealt out to the blocks in turn.

    Args:
        source: as in ``DataConfig``.
        blocks: their number.
    """
    found: list[list[str]] = [[] for _ in range(blocks + 1)]
    kept = (d for number, d in enumerate(documents(source)) if not number % EVALUATION)
    dealt = 0
    for number, document in enumerate(kept):
        block = 0
        if number % EVALUATION:
            block = 1 + dealt % blocks
            dealt += 1
        found[block] += sentences([document.text])
    return found


def mixture(prose: Iterable[str], num_words: int, seed: int) -> Iterator[str]:
    """Lines of all kinds in turn, until they have ``num_words`` words.

    Args:
        prose: sentences; they are shuffled.
        num_words: words of the whole text.
        seed: of the sentences of the grammar, the repeated words and the order of the prose.

    Raises:
        ValueError: the prose has fewer words than its share, or fewer than four different ones.
    """
    draw = random.Random(f"mixture {seed}")
    shuffled = list(prose)
    draw.shuffle(shuffled)
    words = _frequent_words(shuffled)
    if len(words) < MIN_BLOCK:
        raise ValueError(f"the prose must have at least {MIN_BLOCK} different words, got {len(words)}")
    lines = {
        "grammar": (sentence.text for sentence in generate_sentences(seed)),
        "repeated": repeated_lines(words, draw),
        "prose": iter(shuffled),
    }
    counts = dict.fromkeys(SHARES, 0)
    while sum(counts.values()) < num_words:
        kind = min(SHARES, key=lambda kind: counts[kind] / SHARES[kind])
        line = next(lines[kind], None)
        if line is None:
            raise ValueError(
                f"{SHARES[kind] * num_words:,.0f} words of prose are needed, and the text has "
                f"{counts[kind]:,}: use a longer one"
            )
        counts[kind] += len(line.split())
        yield line


def repeated_lines(words: list[str], draw: random.Random) -> Iterator[str]:
    """Random words, twice, without end; every word follows a space, so that both copies have equal tokens."""
    while True:
        block = draw.sample(words, draw.randint(MIN_BLOCK, min(MAX_BLOCK, len(words))))
        yield "".join(f" {word}" for word in (*block, *block))


def write_mixture(path: Path, source: str, num_words: int, seed: int) -> None:
    """Write the text as a .jsonl file, unless it exists.

    Args:
        path: of the file.
        source: prose, as in ``DataConfig``.
        num_words: see ``mixture``.
        seed: see ``mixture``.
    """
    if path.exists():
        return
    lines = list(mixture(training_prose(source), num_words, seed))
    texts = ("\n".join(lines[start : start + LINES]) for start in range(0, len(lines), LINES))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, "".join(json.dumps({"text": text}) + "\n" for text in texts))


def _frequent_words(prose: Iterable[str]) -> list[str]:
    counts = Counter(word for text in prose for word in re.findall(r"[a-z]{3,}", text))
    return [word for word, _ in counts.most_common(NUM_REPEATED)]
