"""How fast does a model write, token by token, next to Hugging Face's ``generate``?

    python benchmarks/decoding.py                      # GPT-2 124M, prompt 512, 64 new tokens, batch 1 and 8
    python benchmarks/decoding.py --rounds 10 --json decoding.json

Both models have the same random weights and write the same tokens greedily, which is checked; both keep
keys and values. Each call is one whole ``generate``, timed by its stream: prefill is the time from the
call to the first new token, decoding is the time from the first new token to the last, over the tokens
between. Contenders take turns; ratios are taken within a round.

Growth is about glassformer alone: with as many new tokens as the prompt has, the median time of the last
32 tokens over that of the first 32 after the prefill.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from rich.table import Table
from timing import Spread, console, machine, paired, spread, take_turns, write_json
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from glassformer.generation import stream
from glassformer.models import GPTModel


@dataclass(frozen=True)
class Setting:
    vocab_size: int = 50257
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    prompt: int = 512
    new: int = 64
    batch_sizes: tuple[int, ...] = (1, 8)


SMOKE = Setting(vocab_size=64, d_model=32, num_layers=2, num_heads=2, prompt=16, new=8, batch_sizes=(1, 2))
OURS, THEIRS = "glassformer", "Hugging Face"
EDGE = 32
"""Tokens at the start and at the end whose times are compared for growth."""


class Written(NamedTuple):
    """One ``generate``, as it came."""

    ids: Tensor
    """New tokens, ``(batch, new)``."""
    seconds: list[float]
    """From the call to the first token, then between each token and the next."""

    @property
    def prefill(self) -> float:
        return self.seconds[0]

    @property
    def per_token(self) -> float:
        return sum(self.seconds[1:]) / (len(self.seconds) - 1)


class Stamps:
    """Takes tokens as they come and looks at the clock. Also what Hugging Face calls a streamer."""

    def __init__(self) -> None:
        self.tokens: list[Tensor] = []
        self.times = [time.perf_counter()]

    def put(self, value: Tensor) -> None:
        if value.dim() == 2:
            return  # the prompt
        self.times.append(time.perf_counter())
        self.tokens.append(value)

    def end(self) -> None:
        """Nothing to close."""

    def written(self) -> Written:
        seconds = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        return Written(torch.stack(self.tokens, dim=1), seconds)


def glassformer(model: GPTModel, prompt: Tensor, new: int) -> Callable[[], Written]:
    def run() -> Written:
        stamps = Stamps()
        for tokens in stream(model, prompt, new, temperature=0):
            stamps.put(tokens)
        return stamps.written()

    return run


def hugging_face(model: Any, prompt: Tensor, new: int) -> Callable[[], Written]:
    mask = torch.ones_like(prompt)

    def run() -> Written:
        stamps = Stamps()
        model.generate(
            prompt, attention_mask=mask, max_new_tokens=new, do_sample=False, use_cache=True, streamer=stamps
        )
        return stamps.written()

    return run


def models(setting: Setting) -> tuple[GPTModel, Any]:
    """Both models with the same random weights."""
    torch.manual_seed(0)
    max_seq_len = 2 * setting.prompt
    ours = GPTModel(
        setting.vocab_size,
        setting.d_model,
        setting.num_layers,
        setting.num_heads,
        max_seq_len=max_seq_len,
    )
    config = GPT2Config(
        vocab_size=setting.vocab_size,
        n_positions=max_seq_len,
        n_embd=setting.d_model,
        n_layer=setting.num_layers,
        n_head=setting.num_heads,
        attn_implementation="sdpa",
        bos_token_id=None,
        eos_token_id=None,  # so nothing can end a row, and nothing has to look for it
    )
    theirs = GPT2LMHeadModel(config)
    copy_weights(ours, theirs)
    return ours.eval(), theirs.eval()


@torch.no_grad()
def copy_weights(ours: GPTModel, theirs: Any) -> None:
    """Give Hugging Face's model ours; its matrices are ``(in, out)``, with q, k and v side by side."""
    body = theirs.transformer
    body.wte.weight.copy_(ours.token_embedding.weight)
    body.wpe.weight.copy_(ours.get_parameter("positions.embedding.weight"))
    body.ln_f.load_state_dict(ours.norm.state_dict())
    for number, block in enumerate(body.h):
        own = ours.get_submodule(f"blocks.{number}").state_dict()
        block.ln_1.load_state_dict({"weight": own["norm1.weight"], "bias": own["norm1.bias"]})
        block.ln_2.load_state_dict({"weight": own["norm2.weight"], "bias": own["norm2.bias"]})
        for kind in ("weight", "bias"):
            qkv = torch.cat([own[f"attention.{name}_proj.{kind}"] for name in "qkv"])
            getattr(block.attn.c_attn, kind).copy_(qkv.mT if kind == "weight" else qkv)
        for layer, name in (
            (block.attn.c_proj, "attention.out_proj"),
            (block.mlp.c_fc, "feed_forward.up_proj"),
            (block.mlp.c_proj, "feed_forward.down_proj"),
        ):
            layer.weight.copy_(own[f"{name}.weight"].mT)
            layer.bias.copy_(own[f"{name}.bias"])


