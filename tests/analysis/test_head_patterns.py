"""Patterns of heads: the formulas on maps made by hand, and the means over texts."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.analysis import HeadPatterns, head_patterns, pattern_values, prune_heads
from glassformer.analysis.head_patterns import PATTERNS
from glassformer.attention import record_attention
from glassformer.models import BERTModel, GPTModel, T5Model
from glassformer.tokenization import ByteTokenizer

NO_DELIMITERS = torch.zeros(5, dtype=torch.bool)


def mean(weights, name, delimiters=NO_DELIMITERS):
    values = pattern_values(weights[None], delimiters)
    assert values.shape == (1, len(PATTERNS), len(weights) - 1)
    return values[0, PATTERNS.index(name)].mean().item()


def test_heads_of_known_kind():
    eye = torch.eye(5)
    previous = torch.cat([eye[:1], eye[:-1]])  # the first token can only look at itself
    first = eye[0].expand(5, 5)
    uniform = torch.ones(5, 5).tril() / torch.arange(1, 6)[:, None]
    assert mean(previous, "previous") == 1
    assert mean(previous, "current") == 0
    assert mean(previous, "distance") == 1
    assert mean(eye, "current") == 1
    assert mean(eye, "entropy") == 0
    assert mean(first, "first") == 1
    assert mean(first, "distance") == 2.5  # 1, 2, 3, 4
    assert mean(uniform, "entropy") == pytest.approx(1)
    assert mean(uniform, "first") == pytest.approx((1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 4)
    assert mean(uniform, "distance") == pytest.approx((1 / 2 + 1 + 3 / 2 + 2) / 4)
    marks = torch.tensor([False, True, False, True, False])
    assert mean(uniform, "delimiter", marks) == pytest.approx((1 / 2 + 1 / 3 + 2 / 4 + 2 / 5) / 4)


@given(seed=st.integers(0, 999), length=st.integers(2, 9))
def test_they_are_the_sums_of_their_definition(seed, length):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, length, length, generator=generator).double()
    weights = scores.masked_fill(~torch.ones(length, length).tril().bool(), -math.inf).softmax(-1)
    marks = torch.rand(length, generator=generator) < 0.5
    found = pattern_values(weights, marks)
    for head in range(2):
        for i in range(1, length):
            a = weights[head, i].tolist()
            expected = [
                a[i - 1],
                a[i],
                a[0],
                sum(a[j] for j in range(length) if marks[j]),
                sum(a[j] * abs(i - j) for j in range(length)),
                -sum(p * math.log(p) for p in a if p > 0) / math.log(i + 1),
            ]
            assert found[head, :, i - 1].tolist() == pytest.approx(expected, abs=1e-12)


def test_entropy_is_that_of_the_choice_there_is():
    """Looking at all that may be seen is 1, in both directions or through a window."""
    everywhere = torch.full((5, 5), 0.2)
    values = pattern_values(everywhere[None], NO_DELIMITERS, torch.ones(5, 5, dtype=torch.bool))
    torch.testing.assert_close(values[0, PATTERNS.index("entropy")], torch.ones(4, dtype=torch.float64))
    for window in (1, 2, 3):
        seen = torch.ones(5, 5).tril().triu(1 - window)
        weights = seen / seen.sum(-1, keepdim=True)
        values = pattern_values(weights[None], NO_DELIMITERS, seen.bool())
        expected = torch.full((4,), float(window > 1), dtype=torch.float64)
        torch.testing.assert_close(values[0, PATTERNS.index("entropy")], expected)


def test_models_that_see_both_ways_are_measured_against_all_they_see():
    torch.manual_seed(0)
    bert = BERTModel(257, 24, 1, 3)
    bert.tokenizer = ByteTokenizer()
    torch.nn.init.zeros_(bert.blocks[0].attention.q_proj.weight)  # every head looks everywhere alike
    found = head_patterns(bert, ["five!", "six, seven"])
    np.testing.assert_allclose(found.values["entropy"], 1, rtol=1e-6)
    np.testing.assert_allclose(found.values["first"], (4 / 5 + 9 / 10) / 13, rtol=1e-6)


def test_an_encoder_decoder_reads_more_than_a_text():
    with pytest.raises(TypeError, match="patterns are of models that read one text, not of a T5Model"):
        head_patterns(T5Model(257, 24, 1, 3), ["a"])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    model = GPTModel(257, 24, 2, 3, max_seq_len=16)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.tokenizer = ByteTokenizer()
    return model


def test_means_are_over_all_queries_of_all_texts(model):
    texts = ["ab, c", "a text, longer than that", "x"]
    found = head_patterns(model, texts)
    assert (found.num_texts, found.num_queries, found.num_cut) == (3, 4 + 15 + 0, 1)
    sums = np.zeros((2, 3, 6))
    for text in texts:
        ids = model.tokenizer.encode(text)[:16]
        with record_attention(model) as recording, torch.no_grad():
            model(torch.tensor([ids]))
        marks = torch.tensor([chr(token) in ",." for token in ids])
        for layer in range(2):
            sums[layer] += pattern_values(recording[layer][0], marks).sum(-1).numpy()
    for index, name in enumerate(PATTERNS):
        np.testing.assert_allclose(found.values[name], sums[:, :, index] / 19, rtol=1e-6)


def test_takes_ids_and_any_iterable_and_leaves_the_mode_alone(model):
    model.train()
    again = head_patterns(model, iter([list(b"ab, c")]))
    assert model.training
    model.eval()
    expected = head_patterns(model, ["ab, c"])
    np.testing.assert_array_equal(again.values["previous"], expected.values["previous"])


def test_a_table_is_saved_as_csv_or_json(tmp_path):
    values = {name: np.arange(4.0).reshape(2, 2) + n for n, name in enumerate(PATTERNS)}
    patterns = HeadPatterns(values, 1, 1)
    patterns.save(tmp_path / "table.csv")
    patterns.save(tmp_path / "table.json")
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [(row["layer"], row["head"]) for row in rows] == [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")]
    assert float(rows[2]["current"]) == 3.0
    assert json.loads((tmp_path / "table.json").read_text())[3]["entropy"] == 8.0
    with pytest.raises(ValueError, match=r"\.csv or \.json, not '\.xls'"):
        patterns.save(tmp_path / "table.xls")


def test_says_whether_texts_were_read_as_bytes():
    bare = GPTModel(257, 24, 1, 3, max_seq_len=16)
    assert head_patterns(bare, ["ab"]).as_bytes
    assert not head_patterns(bare, [[97, 98]]).as_bytes


def test_refuses_what_is_no_data_set(model):
    with pytest.raises(TypeError, match="the data set is a single text: give a list"):
        head_patterns(model, "é中")
    with pytest.raises(TypeError, match="text 0: give a text or a sequence of token ids, not 1"):
        head_patterns(model, [1, 2, 3])


def test_refuses_data_that_says_nothing(model):
    with pytest.raises(ValueError, match="the data set is empty"):
        head_patterns(model, [])
    with pytest.raises(ValueError, match="text 1: the text is empty"):
        head_patterns(model, ["a", ""])
    with pytest.raises(ValueError, match="every text is a single token"):
        head_patterns(model, ["a", "b"])


def test_a_pruned_model_whose_layers_differ_is_refused():
    model = prune_heads(GPTModel(vocab_size=50, d_model=24, num_layers=2, num_heads=4), [(1, 2)])
    with pytest.raises(ValueError, match="layers of a pruned model differ in their heads"):
        head_patterns(model, [[1, 2, 3]])
