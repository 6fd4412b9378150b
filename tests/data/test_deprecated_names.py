"""Old names of glassformer.data that still work and warn."""

from __future__ import annotations

import pytest

import glassformer.data


@pytest.mark.parametrize(("old", "new"), [("Piece", "Chunk"), ("pieces", "chunk_text")])
def test_an_old_name_warns_and_returns_the_new_object(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"glassformer.data.{old} is now called {new}"):
        assert getattr(glassformer.data, old) is getattr(glassformer.data, new)
