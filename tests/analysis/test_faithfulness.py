"""Deletion tests find a known important token, and score chance about zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassformer.analysis.attribution_targets import ClassLogProb, NextTokenLogProb, SimilarityToOriginal
from glassformer.analysis.faithfulness import (
    ATTRIBUTION_METHODS,
    DeletionResult,
    compute_default_target,
    deletion_test,
    faithfulness,
)
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.tokenization import ByteTokenizer

PLANTED, ANSWER = 7, 3
TEXT = [1, 2, 4, PLANTED, 5, 6, 8, 9, 1, 2]


@pytest.fixture(scope="module")
def planted():
    """A model that predicts ANSWER after PLANTED at any position, by one head with uniform attention."""
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


def one_hot(token):
    return [float(place == token) for place in range(len(TEXT))]


def test_the_important_token_has_the_largest_drop(planted):
    target = compute_default_target(planted, TEXT)
    assert target == NextTokenLogProb(9, ANSWER)
    found = deletion_test(planted, TEXT, one_hot(TEXT.index(PLANTED)))
    assert found.drops[1] > 0.5
    assert found.interval()[0] > -1e-6  # no random order is better
    assert found.score > 0.3 * found.area
    wrong = deletion_test(planted, TEXT, [-x for x in one_hot(TEXT.index(PLANTED))])
    assert wrong.interval()[1] < 1e-6
    assert wrong.score < 0


def test_gradient_rollout_finds_the_important_token(planted):
    attribution = ATTRIBUTION_METHODS["gradient"](planted, TEXT, compute_default_target(planted, TEXT))
    assert int(attribution[:-1].argmax()) == TEXT.index(PLANTED)
    assert deletion_test(planted, TEXT, attribution).score > 0.1


@pytest.mark.slow
def test_random_attributions_score_about_zero(planted):
    """On texts with the important token at any position, the interval of the mean covers zero."""
    generator = torch.Generator().manual_seed(0)
    texts = [[*np.random.default_rng(n).permutation(TEXT[:-1]).tolist(), 2] for n in range(12)]
    found = faithfulness(
        planted, texts, lambda model, example, target: torch.rand(len(example), generator=generator)
    )
    assert found.low < 0 < found.high
    informative = faithfulness(
        planted, texts, lambda model, example, target: torch.tensor([float(x == PLANTED) for x in example])
    )
    assert informative.low > 0
    assert len(informative.scores) == 12
    assert informative.score > 3 * abs(found.score)


def test_tokens_of_equal_attribution_are_deleted_in_random_order(planted):
    scores = [deletion_test(planted, TEXT, [0.0] * 10, seed=seed).score for seed in range(8)]
    assert len(set(scores)) > 3


def test_drops_by_hand(planted):
    """Tokens are deleted one by one; the token that is read changes its position and is not deleted."""
    attribution = [9, 8, 7, 6, 5, 4, 3, 2, 1, 99]
    found = deletion_test(planted, TEXT, attribution)
    with torch.no_grad():
        values = [
            float(planted(torch.tensor([TEXT[gone:]]))[0, -1].log_softmax(-1)[ANSWER]) for gone in range(10)
        ]
    np.testing.assert_allclose(found.shares, np.arange(10) / 9)
    np.testing.assert_allclose(found.drops, values[0] - np.array(values), atol=1e-6)
    few = deletion_test(planted, TEXT, attribution, steps=3)
    np.testing.assert_allclose(few.drops, found.drops[::3], atol=1e-6)
    assert few.random_drops.shape == (39, 4)
    for random in found.random_drops:  # the order has no effect on the first and last step
        assert random[[0, -1]] == pytest.approx(found.drops[[0, -1]], abs=1e-6)


def test_random_orders_of_a_baseline_are_used_again(planted, monkeypatch):
    first = deletion_test(planted, TEXT, one_hot(TEXT.index(PLANTED)))
    alone = deletion_test(planted, TEXT, one_hot(0))
    lengths = watch_inputs(monkeypatch, planted)
    second = deletion_test(planted, TEXT, one_hot(0), baseline=first)
    assert max(len(ids) for ids in lengths) == 1  # only the order of the attribution
    np.testing.assert_allclose(second.drops, alone.drops, atol=1e-12)
    np.testing.assert_array_equal(second.random_drops, first.random_drops)
    with pytest.raises(ValueError, match=r"baseline must have \(orders, steps\) \(39, 4\), not \(39, 10\)"):
        deletion_test(planted, TEXT, one_hot(0), steps=3, baseline=first)


def test_areas_scores_and_intervals():
    shares, drops = np.array([0, 0.5, 1]), np.array([0.0, 2.0, 2.0])
    found = DeletionResult(shares, drops, np.array([[0, 0, 2.0], [0, 1.0, 2.0]]))
    assert found.area == 1.5
    assert found.random_areas.tolist() == [0.5, 1]
    assert found.score == 0.75
    assert found.random_interval(1.0) == (0.5, 1.0)
    assert found.interval(1.0) == (0.5, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("orders", [39, 100])
def test_the_interval_covers_a_new_random_order(orders):
    """For any distribution of areas, here an exponential one."""
    random, inside = np.random.default_rng(orders), 0
    for _ in range(2000):
        *drawn, new = random.exponential(size=orders + 1)
        curves = np.array([[0, 2 * area] for area in drawn])
        low, high = DeletionResult(np.array([0, 1.0]), np.array([0, 2 * new]), curves).interval()
        inside += low <= 0 <= high
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)


def test_a_single_example_has_no_interval(planted):
    found = faithfulness(planted, [TEXT], ATTRIBUTION_METHODS["rollout"])
    assert np.isnan([found.low, found.high]).all()
    assert found.score == found.scores[0]


def test_tokens_after_the_position_are_not_deleted(planted):
    found = deletion_test(planted, TEXT, one_hot(3), NextTokenLogProb(4, ANSWER))
    assert len(found.shares) == 5


class WithSpecialTokens(ByteTokenizer):
    def add_special_tokens(self, ids, pair=None):
        return [1, *ids, 2]


def watch_inputs(monkeypatch, model):
    """The inputs of all further forward passes."""
    inputs = []
    forward = type(model).forward

    def watching(self, input_ids, *others):
        inputs.append(input_ids)
        return forward(self, input_ids, *others)

    monkeypatch.setattr(type(model), "forward", watching)
    return inputs


def test_special_tokens_stay_and_similarity_is_the_target_without_a_head(monkeypatch):
    model = BERTModel(256, 16, 1, 2)
    model.tokenizer = WithSpecialTokens()
    target = compute_default_target(model, "abcd")
    assert isinstance(target, SimilarityToOriginal)
    inputs = watch_inputs(monkeypatch, model)
    found = deletion_test(model, "abcd", torch.rand(6))
    assert all((ids[:, 0] == 1).all() and (ids[:, -1] == 2).all() for ids in inputs)
    assert {ids.size(1) for ids in inputs} == {2, 3, 4, 5, 6}
    assert found.drops[0] == pytest.approx(0, abs=1e-6)
    assert found.drops[-1] > 0


def test_the_source_of_a_pair_is_deleted(monkeypatch):
    model = T5Model(20, 16, 1, 2)
    found = deletion_test(model, ([1, 2, 3, 4], [5, 6]), [0.1, 0.2, 0.3, 0.4])
    assert found.shares.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])  # one token is left
    assert np.ptp(found.drops) > 0


def test_deleted_patches_take_the_mean_colour(monkeypatch):
    model = ViTModel(8, 4, 16, 1, 2, labels=3, num_registers=2)
    torch.nn.init.normal_(model.head.classifier.weight)
    image = torch.rand(3, 8, 8)
    inputs = watch_inputs(monkeypatch, model)
    found = deletion_test(model, image, [9, 9, 9, 1, 2, 4, 3], ClassLogProb(1))
    assert len(found.shares) == 5
    after_two = next(images for images in inputs[1:] if not torch.equal(images[0], image))
    mean = image.mean((1, 2))[:, None, None].expand(3, 4, 4)
    torch.testing.assert_close(after_two[0, :, 4:, :4], mean)  # the patch of the highest attribution
    assert torch.equal(after_two[0, :, :4], image[:, :4])
    blank = inputs[-1]
    torch.testing.assert_close(blank[-1], image.mean((1, 2))[:, None, None].expand(3, 8, 8))


@pytest.mark.parametrize("name", ATTRIBUTION_METHODS)
def test_attribution_methods_of_all_families(name):
    text = {"vocab_size": 20, "d_model": 16, "num_layers": 2, "num_heads": 2}
    image = torch.rand(3, 8, 8)
    for model, example, length in (
        (GPTModel(**text, max_seq_len=8), [1, 2, 3], 3),
        (BERTModel(**text, head="classification"), [1, 2, 3], 3),
        (ViTModel(8, 4, 16, 1, 2, labels=3), image, 5),
        (T5Model(**text), ([1, 2, 3, 4], [5, 6]), 4),
    ):
        attribution = ATTRIBUTION_METHODS[name](model, example, compute_default_target(model, example))
        assert attribution.shape == (length,)
        assert len(deletion_test(model, example, attribution).random_areas) == 39


def test_invalid_arguments_raise_errors(planted):
    with pytest.raises(ValueError, match="orders must be at least 39, not 38"):
        deletion_test(planted, TEXT, one_hot(0), orders=38)
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        deletion_test(planted, TEXT, one_hot(0), steps=0)
    with pytest.raises(ValueError, match="must be 10 finite numbers"):
        deletion_test(planted, TEXT, [1.0, 2.0])
    with pytest.raises(ValueError, match="must be 10 finite numbers"):
        deletion_test(planted, TEXT, [float("nan")] * 10)
    with pytest.raises(ValueError, match="no token may be deleted"):
        deletion_test(planted, [1], [1.0])
    with pytest.raises(ValueError, match="the data set is empty"):
        faithfulness(planted, [], ATTRIBUTION_METHODS["rollout"])
