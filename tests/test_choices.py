"""Lookup of options by name."""

from __future__ import annotations

import pytest

from glassformer.choices import choose


def test_choose_returns_the_option_or_suggests_the_nearest_name():
    options = {"rotary": 1, "learned": 2}
    assert choose(options, "rotary", "kind") == 1
    with pytest.raises(
        ValueError, match="unknown kind 'rotery', did you mean 'rotary'. .there are: rotary, learned."
    ):
        choose(options, "rotery", "kind")
    with pytest.raises(ValueError, match="unknown kind 'xyz' .there are"):
        choose(options, "xyz", "kind")
