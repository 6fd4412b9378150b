"""Mean reciprocal ranks."""

from __future__ import annotations

import pytest

from glassformer.experiments.lengths.ranks import (
    contrast,
    mean_reciprocal_ranks,
    measured_runs,
    rank_all,
    reciprocal_ranks,
)


def result(trained, *beyond):
    """A run that was trained up to length 2."""
    exact = [trained, trained, *beyond]
    return {
        "lengths": {str(n): {"exact": e, "token": 0.5 + e / 2, "loss": 1.0} for n, e in enumerate(exact, 1)}
    }


def test_reciprocal_ranks_and_ties():
    assert reciprocal_ranks({"a": 0.2, "b": 0.9, "c": 0.5}) == pytest.approx({"a": 1 / 3, "b": 1, "c": 1 / 2})
    tied = reciprocal_ranks({"a": 0.5, "b": 0.5, "c": 0.1, "d": 0.1, "e": 0.9})
    assert tied == pytest.approx(
        {"e": 1, "a": (1 / 2 + 1 / 3) / 2, "b": (1 / 2 + 1 / 3) / 2, "c": 9 / 40, "d": 9 / 40}
    )
    equal = reciprocal_ranks(dict.fromkeys("abcde", 0.0))
    assert equal == pytest.approx(dict.fromkeys("abcde", 2.2833333 / 5))
    assert reciprocal_ranks({"a": 0.0}) == {"a": 1.0}


def test_runs_are_read_by_their_names():
    [run] = measured_runs({"copy-none-seed-3": result(1.0, 0.8, 0.4)})
    assert (run.task, run.scheme, run.seed) == ("copy", "none", 3)
    assert run.accuracy(2) == 1.0
    assert run.beyond(2) == [0.8, 0.4]
    assert run.beyond(2, "token") == pytest.approx([0.9, 0.7])


def test_only_what_was_learned_is_ranked():
    runs = measured_runs(
        {
            "copy-none-seed-0": result(1.0, 0.8, 0.4),
            "copy-t5-seed-0": result(0.96, 0.9, 0.2),
            "copy-rotary-seed-0": result(0.94, 1.0, 1.0),
            "reverse-none-seed-0": result(0.99, 0.1, 0.0),
            "reverse-t5-seed-0": result(0.5, 1.0, 1.0),
            "reverse-rotary-seed-0": result(0.99, 0.3, 0.2),
            "copy-none-seed-1": result(0.1, 0.8, 0.4),
            "copy-t5-seed-1": result(0.96, 0.9, 0.2),
        }
    )
    ranks = rank_all(runs, 2, 0.95)
    assert ranks["copy", 0] == {"none": [0.5, 1.0], "t5": [1.0, 0.5]}
    assert ranks["reverse", 0] == {"none": [0.5, 0.5], "rotary": [1.0, 1.0]}
    assert ranks["copy", 1] == {"t5": [1.0, 1.0]}
    assert mean_reciprocal_ranks(ranks, "none") == pytest.approx({0: 0.625})
    assert mean_reciprocal_ranks(ranks, "t5") == pytest.approx({0: 0.75, 1: 1.0})
    assert contrast(ranks, "none", "t5") == pytest.approx({0: 0.0})
    assert contrast(ranks, "none", "rotary") == pytest.approx({0: -0.5})
    assert contrast(ranks, "none", "alibi") == {}
    assert rank_all(measured_runs({"copy-none-seed-0": result(0.0, 1.0)}), 2, 0.95) == {("copy", 0): {}}
