"""Verdicts: each row of the table, corrections for several claims, and repeated simulated studies."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from glassformer.experiments.claims import Claim
from glassformer.experiments.statistics import Estimate, detectable_effect, equivalence, one_sample_t
from glassformer.experiments.verdicts import Judgement, Verdict, judge, judge_all

REPRODUCED, DIRECTION_ONLY, CONTRADICTED, NOT_TESTABLE = Verdict
# Eight seeds with mean 0 and standard error 1.
STANDARD = np.array([-1.0, 1, -1, 1, -1, 1, -1, 1]) * np.sqrt(7)


def claim(test: Any, id: str = "c", **fields: Any) -> Claim:
    return Claim(id=id, text="A is above B.", source="An author 2020", test=test, **fields)


def estimate_for(claim: Claim, values: np.ndarray, null: float = 0.0) -> Estimate:
    """The estimate that belongs to a claim; ``null`` is that of a difference."""
    if claim.test == "difference":
        return one_sample_t(values, null=null)
    if claim.margin is not None:
        return equivalence(values, claim.margin, null=claim.claimed or 0.0)
    assert claim.claimed is not None
    return one_sample_t(values, null=claim.claimed)


def judge_values(claim: Claim, values: np.ndarray, null: float = 0.0, **options: Any) -> Judgement:
    estimate = estimate_for(claim, values, null)
    return judge(claim, estimate, estimate.p_value, **options)


SIZED = claim("difference", direction=1, claimed=10.0, tolerance=2.0)
POSITIVE, NEGATIVE = claim("difference", direction=1), claim("difference", direction=-1)
WITH_MARGIN = claim("difference", direction=1, margin=2.0)
SIZED_WITH_MARGIN = claim("difference", direction=1, claimed=3.0, tolerance=2.0, margin=2.0)
SAME, SAME_AS_2 = claim("equivalence", margin=1.0), claim("equivalence", margin=1.0, claimed=2.0)
AT_LEAST, AT_MOST = claim("at_least", claimed=5.0), claim("at_most", claimed=5.0)


@pytest.mark.parametrize(
    ("claim", "mean", "standard_error", "verdict", "finding"),
    [
        (
            SIZED,
            9,
            0.5,
            REPRODUCED,
            "above 0 as claimed, and 1 from the claimed 10, within the tolerance of 2.0",
        ),
        (SIZED, 8, 0, REPRODUCED, "2 from the claimed 10, within"),
        (SIZED, 7.75, 0, DIRECTION_ONLY, "2.25 from the claimed 10, beyond the tolerance of 2.0"),
        (SIZED, 15, 0.5, DIRECTION_ONLY, "5 from the claimed 10, beyond"),
        (SIZED, -9, 0.5, CONTRADICTED, "below 0, against the claim"),
        (SIZED, 9, 4, NOT_TESTABLE, "not shown to differ from 0"),
        (POSITIVE, 4, 0.5, REPRODUCED, "above 0 as claimed."),
        (POSITIVE, -4, 0.5, CONTRADICTED, "below 0, against"),
        (POSITIVE, 0, 0.5, NOT_TESTABLE, "not shown to differ"),
        (POSITIVE, 0, 0, NOT_TESTABLE, "the same for all seeds"),
        (NEGATIVE, -4, 0.5, REPRODUCED, "below 0 as claimed."),
        (NEGATIVE, 4, 0.5, CONTRADICTED, "above 0, against"),
        (WITH_MARGIN, 4, 0.5, REPRODUCED, "above 0 as claimed."),
        (WITH_MARGIN, 1, 0.2, DIRECTION_ONLY, "as claimed, but is closer to 0 than 2.0, the smallest"),
        (WITH_MARGIN, 0.1, 0.2, CONTRADICTED, "is closer to 0 than 2.0, the smallest difference of interest"),
        (WITH_MARGIN, 0, 0, CONTRADICTED, "is closer to 0"),
        (WITH_MARGIN, -1, 0.2, CONTRADICTED, "below 0, against"),
        (WITH_MARGIN, 1, 0.5, NOT_TESTABLE, "not shown to differ"),
        (SIZED_WITH_MARGIN, 1.25, 0.1, DIRECTION_ONLY, "is closer to 0 than 2.0"),
        (SIZED_WITH_MARGIN, 1.75, 0.2, REPRODUCED, "within the tolerance"),
        (SAME, 0.1, 0.1, REPRODUCED, "is closer to 0 than the margin of 1.0"),
        (SAME, 0.5, 0.1, REPRODUCED, "is closer to 0"),
        (SAME, 3, 0.2, CONTRADICTED, "is farther from 0 than the margin of 1.0"),
        (SAME, -3, 0.2, CONTRADICTED, "is farther from 0"),
        (SAME, 0.9, 0.5, NOT_TESTABLE, "neither closer to 0 than the margin of 1.0 nor farther"),
        (SAME, 1, 0, NOT_TESTABLE, "the same for all seeds"),
        (SAME_AS_2, 2.1, 0.1, REPRODUCED, "is closer to 2 than"),
        (SAME_AS_2, 0.1, 0.1, CONTRADICTED, "is farther from 2 than"),
        (AT_LEAST, 6, 0.1, REPRODUCED, "above the threshold of 5 as claimed"),
        (AT_LEAST, 4, 0.1, CONTRADICTED, "below the threshold of 5, against the claim"),
        (AT_LEAST, 5.1, 0.1, NOT_TESTABLE, "not shown to differ from 5"),
        (AT_LEAST, 5, 0, NOT_TESTABLE, "the same for all seeds"),
        (AT_MOST, 4, 0.1, REPRODUCED, "below the threshold of 5 as claimed"),
        (AT_MOST, 6, 0.1, CONTRADICTED, "above the threshold of 5, against the claim"),
        (AT_MOST, 4.9, 0.1, NOT_TESTABLE, "not shown to differ from 5"),
    ],
)
def test_each_row_of_the_table(
    claim: Claim, mean: float, standard_error: float, verdict: Verdict, finding: str
) -> None:
    found = judge_values(claim, mean + standard_error * STANDARD)
    assert found.verdict is verdict
    assert finding in found.reason
    assert found.reason.startswith("The measured ")
    assert found.reason.endswith(".")
    assert ". " not in found.reason


@pytest.mark.parametrize("claim", [SIZED, SAME, AT_LEAST, AT_MOST])
def test_a_failed_precondition_is_not_testable_whatever_was_measured(claim: Claim) -> None:
    reason = "Learned positions are not better than none at the trained length."
    expected = Judgement(NOT_TESTABLE, reason)
    assert judge(claim, None, None, untestable=reason) == expected
    assert judge_values(claim, 9 + 0.1 * STANDARD, untestable=reason) == expected


def test_the_reason_states_the_numbers() -> None:
    sized = claim("difference", direction=1, claimed=34.3, tolerance=2.0, unit="%")
    found = judge_values(sized, 33.1 + 4 * STANDARD)
    low, high = stats.ttest_1samp(33.1 + 4 * STANDARD, 0).confidence_interval(0.99)
    p = stats.ttest_1samp(33.1 + 4 * STANDARD, 0).pvalue
    assert found.adjusted_p == pytest.approx(p)
    assert found.reason == (
        f"The measured 33.1 % (99 % interval {low:.4g} to {high:.4g}; 8 seeds; corrected p < 0.0001) "
        "is above 0 % as claimed, and 1.2 from the claimed 34.3 %, within the tolerance of 2.0."
    )
    assert json.loads(json.dumps(asdict(found)))["verdict"] == "reproduced"


def test_the_reason_states_the_p_value_of_the_second_test() -> None:
    values = 0.1 + 0.5 * STANDARD
    first, second = (
        stats.ttest_1samp(values, 0).pvalue,
        stats.ttest_1samp(values, 2, alternative="less").pvalue,
    )
    found = judge_values(WITH_MARGIN, values, num_claims=2)
    assert found.verdict is CONTRADICTED
    assert f"corrected p = {first:.3g}, second test p = {2 * second:.3g}) is closer to 0" in found.reason


@pytest.mark.parametrize("num_claims", [1, 5])
def test_without_a_finding_the_reason_states_the_detectable_difference(num_claims: int) -> None:
    values = 0.5 + STANDARD
    effect = detectable_effect(float(values.std(ddof=1)), 8, alpha=0.01 / num_claims)
    found = judge_values(POSITIVE, values, num_claims=num_claims)
    assert f"8 seeds with this spread show a difference of {effect:.4g} with 80 % power." in found.reason
    same = judge_values(SAME, values, num_claims=num_claims)
    assert f"8 seeds with this spread show a difference of {1 + effect:.4g} with 80 % power." in same.reason


def test_the_reason_names_what_was_repeated() -> None:
    estimate = replace(one_sample_t(3 + STANDARD), repeats="blocks of texts")
    found = judge(POSITIVE, estimate, estimate.p_value)
    assert "; 8 blocks of texts; corrected p" in found.reason


def test_a_control_is_the_null_value_of_a_head() -> None:
    head = claim("difference", direction=1, claimed=0.82, tolerance=0.1)
    found = judge_values(head, 0.8 + 0.01 * STANDARD, null=0.5)
    assert found.verdict is REPRODUCED
    assert "above 0.5 as claimed" in found.reason
    assert judge_values(head, 0.4 + 0.01 * STANDARD, null=0.5).verdict is CONTRADICTED


def test_a_claim_counts_only_below_the_level() -> None:
    estimate = one_sample_t(4 + STANDARD)
    assert estimate.p_value < 0.009
    assert judge(POSITIVE, estimate, 0.00999).verdict is REPRODUCED
    assert judge(POSITIVE, estimate, 0.01).verdict is NOT_TESTABLE
    assert judge(POSITIVE, estimate, 0.04, alpha=0.05).verdict is REPRODUCED


NEGATED = {"claimed", "direction"}


@given(
    st.sampled_from([SIZED, POSITIVE, WITH_MARGIN, SIZED_WITH_MARGIN, SAME, SAME_AS_2, AT_LEAST, AT_MOST]),
    st.floats(-20, 20),
    st.floats(0.01, 5),
    st.integers(1, 6),
)
def test_the_opposite_claim_about_opposite_values_has_the_same_verdict(
    claim: Claim, mean: float, standard_error: float, num_claims: int
) -> None:
    fields = dict(vars(claim))
    fields["test"] = {"at_least": "at_most", "at_most": "at_least"}.get(claim.test, claim.test)
    for name in NEGATED:
        fields[name] = None if fields[name] is None else -fields[name]
    values = mean + standard_error * STANDARD
    found = judge_values(claim, values, num_claims=num_claims)
    opposite = judge_values(Claim(**fields), -values, num_claims=num_claims)
    assert (found.verdict, found.adjusted_p) == (opposite.verdict, opposite.adjusted_p)


@pytest.mark.parametrize(
    ("claim", "estimate", "adjusted_p", "message"),
    [
        (POSITIVE, None, None, "claim 'c' needs an estimate and its corrected p-value, or untestable"),
        (POSITIVE, one_sample_t(STANDARD), None, "needs an estimate and its corrected p-value"),
        (POSITIVE, one_sample_t(STANDARD), 0.5, "corrected p-value must be from 1.0 to 1, got 0.5"),
        (POSITIVE, one_sample_t(STANDARD), 1.5, "corrected p-value must be from 1.0 to 1, got 1.5"),
        (POSITIVE, equivalence(STANDARD, 1), 1, "'difference' must have margin None, got 1"),
        (SAME, one_sample_t(STANDARD), 1, "'equivalence' must have margin 1.0, got None"),
        (SAME, equivalence(STANDARD, 2), 1, "'equivalence' must have margin 1.0, got 2"),
        (SAME, equivalence(STANDARD, 1, null=2), 1, "'equivalence' must have null 0.0, got 2.0"),
        (AT_LEAST, one_sample_t(STANDARD), 1, "'at_least' must have null 5.0, got 0.0"),
        (SIZED, one_sample_t(STANDARD, null=11), 1, "the claimed 10.0 must be above the null 11.0"),
    ],
)
def test_an_estimate_of_another_test_is_refused(
    claim: Claim, estimate: Estimate | None, adjusted_p: float | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        judge(claim, estimate, adjusted_p)


def test_p_values_are_corrected_over_the_claims_that_can_be_tested() -> None:
    claims = [claim("difference", id=name, direction=1) for name in ("a", "b", "c")]
    estimates = {name: one_sample_t(4 + STANDARD) for name in ("a", "b", "c")}
    p = estimates["a"].p_value
    assert 0.005 < p < 0.01
    alone = judge_all(claims, {"b": estimates["b"]}, {"a": "No data.", "c": "No runs."})
    assert [found.verdict for found in alone.values()] == [NOT_TESTABLE, REPRODUCED, NOT_TESTABLE]
    assert (list(alone), alone["a"].reason, alone["b"].adjusted_p) == (["a", "b", "c"], "No data.", p)
    together = judge_all(claims, estimates, {"a": "No data."})
    assert [found.adjusted_p for found in together.values()] == [None, 2 * p, 2 * p]
    assert {found.verdict for found in together.values()} == {NOT_TESTABLE}
    assert judge_all(claims, estimates, alpha=0.05)["c"].verdict is REPRODUCED
    assert judge_all([], {}) == {}


def test_the_second_test_is_corrected_too() -> None:
    near = claim("difference", id="near", direction=1, margin=2.0)
    values = 0.1 + 0.5 * STANDARD
    assert 0.002 < one_sample_t(values).p_value_within(2.0) < 0.01
    others = {f"other {index}": one_sample_t(STANDARD) for index in range(4)}
    claims = [near, *(claim("difference", id=name, direction=1) for name in others)]
    assert judge_all([near], {"near": one_sample_t(values)})["near"].verdict is CONTRADICTED
    assert judge_all(claims, {"near": one_sample_t(values), **others})["near"].verdict is NOT_TESTABLE


@pytest.mark.parametrize(
    ("claims", "ids", "untestable", "message"),
    [
        ([POSITIVE, POSITIVE], ["c"], {}, "ids of claims must differ, got more than one 'c'"),
        ([POSITIVE], ["c", "rotary"], {}, "no claim has the id 'rotary'"),
        ([POSITIVE], ["c"], {"cc": "No data."}, "no claim has the id 'cc', did you mean 'c'"),
        ([POSITIVE], [], {}, "claim 'c' needs an estimate, or a reason why it cannot be tested"),
    ],
)
def test_claims_and_estimates_must_belong_together(
    claims: list[Claim], ids: list[str], untestable: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        judge_all(claims, {name: one_sample_t(STANDARD) for name in ids}, untestable)


def test_repeated_studies_find_planted_effects_and_no_others() -> None:
    """In 20 repeats of a study of three claims and 8 seeds; bounds of probability .001.

    The planted effect is found with 80 % power at the level of the first step of Holm's procedure.
    """
    random = np.random.default_rng(0)
    effect = detectable_effect(1.0, 8, alpha=0.01 / 3)
    planted = claim("difference", id="planted", direction=1, claimed=effect, tolerance=effect)
    absent = claim("difference", id="absent", direction=1, claimed=effect, tolerance=effect)
    same = claim("equivalence", id="same", margin=2 * effect)
    found: dict[str, Counter[Verdict]] = {"planted": Counter(), "absent": Counter(), "same": Counter()}
    for _ in range(20):
        estimates = {
            "planted": one_sample_t(random.normal(effect, 1, 8)),
            "absent": one_sample_t(random.normal(0, 1, 8)),
            "same": equivalence(random.normal(0, 1, 8), 2 * effect),
        }
        for name, judgement in judge_all([planted, absent, same], estimates).items():
            found[name][judgement.verdict] += 1
    assert found["planted"][REPRODUCED] >= stats.binom.ppf(0.001, 20, 0.8)
    assert found["same"][REPRODUCED] >= stats.binom.ppf(0.001, 20, 0.8)
    assert found["absent"][NOT_TESTABLE] >= 20 - stats.binom.ppf(0.999, 20, 0.01)


def test_repeated_studies_do_not_show_an_equivalence_at_its_margin() -> None:
    random = np.random.default_rng(0)
    verdicts = Counter(judge_values(SAME, random.normal(1.0, 1.0, 8)).verdict for _ in range(20))
    assert verdicts[NOT_TESTABLE] >= 20 - stats.binom.ppf(0.999, 20, 0.02)
