"""Peak memory of loading: at most 1.3 times the weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

# Measures the peak of resident memory, anonymous or mapped, without the page cache.
MEASURE = """
import sys, torch, glassformer
from glassformer.pretrained import from_pretrained
def resident(key):
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(key))
from_pretrained(sys.argv[2])(torch.arange(4)[None])  # so imports are not counted
before = resident("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # reset the peak
model = from_pretrained(sys.argv[1], dtype=torch.float32)
model(torch.arange(4)[None])
assert all(parameter.max() < 99 for parameter in model.parameters())  # every page was touched
weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
print(weights, resident("VmHWM") - before)
"""


def llama(width: int) -> nn.Module:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=1000,
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=4,
            num_attention_heads=8,
        )
    )


def gpt2(width: int) -> nn.Module:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=1000, n_embd=width, n_layer=4, n_head=8, n_positions=64)
    )


def neox(width: int) -> nn.Module:
    return transformers.GPTNeoXForCausalLM(
        transformers.GPTNeoXConfig(
            vocab_size=1000,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=4,
            num_attention_heads=8,
        )
    )


def half(model: nn.Module, folder: Path) -> None:
    model.half().save_pretrained(folder)


def shards(model: nn.Module, folder: Path) -> None:
    model.save_pretrained(folder, max_shard_size="50MB")


def pickled(model: nn.Module, folder: Path) -> None:
    model.config.save_pretrained(folder)
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    torch.save(state, folder / "pytorch_model.bin")


def whole(model: nn.Module, folder: Path) -> None:
    model.save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.skipif(
    not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc to measure memory"
)
@pytest.mark.parametrize(
    ("make", "write"),
    [(llama, whole), (llama, half), (gpt2, whole), (gpt2, pickled), (neox, shards)],
    ids=["renamed", "made-wider", "transposed", "transposed-from-pickle", "split-from-shards"],
)
def test_loading_takes_little_memory(make: Any, write: Any, tmp_path: Path) -> None:
    for name, width in (("big", 1024), ("small", 64)):
        (tmp_path / name).mkdir()
        write(zeros(make, width), tmp_path / name)
    check(tmp_path / "big", tmp_path / "small")


@pytest.mark.slow
@pytest.mark.skipif(
    not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc to measure memory"
)
def test_loading_gguf_takes_little_memory(tmp_path: Path, write: Any) -> None:
    big, small = (write(zeros(llama, width), tmp_path / f"{width}.gguf", "F16") for width in (1024, 64))
    check(big, small)


def zeros(make: Any, width: int) -> nn.Module:
    """Build a peer with zero weights, which is fast."""
    with torch.device("meta"):
        model: nn.Module = make(width)
    model.to_empty(device="cpu")
    model.tie_weights()
    for parameter in model.parameters():
        parameter.data.zero_()
    return model


def check(big: Path, small: Path) -> None:
    """Load both models in another process and compare the peak of the big one with its weights."""
    output = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURE, str(big), str(small)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout
    weights, peak = (int(number) for number in output.split())
    assert weights >= 190e6
    assert peak <= 1.3 * weights
    print(f"{peak / weights:.2f} times {weights / 1e6:.0f} MB")
