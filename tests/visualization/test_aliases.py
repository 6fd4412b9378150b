"""Old names of figures, which warn."""

from __future__ import annotations

import numpy as np
import pytest

from glassformer import visualization
from glassformer.visualization import draw_head


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("draw_capabilities", "draw_ablation_table"),
        ("draw_every_head", "draw_ablation_maps"),
        ("save_picture", "save_figure"),
    ],
)
def test_old_names_of_functions_warn(old, new):
    with pytest.warns(DeprecationWarning, match=f"is now called {new}"):
        assert getattr(visualization, old) is getattr(visualization, new)


def test_the_old_name_of_an_argument_warns():
    with pytest.warns(DeprecationWarning, match="'row' of draw_head.* is now called 'row_label'"):
        figure = draw_head(np.ones((1, 1)), ["a"], ["b"], title="t", caption="c", row="writes")
    assert figure.axes[0].get_ylabel() == "writes"
