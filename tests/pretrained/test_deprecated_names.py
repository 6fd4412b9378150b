"""Old names of glassformer.pretrained that still work and warn."""

from __future__ import annotations

import pytest

from glassformer import pretrained


@pytest.mark.parametrize(("old", "new"), [("LAYOUTS", "CHECKPOINT_FORMATS")])
def test_an_old_name_warns_and_returns_the_new_object(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"glassformer.pretrained.{old} is now called {new}"):
        assert getattr(pretrained, old) is getattr(pretrained, new)
