"""Text from a language model: sampling filters, ``generate``, and ``stream`` token by token."""

from glassformer.generation.context import Overflow
from glassformer.generation.generate import generate
from glassformer.generation.prompts import Prompt
from glassformer.generation.sampling import (
    Filter,
    MinP,
    RepetitionPenalty,
    Sampler,
    Temperature,
    TopK,
    TopP,
)
from glassformer.generation.streaming import GenerationOptions, stream

__all__ = [
    "Filter",
    "GenerationOptions",
    "MinP",
    "Overflow",
    "Prompt",
    "RepetitionPenalty",
    "Sampler",
    "Temperature",
    "TopK",
    "TopP",
    "generate",
    "stream",
]
