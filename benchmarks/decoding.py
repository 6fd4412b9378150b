"""Speed of token-by-token generation, compared with Hugging Face's ``generate``.

    python benchmarks/decoding.py                      # GPT-2 124M, prompt 512, 64 new tokens, batch 1 and 8
    python benchmarks/decoding.py --rounds 10 --json decoding.json

Both models have the same random weights and a cache, and must generate the same tokens greedily. Each call
generates all tokens and records the time of each: prefill is the time until the first new token, decoding the
mean time between the following ones. The libraries alternate; ratios are taken within a round.

Growth is measured for glassformer alone: with as many new tokens as the prompt has, the median time of the
last 32 tokens divided by that of the first 32 after the prefill.
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
from timing import Quartiles, Rounds, console, interleave, machine, paired_ratio, quartiles, write_json
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
"""Number of tokens at the start and at the end whose times are compared for growth."""


class TimedTokens(NamedTuple):
    """New tokens of one call, with their times."""

    ids: Tensor
    """``(batch, new)``."""
    seconds: list[float]
    """Time from the call to the first token, then from each token to the next."""

    @property
    def prefill(self) -> float:
        return self.seconds[0]

    @property
    def per_token(self) -> float:
        return sum(self.seconds[1:]) / (len(self.seconds) - 1)


class TimingStreamer:
    """Records tokens and their times; also a streamer for Hugging Face's ``generate``."""

    def __init__(self) -> None:
        self.tokens: list[Tensor] = []
        self.times = [time.perf_counter()]

    def put(self, value: Tensor) -> None:
        """Record the next token of each row; the prompt, a 2-D tensor, is ignored."""
        if value.dim() == 2:
            return
        self.times.append(time.perf_counter())
        self.tokens.append(value)

    def end(self) -> None:
        """Do nothing; Hugging Face calls this at the end."""

    def result(self) -> TimedTokens:
        """Return the recorded tokens."""
        seconds = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        return TimedTokens(torch.stack(self.tokens, dim=1), seconds)


def glassformer(model: GPTModel, prompt: Tensor, new: int) -> Callable[[], TimedTokens]:
    """Return a function that generates with glassformer."""

    def run() -> TimedTokens:
        streamer = TimingStreamer()
        for tokens in stream(model, prompt, new, temperature=0):
            streamer.put(tokens)
        return streamer.result()

    return run


def hugging_face(model: Any, prompt: Tensor, new: int) -> Callable[[], TimedTokens]:
    """Return a function that generates with Hugging Face."""
    mask = torch.ones_like(prompt)

    def run() -> TimedTokens:
        streamer = TimingStreamer()
        model.generate(
            prompt,
            attention_mask=mask,
            max_new_tokens=new,
            do_sample=False,
            use_cache=True,
            streamer=streamer,
        )
        return streamer.result()

    return run


def models(setting: Setting) -> tuple[GPTModel, Any]:
    """Return both models, with the same random weights."""
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
        eos_token_id=None,  # so that no row ends
    )
    theirs = GPT2LMHeadModel(config)
    copy_weights(ours, theirs)
    return ours.eval(), theirs.eval()


@torch.no_grad()
def copy_weights(ours: GPTModel, theirs: Any) -> None:
    """Copy our weights to Hugging Face's model (matrices are ``(in, out)``; q, k and v are concatenated)."""
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
    """Measure prefill and decoding of both libraries, and check that their tokens are equal."""
    prompt = torch.randint(
        setting.vocab_size, (batch_size, setting.prompt), generator=torch.Generator().manual_seed(1)
    )
    contenders = {
        OURS: glassformer(ours, prompt, setting.new),
        THEIRS: hugging_face(theirs, prompt, setting.new),
    }
    turns = interleave(contenders, rounds)
    expected = turns.results[THEIRS][0].ids
    for name, runs in turns.results.items():
        if not all(torch.equal(run.ids, expected) for run in runs):
            raise SystemExit(
                f"{name} and {THEIRS} generated different tokens, so their times cannot be compared"
            )
    return {"batch_size": batch_size, **summarize(turns), "rounds": rounds}


def summarize(rounds: Rounds[TimedTokens]) -> dict[str, Any]:
    """Return the times of both libraries, and their ratios."""
    prefill = {name: [run.prefill for run in runs] for name, runs in rounds.results.items()}
    per_token = {name: [run.per_token for run in runs] for name, runs in rounds.results.items()}
    return {
        "prefill_milliseconds": {name: _milliseconds(prefill[name]) for name in (OURS, THEIRS)},
        "milliseconds_per_token": {name: _milliseconds(per_token[name]) for name in (OURS, THEIRS)},
        "prefill_speed_relative_to_hugging_face": paired_ratio(prefill[THEIRS], prefill[OURS]),
        "decoding_speed_relative_to_hugging_face": paired_ratio(per_token[THEIRS], per_token[OURS]),
        "disturbed_rounds": rounds.disturbed,
    }


def growth(ours: GPTModel, setting: Setting, rounds: int) -> dict[str, Any]:
    """Measure how much longer the last tokens take than the first, for one sequence."""
    prompt = torch.randint(
        setting.vocab_size, (1, setting.prompt), generator=torch.Generator().manual_seed(1)
    )
    turns = interleave({OURS: glassformer(ours, prompt, setting.prompt)}, rounds)
    first = [median(run.seconds[1 : EDGE + 1]) for run in turns.results[OURS]]
    last = [median(run.seconds[-EDGE:]) for run in turns.results[OURS]]
    return {
        "first_milliseconds": _milliseconds(first),
        "last_milliseconds": _milliseconds(last),
        "last_over_first": paired_ratio(last, first),
        "rounds": rounds,
        "disturbed_rounds": turns.disturbed,
    }


def _milliseconds(seconds: Sequence[float]) -> Quartiles:
    return quartiles([1e3 * value for value in seconds])


def show(figures: dict[str, Any], setting: Setting) -> None:
    """Print the table, the growth and the machine."""
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
        f"Growth: {grown['first_milliseconds']:.1f} ms per token after the prompt, "
        f"{grown['last_milliseconds']:.1f} ms after {setting.prompt} new tokens "
        f"({grown['last_over_first']:.2f} times as long)"
    )
    everything = [*figures["batches"], grown]
    disturbed, rounds = (sum(part[key] for part in everything) for key in ("disturbed_rounds", "rounds"))
    out.print(f"Disturbed rounds: {disturbed} of {rounds}; {machine()}")


def main() -> None:
    """Parse the options, run the benchmark and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, for a quick test")
    parser.add_argument("--json", type=Path, help="also write all results to this file")
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
