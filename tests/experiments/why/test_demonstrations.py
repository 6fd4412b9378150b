"""The demonstrations: invariants of their data, and measures with a known result."""

from __future__ import annotations

import math

import pytest
import torch

from glassformer.attention import ScaledDotProductAttention
from glassformer.experiments.why import induction, lookup, permutation, rank_collapse, recall, sinks
from glassformer.experiments.why.byte_models import train_bytes, training_flops
from glassformer.experiments.why.feed_forwards import ACTIVATIONS, hidden_width
from glassformer.experiments.why.induction_data import RepeatedTokens, is_repeated, unigram_loss
from glassformer.experiments.why.initial_weights import draw_unit_variance
from glassformer.experiments.why.score_scaling import softmax_measures
from glassformer.models import GPTModel
from glassformer.training import Schedule

RECALL = {
    "num_keys": 8,
    "num_values": 8,
    "num_pairs": 4,
    "num_roles": 1,
    "d_model": 32,
    "batch_size": 64,
    "steps": 150,
    "warmup_steps": 10,
    "num_evaluated": 256,
}


def test_rows_of_recall_have_one_answer():
    batch = recall.RecallBatches(10, 5, 6, 2, 32, seed=1).batch(3)
    keys, asked = batch.tensors["keys"], batch.tensors["asked"]
    assert keys.shape == (32, 6)
    assert all(len(set(row)) == 6 for row in keys.tolist())
    assert all(len(set(row)) == 2 for row in asked.tolist())
    assert asked.unique().tolist() == list(range(6))
    assert recall.answers(batch)[5, 1] == batch.tensors["values"][5, asked[5, 1]]
    again = recall.RecallBatches(10, 5, 6, 2, 32, seed=1)
    assert torch.equal(again.batch(3).tensors["values"], batch.tensors["values"])
    assert not torch.equal(again.batch(4).tensors["values"], batch.tensors["values"])
    with pytest.raises(ValueError, match="must not decrease in number, got 2, 6, 5"):
        recall.RecallBatches(5, 5, 6, 2, 32, seed=1)


def test_one_head_and_two_have_equally_many_parameters():
    sizes = {"num_keys": 16, "num_values": 16, "num_roles": 2, "d_model": 64}
    one = recall.RecallModel(**sizes, num_heads=1, d_head=64)
    two = recall.RecallModel(**sizes, num_heads=2, d_head=32)
    assert one.num_parameters() == two.num_parameters()


@torch.no_grad()
def test_queries_and_keys_have_unit_variance():
    torch.manual_seed(0)
    model = recall.RecallModel(num_keys=64, num_values=16, num_roles=1, d_model=64, num_heads=1, d_head=256)
    batch = recall.RecallBatches(64, 16, 32, 1, 256, seed=0).batch(0)
    query, pairs = model.query_and_pairs(batch)
    assert float(model.attention.q_proj(query).var()) == pytest.approx(1, abs=0.1)
    assert float(model.attention.k_proj(pairs).var()) == pytest.approx(1, abs=0.1)


@pytest.mark.slow
def test_recall_is_learned_and_looks_at_the_asked_key(tmp_path):
    model = recall.train_recall(RECALL, 0, tmp_path / "run", 1e-2, num_heads=1, d_head=16)
    found = recall.evaluate_recall(model, RECALL, 0)
    assert found["accuracy"] > 0.9
    assert found["accuracy"] == found["all_right"]
    assert found["weight"] > 0.6
    assert lookup.output_similarity(model, RECALL, 0) > 0.7
    untrained = recall.RecallModel(num_keys=8, num_values=8, num_roles=1, d_model=32, num_heads=1, d_head=16)
    assert recall.evaluate_recall(untrained, RECALL, 0)["accuracy"] < 0.5


def test_random_keys_hold_what_the_formula_says():
    generator = torch.Generator().manual_seed(0)
    found = lookup.random_lookup(36, [2, 8, 32, 128, 512, 2048], 32, 8, generator)
    assert math.log(found["capacity"]) == pytest.approx(math.sqrt(36) - 0.5, abs=0.3)
    assert list(found["weights"].values()) == sorted(found["weights"].values(), reverse=True)
    assert found["similarity"]["2"] > 0.99 > found["similarity"]["2048"]


def test_capacity_is_interpolated_in_logits():
    def weights(numbers):
        return {str(n): 1 / (1 + n / 20) for n in numbers}

    assert lookup.capacity(weights([4, 8, 64])) == pytest.approx(20)
    assert lookup.capacity(weights([32, 64])) == pytest.approx(32)
    assert lookup.capacity(weights([4, 8])) == pytest.approx(8)


def test_measures_of_a_softmax_equal_the_derivative():
    scores = torch.randn(5, 7, dtype=torch.float64)
    weights = torch.softmax(scores, -1)
    jacobians = [torch.func.jacrev(lambda s: torch.softmax(s, -1))(row) for row in scores]
    found = softmax_measures(weights)
    assert found["jacobian"] == pytest.approx(float(torch.stack([j.norm() for j in jacobians]).median()))
    uniform = softmax_measures(torch.full((3, 4), 0.25))
    assert uniform["entropy"] == pytest.approx(1)
    assert uniform["largest"] == 0.25
    certain = softmax_measures(torch.eye(3))
    assert certain["entropy"] == certain["jacobian"] == 0


