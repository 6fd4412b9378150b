"""Losses on longer contexts and recall, of models whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glassformer.experiments.positions.evaluation import (
    last_targets_loss,
    measure,
    recall,
    spread_ends,
    windows_ending_at,
)
from glassformer.experiments.positions.models import build_model
from glassformer.experiments.positions.planted_facts import FactVocabulary

FACTS = FactVocabulary(first=40, num_keys=2, num_values=3)
SETTINGS = {
    "seq_len": 16,
    "factors": [1, 2, 4],
    "fixed_windows": 10,
    "fixed_targets": 4,
    "window_tokens": 300,
    "sliding_windows": 12,
    "sliding_stride": 3,
    "sliding_factors": [1, 2],
    "recall_windows": 9,
    "num_facts": 2,
    "evaluation_seed": 1,
}


class Bigrams(nn.Module):
    """A language model that sees one token, with a bonus for the right answer at some positions."""

    def __init__(self, worse_from=10**9):
        super().__init__()
        torch.manual_seed(1)
        self.embedding = nn.Embedding(FACTS.vocab_size, FACTS.vocab_size)
        self.lm_head = nn.Linear(FACTS.vocab_size, FACTS.vocab_size, bias=False)
        self.positions = None
        self.worse_from = worse_from
        with torch.no_grad():
            self.lm_head.weight.copy_(torch.eye(FACTS.vocab_size))

    def hidden_states(self, ids):
        keep = (torch.arange(ids.size(1)) < self.worse_from).float()
        return self.embedding(ids) * keep[:, None]

    logit_softcap = None

    def head_input(self, hidden):
        return hidden

    def unembed(self, hidden):
        return self.lm_head(hidden)


class Recalls(nn.Module):
    """A model that answers a question by the fact in the last ``reach`` tokens, if it is there."""

    def __init__(self, reach):
        super().__init__()
        self.reach = reach
        self.unused = nn.Parameter(torch.zeros(1))
        self.positions = None

    def hidden_states(self, ids):
        logits = torch.zeros(*ids.shape, FACTS.vocab_size)
        for row, tokens in enumerate(ids.tolist()):
            for slot, token in enumerate(tokens):
                key = token - 40 - 6
                if key in (0, 1):
                    seen = tokens[max(0, slot - self.reach) : slot]
                    for value in [t - 40 - 3 * key for t in seen if 0 <= t - 40 - 3 * key < 3 and t < 46]:
                        logits[row, slot, 40 + 3 * key + value] = 9.0
        return logits

    def unembed(self, hidden):
        return hidden


@pytest.fixture
def text():
    return np.random.default_rng(0).integers(40, size=600)


def test_windows_of_all_lengths_have_the_same_targets(text):
    ends = spread_ends(len(text), 64, 10, 4)
    short, long = windows_ending_at(text, ends, 16), windows_ending_at(text, ends, 64)
    assert short.shape == (10, 17)
    assert long.shape == (10, 65)
    assert np.array_equal(short, long[:, -17:])
    targets = (ends[:, None] - np.arange(4)).ravel()
    assert len(set(targets)) == 40
    assert ends[0] == 64
    assert ends[-1] == 599
    with pytest.raises(ValueError, match="10 windows with 60 targets of their own .* need 664 tokens"):
        spread_ends(600, 64, 10, 60)


def test_the_loss_is_that_of_the_last_targets(text):
    model = build_model("rotary", {"d_model": 16, "num_layers": 1, "num_heads": 2}, 40, 16)
    rows = windows_ending_at(text, np.arange(100, 300, 7), 16)
    ids = torch.from_numpy(rows)
    expected = F.cross_entropy(model(ids[:, :-1])[:, -3:].transpose(1, 2), ids[:, -3:]).detach()
    assert last_targets_loss(model, rows, 3) == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(ValueError, match="targets must be from 1 to 16 .*, got 17"):
        last_targets_loss(model, rows, 17)


def test_a_model_without_context_has_no_change(text):
    found = measure(Bigrams(), text, FACTS, SETTINGS)
    fixed = list(found["fixed"].values())
    assert fixed == pytest.approx([fixed[0]] * 3, rel=1e-6)
    assert list(found["windows"].values()) == pytest.approx([found["windows"]["16"]] * 3, rel=1e-6)
    assert found["sliding"]["16"] == pytest.approx(found["sliding"]["32"], rel=1e-6)
    assert list(found["fixed"]) == ["16", "32", "64"]


def test_a_model_that_fails_beyond_the_trained_length_shows_it(text):
    model = Bigrams(worse_from=16)  # then all tokens are equally probable
    found = measure(model, text, FACTS, SETTINGS)
    uniform = np.log(FACTS.vocab_size)
    assert found["fixed"]["16"] != pytest.approx(uniform, abs=0.01)
    assert found["fixed"]["32"] == pytest.approx(uniform, rel=1e-6)
    assert found["sliding"]["32"] == pytest.approx(uniform, rel=1e-6)
    share = found["windows"]["32"] - found["windows"]["16"]
    assert share == pytest.approx((uniform - found["windows"]["16"]) / 2, rel=0.3)


@pytest.mark.parametrize(("reach", "far"), [(64, 1.0), (16, 0.0)])
def test_recall_tells_near_from_far(text, reach, far):
    from glassformer.experiments.positions.planted_facts import recall_conditions

    rows = windows_ending_at(text, np.arange(100, 500, 10), 31)
    found = {
        name: recall(Recalls(reach), windows, slots)
        for name, (windows, slots) in recall_conditions(rows, FACTS, 16, 2, 0).items()
    }
    assert found["trained"]["accuracy"] == found["near"]["accuracy"] == 1.0
    assert found["far"]["accuracy"] == far
    assert (found["far"]["loss"] > 3) == (far == 0)
    assert found["near"]["loss"] < 0.01


def test_a_text_that_is_too_short_is_refused(text):
    with pytest.raises(ValueError, match="the text has 70"):
        measure(Bigrams(), text[:70], FACTS, SETTINGS)
