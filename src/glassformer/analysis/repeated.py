"""Random tokens, twice: text that nothing but copying can predict (Olsson et al. 2022).

    marks  x_1 ... x_n  x_1 ... x_n  marks

How long the block is varies from sequence to sequence, so that no fixed distance leads to where a token stood
before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glassformer.analysis.patterns import Item
from glassformer.analysis.reading import marks_of
from glassformer.models import TransformerModel

SHORTEST, LONGEST = 4, 24
"""Tokens of a block."""


def repeated_sequences(model: TransformerModel, count: int, seed: int) -> list[Item]:
    """Sequences of repeated random tokens.

    Args:
        model: that is to read them; with its tokenizer's marks around them, as around any text.
        count: how many.
        seed: of tokens and lengths.

    Raises:
        ValueError: the model reads too few tokens at once, or has too few that are no special ones.

    """
    add_marks = marks_of(model, model.tokenizer)
    marks = len(add_marks([]))
    known = ordinary_tokens(model)
    longest = min(LONGEST, (int(model.config["max_seq_len"]) - marks) // 2, len(known))
    if longest <= SHORTEST:
        raise ValueError(
            f"repeated random tokens need blocks of more than {SHORTEST} different tokens: the model has "
            f"{len(known)} ordinary tokens and reads {model.config['max_seq_len']} at once"
        )
    generator = np.random.default_rng([seed, 1])
    items = []
    for length in generator.integers(SHORTEST, longest + 1, count):
        block = generator.choice(known, length, replace=False).tolist()
        ids = add_marks([*block, *block])
        items.append(Item(ids, [False] * len(ids)))
    return items


def ordinary_tokens(model: TransformerModel) -> Sequence[int]:
    """Ids that texts are made of: those that come back when their own text is encoded.

    Special tokens do not (spelled out in a text, they are the letters they are made of), nor do pieces of
    characters. All ids, where the model has no tokenizer.
    """
    size = int(model.config["vocab_size"])
    if model.tokenizer is None:
        return range(size)
    ids = range(min(size, model.tokenizer.vocab_size))
    again = model.tokenizer.encode_batch([model.tokenizer.decode([token]) for token in ids])
    return [token for token, found in zip(ids, again, strict=True) if found == [token]]