def test_permutations_are_seen_only_through_positions_and_masks(tmp_path):
    settings = {"d_model": 16, "num_heads": 2, "num_layers": 2, "num_tokens": 8}
    found = permutation.make(settings, 0, tmp_path)
    assert found["all"]["no positions"] < 1e-13
    assert found["last"]["one causal layer"] < 1e-13
    for name in ("sinusoidal positions", "rotary positions", "no positions, causal mask"):
        assert found["all"][name] > 0.01
    assert found["last"]["two causal layers"] > 0.001


def test_differences_between_tokens():
    x = torch.tensor([[[3.0, 1.0], [3.0, -1.0]]], dtype=torch.float64)
    assert rank_collapse.relative_difference(x) == pytest.approx(math.sqrt(2 / 20))
    assert rank_collapse.relative_difference(torch.ones(1, 3, 2)) == rank_collapse.FLOOR


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_order_of_a_known_map(order):
    x = torch.randn(1, 9, 4, dtype=torch.float64)

    def layer(tokens):
        """Keeps the mean, and takes the differences to a power."""
        center = tokens.mean(1, keepdim=True)
        away = tokens - center
        return center + away * away.norm() ** (order - 1)

    found = rank_collapse.order_of_convergence(layer, x, [0.03, 0.01, 0.003])
    assert found == pytest.approx(order, abs=0.02)


def test_attention_alone_collapses_and_skip_connections_prevent_it(tmp_path):
    settings = {"d_model": 32, "num_heads": 2, "num_layers": 8, "num_tokens": 16}
    found = rank_collapse.make(settings | {"distances": [0.03, 0.01, 0.003]}, 0, tmp_path)
    shares = found["shares"]
    assert all(len(row) == 9 for row in shares.values())
    assert shares["attention"][-1] < 1e-6
    assert shares["attention with skip connection"][-1] > 0.01
    assert shares["pre-norm block"][-1] > 0.1
    assert len({row[0] for row in shares.values()}) == 1
    assert found["order"] == pytest.approx(3, abs=0.5)


def test_repeated_tokens_repeat_with_periods_of_their_own():
    rows, periods = RepeatedTokens(32, 24, (3, 12), 64, seed=5).rows(2)
    assert rows.shape == (64, 25)
    assert set(periods.tolist()) == set(range(3, 13))
    for row, period in zip(rows.tolist(), periods.tolist(), strict=True):
        assert len(set(row[:period])) == period
        assert row[period:] == row[:-period]
    repeated = is_repeated(rows, periods)
    assert repeated.sum(1).tolist() == (24 - periods).tolist()
    # The next token followed the previous occurrence of the current one.
    row, place = 7, int(periods[7]) + 2
    assert repeated[row, place]
    before = rows[row, :place].tolist().index(int(rows[row, place]))
    assert rows[row, place + 1] == rows[row, before + 1]


@pytest.mark.parametrize("periods", [(1, 4), (5, 4), (2, 13), (2, 40)])
def test_periods_that_do_not_fit_are_refused(periods):
    with pytest.raises(ValueError, match="periods must be from 2 to 12"):
        RepeatedTokens(32, 24, periods, 4, seed=0)


