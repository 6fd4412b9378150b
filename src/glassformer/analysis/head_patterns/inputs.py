"""Inputs of a head analysis: sentences sampled from texts, encoded texts, and repeated random tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glassformer.analysis.head_patterns.patterns import Item, Words
from glassformer.analysis.head_patterns.syntax import Parser, add_words
from glassformer.analysis.inputs import encode_text, special_token_adder
from glassformer.models import TransformerModel

MIN_WORDS, MAX_WORDS = 4, 64
"""Length of a sentence, in words separated by white space."""
MIN_BLOCK, MAX_BLOCK = 4, 24
"""Length of a block of repeated tokens."""

ABBREVIATIONS = (
    *("Mr", "Mrs", "Ms", "Messrs", "Dr", "St", "Gen", "Gov", "Hon", "Sen", "Rep", "Prof", "Rev", "Jr", "Sr"),
    *("Capt", "Col", "Lieut", "Lt", "Maj", "No", "Nos", "vs", "etc"),
    *("Jan", "Feb", "Mar", "Apr", "Aug", "Sept", "Oct", "Nov", "Dec"),
)

_SENTENCE_END = re.compile(r"""[.!?]+['"\u201d\u2019)\]]*(?=\s+['"\u201c\u2018(\[]*[A-Z0-9])""")
_LAST_WORD = re.compile(r"(\w+)\.$")


def sentences(texts: Iterable[str], min_words: int = MIN_WORDS, max_words: int = MAX_WORDS) -> Iterator[str]:
    """The sentences of texts that have ``min_words`` to ``max_words`` words, white space normalized."""
    for text in texts:
        for line in text.split("\n"):
            for sentence in split_sentences(line):
                words = sentence.split()
                if min_words <= len(words) <= max_words:
                    yield " ".join(words)


def split_sentences(line: str) -> Iterator[str]:
    """Split a line into sentences by a simple rule.

    A sentence ends at ``.``, ``!`` or ``?``, including closing quotes and brackets, if white space, optional
    opening quotes and brackets, and a capital letter or digit follow. The period of an initial or of an
    abbreviation in ``ABBREVIATIONS`` ends no sentence.
    """
    start = 0
    for end in _SENTENCE_END.finditer(line):
        sentence = line[start : end.end()]
        last = _LAST_WORD.search(sentence)
        if last and (last[1] in ABBREVIATIONS or (len(last[1]) == 1 and last[1].isupper())):
            continue
        yield sentence.strip()
        start = end.end()
    if line[start:].strip():
        yield line[start:].strip()


def sample_texts(texts: Iterable[str], count: int, seed: int) -> list[str]:
    """Sample at most ``count`` texts uniformly, in their order, in one pass (Vitter 1985, algorithm R).

    Raises:
        ValueError: ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"the number of texts must be at least 1, not {count}")
    generator = np.random.default_rng([seed, 5])
    sample: list[tuple[int, str]] = []
    for number, text in enumerate(texts):
        if number < count:
            sample.append((number, text))
        elif (slot := int(generator.integers(number + 1))) < count:
            sample[slot] = (number, text)
    return [text for _, text in sorted(sample)]


@dataclass(frozen=True)
class TextEncoder:
    """Encodes texts as items."""

    kind: str
    """The kind of self-attention to be measured."""
    max_tokens: int
    """Longer texts are truncated, counting special tokens and a decoder's start token."""
    parser: Parser | None
    """Finds words and their relations; None leaves items without words."""

    def encode(
        self, model: TransformerModel, texts: Iterable[tuple[int, str | Sequence[int]]]
    ) -> dict[str, Any]:
        """Encode numbered texts as JSON values: items, num_cut (truncated texts), as_bytes (byte fallback).

        Raises:
            ValueError, TypeError: a text cannot be encoded; the message has its number.
        """
        counts = {"num_cut": 0, "as_bytes": False}
        items: Iterable[Item] = self._items(model, texts, counts)
        if self.parser is not None and model.tokenizer is not None:
            items = add_words(
                items, model.tokenizer, self.parser, special_token_adder(model, model.tokenizer)
            )
        return {"items": items_to_json(self.add_start_token(model, items)), **counts}

    def add_start_token(self, model: TransformerModel, items: Iterable[Item]) -> list[Item]:
        """Prepend the start token if the decoder of an encoder-decoder is measured."""
        if not self._has_start_token(model):
            return list(items)
        start: Any = model.start_token
        return [
            Item(
                [start, *item.ids],
                [False, *item.is_delimiter],
                item.text,
                item.words and replace(item.words, word_ids=[-1, *item.words.word_ids]),
            )
            for item in items
        ]

    def _items(
        self,
        model: TransformerModel,
        texts: Iterable[tuple[int, str | Sequence[int]]],
        counts: dict[str, Any],
    ) -> Iterator[Item]:
        max_tokens = self.max_tokens - self._has_start_token(model)
        for number, text in texts:
            try:
                encoded = encode_text(model, text, max_tokens, special_tokens=False)
            except (ValueError, TypeError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"text {number}: {error}") from error
            counts["num_cut"] += any("cut" in note for note in encoded.notes)
            counts["as_bytes"] |= isinstance(text, str) and model.tokenizer is None
            yield Item(encoded.ids, encoded.is_delimiter, text if isinstance(text, str) else "")

    def _has_start_token(self, model: TransformerModel) -> bool:
        return model.is_encoder_decoder and self.kind == "decoder"


