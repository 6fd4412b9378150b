"""Deletion: a planted token is found, chance scores about zero, and what must stay stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassformer.analysis.deletion import RELEVANCES, Deletion, deletion_test, faithfulness, intact_outcome
from glassformer.analysis.outcomes import ClassProbability, NextTokenProbability, SimilarityToIntact
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.tokenization import ByteTokenizer

PLANTED, ANSWER = 7, 3
TEXT = [1, 2, 4, PLANTED, 5, 6, 8, 9, 1, 2]


@pytest.fixture(scope="module")
def planted():
    """A model that says ANSWER when it has seen PLANTED anywhere, by one head that looks everywhere."""
    model = GPTModel(10, 16, 1, 1, max_seq_len=16, positions="none", tie_embeddings=False, bias=False).eval()
    for parameter in model.blocks.parameters():
        torch.nn.init.zeros_(parameter)
    block = model.blocks[0]
    torch.nn.init.ones_(block.norm1.weight)
    with torch.no_grad():
        model.token_embedding.weight.zero_()
        model.token_embedding.weight[:, :10] = torch.eye(10)
        block.attention.v_proj.weight[0, PLANTED] = 3.0
        block.attention.out_proj.weight[12, 0] = 3.0
        model.lm_head.weight.zero_()
        model.lm_head.weight[ANSWER, 12] = 2.0
    return model


def names(token):
    return [float(place == token) for place in range(len(TEXT))]


def test_a_planted_token_is_found(planted):
    outcome = intact_outcome(planted, TEXT)
    assert outcome == NextTokenProbability(9, ANSWER)
    found = deletion_test(planted, TEXT, names(TEXT.index(PLANTED)))
    assert found.drops[1] > 0.5
    assert found.interval()[0] > -1e-6  # no order is better
    assert found.score > 0.3 * found.area
    wrong = deletion_test(planted, TEXT, [-x for x in names(TEXT.index(PLANTED))])
    assert wrong.interval()[1] < 1e-6
    assert wrong.score < 0


def test_the_gradient_finds_it(planted):
    relevance = RELEVANCES["gradient"](planted, TEXT, intact_outcome(planted, TEXT))
    assert int(relevance[:-1].argmax()) == TEXT.index(PLANTED)
    assert deletion_test(planted, TEXT, relevance).score > 0.1


def test_chance_scores_about_zero(planted):
    """Random relevances, on texts with the planted token anywhere: the mean is not far from zero."""
    generator = torch.Generator().manual_seed(0)
    texts = [[*np.random.default_rng(n).permutation(TEXT[:-1]).tolist(), 2] for n in range(12)]
    found = faithfulness(
        planted, texts, lambda model, example, outcome: torch.rand(len(example), generator=generator)
    )
    assert found.low < 0 < found.high
    worth = faithfulness(
        planted, texts, lambda model, example, outcome: torch.tensor([float(x == PLANTED) for x in example])
    )
    assert worth.low > 0
    assert len(worth.scores) == 12
    assert worth.score > 3 * abs(found.score)


def test_equal_relevances_go_in_random_order(planted):
    scores = [deletion_test(planted, TEXT, [0.0] * 10, seed=seed).score for seed in range(8)]
    assert len(set(scores)) > 3


def test_a_curve_by_hand(planted):
    """Deleted one by one; the position that is read from moves along, and stays."""
    relevance = [9, 8, 7, 6, 5, 4, 3, 2, 1, 99]
    found = deletion_test(planted, TEXT, relevance)
    with torch.no_grad():
        values = [
            float(planted(torch.tensor([TEXT[gone:]]))[0, -1].log_softmax(-1)[ANSWER]) for gone in range(10)
        ]
    np.testing.assert_allclose(found.shares, np.arange(10) / 9)
    np.testing.assert_allclose(found.drops, values[0] - np.array(values), atol=1e-6)
    few = deletion_test(planted, TEXT, relevance, steps=3)
    np.testing.assert_allclose(few.drops, found.drops[::3], atol=1e-6)
    assert few.random_drops.shape == (39, 4)
    for random in found.random_drops:  # where nothing and everything is gone, the order plays no part
        assert random[[0, -1]] == pytest.approx(found.drops[[0, -1]], abs=1e-6)


def test_random_orders_are_read_once_for_two_relevances(planted, monkeypatch):
    first = deletion_test(planted, TEXT, names(TEXT.index(PLANTED)))
    alone = deletion_test(planted, TEXT, names(0))
    lengths = read_ids(monkeypatch, planted)
    second = deletion_test(planted, TEXT, names(0), beside=first)
    assert max(len(ids) for ids in lengths) == 1  # nothing but its own order is read
    np.testing.assert_allclose(second.drops, alone.drops, atol=1e-12)
    np.testing.assert_array_equal(second.random_drops, first.random_drops)
    with pytest.raises(ValueError, match=r"the test beside has \(orders, steps\) \(39, 10\), not \(39, 4\)"):
        deletion_test(planted, TEXT, names(0), steps=3, beside=first)


def test_areas_scores_and_intervals():
    shares, drops = np.array([0, 0.5, 1]), np.array([0.0, 2.0, 2.0])
    found = Deletion(shares, drops, np.array([[0, 0, 2.0], [0, 1.0, 2.0]]))
    assert found.area == 1.5
    assert found.random_areas.tolist() == [0.5, 1]
    assert found.score == 0.75
    assert found.random_interval(1.0) == (0.5, 1.0)
    assert found.interval(1.0) == (0.5, 1.0)


@pytest.mark.parametrize("orders", [39, 100])
def test_a_further_random_order_lies_in_the_interval_as_often_as_it_says(orders):
    """Areas of any shape, here exponential, of which the last is not among those that were drawn."""
    random, inside = np.random.default_rng(orders), 0
    for _ in range(2000):
        *drawn, further = random.exponential(size=orders + 1)
        curves = np.array([[0, 2 * area] for area in drawn])
        low, high = Deletion(np.array([0, 1.0]), np.array([0, 2 * further]), curves).interval()
        inside += low <= 0 <= high
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)


def test_one_example_has_no_interval(planted):
    found = faithfulness(planted, [TEXT], RELEVANCES["rollout"])
    assert np.isnan([found.low, found.high]).all()
    assert found.score == found.scores[0]


def test_tokens_after_the_position_play_no_part(planted):
    found = deletion_test(planted, TEXT, names(3), NextTokenProbability(4, ANSWER))
    assert len(found.shares) == 5


class Marking(ByteTokenizer):
    def add_marks(self, ids, pair=None):
        return [1, *ids, 2]


def read_ids(monkeypatch, model):
    """What the model is shown, from now on."""
    shown = []
    forward = type(model).forward

    def watching(self, input_ids, *others):
        shown.append(input_ids)
        return forward(self, input_ids, *others)

    monkeypatch.setattr(type(model), "forward", watching)
    return shown


def test_marks_stay_and_similarity_is_the_outcome_without_a_head(monkeypatch):
    model = BERTModel(256, 16, 1, 2)
    model.tokenizer = Marking()
    outcome = intact_outcome(model, "abcd")
    assert isinstance(outcome, SimilarityToIntact)
    shown = read_ids(monkeypatch, model)
    found = deletion_test(model, "abcd", torch.rand(6))
    assert all((ids[:, 0] == 1).all() and (ids[:, -1] == 2).all() for ids in shown)
    assert {ids.size(1) for ids in shown} == {2, 3, 4, 5, 6}
    assert found.drops[0] == pytest.approx(0, abs=1e-6)
    assert found.drops[-1] > 0


def test_of_a_pair_the_source_is_deleted(monkeypatch):
    model = T5Model(20, 16, 1, 2)
    found = deletion_test(model, ([1, 2, 3, 4], [5, 6]), [0.1, 0.2, 0.3, 0.4])
    assert found.shares.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])  # one is left to be read
    assert np.ptp(found.drops) > 0


def test_patches_take_the_mean_colour(monkeypatch):
    model = ViTModel(8, 4, 16, 1, 2, labels=3, num_registers=2)
    torch.nn.init.normal_(model.head.classifier.weight)
    image = torch.rand(3, 8, 8)
    shown = read_ids(monkeypatch, model)
    found = deletion_test(model, image, [9, 9, 9, 1, 2, 4, 3], ClassProbability(1))
    assert len(found.shares) == 5
    after_two = next(images for images in shown[1:] if not torch.equal(images[0], image))
    mean = image.mean((1, 2))[:, None, None].expand(3, 4, 4)
    torch.testing.assert_close(after_two[0, :, 4:, :4], mean)  # patch 2, the worthiest, is at the lower left
    assert torch.equal(after_two[0, :, :4], image[:, :4])
    blank = shown[-1]
    torch.testing.assert_close(blank[-1], image.mean((1, 2))[:, None, None].expand(3, 8, 8))


@pytest.mark.parametrize("name", RELEVANCES)
def test_relevances_of_all_families(name):
    text = {"vocab_size": 20, "d_model": 16, "num_layers": 2, "num_heads": 2}
    image = torch.rand(3, 8, 8)
    for model, example, length in (
        (GPTModel(**text, max_seq_len=8), [1, 2, 3], 3),
        (BERTModel(**text, head="classification"), [1, 2, 3], 3),
        (ViTModel(8, 4, 16, 1, 2, labels=3), image, 5),
        (T5Model(**text), ([1, 2, 3, 4], [5, 6]), 4),
    ):
        relevance = RELEVANCES[name](model, example, intact_outcome(model, example))
        assert relevance.shape == (length,)
        assert len(deletion_test(model, example, relevance).random_areas) == 39


def test_refuses_what_says_nothing(planted):
    with pytest.raises(ValueError, match="orders must be at least 39, not 38"):
        deletion_test(planted, TEXT, names(0), orders=38)
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        deletion_test(planted, TEXT, names(0), steps=0)
    with pytest.raises(ValueError, match="must be 10 finite numbers"):
        deletion_test(planted, TEXT, [1.0, 2.0])
    with pytest.raises(ValueError, match="must be 10 finite numbers"):
        deletion_test(planted, TEXT, [float("nan")] * 10)
    with pytest.raises(ValueError, match="nothing may be deleted"):
        deletion_test(planted, [1], [1.0])
    with pytest.raises(ValueError, match="the data set is empty"):
        faithfulness(planted, [], RELEVANCES["rollout"])
