"""Old names of the analysis package."""

from __future__ import annotations

import pytest

from glassformer import analysis
from glassformer.models import GPTModel


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("CapabilityTable", "BehaviorTable"),
        ("Deletion", "DeletionResult"),
        ("ImageReading", "PreprocessedImage"),
        ("Outcome", "AttributionTarget"),
        ("Pair", "EncodedPair"),
        ("Reading", "EncodedText"),
        ("Suite", "BehaviorTask"),
        ("build_suites", "build_behavior_tasks"),
        ("capability_table", "behavior_table"),
        ("outcome_of", "default_target"),
        ("read", "encode_text"),
        ("read_image", "preprocess_image"),
        ("read_pair", "encode_pair"),
    ],
)
def test_old_names_warn(old, new):
    with pytest.warns(DeprecationWarning, match=f"{old} is now called {new}"):
        assert getattr(analysis, old) is getattr(analysis, new)


def test_old_arguments_warn():
    model = GPTModel(10, 8, 1, 2, max_seq_len=8)
    with pytest.warns(DeprecationWarning, match="'longest' of encode_text"):
        assert analysis.encode_text(model, [1, 2, 3], longest=2).ids == [1, 2]
    with pytest.warns(DeprecationWarning, match="'places' of reference_outputs"):
        assert len(analysis.reference_outputs(model, [[1, 2]], places=1).samples[0]) == 1
    first = analysis.deletion_test(model, [1, 2, 3], [1.0, 2.0, 3.0])
    with pytest.warns(DeprecationWarning, match="of deletion_test"):
        second = analysis.deletion_test(model, [1, 2, 3], relevance=[1.0, 2.0, 3.0], beside=first)
    assert second.score == pytest.approx(first.score)