def items_to_json(items: Iterable[Item]) -> list[dict[str, Any]]:
    """Items without their texts, as JSON values."""
    return [
        {
            "ids": list(item.ids),
            "is_delimiter": [int(flag) for flag in item.is_delimiter],
            "words": item.words and list(item.words.word_ids),
            "relations": item.words and dict(item.words.relations),
        }
        for item in items
    ]


def items_from_json(rows: Iterable[Mapping[str, Any]]) -> list[Item]:
    """The inverse of ``items_to_json``."""
    return [
        Item(
            row["ids"],
            row["is_delimiter"],
            words=None if row["words"] is None else Words(row["words"], row["relations"]),
        )
        for row in rows
    ]


def checked_summary(content: Any) -> Any:
    """The stored summary of encoded texts, if it has the keys and types that an analysis needs.

    Raises:
        ValueError, TypeError, LookupError: it has others.
    """
    sizes, notes = content["sizes"], content["notes"]
    counts = [content["num_cut"], *(size for part in (sizes["text"], sizes["repeated"]) for size in part)]
    if not all(type(count) is int and count >= 0 for count in counts) or not isinstance(notes, list):
        raise ValueError("sizes and num_cut must be numbers of items, and notes a list")
    content["as_bytes"] = bool(content["as_bytes"])
    return content


def repeated_sequences(model: TransformerModel, count: int, seed: int) -> list[Item]:
    """Sequences of random tokens repeated once, which only copying can predict (Olsson et al. 2022).

        special tokens  x_1 ... x_n  x_1 ... x_n  special tokens

    The length n of a block varies, so that no fixed offset leads to the previous occurrence of a token.

    Args:
        model: the model to be analyzed; the special tokens are those of its tokenizer.
        count: number of sequences.
        seed: of tokens and lengths.

    Raises:
        ValueError: ``max_seq_len`` is too small, or the vocabulary has too few ordinary tokens.
    """
    add_special_tokens = special_token_adder(model, model.tokenizer)
    num_special = len(add_special_tokens([]))
    vocabulary = ordinary_tokens(model)
    max_block = min(MAX_BLOCK, (int(model.config["max_seq_len"]) - num_special) // 2, len(vocabulary))
    if max_block <= MIN_BLOCK:
        raise ValueError(
            f"repeated random tokens need blocks of more than {MIN_BLOCK} different tokens, but the model "
            f"has {len(vocabulary)} ordinary tokens and max_seq_len={model.config['max_seq_len']}"
        )
    generator = np.random.default_rng([seed, 1])
    items = []
    for length in generator.integers(MIN_BLOCK, max_block + 1, count):
        block = generator.choice(vocabulary, length, replace=False).tolist()
        ids = add_special_tokens([*block, *block])
        items.append(Item(ids, [False] * len(ids)))
    return items


def ordinary_tokens(model: TransformerModel) -> Sequence[int]:
    """Ids that texts consist of: those that are recovered when their own text is encoded.

    This excludes special tokens and parts of characters. Without a tokenizer, all ids are ordinary.
    """
    size = int(model.config["vocab_size"])
    if model.tokenizer is None:
        return range(size)
    ids = range(min(size, model.tokenizer.vocab_size))
    encoded = model.tokenizer.encode_batch([model.tokenizer.decode([token]) for token in ids])
    return [token for token, found in zip(ids, encoded, strict=True) if found == [token]]
