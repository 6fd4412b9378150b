"""Logit lens, rollout and decomposed scores on a page."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassformer.analysis.decomposition import score_parts
from glassformer.analysis.rollout import attention_rollout
from glassformer.models import BERTModel, GPTModel
from glassformer.tokenization import ByteTokenizer, WordPieceTokenizer
from glassformer.visualization.explorer import (
    analyses,
    collect_contents,
)
from glassformer.visualization.explorer.encoding import (
    MASKED,
    dequantize,
    unpack_json,
    unpack_maps,
    unpack_scores,
)


def test_analyses_agree_with_their_functions(tiny):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=64)
    model.tokenizer = ByteTokenizer()
    text = "The cat sat."
    contents = collect_contents(model, text)
    rollout, gradient = contents.rollouts
    expected = attention_rollout(model, text).numpy()
    back = dequantize(unpack_maps(rollout.map)[0])
    np.testing.assert_allclose(np.nan_to_num(back), expected, atol=0.004)
    assert np.nansum(dequantize(unpack_maps(gradient.map)[0]), -1) == pytest.approx(1, abs=0.05)
    assert rollout.low <= rollout.faithfulness <= rollout.high
    (decomposition,) = contents.decompositions
    assert (len(decomposition.layers), decomposition.note) == (2, "")
    cells, parts = unpack_scores(decomposition.layers[1], 4, 12)
    assert len(cells) == 4 * 12 * 13 / 2
    score = score_parts(model, text, 1).score.numpy()
    np.testing.assert_allclose(parts.sum(1), score[tuple(cells.T)], atol=0.0301)  # 0.01 for each part
    _, lens = contents.predictions
    assert lens.rows == ["before layer 0", "after layer 0", "after layer 1"]
    final = model(torch.tensor([list(text.encode())]))[0].softmax(-1)
    for position, rows in enumerate(unpack_json(lens.data)):
        assert rows[-1][1] == pytest.approx(float(final[position].max().detach()), abs=1e-4)


@pytest.mark.parametrize("family", [BERTModel, GPTModel])
def test_long_texts_have_scores_of_the_heaviest_cells(tiny, family, monkeypatch):
    monkeypatch.setattr("glassformer.visualization.explorer.analyses.SIZE_BUDGET", 0)
    monkeypatch.setattr("glassformer.visualization.explorer.analyses.MIN_SCORE_SHARE", 0)
    model = tiny(family, vocab_size=257, max_seq_len=64)
    contents = collect_contents(model, list(range(40)))
    (decomposition,) = contents.decompositions
    seen = 8 * (40 * 41 // 2 if family is GPTModel else 40 * 40)
    there = 8 * 40  # at least one in each row
    assert decomposition.note == (
        f"The file holds {there:,} of {seen:,} scores: "
        "the heaviest of each row, then the heaviest of all others"
    )
    score = score_parts(model, list(range(40)), 0).score.numpy()
    cells, parts = unpack_scores(decomposition.layers[0], 4, 40)
    np.testing.assert_allclose(parts.sum(1), score[tuple(cells.T)], atol=0.0301)
    codes = unpack_maps(contents.attention[0].maps[0]).astype(int)
    for head, query in np.ndindex(4, 40):
        keys = cells[(cells[:, 0] == head) & (cells[:, 1] == query)][:, 2]
        assert codes[head, query][keys].max() == codes[head, query][codes[head, query] != MASKED].max()


def test_short_texts_have_scores_of_all_cells(tiny):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=64)
    (decomposition,) = collect_contents(model, list(range(60))).decompositions
    assert decomposition.note == ""
    assert sum(packed.num_cells for packed in decomposition.layers) == 8 * 60 * 61 // 2


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("positions", ["none", "rotary"])
def test_parts_that_are_zero_are_left_out(tiny, positions, bias):
    ids = list(range(12))
    model = tiny(GPTModel, vocab_size=257, max_seq_len=64, positions=positions, bias=bias)
    (decomposition,) = collect_contents(model, ids).decompositions
    split = score_parts(model, ids, 0)
    parts = {name: getattr(split, name)[1, 9, 4].item() for name in ("content", "position", "bias")}
    some = {name: part for name, part in parts.items() if part}
    assert decomposition.parts == list(some)
    assert len(some) == 1 + bias + (positions == "rotary")
    cells, found = unpack_scores(decomposition.layers[0], 4, 12)
    (place,) = np.flatnonzero((cells == (1, 9, 4)).all(1))
    assert found[place].tolist() == pytest.approx(list(some.values()), abs=0.0101)


def test_analyses_that_need_too_much_memory_are_left_out(tiny, monkeypatch):
    monkeypatch.setattr("glassformer.visualization.explorer.analyses.MAX_WEIGHTS", 100)
    contents = collect_contents(tiny(GPTModel, vocab_size=257, max_seq_len=64), "The cat sat.")
    assert contents.decompositions == []
    assert [rollout.name for rollout in contents.rollouts] == ["rollout"]
    assert any("the text is too long" in note for note in contents.notes)


@pytest.mark.slow
def test_deletion_tests_have_as_many_steps_as_are_quick(tiny, monkeypatch):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=128)
    example, tested = list(range(100)), []
    deletion_test = analyses.deletion_test

    def counted(*arguments, steps, baseline):
        tested.append(steps)
        assert (baseline is None) == (len(tested) % 2 == 1)  # random orders are tested once
        return deletion_test(*arguments, steps=steps, baseline=baseline)

    monkeypatch.setattr(analyses, "deletion_test", counted)
    once = 40 * 100 * model.num_parameters()
    for quick, steps in ((once * 50, 10), (once, 3), (once // 2 - 1, 0)):
        monkeypatch.setattr("glassformer.visualization.attributions.DEFAULT_COST", quick)
        tested.clear()
        rollout, gradient = collect_contents(model, example).rollouts
        assert tested == [steps, steps] * bool(steps)
        for tested_rollout in (rollout, gradient):
            assert (tested_rollout.faithfulness is None) == (steps == 0)
            said = (
                f"95 % of 39 random orders ({steps} steps)" if steps else "explore --faithfulness measures it"
            )
            assert said in tested_rollout.note
            assert ("(area, nats)" in tested_rollout.note) == bool(steps)
    tested.clear()
    collect_contents(model, example, faithfulness=True)
    assert tested == [20, 20]
    assert collect_contents(model, example, faithfulness=False).rollouts[0].faithfulness is None
    assert len(tested) == 2


def test_rollout_without_tokens_that_may_be_deleted(tiny):
    tokenizer = WordPieceTokenizer.train(["the cat sat"] * 9, 40)
    model = tiny(BERTModel, vocab_size=tokenizer.vocab_size, head="masked_lm")
    model.tokenizer = tokenizer
    flows = collect_contents(model, tokenizer.add_special_tokens([tokenizer.mask_token])).rollouts
    assert [rollout.faithfulness for rollout in flows] == [None, None]
