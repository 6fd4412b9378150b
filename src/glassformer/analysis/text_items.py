"""Texts as the items that are measured, and items as JSON values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from glassformer.analysis.patterns import Item, Words
from glassformer.analysis.reading import EncoderDecoder, marks_of, read
from glassformer.analysis.syntax import Parser, with_words
from glassformer.models import TransformerModel


@dataclass(frozen=True)
class TextReader:
    """Turns texts into items."""

    kind: str
    """Of self-attention."""
    longest: int
    """Longer texts are cut to so many tokens, a decoder's start among them."""
    parser: Parser | None
    """Finds words and their relations; without one items have none."""

    def read(
        self, model: TransformerModel, texts: Iterable[tuple[int, str | Sequence[int]]]
    ) -> dict[str, Any]:
        """Numbered texts as JSON values: items, num_cut, and as_bytes, whether any was read so.

        Raises:
            ValueError, TypeError: as ``reading.read``, with the text's number.
        """
        counts = {"num_cut": 0, "as_bytes": False}
        items: Iterable[Item] = self._items(model, texts, counts)
        if self.parser is not None and model.tokenizer is not None:
            items = with_words(items, model.tokenizer, self.parser, marks_of(model, model.tokenizer))
        return {"items": rows_of_items(self.for_kind(model, items)), **counts}

    def for_kind(self, model: TransformerModel, items: Iterable[Item]) -> list[Item]:
        """A decoder that reads a source reads its text behind a start."""
        if isinstance(model, EncoderDecoder) and self.kind == "decoder":
            return [_behind(model.start_token, item) for item in items]
        return list(items)

    def _items(
        self,
        model: TransformerModel,
        texts: Iterable[tuple[int, str | Sequence[int]]],
        counts: dict[str, Any],
    ) -> Iterator[Item]:
        start = isinstance(model, EncoderDecoder) and self.kind == "decoder"
        for number, text in texts:
            try:
                reading = read(model, text, self.longest - start)
            except ValueError as error:
                raise ValueError(f"text {number}: {error}") from error
            except TypeError as error:
                raise TypeError(f"text {number}: {error}") from error
            counts["num_cut"] += any("cut" in note for note in reading.notes)
            counts["as_bytes"] |= isinstance(text, str) and model.tokenizer is None
            yield Item(reading.ids, reading.is_delimiter, text if isinstance(text, str) else "")


def rows_of_items(items: Iterable[Item]) -> list[dict[str, Any]]:
    """What is measured of each item: ids, which are delimiters, words and their relations."""
    return [
        {
            "ids": list(item.ids),
            "is_delimiter": [int(mark) for mark in item.is_delimiter],
            "words": item.words and list(item.words.of_token),
            "relations": item.words and dict(item.words.relations),
        }
        for item in items
    ]


def items_from_rows(rows: Iterable[Mapping[str, Any]]) -> list[Item]:
    """The items again, their texts empty."""
    return [
        Item(
            row["ids"],
            row["is_delimiter"],
            words=None if row["words"] is None else Words(row["words"], row["relations"]),
        )
        for row in rows
    ]


def _behind(start: int, item: Item) -> Item:
    words = item.words and replace(item.words, of_token=[-1, *item.words.of_token])
    return Item([start, *item.ids], [False, *item.is_delimiter], item.text, words)
