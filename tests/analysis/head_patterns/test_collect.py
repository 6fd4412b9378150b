"""Sums of attention maps compared with their definition, written as loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.analysis.head_patterns.collect import (
    FAR,
    MAX_DISTANCE,
    AttentionReducer,
    VisibleTargets,
    collect_sums,
    visible_words,
    word_weights,
)
from glassformer.analysis.head_patterns.patterns import (
    Batch,
    Delimiter,
    Duplicate,
    First,
    Induction,
    Item,
    Offset,
    SyntaxRelation,
    Words,
    previous_occurrence,
    token_patterns,
)
from glassformer.analysis.partial_results import model_fingerprint
from glassformer.attention import AttentionMap, record_attention
from glassformer.models import BERTModel, GPTModel

PATTERNS = [Offset("previous", -1), Offset("next", 1), First(), Delimiter(), Duplicate(), Induction()]
RELATION = SyntaxRelation("verb->object")
ITEMS = [
    Item(
        [3, 1, 4, 1, 5, 9, 2, 6],
        [False, True, False, True, False, False, False, False],
        words=Words([-1, 0, 0, 1, 2, 2, 3, -1], {"verb->object": [(1, 3), (2, 0), (3, 1)]}),
    ),
    Item([2, 7, 2], [False, True, True]),
    Item([5, 5, 5, 8, 5], [False] * 5, words=Words([0, 1, 1, 2, 3], {"verb->object": [(0, 1), (3, 2)]})),
    Item([7], [True]),
]


def build(family, **options):
    torch.manual_seed(5)
    model = family(10, 12, 2, 3, max_seq_len=16, **options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


MODELS = [build(GPTModel), build(GPTModel, window=3, positions="rotary"), build(BERTModel)]


def is_target(item, pattern, i, j):
    ids = list(item.ids)
    if isinstance(pattern, Offset):
        return j == i + pattern.distance
    if isinstance(pattern, First):
        return j == 0
    if isinstance(pattern, Delimiter):
        return item.is_delimiter[j]
    before = max((p for p in range(i) if ids[p] == ids[i]), default=None)
    return before is not None and j == before + isinstance(pattern, Induction)


def slow_sums(weights, visible, is_target):
    """One head and pattern: mass, hits, chance, queries, offsets."""
    mass = hits = chance = 0.0
    queries, offsets = 0, np.zeros(2 * MAX_DISTANCE + 1)
    for i in range(len(weights)):
        seen = [j for j in range(len(weights)) if visible[i][j]]
        wanted = [j for j in seen if is_target(i, j)]
        if not wanted or len(wanted) == len(seen):
            continue
        queries += 1
        mass += sum(weights[i][j] for j in wanted)
        largest = max(weights[i][j] for j in seen)
        tied = [j for j in seen if weights[i][j] >= largest * (1 - 1e-5)]
        hits += sum(j in wanted for j in tied) / len(tied) if largest > 0 else 0
        chance += len(wanted) / len(seen)
        for j in wanted:
            offsets[j - i + MAX_DISTANCE] += 1
    return mass, hits, chance, queries, offsets


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_sums_match_their_definition(model):
    sums = collect_sums(model, ITEMS, [*PATTERNS, RELATION])
    for number, item in enumerate(ITEMS):
        with record_attention(model) as recording, torch.no_grad():
            model.hidden_states(torch.tensor([item.ids]))
        for layer in range(2):
            weights = recording[layer][0].double()
            allowed = recording.allowed[layer]
            shape = weights.shape[1:]
            visible = torch.ones(shape).bool() if allowed is None else allowed.expand(1, 3, *shape)[0, 0]
            for head in range(3):
                place = 3 * layer + head
                for index, pattern in enumerate(PATTERNS):
                    mass, hits, chance, queries, offsets = slow_sums(
                        weights[head].tolist(),
                        visible.tolist(),
                        lambda i, j, item=item, pattern=pattern: is_target(item, pattern, i, j),
                    )
                    assert sums["token/mass"][number, place, index] == pytest.approx(mass, abs=1e-5)
                    assert sums["token/hits"][number, place, index] == pytest.approx(hits, abs=1e-5)
                    assert sums["token/chance"][number, index] == pytest.approx(chance, abs=1e-5)
                    assert sums["token/queries"][number, index] == queries
                    np.testing.assert_array_equal(sums["token/offsets"][number, :, index], offsets)
                check_description(sums, number, place, weights[head].tolist(), visible.tolist())
                if item.words is not None:
                    check_words(sums, number, place, item, weights[head], visible)


def check_description(sums, number, place, weights, visible):
    distance = far = entropy = 0.0
    for i, row in enumerate(weights):
        choices = sum(visible[i])
        if choices > 1:
            distance += sum(w * abs(i - j) for j, w in enumerate(row))
            far += sum(w for j, w in enumerate(row) if abs(i - j) > FAR)
            entropy -= sum(w * math.log(w) for w in row if w > 0) / math.log(choices)
    found = sums["described/mass"][number, place].tolist()
    assert found == pytest.approx([distance, far, entropy], abs=1e-4)


def check_words(sums, number, place, item, weights, visible):
    words = 1 + max(item.words.word_ids)
    tokens = [[t for t, w in enumerate(item.words.word_ids) if w == word] for word in range(words)]
    between = [
        [float(weights[tokens[a]][:, tokens[b]].sum(-1).mean()) for b in range(words)] for a in range(words)
    ]
    seen = [[bool(visible[tokens[a]][:, tokens[b]].all()) for b in range(words)] for a in range(words)]
    pairs = item.words.relations["verb->object"]
    mass, hits, chance, queries, _ = slow_sums(between, seen, lambda i, j: (i, j) in pairs)
    assert sums["word/mass"][number, place, 0] == pytest.approx(mass, abs=1e-5)
    assert sums["word/hits"][number, place, 0] == pytest.approx(hits, abs=1e-5)
    assert sums["word/chance"][number, 0] == pytest.approx(chance, abs=1e-5)
    assert sums["word/queries"][number, 0] == queries


def test_items_without_words_have_no_queries_for_words():
    sums = collect_sums(MODELS[2], ITEMS, [RELATION])
    assert sums["word/queries"][:, 0].tolist() == [3, 0, 2, 0]
    assert "word/mass" not in collect_sums(MODELS[2], [ITEMS[1]], [RELATION])


def test_tied_weights_count_as_fractions():
    """A head with uniform attention has the hits and mass expected by chance."""
    model = build(BERTModel)
    for block in model.blocks:
        torch.nn.init.zeros_(block.attention.q_proj.weight)
        torch.nn.init.zeros_(block.attention.q_proj.bias)
    sums = collect_sums(model, ITEMS, PATTERNS)
    for head in range(6):
        torch.testing.assert_close(sums["token/hits"][:, head], sums["token/chance"])
        torch.testing.assert_close(sums["token/mass"][:, head], sums["token/chance"])


@pytest.mark.slow
@given(seed=st.integers(0, 999))
def test_chance_is_the_mean_over_shuffled_targets(seed):
    """For any head, because its rows sum to one."""
    generator = torch.Generator().manual_seed(seed)
    length, rounds = 6, 4000
    visible = torch.ones(1, length, length).bool().tril()
    weights = torch.rand(length, length, generator=generator).tril().softmax(-1).tril()
    weights = weights / weights.sum(-1, keepdim=True)
    item = Item([1] * length, torch.rand(length, generator=generator).lt(0.4).tolist())
    targets = VisibleTargets.of([Delimiter()], Batch.from_items([item]), visible)
    num_targets = targets.targets[0, :, :, 0].sum(-1)  # (query,)
    order = torch.rand(rounds, length, length, generator=generator).masked_fill(~visible[0], -1)
    ranks = order.argsort(-1, descending=True).argsort(-1)
    shuffled = ranks < num_targets[:, None]  # as many random visible keys
    masses = (weights * shuffled).sum((-2, -1))
    error = 5 * float(masses.std()) / math.sqrt(rounds) + 1e-5
    assert float(masses.mean()) == pytest.approx(float(targets.chance[0, 0]), abs=error)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_the_previous_occurrence_is_the_nearest_earlier_one(ids):
    found = previous_occurrence(torch.tensor([ids]))[0]
    for i, token in enumerate(ids):
        before = [j for j in range(i) if ids[j] == token]
        assert found[i].nonzero().flatten().tolist() == before[-1:]


def test_a_word_is_visible_only_with_all_its_tokens():
    alignment = torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]])  # two words, one padding
    causal = torch.ones(1, 4, 4).bool().tril()
    expected = torch.tensor([[[False, False, False], [True, True, False], [False] * 3]])
    assert torch.equal(visible_words(causal, alignment), expected)
    weights = torch.rand(1, 2, 4, 4).softmax(-1)
    words = word_weights(weights, alignment)
    torch.testing.assert_close(words[:, :, 0, 1], weights[:, :, :2, 2].mean(-1))
    torch.testing.assert_close(words[:, :, 1, 0], weights[:, :, 2, :2].sum(-1))
    assert not words[:, :, 2].any()


def test_collecting_sums_does_not_change_the_model():
    model = build(GPTModel, dropout=0.5).train()
    before = model_fingerprint(model)
    state = torch.get_rng_state()
    one, two = (collect_sums(model, ITEMS, PATTERNS) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert model_fingerprint(model) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with torch.no_grad():
        model.blocks[1].attention.k_proj.weight[3, 3] += 0.1
    assert model_fingerprint(model) != before


def test_layers_and_heads_with_different_masks_are_refused():
    causal = torch.ones(5, 5, dtype=torch.bool).tril()
    window = causal & ~causal.tril(-3)

    def add(sums, layer, allowed):
        weights = torch.softmax(torch.zeros(1, 2, 5, 5).masked_fill(~allowed, -torch.inf), -1)
        sums(AttentionMap("self", layer, [0, 1], list(range(5)), weights, allowed))

    def new_reducer():
        return AttentionReducer(
            Batch.from_items([Item([1] * 5, [False] * 5)]), {"token": PATTERNS}, [0, 2, 4], descriptions=True
        )

    sums = new_reducer()
    add(sums, 0, causal)
    add(sums, 1, causal.clone())
    with pytest.raises(ValueError, match="the mask of layer 1 differs from that of earlier layers"):
        add(sums, 1, window)
    with pytest.raises(ValueError, match="the heads of layer 0 have different masks"):
        add(new_reducer(), 0, torch.stack([causal, window])[None])


def test_token_patterns_have_unique_names():
    patterns = token_patterns()
    assert len(patterns) == 7 + 14
    assert all(pattern.name == name for name, pattern in patterns.items())
    assert {name for name, pattern in patterns.items() if not pattern.positional} == {
        "first",
        "delimiter",
        "induction",
        "duplicate",
    }
