"""GPT-2 in llama.cpp, with the server of ``xllamacpp``, which is called without a network.

The server hands out each token when it is computed, and its time is taken then; the time of the first agrees
with the server's own. int8 is Q8_0: one scale for each 32 weights. Keys and values are stored in float16,
which is the default of llama.cpp. The package for Linux is compiled for AVX2 and no later instructions.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import torch
import xllamacpp
from gguf import GGMLQuantizationType
from timed_generation import Generate, TimedTokens, intervals
from torch import Tensor

TYPES = {"float32": GGMLQuantizationType.F32, "int8": GGMLQuantizationType.Q8_0}
MODULES = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}
BLOCK_MODULES = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def file(model: Any, weights: str, folder: Path) -> Path:
    """Return the GGUF file of a Hugging Face GPT-2, which is written if it is not there.

    The text of token 7 is ``t7``, so that ids can be read from the text.
    """
    path = folder / f"gpt2-{weights}.gguf"
    if path.exists():
        return path
    config, writer = model.config, gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{number}" for number in range(config.vocab_size)])
    writer.add_token_types([gguf.TokenType.NORMAL] * config.vocab_size)
    writer.add_token_merges(["t 0"])  # llama.cpp refuses a file without merges
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for name, value in model.transformer.state_dict().items():
        _add_tensor(writer, name, value.detach(), TYPES[weights])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tensor(writer: Any, name: str, value: Tensor, kind: GGMLQuantizationType) -> None:
    module, _, parameter = name.rpartition(".")
    if module.startswith("h."):
        _, number, module = module.split(".", 2)
        stored, is_matrix = f"blk.{number}.{BLOCK_MODULES[module]}", "c_" in module and parameter == "weight"
    else:
        stored, is_matrix = MODULES[module], False
    array = np.ascontiguousarray(value.T if is_matrix else value)  # Hugging Face's matrices are (in, out)
    if kind != GGMLQuantizationType.F32 and (is_matrix or module == "wte"):
        writer.add_tensor(f"{stored}.{parameter}", gguf.quants.quantize(array, kind), raw_dtype=kind)
    else:
        writer.add_tensor(f"{stored}.{parameter}", array)


class Generated(NamedTuple):
    """What the server generated for a prompt."""

    texts: list[str]
    """Text of each token."""
    times: list[float]
    """When the server was called, and when each token was there."""


class Server:
    """llama.cpp's server for a batch of prompts of equal length.

    Args:
        path: GGUF file.
        batch_size: number of prompts.
        length: number of tokens of each prompt.
        new: number of new tokens.
        threads: number of threads.

    """

    def __init__(self, path: Path, batch_size: int, length: int, new: int, threads: int) -> None:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_parallel = batch_size
        parameters.n_ctx = batch_size * (length + new)
        parameters.n_batch = batch_size * length  # so that all prompts are computed together
        parameters.cpuparams.n_threads = threads
        parameters.cpuparams_batch.n_threads = threads
        parameters.cache_ram_mib = 0  # keeps no earlier prompts
        parameters.n_ctx_checkpoints = 0
        # Decoding takes 1.1 to 1.5 times as long with it for one row, on two cores of an AMD EPYC.
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.fit_params = False
        parameters.verbosity = -1
        self._server = xllamacpp.Server(parameters)
        self._new = new

    def generate(self, prompt: Tensor) -> list[Generated]:
        """Return what is generated for each row of a prompt ``(batch, seq)``."""
        start = time.perf_counter()
        rows = [Generated([], [start]) for _ in prompt]

        def record(chunk: Any) -> None:
            """Record the next token of a row."""
            now = time.perf_counter()
            for choice in chunk["choices"] if chunk else ():  # None: nothing yet
                if choice["text"]:
                    rows[choice["index"]].texts.append(choice["text"])
                    rows[choice["index"]].times.append(now)

        request = {
            "prompt": prompt.tolist(),
            "n_predict": self._new,
            "temperature": 0,
            "samplers": ["temperature"],
            "ignore_eos": True,
            "cache_prompt": False,
            "stream": True,
        }
        self._server.handle_completions(request, record)
        return rows


def contender(model: Any, weights: str, prompt: Tensor, new: int, threads: int, folder: Path) -> Generate:
    """Return a function that generates with llama.cpp; a token is there when all rows have it."""
    server = Server(file(model, weights, folder), prompt.size(0), prompt.size(1), new, threads)

    def run() -> TimedTokens:
        rows = server.generate(prompt)
        ids = torch.tensor([[int(text[1:]) for text in row.texts] for row in rows])
        return TimedTokens(
            ids, intervals([max(times) for times in zip(*(row.times for row in rows), strict=True)])
        )

    return run
