"""Models with hand-set weights, whose heads have known attention patterns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassformer.models import BERTModel, GPTModel
from glassformer.tokenization import CharacterTokenizer

ALPHABET = ",.abcdefghijklmnopqrstuvw"
POSITIONS, TOKENS = 64, len(ALPHABET)
SCALE = 4.0
"""Factor of queries and keys, so that the scores of matching pairs are 80 and more."""


@pytest.fixture(scope="session")
def write_sentences():
    """A function that returns random letters with some punctuation."""
    return sentences_of_letters


def sentences_of_letters(count, seed=0):
    generator = np.random.default_rng(seed)
    chances = [0.075] * 2 + [0.85 / 23] * 23
    return [
        "".join(generator.choice(list(ALPHABET), int(length), p=chances))
        for length in generator.integers(10, 30, count)
    ]


class ModelBuilder:
    """Set the heads of a model whose stream is [token | position | previous token], each one-hot."""

    def __init__(self, family, heads, layers):
        self.model = family(TOKENS, heads * POSITIONS, layers, heads, d_ff=8, max_seq_len=POSITIONS)
        self.model.tokenizer = CharacterTokenizer(ALPHABET)
        self.model.eval()
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if "norm" not in name:
                    parameter.zero_()
            self.model.token_embedding.weight[:, self.token] = torch.eye(TOKENS)
            self.model.positions.embedding.weight[:, self.position] = torch.eye(POSITIONS)

    token, position, previous = (
        slice(0, TOKENS),
        slice(TOKENS, TOKENS + POSITIONS),
        slice(TOKENS + POSITIONS, 2 * TOKENS + POSITIONS),
    )

    def _rows(self, layer, head, name):
        attention = self.model.blocks[layer].attention
        projection = getattr(attention, f"{name}_proj")
        rows = slice(head * attention.d_head, (head + 1) * attention.d_head)
        return projection.weight[rows], projection.bias[rows]

    @torch.no_grad()
    def offset(self, layer, head, distance):
        """Attend to the token ``distance`` positions ahead."""
        q, k = self._rows(layer, head, "q")[0], self._rows(layer, head, "k")[0]
        k[:POSITIONS, self.position] = SCALE * torch.eye(POSITIONS)
        for position in range(POSITIONS):
            if 0 <= position + distance < POSITIONS:
                q[position + distance, self.position.start + position] = SCALE

    @torch.no_grad()
    def attend_to(self, layer, head, columns):
        """Attend to all tokens with one of these columns of the stream."""
        self._rows(layer, head, "q")[1][0] = 10 * SCALE
        self._rows(layer, head, "k")[0][0, columns] = SCALE

    @torch.no_grad()
    def copy_token(self, layer, head):
        """Write the attended token to the columns of the previous token."""
        v = self._rows(layer, head, "v")[0]
        v[:TOKENS, self.token] = 0.2 * torch.eye(TOKENS)
        columns = slice(head * POSITIONS, head * POSITIONS + TOKENS)
        self.model.blocks[layer].attention.out_proj.weight[self.previous, columns] = torch.eye(TOKENS)

    @torch.no_grad()
    def attend_to_same_previous(self, layer, head):
        """Attend to the tokens whose previous token equals the query's token."""
        self._rows(layer, head, "q")[0][:TOKENS, self.token] = SCALE * torch.eye(TOKENS)
        self._rows(layer, head, "k")[0][:TOKENS, self.previous] = SCALE * torch.eye(TOKENS)


@pytest.fixture(scope="session")
def known_gpt():
    """Layer 0: previous, offset-3, delimiter, uniform. Layer 1: induction, current, first, uniform."""
    build = ModelBuilder(GPTModel, 4, 2)
    build.offset(0, 0, -1)
    build.copy_token(0, 0)
    build.offset(0, 1, -3)
    build.attend_to(0, 2, [0, 1])
    build.attend_to_same_previous(1, 0)
    build.offset(1, 1, 0)
    build.attend_to(1, 2, [build.position.start])
    return build.model


@pytest.fixture(scope="session")
def known_bert():
    """One bidirectional layer: next, offset+2, uniform."""
    build = ModelBuilder(BERTModel, 3, 1)
    build.offset(0, 0, 1)
    build.offset(0, 1, 2)
    return build.model
