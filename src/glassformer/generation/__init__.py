"""Text generation: sampling, streaming, beam search, and masked-token prediction."""

from typing import TYPE_CHECKING

from glassformer.deprecation import renamed_attributes
from glassformer.generation.beam_search import beam_search
from glassformer.generation.decode_stream import decode_stream
from glassformer.generation.fill_mask import MaskedLanguageModel, MaskPrediction, fill_mask
from glassformer.generation.generate import generate, stream
from glassformer.generation.options import GenerationConfig, GenerationOptions, OverflowPolicy
from glassformer.generation.prompts import Prompt
from glassformer.generation.sampling import (
    LogitsProcessor,
    MinP,
    RepetitionPenalty,
    Sampler,
    Temperature,
    TopK,
    TopP,
)
from glassformer.tokenization import safe_decode as safe_decode

__all__ = [
    "GenerationConfig",
    "GenerationOptions",
    "LogitsProcessor",
    "MaskPrediction",
    "MaskedLanguageModel",
    "MinP",
    "OverflowPolicy",
    "Prompt",
    "RepetitionPenalty",
    "Sampler",
    "Temperature",
    "TopK",
    "TopP",
    "beam_search",
    "decode_stream",
    "fill_mask",
    "generate",
    "stream",
]

if not TYPE_CHECKING:
    __getattr__ = renamed_attributes(
        __name__,
        {
            "Filter": "LogitsProcessor",
            "GenerateOptions": "GenerationOptions",
            "Guess": "MaskPrediction",
            "Overflow": "OverflowPolicy",
        },
    )
