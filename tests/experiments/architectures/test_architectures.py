"""The study of architectures: setups, their evaluations and tasks, planted results, and the smoke scale."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from glassformer.attention import causal, prefix
from glassformer.data import Batches
from glassformer.data.batches import Batch
from glassformer.data.text_datasets import Pair
from glassformer.experiments.architectures.classification import (
    Passages,
    accuracy,
    majority,
    passage_batch,
    with_classifier,
)
from glassformer.experiments.architectures.decoders import PrefixLanguageModeling
from glassformer.experiments.architectures.evaluation import evaluate_bytes, random_windows
from glassformer.experiments.architectures.pretraining import SETUPS, ShuffledRows, num_updates
from glassformer.experiments.architectures.pronunciation import (
    Pronunciation,
    letters,
    phoneme_error_rate,
    phonemes,
)
from glassformer.experiments.architectures.setup import END, FIRST_SENTINEL, MASK, SEPARATOR
from glassformer.experiments.architectures.study import CONTRASTS, OWN, ArchitecturesStudy
from glassformer.experiments.learning_rates import pilot_runs
from glassformer.experiments.runs import execute, read_result
from glassformer.experiments.study_runner import run_study
from glassformer.experiments.verdicts import judge_all
from glassformer.training import LanguageModeling
from glassformer.training.task import IGNORE_INDEX

SMOKE = ArchitecturesStudy().protocol.scale("smoke").settings
NAMES = list(SETUPS)


def built(name, **changes):
    torch.manual_seed(0)
    setup = SETUPS[name]({**SMOKE, "seed": 0, **changes})
    model = setup.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # so that predictions differ
    return setup, model


TEXT = np.frombuffer(b"the quick brown fox jumps over the lazy dog and runs away. " * 60, dtype=np.uint8)


def test_all_setups_have_about_the_same_parameters_and_training_flops():
    scale = ArchitecturesStudy().protocol.scale("laptop")
    counts, costs = {}, {}
    for name in NAMES:
        setup = SETUPS[name](scale.settings)
        model = setup.build()
        counts[name] = model.num_parameters()
        costs[name] = num_updates(setup) * setup.flops_per_update(model)
    assert counts["causal"] == counts["prefix"]
    assert max(counts.values()) / min(counts.values()) < 1.05
    assert max(costs.values()) / min(costs.values()) < 1.001
    bytes_read = num_updates(SETUPS["causal"](scale.settings)) * 16 * 128
    assert bytes_read == pytest.approx(5e6, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_distributions_that_do_not_see_the_answer(name):
    setup, model = built(name)
    rows = torch.from_numpy(TEXT[:80].astype(np.int64).reshape(2, 40))
    candidates = torch.unique(torch.from_numpy(TEXT.astype(np.int64)))
    with torch.no_grad():
        log_p = setup.hidden_byte(model, rows, 20, candidates)
        assert log_p.shape == (2, len(candidates))
        torch.testing.assert_close(log_p.exp().sum(1), torch.ones(2))
        other = rows.clone()
        other[:, 20] = 7
        torch.testing.assert_close(setup.hidden_byte(model, other, 20, candidates), log_p)
        for changed in (10, 30):  # both sides are seen
            other = rows.clone()
            other[:, changed] = 7
            assert not torch.allclose(setup.hidden_byte(model, other, 20, candidates), log_p, atol=1e-4)
        after = setup.next_byte(model, rows)
        assert after.shape == (2, 257)
        torch.testing.assert_close(after.exp().sum(1), torch.ones(2))


def test_bayes_agrees_with_the_joint_probability_of_whole_rows():
    """Log-probabilities of complete rows, byte by byte, in place of the sums of the setup."""
    setup, model = built("causal")
    row = torch.from_numpy(TEXT[:12].astype(np.int64))
    candidates = torch.tensor([97, 98, 116])
    joint = []
    with torch.no_grad():
        for candidate in candidates:
            filled = row.clone()
            filled[5] = candidate
            joint.append(
                sum(float(setup.next_byte(model, filled[None, :i])[0, filled[i]]) for i in range(5, 12))
            )
        found = setup.hidden_byte(model, row[None], 5, candidates)[0]
    torch.testing.assert_close(found, torch.tensor(joint).log_softmax(0), atol=1e-4, rtol=1e-4)


def test_a_prefix_of_one_byte_is_a_causal_model():
    _, model = built("prefix")
    ids = torch.from_numpy(TEXT[:40].astype(np.int64).reshape(2, 20))
    objective = PrefixLanguageModeling()
    batch = Batch({"ids": ids, "lengths": torch.tensor([1, 1])})
    assert objective.count(batch) == 2 * 19
    with torch.no_grad():
        expected = LanguageModeling()(model, ids)
        torch.testing.assert_close(objective(model, batch), expected)
        later = Batch({"ids": ids, "lengths": torch.tensor([5, 19])})
        assert objective.count(later) == 15 + 1
        changed = ids.clone()
        changed[0, 4] = 7  # in the prefix, after the first predicted slots
        a = model(ids[:, :-1], mask=causal() | prefix(torch.tensor([5, 5])))
        b = model(changed[:, :-1], mask=causal() | prefix(torch.tensor([5, 5])))
        assert not torch.allclose(a[0, 0], b[0, 0])
        torch.testing.assert_close(a[1], b[1])


@pytest.mark.parametrize("name", NAMES)
def test_batches_are_functions_of_their_number(name):
    setup, model = built(name)
    batches = setup.batches(Batches(TEXT, 4, SMOKE["seq_len"], seed=3))
    first, again, other = batches.batch(2), batches.batch(2), batches.batch(3)
    objective = setup.objective()
    with torch.no_grad():
        loss = objective(model, first)
        assert loss == objective(model, again) != objective(model, other)
    assert torch.isfinite(loss)
    assert objective.count(first) > 0


def test_masked_and_span_batches_use_their_special_ids():
    setup, _ = built("masked")
    tensors = setup.batches(Batches(TEXT, 8, 64, seed=0)).batch(0).tensors
    targets = tensors["targets"] != IGNORE_INDEX
    assert 0.05 < targets.float().mean() < 0.25
    assert set(tensors["input_ids"][~targets].unique().tolist()) <= set(TEXT.tolist())
    assert MASK in tensors["input_ids"][targets]
    setup, _ = built("span")
    tensors = setup.batches(Batches(TEXT, 8, 64, seed=0)).batch(0).tensors
    assert FIRST_SENTINEL in tensors["source"]
    assert (tensors["target"][:, 0] == FIRST_SENTINEL).all()
    assert (tensors["source"][:, -1] == END).all()


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_gives_nats_beside_those_of_the_frequencies(name):
    setup, model = built(name)
    found = evaluate_bytes(setup, model, TEXT, TEXT)
    frequencies = np.bincount(TEXT, minlength=257)
    p = (frequencies + 1) / (frequencies + 1).sum()
    contexts = random_windows(TEXT, SMOKE["context"] + 1, SMOKE["num_next"], 0)
    assert found["next_unigram"] == pytest.approx(-np.log(p[contexts[:, -1]]).mean())
    assert 2.0 < found["hidden_unigram"] < 4.0
    assert found["next"] > 0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    flat = evaluate_bytes(setup, model, TEXT, TEXT)
    assert flat["next"] == pytest.approx(math.log(257), rel=1e-5)
    assert flat["hidden"] == pytest.approx(math.log(len(np.unique(TEXT))), rel=1e-5)


def test_fresh_models_of_all_setups_know_nothing():
    """Their losses are near those of guessing among all ids, so that none begins with a handicap."""
    for name in NAMES:
        setup = SETUPS[name]({**SMOKE, "seed": 0, "d_model": 96, "num_heads": 4})
        torch.manual_seed(0)
        model = setup.build().eval()
        batch = setup.batches(Batches(TEXT, 8, SMOKE["seq_len"], seed=0)).batch(0)
        with torch.no_grad():
            loss = float(setup.objective()(model, batch))
        assert loss == pytest.approx(math.log(setup.vocab_size), abs=1.0)


def test_windows_are_random_and_do_not_overlap():
    first, again, other = (random_windows(np.arange(1000), 10, 50, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique()) == 500
    assert (first.diff(dim=1) == 1).all()


def test_windows_are_refused_where_the_text_is_too_short():
    with pytest.raises(ValueError, match="9 windows of 500 bytes need 4,500 bytes, the text has 3,540"):
        random_windows(TEXT, 500, 9, 0)


PAIRS = [Pair("c a t", ("K AE T",)), Pair("d o g s", ("D AO G Z", "D AA G Z"))]


@pytest.mark.parametrize("name", NAMES)
def test_a_setup_learns_to_pronounce_two_words(name):
    setup, model = built(name, d_model=32, max_phonemes=12)
    objective = Pronunciation(setup)
    batch = objective.arrange.collate(PAIRS)
    expected = 2 * 12 if name == "masked" else len("K AE T") + len("D AO G Z") + 2
    assert objective.count(batch) == expected
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(120):
        optimizer.zero_grad()
        objective(model, batch).backward()
        optimizer.step()
    assert phoneme_error_rate(objective, model, PAIRS) == 0
    assert model.training


def test_phonemes_end_at_the_end_token():
    assert phonemes([*b"K AE T", END, *b" Z"]) == ["K", "AE", "T"]
    assert phonemes([*b"K ", MASK, SEPARATOR, *b"T"]) == ["K", "T"]
    assert letters(PAIRS[1]) == list(b"dogs")


@pytest.mark.parametrize("name", NAMES)
def test_a_classifier_does_not_see_padding(name):
    setup, model = built(name)
    objective = Passages(setup)
    model = with_classifier(model, SMOKE["d_model"], 3)
    rows = [(list(b"one two three"), 0), (list(b"four"), 2)]
    with torch.no_grad():
        together = objective.logits(model, passage_batch(rows))
        alone = objective.logits(model, passage_batch(rows[1:]))
        torch.testing.assert_close(alone[0], together[1], atol=1e-4, rtol=1e-4)
        best = together.argmax(1).tolist()
    right = [(row, label) for (row, _), label in zip(rows, best, strict=True)]
    assert accuracy(objective, model, right, 1) == 1
    assert accuracy(objective, model, [(right[0][0], best[0]), (right[1][0], (best[1] + 1) % 3)], 2) == 0.5


def test_an_epoch_has_every_row_once():
    batches = ShuffledRows(list(range(10)), lambda rows: rows, 3, seed=1)
    epoch = [row for step in range(3) for row in batches.batch(step)]
    assert len(set(epoch)) == 9
    assert batches.batch(1) == batches.batch(1)
    assert [batches.batch(step) for step in range(3)] != [batches.batch(step) for step in range(3, 6)]


def planted_results(study, differences, trained=1.0, seed=0, majority=0.4, errors=0.5):
    """Results in which the first setup of each contrast is so much higher, with a noise of .002."""
    random = np.random.default_rng(seed)
    scale = study.protocol.scale("laptop")
    results = {}
    base = {"next": 2.0, "hidden": 1.5, "accuracy": 0.6, "phoneme_error_rate": errors}
    for run in study.runs(scale):
        name = run.settings["setup"]
        value = {measure: mean + 0.002 * random.standard_normal() for measure, mean in base.items()}
        for claim, (measure, first, second) in CONTRASTS.items():
            # The causal setup is in every contrast, so the other setup is moved.
            other = first if second == "causal" else second
            if name == other:
                value[measure] += differences[claim] * (1 if other == first else -1)
        own = OWN[name]
        value |= {"setup": name, "majority": majority}
        value |= {f"{key}_unigram": value[key] + (trained if key == own else 0) for key in ("next", "hidden")}
        results[run.name] = {**value, "num_parameters": 1, "updates": 1, "bytes": 1, "flops": 1.0}
    return results


def verdicts_of(results):
    study = ArchitecturesStudy()
    findings = study.analyze(results, study.protocol.scale("laptop"))
    judged = judge_all(study.protocol.claims, findings.estimates, findings.untestable)
    return {name: str(judgement.verdict) for name, judgement in judged.items()}, findings


def test_planted_differences_are_found():
    verdicts, findings = verdicts_of(planted_results(ArchitecturesStudy(), dict.fromkeys(CONTRASTS, 0.3)))
    assert verdicts == dict.fromkeys(CONTRASTS, "reproduced")
    assert findings.estimates["prefix"].mean == pytest.approx(0.3, abs=0.01)
    ranks = next(table for table in findings.tables if "in order" in table.title)
    assert ranks.rows[0][-1] == "masked"
    assert ranks.rows[2][1] == "masked"  # accuracy: the highest is the best
    [(figure, _)] = ArchitecturesStudy().figures(findings.data)
    assert len(figure.axes) == 4


def test_planted_nulls_are_not_found():
    for seed in range(20):
        planted = planted_results(ArchitecturesStudy(), dict.fromkeys(CONTRASTS, 0.0), seed=seed)
        assert not {"reproduced", "direction only"} & set(verdicts_of(planted)[0].values())


def test_the_opposite_is_contradicted_and_untrained_setups_are_not_judged():
    verdicts, _ = verdicts_of(planted_results(ArchitecturesStudy(), dict.fromkeys(CONTRASTS, -0.3)))
    assert verdicts == dict.fromkeys(CONTRASTS, "contradicted")
    untrained = planted_results(ArchitecturesStudy(), dict.fromkeys(CONTRASTS, 0.3), trained=0.4)
    verdicts, findings = verdicts_of(untrained)
    assert set(verdicts.values()) == {"not testable at this scale"}
    assert "beats the frequencies of bytes by 0.40 nats, less than 0.5" in findings.untestable["generation"]


def test_tasks_that_no_setup_has_learned_are_not_judged():
    study = ArchitecturesStudy()
    verdicts, findings = verdicts_of(
        planted_results(study, dict.fromkeys(CONTRASTS, 0.0), majority=0.58, errors=0.95)
    )
    for claim in ("classification", "transduction", "prefix"):
        assert verdicts[claim] == "not testable at this scale"
    assert "the most frequent label, 0.580, by 0.05" in findings.untestable["classification"]
    assert "phoneme error rate above 0.9" in findings.untestable["prefix"]


def test_the_most_frequent_label_of_training_is_answered():
    training = [([1], 0), ([2], 2), ([3], 2)]
    assert majority(training, [([4], 2), ([5], 0), ([6], 1), ([7], 2)]) == 0.5


@pytest.mark.slow
def test_a_run_of_the_pilot_is_a_run_of_the_study_without_fine_tuning(tmp_path):
    study = ArchitecturesStudy()
    scale = study.protocol.scale("smoke")
    piloted = replace(scale, settings=scale.settings | {"pilot_rates": [1e-3], "pilot_seed": 1000})
    pilot = next(run for run in pilot_runs(study, piloted) if run.settings["setup"] == "masked")
    run = next(run for run in study.runs(scale) if run.settings["setup"] == "masked")
    values = []
    for one in (pilot, replace(run, settings=pilot.settings)):
        folder = tmp_path / "runs" / one.name
        one.prepare(folder)
        execute(folder)
        values.append(read_result(folder)["value"])
    of_pilot, of_study = values
    other = {"next", "next_unigram", "accuracy", "majority", "phoneme_error_rate"}
    assert set(of_study) - set(of_pilot) == other
    assert {key: of_study[key] for key in of_pilot} == of_pilot


@pytest.mark.slow
def test_the_study_runs_at_smoke_scale_and_is_analyzed_again_to_the_digit(tmp_path):
    study = ArchitecturesStudy()
    scale = study.protocol.scale("smoke")
    results = run_study(study, scale, tmp_path)
    assert len(results["runs"]) == 8
    written = (tmp_path / "results.json").read_bytes()
    run_study(study, scale, tmp_path)
    assert (tmp_path / "results.json").read_bytes() == written
