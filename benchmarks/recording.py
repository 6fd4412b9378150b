"""Cost of recording attention weights, compared with Hugging Face and TransformerLens.

    python benchmarks/recording.py                       # GPT-2 124M and BERT-base, 512 tokens, batch 1
    python benchmarks/recording.py --rounds 20 --json recording.json

All models have the sizes of the published ones and random weights. glassformer keeps its fused kernel and
records the weights of one layer, or of all 144 heads. Hugging Face returns weights
(``output_attentions=True``) only with its eager attention, and is also shown with its fused attention.
TransformerLens uses ``run_with_cache`` for the attention patterns only. Rounds are interleaved; ratios are
taken within a round, relative to glassformer's forward pass without recording.

Memory is the exact peak of the tensors above the idle process. The memory that recording adds to the plain
forward pass is also given as a multiple of the size of the weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from timing import console, interleave, machine, memory_of, paired_ratio, quartiles, timed, write_json
from torch import Tensor
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from glassformer.attention import record_attention
from glassformer.models import BERTModel, GPTModel, TransformerModel


@dataclass(frozen=True)
class Setting:
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    vocab_size: int = 50257
    seq_len: int = 512

    @property
    def map_bytes(self) -> int:
        """Bytes of the attention weights of all heads in float32, the least that recording needs."""
        return self.num_layers * self.num_heads * self.seq_len**2 * 4


SMOKE = Setting(d_model=32, num_layers=2, num_heads=2, vocab_size=64, seq_len=16)
PLAIN = "glassformer, not recorded"
ONE_LAYER = "glassformer, one layer"
ALL_HEADS = "glassformer, all heads"

ForwardPasses = dict[str, Callable[[], object]]
"""One forward pass per contender, by name."""


def glassformer(model: TransformerModel, ids: Tensor) -> ForwardPasses:
    layers = range(model.config["num_layers"])

    def recorded(chosen: Any) -> Callable[[], object]:
        def run() -> object:
            with record_attention(model, chosen) as recording:
                model(ids)
            assert len(recording) == len(chosen)
            return recording

        return run

    return {
        PLAIN: lambda: model(ids),
        ONE_LAYER: recorded(layers[len(layers) // 2 :][:1]),
        ALL_HEADS: recorded(layers),
    }


def hugging_face(build: Callable[[str], Any], ids: Tensor) -> ForwardPasses:
    fused, eager = build("sdpa"), build("eager")

    def with_weights() -> object:
        output = eager(ids, output_attentions=True)
        assert output.attentions[-1] is not None
        return output

    return {"Hugging Face, no weights": lambda: fused(ids), "Hugging Face eager, all heads": with_weights}


def transformer_lens(kind: str, setting: Setting, ids: Tensor) -> ForwardPasses:
    """TransformerLens, if it is installed."""
    try:
        from transformer_lens import HookedEncoder, HookedTransformer, HookedTransformerConfig
    except ImportError as error:
        console().print(f"skipped TransformerLens: {error}")
        return {}
    config = HookedTransformerConfig(
        n_layers=setting.num_layers,
        d_model=setting.d_model,
        d_head=setting.d_model // setting.num_heads,
        n_heads=setting.num_heads,
        d_mlp=4 * setting.d_model,
        n_ctx=setting.seq_len,
        d_vocab=setting.vocab_size,
        act_fn="gelu" if kind == "BERT" else "gelu_new",
        attention_dir="bidirectional" if kind == "BERT" else "causal",
        device="cpu",
        seed=0,
    )
    model = (HookedEncoder if kind == "BERT" else HookedTransformer)(config).eval()

    def with_weights() -> object:
        _, cache = model.run_with_cache(ids, names_filter=lambda name: name.endswith("hook_pattern"))
        assert len(cache) == setting.num_layers
        return cache

    return {"TransformerLens, all heads": with_weights}


def contenders(kind: str, setting: Setting) -> ForwardPasses:
    torch.manual_seed(0)
    ids = torch.randint(0, setting.vocab_size, (1, setting.seq_len))
    sizes = (setting.vocab_size, setting.d_model, setting.num_layers, setting.num_heads)
    if kind == "BERT":
        config = BertConfig(
            vocab_size=setting.vocab_size,
            hidden_size=setting.d_model,
            num_hidden_layers=setting.num_layers,
            num_attention_heads=setting.num_heads,
            intermediate_size=4 * setting.d_model,
            max_position_embeddings=setting.seq_len,
        )
        ours: TransformerModel = BERTModel(*sizes, max_seq_len=setting.seq_len).eval()
        theirs = hugging_face(
            lambda kernel: BertModel._from_config(config, attn_implementation=kernel).eval(), ids
        )
    else:
        gpt2 = GPT2Config(
            vocab_size=setting.vocab_size,
            n_embd=setting.d_model,
            n_layer=setting.num_layers,
            n_head=setting.num_heads,
            n_positions=setting.seq_len,
            bos_token_id=None,
            eos_token_id=None,
            use_cache=False,
        )
        ours = GPTModel(*sizes, max_seq_len=setting.seq_len).eval()
        theirs = hugging_face(
            lambda kernel: GPT2LMHeadModel._from_config(gpt2, attn_implementation=kernel).eval(), ids
        )
    return {**glassformer(ours, ids), **theirs, **transformer_lens(kind, setting, ids)}


@torch.no_grad()
def measure(kind: str, setting: Setting, rounds: int) -> dict[str, Any]:
    passes = contenders(kind, setting)
    measured = interleave({name: timed(run) for name, run in passes.items()}, rounds, warm_up=2)
    peaks = {name: memory_of(run, steps=1).tensors for name, run in passes.items()}
    rows = {
        name: {
            "milliseconds": quartiles([1000 * second for second in seconds])._asdict(),
            "times_plain": paired_ratio(seconds, measured.results[PLAIN])._asdict(),
            "peak_bytes": peaks[name],
            "added_over_maps": (peaks[name] - peaks[PLAIN]) / setting.map_bytes,
        }
        for name, seconds in measured.results.items()
    }
    return {"rows": rows, "disturbed": measured.disturbed, "rounds": rounds, "map_bytes": setting.map_bytes}


def table(kind: str, setting: Setting, figures: dict[str, Any]) -> Table:
    title = (
        f"{kind}, {setting.num_layers} layers x {setting.num_heads} heads, {setting.seq_len} tokens; weights "
        f"{setting.map_bytes / 2**20:.0f} MiB; {figures['disturbed']} of {figures['rounds']} rounds disturbed"
    )
    result = Table(title=title, title_justify="left")
    for column in ("", "ms", "x not recorded", "peak MiB", "added / maps"):
        result.add_column(column, justify="left" if not column else "right")
    for name, row in figures["rows"].items():
        ms, ratio = row["milliseconds"], row["times_plain"]
        result.add_row(
            name,
            f"{ms['median']:.0f} ({ms['low']:.0f} to {ms['high']:.0f})",
            f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})",
            f"{row['peak_bytes'] / 2**20:.0f}",
            f"{row['added_over_maps']:.2f}",
        )
    return result


def check_goals(figures: dict[str, Any]) -> list[str]:
    """Each goal with the measured value, and whether it is reached."""
    one, every = (figures["rows"][name] for name in (ONE_LAYER, ALL_HEADS))
    goals = [
        ("one layer, x not recorded", one["times_plain"]["median"], 1.05),
        ("all heads, x not recorded", every["times_plain"]["median"], 1.25),
        ("all heads, added memory / maps", every["added_over_maps"], 1.2),
    ]
    return [
        f"{what}: {value:.3f}, goal at most {goal}: {'reached' if value <= goal else 'NOT reached'}"
        for what, value, goal in goals
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, help="threads of PyTorch; default: its own choice")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument(
        "--smoke", action="store_true", help="use tiny sizes, to check that the benchmark runs"
    )
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    figures: dict[str, Any] = {}
    for kind, vocab_size in (("GPT-2", 50257), ("BERT", 30522)):
        setting = SMOKE if options.smoke else Setting(vocab_size=vocab_size)
        figures[kind] = measure(kind, setting, options.rounds)
        console().print(table(kind, setting, figures[kind]))
        console().print("\n".join(check_goals(figures[kind])))
    console().print(f"{machine()}")
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
