"""Inference engines that decoding is compared with, of the dependency group ``engines``."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from timed_generation import Generate
from torch import Tensor


class Engine(NamedTuple):
    """An engine, with the packages that it needs."""

    file: str
    """Module of this package that defines ``contender``."""
    packages: tuple[str, ...]

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        return [package for package in self.packages if find_spec(package) is None]

    def contender(
        self, model: Any, weights: str, prompt: Tensor, new: int, threads: int, folder: Path
    ) -> Generate:
        """Return a function that continues the prompt greedily.

        Args:
            model: Hugging Face's GPT-2, whose weights the engine takes.
            weights: ``"float32"`` or ``"int8"``.
            prompt: ``(batch, seq)``.
            new: number of new tokens.
            threads: number of threads.
            folder: for the engine's files of the model; files that are there already are used again.

        """
        module = importlib.import_module(f"engines.{self.file}")
        generate: Generate = module.contender(model, weights, prompt, new, threads, folder)
        return generate


ENGINES = {
    "ONNX Runtime": Engine("onnx_runtime", ("onnx", "onnxruntime")),
    "CTranslate2": Engine("ctranslate2_generator", ("ctranslate2",)),
    "llama.cpp": Engine("llama_cpp", ("xllamacpp", "gguf")),
}
