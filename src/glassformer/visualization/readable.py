"""A reading for the eye: names for marks that are control characters, and where a text was cut."""

from __future__ import annotations

from dataclasses import replace

from glassformer.analysis import EncoderDecoder, Reading
from glassformer.analysis.reading import marks_of
from glassformer.contracts import Tokenizer
from glassformer.models import TransformerModel
from glassformer.tokenization import ByteTokenizer

LONGEST = 40
"""Characters of a word that are shown."""


def readable(model: TransformerModel, text: object, reading: Reading) -> Reading:
    """A reading of a text, or of ids, with names for marks, and a note that says at which word it was cut."""
    tokenizer = tokenizer_for(model, text)
    names = mark_names(model, tokenizer)
    pairs = zip(reading.ids, reading.labels, strict=True)
    labels = [names.get(token, label) for token, label in pairs]
    return replace(reading, labels=labels, notes=reading.notes + _where_cut(model, tokenizer, text, reading))


def tokenizer_for(model: TransformerModel, text: object) -> Tokenizer | None:
    """What names the tokens: a text is read as bytes where the model has no tokenizer."""
    return ByteTokenizer() if model.tokenizer is None and isinstance(text, str) else model.tokenizer


def mark_names(model: TransformerModel, tokenizer: Tokenizer | None) -> dict[int, str]:
    """What the start and the end of a target are called, by id, where the tokenizer has no names for them."""
    if tokenizer is None or not isinstance(model, EncoderDecoder):
        return {}
    names = {model.start_token: "⟨start⟩", model.end_token: "⟨end⟩"}
    return {token: name for token, name in names.items() if not tokenizer.decode([token]).isprintable()}


def _where_cut(
    model: TransformerModel, tokenizer: Tokenizer | None, text: object, reading: Reading
) -> tuple[str, ...]:
    if tokenizer is None or not isinstance(text, str):
        return ()
    whole = tokenizer.encode(text)
    kept = len(reading.ids) - len(marks_of(model, tokenizer)([]))
    words = tokenizer.decode(whole[:kept]).split() if kept < len(whole) else []
    return (f"the last word read is “{words[-1][-LONGEST:]}”",) if words else ()
