"""Effects of ablations on behavior tasks, for a model with one copying head and against scores by hand."""

from __future__ import annotations

import csv
import json
import string

import numpy as np
import pytest
import torch

from glassformer.analysis.ablation import ablate, random_heads, reference_outputs
from glassformer.analysis.behaviors.evaluate import (
    BehaviorTable,
    TaskScores,
    behavior_table,
    compare_group,
    evaluate_ablations,
)
from glassformer.analysis.behaviors.tasks import BehaviorTask, TaskItem, build_behavior_tasks
from glassformer.files import save_table
from glassformer.models import BERTModel, GPTModel, T5Model
from glassformer.tokenization import ByteTokenizer, CharacterTokenizer

LETTERS = CharacterTokenizer(string.ascii_letters + " :.,?()[]{}\n")
MAX = 96


@torch.no_grad()
def copier(back=15):
    """A model that predicts the token ``back`` positions back by head 1 of layer 1 alone."""
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
    for layer, head in ((0, 0), (0, 1), (1, 0), (1, 2)):  # these heads attend but add nothing
        other = model.blocks[layer].attention
        for part in (other.q_proj, other.k_proj):
            part.weight.view(3, MAX, -1)[head].normal_()
        other.out_proj.weight.view(-1, 3, MAX)[:, head].normal_()
    model.tokenizer = LETTERS
    return model.eval()


@pytest.mark.slow
def test_only_the_copying_head_has_an_effect_on_copying():
    model = copier()
    tasks = build_behavior_tasks(LETTERS, ["copying", "control"], 8)
    heads = [(layer, head) for layer in range(2) for head in range(3)]
    table = behavior_table(model, {f"{layer}.{head}": [(layer, head)] for layer, head in heads}, tasks)
    assert table.tasks == ["copying", "control"]
    assert table.all_heads.accuracy["copying"].mean() == 1
    for layer, head in heads:
        drops = table.drops(f"{layer}.{head}", "copying")
        if (layer, head) == (1, 1):
            assert (drops > 1).all()
            assert table.without["1.1"].accuracy["copying"].mean() <= 1 / 16
            assert table.drops("1.1", "control").mean() < 0.2
        else:
            assert (drops == 0).all()


@pytest.mark.slow
def test_a_group_is_compared_with_random_heads_and_its_parts():
    model = copier()
    tasks = build_behavior_tasks(LETTERS, ["copying", "control"], 8)
    group = [(1, 1), (0, 2)]
    draws = random_heads(group, [3, 3], 20)
    assert len(draws) == 8  # there are no more
    sets = {"copiers": group, "1.1": [(1, 1)], "0.2": [(0, 2)]}
    sets |= {f"random {n}": heads for n, heads in enumerate(draws)}
    table = behavior_table(model, sets, tasks)
    rows = {(row["suite"], row["measure"]): row for row in compare_group(table, "copiers", [*sets][3:])}
    drop = rows["copying", "drop"]
    assert drop["low"] <= drop["value"] <= drop["high"]
    assert rows["copying", "drop - drop in control"]["low"] > 0
    alike = [n for n, heads in enumerate(draws) if (1, 1) in heads]
    assert len(alike) == 2  # with the copying head, and so the same effect
    assert rows["copying", "p"]["value"] == 3 / 9
    assert rows["copying", "p"]["draws"] == 8
    assert rows["copying", "random"]["value"] == pytest.approx(drop["value"] * 2 / 8)
    assert rows["copying", "drop - random"]["value"] == pytest.approx(drop["value"] * 6 / 8)
    assert rows["copying", "joint - sum"]["value"] == pytest.approx(0, abs=1e-9)
    assert ("control", "drop - drop in control") not in rows


def test_redundant_heads_have_a_joint_effect_above_the_sum():
    intact = np.zeros(5)
    drops = {"pair": 4.0, "0.0": 0.5, "0.1": 1.0}
    without = {name: TaskScores({"s": intact - drop}, {"s": intact}) for name, drop in drops.items()}
    sets = {"pair": ((0, 0), (0, 1)), "0.0": ((0, 0),), "0.1": ((0, 1),)}
    table = BehaviorTable(sets, TaskScores({"s": intact}, {"s": intact}), without, {"s": "log p"})
    rows = {row["measure"]: row["value"] for row in compare_group(table, "pair")}
    assert rows == {"drop": 4.0, "sum of single drops": 1.5, "joint - sum": 2.5}


def test_the_control_is_compared_only_with_tasks_in_the_same_unit():
    items = np.zeros(3)
    scores = TaskScores(*(dict.fromkeys(("copying", "agreement", "control"), items) for _ in range(2)))
    tasks = build_behavior_tasks(LETTERS, list(scores.score), 2)
    table = BehaviorTable({"g": ((0, 0),)}, scores, {"g": scores}, {s.name: s.unit for s in tasks})
    assert table.units == {"copying": "log p", "agreement": "log odds", "control": "log p"}
    compared = {
        row["suite"] for row in compare_group(table, "g") if row["measure"] == "drop - drop in control"
    }
    assert compared == {"copying"}
    assert {(row["suite"], row["unit"]) for row in table.rows()} == set(table.units.items())
    rows = list(compare_group(table, "g", ["g"]))
    assert {(row["suite"], row["unit"]) for row in rows if row["measure"] != "p"} == set(table.units.items())
    assert {row["unit"] for row in rows if row["measure"] == "p"} == {None}


def test_random_heads_include_every_other_set_of_the_same_layers():
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


