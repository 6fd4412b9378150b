"""Claims and their validation."""

from __future__ import annotations

import math
from typing import Any

import pytest

from glassformer.experiments.claims import Claim

VALID: dict[str, dict[str, Any]] = {
    "difference": {"direction": 1, "claimed": 33, "tolerance": 5.0, "margin": 1.0, "unit": "%"},
    "difference in direction only": {"test": "difference", "direction": -1},
    "equivalence": {"margin": 0.05},
    "equivalence to a value": {"test": "equivalence", "margin": 0.05, "claimed": 2.0},
    "at_least": {"claimed": 0.82},
    "at_most": {"claimed": -1.0},
}


def claim(**fields: Any) -> Claim:
    return Claim(**{"id": "c", "text": "A is above B.", "source": "An author 2020", **fields})


@pytest.mark.parametrize("name", VALID)
def test_valid_claims_keep_their_fields(name: str) -> None:
    fields = {"test": name, **VALID[name]}
    found = claim(**fields)
    assert all(getattr(found, field) == value for field, value in fields.items())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"test": "difference", "id": ""}, "id must not be empty"),
        ({"test": "difference", "text": ""}, "claim 'c': text must not be empty"),
        ({"test": "difference", "source": ""}, "claim 'c': source must not be empty"),
        ({"test": "equivalent"}, "got 'equivalent', did you mean 'equivalence'"),
        ({"test": "at_least", "claimed": math.nan}, "claimed must be a finite number, got nan"),
        ({"test": "equivalence", "margin": math.inf}, "margin must be a finite number, got inf"),
        ({"test": "equivalence", "margin": 0}, "margin must be above 0, got 0"),
        ({"test": "difference"}, "direction of a difference must be 1 or -1, got None"),
        ({"test": "difference", "direction": 2}, "direction of a difference must be 1 or -1, got 2"),
        ({"test": "difference", "direction": 1, "tolerance": 0.1}, "needs a claimed size, got 0.1"),
        ({"test": "difference", "direction": 1, "claimed": 3}, "must be above 0, got 0.0"),
        ({"test": "difference", "direction": 1, "claimed": 3, "tolerance": -1}, "must be above 0, got -1"),
        ({"test": "equivalence", "margin": 1, "direction": 1}, "only for a difference, got 1 for test"),
        (
            {"test": "at_most", "claimed": 1, "tolerance": 1},
            "only for a difference, got 1 for test 'at_most'",
        ),
        ({"test": "equivalence"}, "an equivalence needs a margin above 0"),
        ({"test": "at_least"}, "claimed must be the threshold of 'at_least'"),
        (
            {"test": "at_least", "claimed": 1, "margin": 1},
            "margin is only for a difference or an equivalence",
        ),
    ],
)
def test_invalid_claims_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        claim(**fields)
