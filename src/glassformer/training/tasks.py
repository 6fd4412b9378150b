"""Tasks by the word that a config takes for ``task.kind``."""

from __future__ import annotations

from glassformer.training.image_classification import ImageClassificationTask
from glassformer.training.language_modelling import LanguageModellingTask
from glassformer.training.masked_language_modelling import MaskedLanguageModellingTask
from glassformer.training.sequence_to_sequence import SequenceToSequenceTask
from glassformer.training.span_corruption import SpanCorruptionTask
from glassformer.training.task import Task
from glassformer.training.text_classification import TextClassificationTask

TASKS: dict[str, Task] = {
    "language-modelling": LanguageModellingTask(),
    "masked-lm": MaskedLanguageModellingTask(),
    "span-corruption": SpanCorruptionTask(),
    "sequence-to-sequence": SequenceToSequenceTask(),
    "text-classification": TextClassificationTask(),
    "image-classification": ImageClassificationTask(),
}
