"""Models whose heads are known, because their weights were set by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassformer.models import BERTModel, GPTModel
from glassformer.tokenization import CharacterTokenizer

ALPHABET = ",.abcdefghijklmnopqrstuvw"
PLACES, TOKENS = 64, len(ALPHABET)
SHARP = 4.0
"""What queries and keys are multiplied by: scores of 80 and more where they agree."""


@pytest.fixture(scope="session")
def write_sentences():
    """Random letters, with a mark now and then."""
    return sentences_of_letters


def sentences_of_letters(count, seed=0):
    generator = np.random.default_rng(seed)
    chances = [0.075] * 2 + [0.85 / 23] * 23
    return [
        "".join(generator.choice(list(ALPHABET), int(length), p=chances))
        for length in generator.integers(10, 30, count)
    ]


class Builder:
    """Sets heads of a model whose stream is [token | place | token before], one-hot each."""

    def __init__(self, family, heads, layers):
        self.model = family(TOKENS, heads * PLACES, layers, heads, d_ff=8, max_seq_len=PLACES)
        self.model.tokenizer = CharacterTokenizer(ALPHABET)
        self.model.eval()
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if "norm" not in name:
                    parameter.zero_()
            self.model.token_embedding.weight[:, self.token] = torch.eye(TOKENS)
            self.model.positions.embedding.weight[:, self.place] = torch.eye(PLACES)

    token, place, before = (
        slice(0, TOKENS),
        slice(TOKENS, TOKENS + PLACES),
        slice(TOKENS + PLACES, 2 * TOKENS + PLACES),
    )

    def _rows(self, layer, head, name):
        attention = self.model.blocks[layer].attention
        projection = getattr(attention, f"{name}_proj")
        rows = slice(head * attention.d_head, (head + 1) * attention.d_head)
        return projection.weight[rows], projection.bias[rows]

    @torch.no_grad()
    def offset(self, layer, head, distance):
        """Each place looks so far ahead."""
        q, k = self._rows(layer, head, "q")[0], self._rows(layer, head, "k")[0]
        k[:PLACES, self.place] = SHARP * torch.eye(PLACES)
        for place in range(PLACES):
            if 0 <= place + distance < PLACES:
                q[place + distance, self.place.start + place] = SHARP

    @torch.no_grad()
    def everyone_looks_at(self, layer, head, columns):
        """Whatever has one of these columns of the stream."""
        self._rows(layer, head, "q")[1][0] = 10 * SHARP
        self._rows(layer, head, "k")[0][0, columns] = SHARP

    @torch.no_grad()
    def copy_token(self, layer, head):
        """What the head looks at is written down as the token before."""
        v = self._rows(layer, head, "v")[0]
        v[:TOKENS, self.token] = 0.2 * torch.eye(TOKENS)
        columns = slice(head * PLACES, head * PLACES + TOKENS)
        self.model.blocks[layer].attention.out_proj.weight[self.before, columns] = torch.eye(TOKENS)

    @torch.no_grad()
    def match(self, layer, head):
        """Each token looks where the token before was the same as itself."""
        self._rows(layer, head, "q")[0][:TOKENS, self.token] = SHARP * torch.eye(TOKENS)
        self._rows(layer, head, "k")[0][:TOKENS, self.before] = SHARP * torch.eye(TOKENS)


@pytest.fixture(scope="session")
def known_gpt():
    """Layer 0: previous, offset-3, delimiter, uniform. Layer 1: induction, current, first, uniform."""
    build = Builder(GPTModel, 4, 2)
    build.offset(0, 0, -1)
    build.copy_token(0, 0)
    build.offset(0, 1, -3)
    build.everyone_looks_at(0, 2, [0, 1])
    build.match(1, 0)
    build.offset(1, 1, 0)
    build.everyone_looks_at(1, 2, [build.place.start])
    return build.model


@pytest.fixture(scope="session")
def known_bert():
    """One layer that sees both ways: next, offset+2, uniform."""
    build = Builder(BERTModel, 3, 1)
    build.offset(0, 0, 1)
    build.offset(0, 1, 2)
    return build.model
