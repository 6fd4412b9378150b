"""Decoding of generated tokens to text, as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from glassformer.contracts import Tokenizer
from glassformer.tokenization import safe_decode

WINDOW = 64
"""Tokens before the new one that are decoded with it, at least; the cost of a token stays bounded."""


def decode_stream(tokenizer: Tokenizer, ids: Iterable[int], prompt: Sequence[int] = ()) -> Iterator[str]:
    """Decode tokens as they come.

    The parts, joined, are the text of ``safe_decode(tokenizer, [*prompt, *ids])`` after that of the prompt.
    Text that a later token could change is held back: an unfinished character, and with byte fallback all
    bytes up to the next token that is not one.

    Args:
        tokenizer: tokenizer of the model.
        ids: new token ids.
        prompt: token ids before them. What a token decodes to may depend on the tokens before it: some
            tokenizers drop a space at the start of a text.

    Yields:
        Parts of the text, none of them empty.
    """
    context = list(prompt)
    length = len(safe_decode(tokenizer, context))  # characters of the context that were yielded
    for token in ids:
        context.append(token)
        text = _settled_text(tokenizer, context)
        if len(text) > length:
            yield text[length:]
            length = len(text)
            if len(context) > 2 * WINDOW and length == len(safe_decode(tokenizer, context)):
                window = context[-WINDOW:]
                if start := safe_decode(tokenizer, window):  # without text, the next loses its space
                    context, length = window, len(start)
    if rest := safe_decode(tokenizer, context)[length:]:
        yield rest


def _settled_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Decode ids, without the end that further ids could change."""
    byte_fallback_ids = getattr(tokenizer, "byte_fallback_ids", ())
    end = len(ids)
    while end and ids[end - 1] in byte_fallback_ids:
        end -= 1
    text = safe_decode(tokenizer, ids[:end])
    return text.removesuffix("\ufffd") if end == len(ids) else text