def compare(ours: GPTModel, theirs: Any, setting: Setting, batch_size: int, rounds: int) -> dict[str, Any]:
    """Prefill and decoding of both, and that they write the same."""
    prompt = torch.randint(
        setting.vocab_size, (batch_size, setting.prompt), generator=torch.Generator().manual_seed(1)
    )
    contenders = {
        OURS: glassformer(ours, prompt, setting.new),
        THEIRS: hugging_face(theirs, prompt, setting.new),
    }
    turns = take_turns(contenders, rounds)
    expected = turns.results[THEIRS][0].ids
    for name, runs in turns.results.items():
        if not all(torch.equal(run.ids, expected) for run in runs):
            raise SystemExit(f"{name} does not write what {THEIRS} writes: there is nothing to compare")
    prefill = {name: [run.prefill for run in runs] for name, runs in turns.results.items()}
    per_token = {name: [run.per_token for run in runs] for name, runs in turns.results.items()}
    return {
        "batch_size": batch_size,
        "prefill_milliseconds": {name: _milliseconds(prefill[name]) for name in contenders},
        "milliseconds_per_token": {name: _milliseconds(per_token[name]) for name in contenders},
        "prefill_speed_relative_to_hugging_face": paired(prefill[THEIRS], prefill[OURS]),
        "decoding_speed_relative_to_hugging_face": paired(per_token[THEIRS], per_token[OURS]),
        "rounds": rounds,
        "disturbed_rounds": turns.disturbed,
    }


def growth(ours: GPTModel, setting: Setting, rounds: int) -> dict[str, Any]:
    """How much longer the last tokens take than the first, for one sequence."""
    prompt = torch.randint(
        setting.vocab_size, (1, setting.prompt), generator=torch.Generator().manual_seed(1)
    )
    turns = take_turns({OURS: glassformer(ours, prompt, setting.prompt)}, rounds)
    first = [median(run.seconds[1 : EDGE + 1]) for run in turns.results[OURS]]
    last = [median(run.seconds[-EDGE:]) for run in turns.results[OURS]]
    return {
        "first_milliseconds": _milliseconds(first),
        "last_milliseconds": _milliseconds(last),
        "last_over_first": paired(last, first),
        "rounds": rounds,
        "disturbed_rounds": turns.disturbed,
    }


def _milliseconds(seconds: Sequence[float]) -> Spread:
    return spread([1e3 * value for value in seconds])


def show(figures: dict[str, Any], setting: Setting) -> None:
    """The table, and what it rests on."""
    table = Table(title=f"Prompt {setting.prompt}, {setting.new} new tokens (median, quartiles)")
    for column in ("batch", "", OURS, THEIRS, f"x {THEIRS}"):
        table.add_column(column, justify="right" if column else "left", no_wrap=not column)
    for row in figures["batches"]:
        prefill, token = row["prefill_milliseconds"], row["milliseconds_per_token"]
        prefill_ratio = row["prefill_speed_relative_to_hugging_face"]
        token_ratio = row["decoding_speed_relative_to_hugging_face"]
        batch_size = str(row["batch_size"])
        table.add_row(
            batch_size,
            "prefill, ms",
            f"{prefill[OURS]:.0f}",
            f"{prefill[THEIRS]:.0f}",
            f"{prefill_ratio:.2f}",
        )
        table.add_row(
            "", "decoding, ms/token", f"{token[OURS]:.1f}", f"{token[THEIRS]:.1f}", f"{token_ratio:.2f}"
        )
    out = console()
    out.print(table)
    grown = figures["growth"]
    out.print(
        f"After {setting.prompt} new tokens one takes {grown['last_milliseconds']:.1f} ms instead of "
        f"{grown['first_milliseconds']:.1f} ms: {grown['last_over_first']:.2f} times as long"
    )
    everything = [*figures["batches"], grown]
    disturbed, rounds = (sum(part[key] for part in everything) for key in ("disturbed_rounds", "rounds"))
    out.print(f"Disturbed rounds: {disturbed} of {rounds}; {machine()}")


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    setting = SMOKE if arguments.smoke else Setting()
    ours, theirs = models(setting)
    figures: dict[str, Any] = {
        "setting": vars(setting),
        "batches": [compare(ours, theirs, setting, size, arguments.rounds) for size in setting.batch_sizes],
        "growth": growth(ours, setting, max(1, arguments.rounds // 2)),
    }
    show(figures, setting)
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
