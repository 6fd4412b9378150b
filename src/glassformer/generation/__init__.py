"""Text from a language model: ``generate``, ``stream``, beam search, ``fill_mask``."""

from glassformer.generation.beam_search import beam_search
from glassformer.generation.context import Overflow
from glassformer.generation.fill_mask import Guess, MaskedLanguageModel, fill_mask
from glassformer.generation.generate import GenerateOptions, generate
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
from glassformer.generation.text import text_of

__all__ = [
    "Filter",
    "GenerateOptions",
    "GenerationOptions",
    "Guess",
    "MaskedLanguageModel",
    "MinP",
    "Overflow",
    "Prompt",
    "RepetitionPenalty",
    "Sampler",
    "Temperature",
    "TopK",
    "TopP",
    "beam_search",
    "fill_mask",
    "generate",
    "stream",
    "text_of",
]
