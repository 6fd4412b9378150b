"""Sentences with the word relations of the study, as items of a head analysis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from glassformer.analysis.behaviors.tasks import item_prefix
from glassformer.analysis.head_patterns.patterns import Item, Pattern, SyntaxRelation, select_patterns
from glassformer.analysis.head_patterns.syntax import Parse, Parser, add_words
from glassformer.analysis.inputs import encode_text, special_token_adder
from glassformer.experiments.heads.grammar import Sentence
from glassformer.experiments.heads.word_similarity import RelatedWords
from glassformer.models import TransformerModel

DISTANT = ("distant->head", "distant->dependent")
"""From a word to its head and to its dependents, over at least ``min_distance`` words."""
RELATED, CONTROL = "word->related", "word->control"
"""From a word to a related one, and to its control: see ``word_similarity``."""
GROUPS = ("tokens", "copying", "syntax")
"""Groups of the library's patterns that are measured too."""
Pairs = list[tuple[int, int]]


def study_patterns() -> list[Pattern]:
    """All patterns of the study."""
    own: list[Pattern] = [SyntaxRelation(name) for name in (*DISTANT, RELATED, CONTROL)]
    return [*select_patterns(GROUPS).values(), *own]


@dataclass(frozen=True)
class AnnotatedParse(Parse):
    """A parse with the study's own relations."""

    more: Mapping[str, Pairs] = field(default_factory=dict)

    def relations(self) -> dict[str, Pairs]:
        """The syntactic relations and the study's own."""
        return {**super().relations(), **self.more}


class SentenceParser(Protocol):
    """Finds the words and dependencies of sentences."""

    def parse(self, texts: Iterable[str]) -> Iterator[Parse]:
        """Parses in the order of the texts."""
        ...


class GrammarParser:
    """The dependencies that sentences were generated with.

    Args:
        sentences: those that will be asked for.
    """

    def __init__(self, sentences: Iterable[Sentence]) -> None:
        self._parses = {sentence.text: sentence.parse for sentence in sentences}

    def parse(self, texts: Iterable[str]) -> Iterator[Parse]:
        """Parses in the order of the texts."""
        return (self._parses[text] for text in texts)


class Annotator(Parser):
    """Adds the study's own relations to parses.

    Args:
        parser: finds words and dependencies.
        min_distance: words between the ends of a distant dependency.
        related: finds related words; None leaves them out.
    """

    def __init__(self, parser: SentenceParser, min_distance: int, related: RelatedWords | None) -> None:
        self.parser, self.min_distance, self.related = parser, min_distance, related

    def parse(self, texts: Iterable[str]) -> Iterator[Parse]:
        """Parses in the order of the texts."""
        seen: list[str] = []

        def watched() -> Iterator[str]:
            for text in texts:
                seen.append(text)
                yield text

        for number, parse in enumerate(self.parser.parse(watched())):
            text, seen[number] = seen[number], ""
            yield AnnotatedParse(parse.words, parse.arcs, self._relations(text, parse))

    def _relations(self, text: str, parse: Parse) -> dict[str, Pairs]:
        distant = [
            (head, dependent)
            for head, dependent, label in parse.arcs
            if abs(head - dependent) >= self.min_distance and label != "punct"
        ]
        words = [text[start:end] for start, end in parse.words]
        triples = [] if self.related is None else self.related.pairs(words)
        return {
            DISTANT[0]: [(dependent, head) for head, dependent in distant],
            DISTANT[1]: distant,
            RELATED: [(word, related) for word, related, _ in triples],
            CONTROL: [(word, control) for word, _, control in triples],
        }


def encode_sentences(
    model: TransformerModel, texts: Sequence[str], annotator: Annotator, max_tokens: int
) -> list[Item]:
    """Sentences as items with words and relations.

    If the tokenizer opens a text with no special token, ``item_prefix`` stands before it: heads rest on the
    first token, and this would otherwise be a word.

    Args:
        model: with a tokenizer.
        texts: sentences; those of more tokens are cut.
        annotator: finds their words and relations.
        max_tokens: the largest length.

    Raises:
        ValueError: the model has no tokenizer.
    """
    if model.tokenizer is None:
        raise ValueError("words need a tokenizer: set model.tokenizer")
    add_special_tokens = special_token_adder(model, model.tokenizer)
    opens = add_special_tokens([-1])[0] != -1
    prefix = [] if opens else [*item_prefix(model.tokenizer)]

    def encoded() -> Iterator[Item]:
        for text in texts:
            found = encode_text(model, text, max_tokens - len(prefix), special_tokens=False)
            yield Item([*prefix, *found.ids], [*[False] * len(prefix), *found.is_delimiter], text)

    def add_all(ids: list[int]) -> list[int]:
        return [*prefix, *add_special_tokens(ids)]

    return list(add_words(encoded(), model.tokenizer, annotator, add_all))
