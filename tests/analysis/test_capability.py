"""Capabilities: a model whose copying head is known, drops against scoring by hand, intervals that cover."""

from __future__ import annotations

import csv
import json
import string

import numpy as np
import pytest
import torch

from glassformer.analysis.ablation import ablate, reference_outputs
from glassformer.analysis.branching import BranchingPass, stretches
from glassformer.analysis.capability import (
    CapabilityTable,
    Scores,
    bootstrap_interval,
    capability_table,
    measure,
    save_rows,
)
from glassformer.analysis.groups import group_rows, random_heads
from glassformer.analysis.suites import Item, Suite, build_suites
from glassformer.models import BERTModel, GPTModel, T5Model
from glassformer.tokenization import ByteTokenizer, CharacterTokenizer

LETTERS = CharacterTokenizer(string.ascii_letters + " :.,?()[]{}\n")
MAX = 96


@torch.no_grad()
def copier(back=15):
    """A model that says what stood ``back`` tokens before: head 1 of layer 1 alone, by positions."""
    torch.manual_seed(0)
    vocab = LETTERS.vocab_size
    model = GPTModel(vocab, vocab + MAX, 2, 3, d_ff=4, max_seq_len=MAX, d_head=MAX, norm="rms", bias=False)
    for parameter in model.blocks.parameters():
        if parameter.dim() > 1:
            parameter.zero_()
    model.token_embedding.weight.copy_(torch.eye(vocab, vocab + MAX))
    positions = model.get_parameter("positions.embedding.weight")
    positions.zero_()[:, vocab:] = torch.eye(MAX)
    attention = model.blocks[1].attention
    q, k, v = (p.weight.view(3, MAX, -1) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    q[1, :, vocab:] = 100 * torch.eye(MAX)
    k[1, :, vocab:] = torch.eye(MAX).roll(back, 0)
    v[1, :vocab, :vocab] = torch.eye(vocab)
    attention.out_proj.weight.view(-1, 3, MAX)[:vocab, 1, :vocab] = torch.eye(vocab)
    for layer, head in ((0, 0), (0, 1), (1, 0), (1, 2)):  # these look around and write nothing
        other = model.blocks[layer].attention
        for part in (other.q_proj, other.k_proj):
            part.weight.view(3, MAX, -1)[head].normal_()
        other.out_proj.weight.view(-1, 3, MAX)[:, head].normal_()
    model.tokenizer = LETTERS
    return model.eval()


def test_the_only_source_of_copying():
    model = copier()
    suites = build_suites(LETTERS, ["copying", "control"], 8)
    heads = [(layer, head) for layer in range(2) for head in range(3)]
    table = capability_table(model, {f"{layer}.{head}": [(layer, head)] for layer, head in heads}, suites)
    assert table.suites == ["copying", "control"]
    assert table.intact.correct["copying"].mean() == 1
    for layer, head in heads:
        drops = table.drops(f"{layer}.{head}", "copying")
        if (layer, head) == (1, 1):
            assert (drops > 1).all()
            assert table.without["1.1"].correct["copying"].mean() <= 1 / 16
            assert table.drops("1.1", "control").mean() < 0.2
        else:
            assert (drops == 0).all()


def test_a_group_against_random_heads_and_its_parts():
    model = copier()
    suites = build_suites(LETTERS, ["copying", "control"], 8)
    group = [(1, 1), (0, 2)]
    draws = random_heads(group, [3, 3], 20)
    assert len(draws) == 8  # there are no more
    sets = {"copiers": group, "1.1": [(1, 1)], "0.2": [(0, 2)]}
    sets |= {f"random {n}": heads for n, heads in enumerate(draws)}
    table = capability_table(model, sets, suites)
    rows = {(row["suite"], row["measure"]): row for row in group_rows(table, "copiers", [*sets][3:])}
    drop = rows["copying", "drop"]
    assert drop["low"] <= drop["value"] <= drop["high"]
    assert rows["copying", "drop - drop in control"]["low"] > 0
    alike = [n for n, heads in enumerate(draws) if (1, 1) in heads]
    assert len(alike) == 2  # which do the same without the head that matters
    assert rows["copying", "p"]["value"] == 3 / 9
    assert rows["copying", "p"]["draws"] == 8
    assert rows["copying", "random"]["value"] == pytest.approx(drop["value"] * 2 / 8)
    assert rows["copying", "drop - random"]["value"] == pytest.approx(drop["value"] * 6 / 8)
    assert rows["copying", "joint - sum"]["value"] == pytest.approx(0, abs=1e-9)
    assert ("control", "drop - drop in control") not in rows


def test_heads_that_stand_in_for_one_another_are_redundant():
    intact = np.zeros(5)
    drops = {"pair": 4.0, "0.0": 0.5, "0.1": 1.0}
    without = {name: Scores({"s": intact - drop}, {"s": intact}) for name, drop in drops.items()}
    sets = {"pair": ((0, 0), (0, 1)), "0.0": ((0, 0),), "0.1": ((0, 1),)}
    table = CapabilityTable(sets, Scores({"s": intact}, {"s": intact}), without, {"s": "log p"})
    rows = {row["measure"]: row["value"] for row in group_rows(table, "pair")}
    assert rows == {"drop": 4.0, "sum of single drops": 1.5, "joint - sum": 2.5}


def test_damage_is_held_against_the_control_only_in_the_same_unit():
    items = np.zeros(3)
    scores = Scores(*(dict.fromkeys(("copying", "agreement", "control"), items) for _ in range(2)))
    suites = build_suites(LETTERS, list(scores.score), 2)
    table = CapabilityTable({"g": ((0, 0),)}, scores, {"g": scores}, {s.name: s.unit for s in suites})
    assert table.units == {"copying": "log p", "agreement": "log odds", "control": "log p"}
    compared = {row["suite"] for row in group_rows(table, "g") if row["measure"] == "drop - drop in control"}
    assert compared == {"copying"}
    assert {(row["suite"], row["unit"]) for row in table.rows()} == set(table.units.items())
    rows = list(group_rows(table, "g", ["g"]))
    assert {(row["suite"], row["unit"]) for row in rows if row["measure"] != "p"} == set(table.units.items())
    assert {row["unit"] for row in rows if row["measure"] == "p"} == {None}


def test_random_heads_are_every_other_set_of_the_same_layers():
    group = [(0, 1), (2, 3), (2, 0)]
    draws = random_heads(group, [4, 4, 6], 100, seed=1)
    assert len(set(draws)) == len(draws) == 4 * 15 - 1
    assert tuple(sorted(group)) not in draws
    for draw in draws:
        assert [layer for layer, _ in draw] == [0, 2, 2]
        assert len(set(draw)) == 3
    assert random_heads(group, [4, 4, 6], 5, seed=2) != random_heads(group, [4, 4, 6], 5, seed=3)


def test_a_layer_that_is_wholly_in_the_group_is_in_every_draw():
    group = [(1, 0), (1, 1), (2, 0)]
    assert set(random_heads(group, [4, 2, 3], 10)) == {((1, 0), (1, 1), (2, head)) for head in (1, 2)}
    with pytest.raises(ValueError, match="every head of its layers, so that there is no other set"):
        random_heads([(0, 0), (1, 0), (1, 1)], [1, 2], 5)


def test_p_is_as_often_small_as_it_says_where_the_group_is_like_any_other_set():
    """Drops add up over heads of which few matter; 5 of 9 heads of one layer, 2 of another."""
    chance, small, trials = np.random.default_rng(0), 0, 1000
    empty = Scores({"s": np.zeros(1)}, {"s": np.zeros(1)})
    for seed in range(trials):
        worth = chance.exponential(size=(2, 9)) ** 2
        group = [(layer, int(head)) for layer, k in ((0, 5), (1, 2)) for head in chance.permutation(9)[:k]]
        draws = random_heads(group, [9, 9], 9, seed)
        sets = {"group": tuple(group)} | {f"random {n}": heads for n, heads in enumerate(draws)}
        scores = {name: np.array([-sum(worth[head] for head in heads)]) for name, heads in sets.items()}
        without = {name: Scores({"s": score}, {"s": score}) for name, score in scores.items()}
        (p,) = (
            row["value"]
            for row in group_rows(CapabilityTable(sets, empty, without, {"s": "log p"}), "group", [*sets][1:])
            if row["measure"] == "p"
        )
        small += p <= 0.1
    assert 0.07 < small / trials < 0.13


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(2)
    model = GPTModel(
        257, 24, 3, 4, num_kv_heads=2, max_seq_len=120, dropout=0.2, positions="relative_bias", window=30
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.tokenizer = ByteTokenizer()
    return model


SUITES = build_suites(ByteTokenizer(), items=4)


def by_hand(model, item):
    """Score and correctness of one item that is read alone."""
    log_p = model(torch.tensor([item.ids]))[0].log_softmax(-1)
    places = [log_p[position - 1] for position in item.positions]
    score = [float(p[right]) for p, right in zip(places, item.right, strict=True)]
    if not item.wrong:
        correct = [int(p.argmax()) == right for p, right in zip(places, item.right, strict=True)]
        return np.mean(score), np.mean(correct)
    wrong = [float(p[wrong]) for p, wrong in zip(places, item.wrong, strict=True)]
    return np.mean(score) - np.mean(wrong), np.mean(np.array(score) > np.array(wrong))


@pytest.mark.parametrize("how", ["zero", "mean"])
@pytest.mark.parametrize("batch_tokens", [1, 300])
def test_scores_are_those_of_items_read_one_by_one(model, how, batch_tokens):
    reference = reference_outputs(model, ["some text", "and more of it"])
    sets = {"top": [(2, 1), (2, 3)], "all": [(0, 0), (2, 2)], "middle": [(1, 0)]}
    found = list(measure(model.train(), sets, SUITES, how, reference=reference, batch_tokens=batch_tokens))
    assert model.training
    model.eval()
    assert [name for name, _ in found] == [None, "all", "middle", "top"]  # by lowest layers
    for name, scores in found:
        heads = sets.get(name, [])
        with ablate(model, heads, how, reference=reference), torch.no_grad():
            for suite in SUITES:
                expected = np.array([by_hand(model, item) for item in suite.items])
                np.testing.assert_allclose(scores.score[suite.name], expected[:, 0], rtol=1e-4, atol=1e-4)
                np.testing.assert_array_equal(scores.correct[suite.name], expected[:, 1])


def test_a_branching_pass_ends_as_a_whole_one(model):
    model.eval()
    ids = torch.randint(0, 257, (3, 40))
    with torch.no_grad():
        branching = BranchingPass(model, ids)
        assert torch.equal(branching.hidden, model.hidden_states(ids))
        for layer in range(4):
            branching.move_up(layer)
            assert torch.equal(branching.finish(), branching.hidden)
    with pytest.raises(ValueError, match="stream is at layer 3 and does not go back to 1"):
        branching.move_up(1)
    assert not any(block._forward_pre_hooks for block in model.blocks)


def test_batches_hold_what_is_of_like_length():
    lengths = [5, 30, 6, 5, 29, 4]
    batches = stretches(lengths, 20)
    assert sorted(n for batch in batches for n in batch) == list(range(6))
    assert batches == [[5, 0, 3], [2], [4], [1]]


def test_intervals_cover():
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        low, high = bootstrap_interval(random.exponential(2.0, 40), seed=seed)
        covered += low <= 2.0 <= high
    assert 0.88 <= covered / 200 <= 0.98  # of 95 %, skewed as the numbers are
    low, high = bootstrap_interval(np.full(5, 3.0))
    assert (low, high) == pytest.approx((3.0, 3.0))


def test_one_item_or_one_draw_has_no_interval(tmp_path):
    scores = {items: Scores({"s": np.arange(items) * 1.0}, {"s": np.zeros(items)}) for items in (1, 3)}
    for items, of_drop in ((1, None), (3, 0.0)):
        sets = {"g": ((0, 0),), "random": ((0, 1),)}
        table = CapabilityTable(sets, scores[items], dict.fromkeys(sets, scores[items]), {"s": "log p"})
        rows = {row["measure"]: row for row in group_rows(table, "g", ["random"])}
        assert (rows["drop"]["low"], rows["drop"]["high"]) == (of_drop, of_drop)
        assert rows["random"]["low"] is rows["drop - random"]["high"] is None
        table.save(tmp_path / "table.json")
        assert json.loads((tmp_path / "table.json").read_text())[0]["low"] == of_drop
        assert "NaN" not in (tmp_path / "table.json").read_text()


def test_intervals_over_draws_and_items_cover_both():
    random, covered, items_only = np.random.default_rng(1), 0, 0
    for seed in range(150):
        values = random.normal(1.0, 1.0, (20, 1)) + random.normal(0.0, 0.5, (1, 25))
        low, high = bootstrap_interval(values, seed=seed)
        covered += low <= 1.0 <= high
        low, high = bootstrap_interval(values.mean(0), seed=seed)
        items_only += low <= 1.0 <= high
    assert covered / 150 > 0.88 > items_only / 150


def test_tables_are_tidy(model, tmp_path):
    table = capability_table(model, {"pair": [(0, 1), (2, 3)]}, SUITES[:2])
    table.save(tmp_path / "table.csv")
    table.save(tmp_path / "table.json")
    rows = json.loads((tmp_path / "table.json").read_text())
    assert [(row["set"], row["heads"], row["suite"]) for row in rows] == [
        ("pair", "0.1 2.3", "copying"),
        ("pair", "0.1 2.3", "copy-1"),
    ]
    for row in rows:
        assert row["drop"] == pytest.approx(row["score"] - row["score_without"])
        assert row["low"] <= row["drop"] <= row["high"]
    read = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [float(row["drop"]) for row in read] == [row["drop"] for row in rows]
    with pytest.raises(ValueError, match=r"\.csv or \.json, not '\.xls'"):
        save_rows([], tmp_path / "table.xls")


def test_refuses_what_cannot_be_measured(model):
    def refused(kind, *arguments):
        with pytest.raises(kind) as error:
            next(measure(*arguments))
        return str(error.value)

    bert = BERTModel(257, 24, 1, 4)
    assert "a BERTModel does not write text from left to right" in refused(TypeError, bert, {}, SUITES)
    assert "a T5Model does not write" in refused(TypeError, T5Model(257, 24, 1, 4), {}, SUITES)
    assert "there are no suites" in refused(ValueError, model, {}, [])
    assert "the set 'a' has no heads" in refused(ValueError, model, {"a": []}, SUITES)
    assert "layer 3 does not exist" in refused(ValueError, model, {"a": [(3, 0)]}, SUITES)
    short = GPTModel(257, 24, 1, 4, max_seq_len=20)
    assert "the suite copying has an item of 32 tokens, and the model reads 20" in refused(
        ValueError, short, {}, SUITES
    )
    few = GPTModel(40, 24, 1, 4)
    suite = Suite("s", "", 0.5, (Item((1, 2), (2,), (40,)),))
    assert "has the id 40, and the model's ids are 0 to 39" in refused(ValueError, few, {}, [suite])
    compiled = torch.compile(GPTModel(257, 24, 1, 4))
    assert "_orig_mod" in refused(TypeError, compiled, {}, SUITES)