def test_the_unigram_of_equal_counts_is_the_logarithm_of_the_period():
    rows, periods = RepeatedTokens(32, 24, (6, 6), 16, seed=0).rows(0)
    places = range(6, 24)
    counts = [(n + 1) // 6 for n in places]  # of the next token among n + 1 earlier ones
    exact = -sum(math.log(count / (n + 1)) for n, count in zip(places, counts, strict=True)) / len(counts)
    assert unigram_loss(rows, periods, 32) == pytest.approx(exact, abs=0.01)
    # With distances that are exactly the period, only the right token is counted.
    assert unigram_loss(rows, periods, 32, (6, 6)) < 0.05


def induction_settings(**changes):
    settings = {"vocab_size": 16, "seq_len": 16, "periods": [2, 8], "d_model": 16, "num_heads": 2}
    settings |= {"batch_size": 8, "steps": 6, "warmup_steps": 2, "checkpoint_every": 2, "num_evaluated": 8}
    return settings | {"learning_rates": {"1": 3e-3, "2": 3e-3}} | changes


@pytest.mark.slow
def test_dense_checkpoints_are_of_the_run_itself(tmp_path):
    settings = induction_settings()
    value = induction.make(settings, 0, tmp_path)
    for name, layers in induction.LAYERS.items():
        row = value[name]
        assert row["steps"] == [0, 2, 4, 6]
        assert row["same_weights"] is True
        assert {len(scores) for scores in row["scores"]} == {layers}
        model = induction.build(settings, 0, layers)
        assert induction.measure(model, settings, 0)["loss"] == pytest.approx(row["loss"][0])
        # A run that ends at a checkpoint is measured alike.
        shorter = induction.train_induction(settings | {"steps": 4}, 0, tmp_path / name, layers, 0)
        assert induction.measure(shorter, settings, 0)["loss"] == row["loss"][2]
    assert induction.make(induction_settings(), 1, tmp_path / "1")["one layer"]["same_weights"] is None
    assert not list(tmp_path.glob("*/dense"))


def test_the_prefix_matching_score_of_uniform_attention():
    settings = induction_settings()
    model = induction.build(settings, 0, 1)
    for attention in model.attentions()["self"]:
        torch.nn.init.zeros_(attention.q_proj.weight)
    rows, periods = RepeatedTokens(16, 16, (2, 8), 8, induction.EVALUATION_SEED).rows(0)
    places = torch.arange(16).expand(8, 16)
    expected = ((places // periods[:, None]) / (places + 1.0))[is_repeated(rows, periods)].mean()
    [score] = induction.measure(model, settings, 0)["scores"]
    assert score == pytest.approx(float(expected))


def test_keys_after_all_earlier_occurrences_are_targets():
    target = induction.follows_same_token(torch.tensor([[5, 6, 5, 6, 5]]))
    assert target[0].int().tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 1, 0, 1, 0],
    ]


def test_the_rise_is_a_share_of_the_updates():
    row = {"steps": [0, 10, 20, 30, 40], "scores": [[0.0], [0.0, 0.1], [0.3], [0.7], [0.8]]}
    assert induction.rise(row) == pytest.approx((30 - 20) / 40)


def test_digests_tell_a_single_bit():
    model = GPTModel(vocab_size=8, d_model=8, num_layers=1, num_heads=1)
    before = induction.digest(model)
    with torch.no_grad():
        model.norm.weight[0] = torch.nextafter(model.norm.weight[0], torch.tensor(2.0))
    assert induction.digest(model) != before


def test_shares_of_the_first_token():
    model = GPTModel(vocab_size=8, d_model=8, num_layers=2, num_heads=2, max_seq_len=4, positions="none")
    for attention in model.attentions()["self"]:
        torch.nn.init.zeros_(attention.q_proj.weight)
    shares = sinks.first_token_shares(model, torch.tensor([[1, 2, 3, 4]]))
    assert shares.shape == (1, 2, 2)
    assert torch.allclose(shares, torch.tensor((1 / 2 + 1 / 3 + 1 / 4) / 3))
    assert sinks.sink_rate(shares) == 1
    assert sinks.sink_rate(shares * 0.5) == 0


def test_sigmoid_attention_is_not_normalized():
    q, k, v = torch.randn(3, 2, 5, 4, dtype=torch.float64)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    output, weights = sinks.SigmoidAttention()(q, k, v, mask)
    expected = torch.sigmoid(q @ k.transpose(-1, -2) / 2) * mask
    assert torch.allclose(weights, expected)
    assert torch.allclose(output, expected @ v)
    assert not torch.allclose(weights, ScaledDotProductAttention()(q, k, v, mask)[1])


def test_passages_are_of_different_documents(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("short\n" + f"{name} " * 300)
    found = sinks.passages(str(tmp_path), 3, 0)
    assert {text[0] for text in found} == {"a", "b", "c"}
    with pytest.raises(ValueError, match="3 documents with long paragraphs, 4 are needed"):
        sinks.passages(str(tmp_path), 4, 0)


def test_feed_forward_networks_have_equally_many_parameters():
    counts = {
        GPTModel(
            vocab_size=8,
            d_model=48,
            num_layers=1,
            num_heads=4,
            activation=name,
            d_ff=hidden_width(48, name),
            bias=False,
        ).num_parameters()
        for name in ACTIVATIONS
    }
    assert len(counts) == 1
    with pytest.raises(ValueError, match="d_model must be a multiple of 3 for equal parameters, got 64"):
        hidden_width(64, "swiglu")


@torch.no_grad()
def test_unit_variance_is_kept():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(50, 64), torch.nn.Linear(64, 256))
    draw_unit_variance(model)
    output = model(torch.arange(50))
    assert float(output.var()) == pytest.approx(1, abs=0.1)
    assert not model[1].bias.any()


@pytest.mark.slow
def test_byte_models_learn_and_a_short_text_is_refused(tmp_path):
    text = tmp_path / "texts"
    text.mkdir()
    for number in range(40):
        (text / f"{number}.txt").write_text(f"the same words again and again, {number} " * 20)
    settings = {"source": str(text), "tokens": str(tmp_path / "tokens"), "d_model": 16, "num_layers": 1}
    settings |= {"num_heads": 2, "seq_len": 32, "batch_size": 4, "steps": 60, "max_validation_tokens": 400}
    model, loss = train_bytes(settings, 0, tmp_path / "run", 1e-2, Schedule("constant", 5))
    assert loss < 2.5
    assert not model.training
    with pytest.raises(ValueError, match="are needed and the split has"):
        train_bytes(settings | {"steps": 10**4}, 0, tmp_path / "long", 1e-2, Schedule("constant", 5))
    twice = training_flops(settings | {"steps": 120})
    assert twice == 2 * training_flops(settings)
