"""GPT-2 in CTranslate2. Its products on AMD processors are those of oneDNN, on Intel's those of MKL."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ctranslate2
import torch
from ctranslate2.converters.transformers import GPT2Loader
from timed_generation import Generate, TimedTokens, intervals
from torch import Tensor


def file(model: Any, folder: Path) -> Path:
    """Return the folder of the converted model, which is written if it is not there."""
    path = folder / "ctranslate2"
    if not (path / "model.bin").exists():
        spec = GPT2Loader().get_model_spec(model)
        spec.register_vocabulary([str(number) for number in range(model.config.vocab_size)])
        spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = "0"
        spec.validate()
        spec.optimize()
        path.mkdir(exist_ok=True)
        spec.save(str(path))
    return path


def contender(model: Any, weights: str, prompt: Tensor, new: int, threads: int, folder: Path) -> Generate:
    """Return a function that generates with CTranslate2; weights become int8 when they are loaded."""
    generator = ctranslate2.Generator(
        str(file(model, folder)), compute_type=weights, inter_threads=1, intra_threads=threads
    )
    start_tokens = [[str(token) for token in row] for row in prompt.tolist()]

    def run() -> TimedTokens:
        ids = torch.zeros(len(prompt), new, dtype=torch.int64)
        times = [time.perf_counter()] + new * [0.0]

        def record(result: Any) -> bool:
            """Record a token of a row; do not stop."""
            ids[result.batch_id, result.step] = result.token_id
            times[result.step + 1] = time.perf_counter()
            return False

        generator.generate_batch(
            start_tokens,
            min_length=new,  # so that no row ends
            max_length=new,
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=record,
        )
        return TimedTokens(ids, intervals(times))

    return run
