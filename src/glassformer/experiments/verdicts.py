"""Verdicts on claims, from estimates over seeds.

A claim counts only if it is shown at a p-value below .01, corrected for the number of claims of the family:

    test          shown about the mean                                          verdict
    ----------    ----------------------------------------------------------    --------------------------
    difference    on the claimed side of the null value, and within the         reproduced
                  tolerance of the claimed size, or no size is claimed
                  on the claimed side, but beyond the tolerance of the size     direction only
                  on the claimed side, but within the margin                    direction only
                  on the other side                                             contradicted
                  on neither side, but within the margin                        contradicted
                  none of these                                                 not testable at this scale
    equivalence   within the margin of the null value                           reproduced
                  beyond the margin                                             contradicted
                  neither                                                       not testable at this scale
    at_least      above the threshold                                           reproduced
                  below the threshold                                           contradicted
                  neither                                                       not testable at this scale
    at_most       below the threshold                                           reproduced
                  above the threshold                                           contradicted
                  neither                                                       not testable at this scale
    any           nothing, since a precondition of the test failed              not testable at this scale

The null value is that of the estimate: 0 for a difference to a reference, or the value of a control. The size
of a difference is compared without a test: the mean itself has to be within the tolerance.

Each claim has a first test: that of the mean against the null value or threshold, two-sided, or that of
equivalence. Their p-values are corrected together (Holm 1979). The second test, "within the margin" of a
difference or "beyond the margin" of an equivalence, is made at .01 / number of claims (Bonferroni). So the
probability of any false finding by first tests is at most .01, and so is that by second tests. The two tests
of one claim need no correction for each other, since their null hypotheses overlap at most at the margin
itself (Goeman, Solari & Stijnen 2010).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from glassformer.choices import suggestion
from glassformer.experiments.claims import Claim
from glassformer.experiments.statistics import Estimate, detectable_effect, holm

ALPHA = 0.01
"""A claim counts if it is shown at a corrected p-value below this."""
POWER = 0.8
"""Power of the detectable effect that is given where nothing was shown."""


class Verdict(StrEnum):
    """What a study says about a claim."""

    REPRODUCED = "reproduced"
    DIRECTION_ONLY = "direction only"
    CONTRADICTED = "contradicted"
    NOT_TESTABLE = "not testable at this scale"


@dataclass(frozen=True)
class Judgement:
    """The verdict on a claim and the reason for it."""

    verdict: Verdict
    reason: str
    """One sentence with the numbers."""
    adjusted_p: float | None = None
    """Corrected p-value of the first test; None if no test was made."""


def judge(
    claim: Claim,
    estimate: Estimate | None,
    adjusted_p: float | None,
    *,
    untestable: str | None = None,
    num_claims: int = 1,
    alpha: float = ALPHA,
) -> Judgement:
    """Judge a claim by the table of this module.

    Args:
        claim: the claim.
        estimate: of ``equivalence`` with the margin of the claim for an equivalence; otherwise of
            ``paired_t``, ``one_sample_t`` or ``bootstrap_mean``, with the threshold as ``null`` for
            ``"at_least"`` and ``"at_most"``. None only if ``untestable`` is given.
        adjusted_p: its p-value, corrected for the number of claims.
        untestable: why the study cannot test the claim, as a sentence; None if it can. This must not depend
            on the outcome of the test.
        num_claims: number of claims of the family that are tested.
        alpha: level of the tests.

    Raises:
        ValueError: an estimate that does not belong to the claim, or none.
    """
    if untestable is not None:
        return Judgement(Verdict.NOT_TESTABLE, untestable)
    if estimate is None or adjusted_p is None:
        raise ValueError(f"claim {claim.id!r} needs an estimate and its corrected p-value, or untestable")
    problem = _mismatch(claim, estimate, adjusted_p)
    if problem:
        raise ValueError(f"claim {claim.id!r}: {problem}")
    margin_p = _margin_p(claim, estimate, num_claims)
    found = _TESTS[claim.test](claim, estimate, adjusted_p < alpha, margin_p < alpha)
    verdict, finding = _undecided(claim, estimate, alpha / num_claims) if found is None else found
    interval = f"{100 * estimate.confidence:g} % interval {estimate.low:.4g} to {estimate.high:.4g}"
    p_values = _p(adjusted_p) if claim.margin is None else f"{_p(adjusted_p)}, second test {_p(margin_p)}"
    numbers = f"{interval}; {estimate.num_seeds} {estimate.repeats}; corrected {p_values}"
    reason = f"The measured {_quantity(claim, estimate.mean)} ({numbers}) {finding}."
    return Judgement(verdict, reason, adjusted_p)


def judge_all(
    claims: Sequence[Claim],
    estimates: Mapping[str, Estimate],
    untestable: Mapping[str, str] | None = None,
    *,
    alpha: float = ALPHA,
) -> dict[str, Judgement]:
    """Judge the claims of one family, with p-values corrected over those that can be tested.

    Args:
        claims: all claims of the family.
        estimates: of every claim that can be tested, by id; see ``judge``.
        untestable: by id, why a claim cannot be tested; see ``judge``.
        alpha: level of the tests.

    Returns:
        The judgements by id, in the order of the claims.

    Raises:
        ValueError: two claims with one id, an id without a claim, a claim without an estimate, or an estimate
            that does not belong to its claim.
    """
    reasons = {} if untestable is None else untestable
    ids = [claim.id for claim in claims]
    repeated = {name for name in ids if ids.count(name) > 1}
    if repeated:
        raise ValueError(f"ids of claims must differ, got more than one {min(repeated)!r}")
    for name in [*estimates, *reasons]:
        if name not in ids:
            raise ValueError(f"no claim has the id {name!r}{suggestion(name, ids)}")
    tested = [name for name in ids if name not in reasons]
    missing = [name for name in tested if name not in estimates]
    if missing:
        raise ValueError(f"claim {missing[0]!r} needs an estimate, or a reason why it cannot be tested")
    adjusted = holm({name: estimates[name].p_value for name in tested})
    return {
        claim.id: judge(
            claim,
            estimates.get(claim.id),
            adjusted.get(claim.id),
            untestable=reasons.get(claim.id),
            num_claims=len(tested),
            alpha=alpha,
        )
        for claim in claims
    }


_Finding: TypeAlias = tuple[Verdict, str]


def _margin_p(claim: Claim, estimate: Estimate, num_claims: int) -> float:
    """Corrected p-value of the second test, 1 if the claim has none."""
    if claim.margin is None:
        return 1.0
    test = estimate.p_value_beyond if claim.test == "equivalence" else estimate.p_value_within
    return min(1.0, num_claims * test(claim.margin))


def _difference(claim: Claim, estimate: Estimate, shown: bool, near: bool) -> _Finding | None:
    null, above = _quantity(claim, estimate.null), estimate.mean > estimate.null
    closer = f"is closer to {null} than {claim.margin}, the smallest difference of interest"
    if not shown:
        return (Verdict.CONTRADICTED, closer) if near else None
    side = f"is {'above' if above else 'below'} {null}"
    if above != (claim.direction == 1):
        return Verdict.CONTRADICTED, f"{side}, against the claim"
    if near:
        return Verdict.DIRECTION_ONLY, f"{side} as claimed, but {closer}"
    if claim.claimed is None:
        return Verdict.REPRODUCED, f"{side} as claimed"
    distance = abs(estimate.mean - claim.claimed)
    size = f"{distance:.4g} from the claimed {_quantity(claim, claim.claimed)}"
    if distance <= claim.tolerance:
        return Verdict.REPRODUCED, f"{side} as claimed, and {size}, within the tolerance of {claim.tolerance}"
    return Verdict.DIRECTION_ONLY, f"{side} as claimed, but {size}, beyond the tolerance of {claim.tolerance}"


def _equivalence(claim: Claim, estimate: Estimate, shown: bool, far: bool) -> _Finding | None:
    null = _quantity(claim, estimate.null)
    if shown:
        return Verdict.REPRODUCED, f"is closer to {null} than the margin of {claim.margin}"
    if far:
        return Verdict.CONTRADICTED, f"is farther from {null} than the margin of {claim.margin}"
    return None


def _threshold(claim: Claim, estimate: Estimate, shown: bool, _: bool) -> _Finding | None:
    if not shown:
        return None
    above = estimate.mean > estimate.null
    side = f"is {'above' if above else 'below'} the threshold of {_quantity(claim, estimate.null)}"
    if above == (claim.test == "at_least"):
        return Verdict.REPRODUCED, f"{side} as claimed"
    return Verdict.CONTRADICTED, f"{side}, against the claim"


_TESTS = {
    "difference": _difference,
    "equivalence": _equivalence,
    "at_least": _threshold,
    "at_most": _threshold,
}


def _undecided(claim: Claim, estimate: Estimate, level: float) -> _Finding:
    """The finding where no test showed anything: the difference that these seeds could have shown."""
    null, num_seeds = _quantity(claim, estimate.null), estimate.num_seeds
    if estimate.standard_error == 0:
        return (
            Verdict.NOT_TESTABLE,
            f"is the same for all {estimate.repeats} and exactly at the border that is tested",
        )
    sd = estimate.standard_error * math.sqrt(num_seeds)
    distance = detectable_effect(sd, num_seeds, alpha=level, power=POWER)
    shown = f"is not shown to differ from {null}"
    if claim.test == "equivalence":
        distance += claim.margin or 0.0
        shown = f"is shown neither closer to {null} than the margin of {claim.margin} nor farther"
    power = (
        f"{num_seeds} {estimate.repeats} with this spread show a difference of {distance:.4g} "
        f"with {100 * POWER:g} % power"
    )
    return Verdict.NOT_TESTABLE, f"{shown}; {power}"


def _mismatch(claim: Claim, estimate: Estimate, adjusted_p: float) -> str | None:
    """Why an estimate does not belong to a claim."""
    if not estimate.p_value <= adjusted_p <= 1:
        return f"the corrected p-value must be from {estimate.p_value} to 1, got {adjusted_p}"
    margin = claim.margin if claim.test == "equivalence" else None
    if estimate.margin != margin:
        return f"the estimate of test {claim.test!r} must have margin {margin}, got {estimate.margin}"
    claimed = claim.claimed or 0.0
    if claim.test != "difference" and estimate.null != claimed:
        return f"the estimate of test {claim.test!r} must have null {claimed}, got {estimate.null}"
    if claim.direction and claim.claimed is not None and (claimed - estimate.null) * claim.direction <= 0:
        side = "above" if claim.direction == 1 else "below"
        return f"the claimed {claimed} must be {side} the null {estimate.null} of the estimate"
    return None


def _quantity(claim: Claim, number: float) -> str:
    return f"{number:.4g} {claim.unit}".rstrip()


def _p(p: float) -> str:
    return f"p = {p:.3g}" if p >= 1e-4 else "p < 0.0001"