@pytest.mark.slow
def test_p_values_are_calibrated_for_a_group_like_any_other():
    """Drops are sums over heads of which few have a large effect; the group has 5 of 9 and 2 of 9 heads."""
    chance, small, trials = np.random.default_rng(0), 0, 1000
    empty = TaskScores({"s": np.zeros(1)}, {"s": np.zeros(1)})
    for seed in range(trials):
        worth = chance.exponential(size=(2, 9)) ** 2
        group = [(layer, int(head)) for layer, k in ((0, 5), (1, 2)) for head in chance.permutation(9)[:k]]
        draws = random_heads(group, [9, 9], 9, seed)
        sets = {"group": tuple(group)} | {f"random {n}": heads for n, heads in enumerate(draws)}
        scores = {name: np.array([-sum(worth[head] for head in heads)]) for name, heads in sets.items()}
        without = {name: TaskScores({"s": score}, {"s": score}) for name, score in scores.items()}
        (p,) = (
            row["value"]
            for row in compare_group(
                BehaviorTable(sets, empty, without, {"s": "log p"}), "group", [*sets][1:]
            )
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


TASKS = build_behavior_tasks(ByteTokenizer(), items=4)


def by_hand(model, item):
    """Score and accuracy of one item in a batch of its own."""
    log_p = model(torch.tensor([item.ids]))[0].log_softmax(-1)
    places = [log_p[position - 1] for position in item.positions]
    score = [float(p[right]) for p, right in zip(places, item.correct, strict=True)]
    if not item.incorrect:
        correct = [int(p.argmax()) == right for p, right in zip(places, item.correct, strict=True)]
        return np.mean(score), np.mean(correct)
    wrong = [float(p[wrong]) for p, wrong in zip(places, item.incorrect, strict=True)]
    return np.mean(score) - np.mean(wrong), np.mean(np.array(score) > np.array(wrong))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["zero", "mean"])
@pytest.mark.parametrize("batch_tokens", [1, 300])
def test_scores_are_those_of_items_one_by_one(model, how, batch_tokens):
    reference = reference_outputs(model, ["some text", "and more of it"])
    sets = {"top": [(2, 1), (2, 3)], "all": [(0, 0), (2, 2)], "middle": [(1, 0)]}
    found = list(
        evaluate_ablations(model.train(), sets, TASKS, how, reference=reference, batch_tokens=batch_tokens)
    )
    assert model.training
    model.eval()
    assert [name for name, _ in found] == [None, "all", "middle", "top"]  # by lowest layers
    for name, scores in found:
        heads = sets.get(name, [])
        with ablate(model, heads, how, reference=reference), torch.no_grad():
            for task in TASKS:
                expected = np.array([by_hand(model, item) for item in task.items])
                np.testing.assert_allclose(scores.score[task.name], expected[:, 0], rtol=1e-4, atol=1e-4)
                np.testing.assert_array_equal(scores.accuracy[task.name], expected[:, 1])


def test_a_single_item_or_draw_has_no_interval(tmp_path):
    scores = {items: TaskScores({"s": np.arange(items) * 1.0}, {"s": np.zeros(items)}) for items in (1, 3)}
    for items, of_drop in ((1, None), (3, 0.0)):
        sets = {"g": ((0, 0),), "random": ((0, 1),)}
        table = BehaviorTable(sets, scores[items], dict.fromkeys(sets, scores[items]), {"s": "log p"})
        rows = {row["measure"]: row for row in compare_group(table, "g", ["random"])}
        assert (rows["drop"]["low"], rows["drop"]["high"]) == (of_drop, of_drop)
        assert rows["random"]["low"] is rows["drop - random"]["high"] is None
        table.save(tmp_path / "table.json")
        assert json.loads((tmp_path / "table.json").read_text())[0]["low"] == of_drop
        assert "NaN" not in (tmp_path / "table.json").read_text()


def test_tables_have_a_row_for_each_set_and_task(model, tmp_path):
    table = behavior_table(model, {"pair": [(0, 1), (2, 3)]}, TASKS[:2])
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
        save_table([], tmp_path / "table.xls")


@pytest.mark.slow
def test_models_and_tasks_that_do_not_fit_raise_errors(model):
    def refused(kind, *arguments):
        with pytest.raises(kind) as error:
            next(evaluate_ablations(*arguments))
        return str(error.value)

    bert = BERTModel(257, 24, 1, 4)
    assert "a BERTModel is not a causal language model" in refused(TypeError, bert, {}, TASKS)
    assert "a T5Model is not a causal language model" in refused(TypeError, T5Model(257, 24, 1, 4), {}, TASKS)
    assert "there are no tasks" in refused(ValueError, model, {}, [])
    assert "the set 'a' has no heads" in refused(ValueError, model, {"a": []}, TASKS)
    assert "layer 3 does not exist" in refused(ValueError, model, {"a": [(3, 0)]}, TASKS)
    short = GPTModel(257, 24, 1, 4, max_seq_len=20)
    assert "the task copying has an item of 32 tokens, and the model's limit is 20" in refused(
        ValueError, short, {}, TASKS
    )
    few = GPTModel(40, 24, 1, 4)
    task = BehaviorTask("s", "", 0.5, (TaskItem((1, 2), (2,), (40,)),))
    assert "has the id 40, and the model's ids are 0 to 39" in refused(ValueError, few, {}, [task])
    compiled = torch.compile(GPTModel(257, 24, 1, 4))
    assert "_orig_mod" in refused(TypeError, compiled, {}, TASKS)
