"""Speed of token-by-token generation, compared with Hugging Face's ``generate`` and with inference engines.

    python benchmarks/decoding.py                      # GPT-2 124M, prompt 512, 64 new tokens, batch 1 and 8
    python benchmarks/decoding.py --rounds 10 --json decoding.json
    python benchmarks/decoding.py --batch-sizes 8 --weights int8 --rounds 3 --no-growth

All have the same random weights and a cache, and must generate the same tokens greedily in float32; for the
engines and for int8 the share of equal tokens is reported (random weights make it low for int8: their most
probable tokens are hardly more probable than others). Engines that are not installed are skipped: ``pip
install --group engines``. Each call generates all tokens and records the time of each: prefill is the time
until the first new token, decoding the mean time between the following ones. Each library runs in a process
of its own, and generates once without timing before each timed call; contenders alternate, and ratios are
taken within a round.

The limit is the time of reading the weights once, which each token needs: their bytes over the rate of
summing as many in the same rounds. The caches of keys and values are not counted.

Two figures are of glassformer alone. The overhead besides the products is the time of a token of a model
with d_model 12. Growth is, with as many new tokens as the prompt has, the median time of the last 32 tokens
divided by that of the first 32 after the prefill.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import timing
import torch
from decoding_goals import goal_lines
from engines import ENGINES
from gpt2_models import SMOKE, Setting, models, weights_read
from own_process import OwnProcess
from rich.table import Table
from timed_generation import (
    OURS,
    THEIRS,
    Generate,
    TimedTokens,
    from_lists,
    glassformer,
    hugging_face,
    milliseconds,
    second_run_as_lists,
)
from timing import Rounds, console, goal_line, interleave, machine, paired_ratio, timed, write_json
from torch import Tensor

from glassformer import optimize_for_inference

WEIGHTS = ("float32", "int8")
BYTES = {"float32": 4, "int8": 1}
READING = "reading the weights"
OVERHEAD_GOAL = 0.8
"""Milliseconds for a token of 12 layers, besides the products."""
EDGE = 32
"""Number of tokens at the start and at the end whose times are compared for growth."""


class Contender(NamedTuple):
    library: str
    weights: str
    is_optimized: bool = False


def contenders(formats: Sequence[str], engines: Sequence[str]) -> dict[str, Contender]:
    """Return all contenders by name."""
    found = {THEIRS: Contender(THEIRS, "float32"), OURS: Contender(OURS, "float32")}
    for weights in formats:
        found[f"{OURS}, optimized, {weights}"] = Contender(OURS, weights, is_optimized=True)
        found |= {f"{name}, {weights}": Contender(name, weights) for name in engines}
    return found


def functions_of(
    contenders: Mapping[str, Contender], setting: Setting, batch_size: int, threads: int, folder: Path
) -> dict[str, Callable[[], Any]]:
    """The contenders of a library, for a process of its own: ids and seconds of new tokens."""
    torch.set_num_threads(threads)
    ours, theirs = models(setting)
    prompt, new = prompt_of(setting, batch_size), setting.new

    def run(contender: Contender) -> Generate:
        if contender.library == THEIRS:
            return hugging_face(theirs, prompt, new)
        if contender.library == OURS:
            model = optimize_for_inference(ours, contender.weights) if contender.is_optimized else ours
            return glassformer(model, prompt, new)
        engine = ENGINES[contender.library]
        return engine.contender(theirs, contender.weights, prompt, new, threads, folder)

    return {name: second_run_as_lists(run(contender)) for name, contender in contenders.items()}


def prompt_of(setting: Setting, batch_size: int) -> Tensor:
    """Return random tokens ``(batch, prompt)``."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(setting.vocab_size, (batch_size, setting.prompt), generator=generator)


def compare(
    contenders: dict[str, Contender],
    setting: Setting,
    batch_size: int,
    rounds: int,
    threads: int,
    folder: Path,
) -> dict[str, Any]:
    """Measure prefill and decoding of all contenders, and check the tokens of those in float32.

    Args:
        contenders: contenders by name.
        setting: sizes of the model, the prompt and the new tokens.
        batch_size: number of prompts.
        rounds: number of rounds.
        threads: number of threads of each contender.
        folder: for the engines' files of the model.

    """
    weights = weights_read(setting)
    buffer = torch.ones(weights)
    with ExitStack() as stack:
        runs: dict[str, Callable[[], Any]] = {READING: fastest_of_three(timed(buffer.sum))}
        for library in dict.fromkeys(contender.library for contender in contenders.values()):
            own = {name: each for name, each in contenders.items() if each.library == library}
            process = OwnProcess(functions_of, own, setting, batch_size, threads, folder)
            stack.enter_context(process)
            runs |= {name: from_lists(process.function(name)) for name in own}
        turns = interleave(runs, rounds)
    reading = turns.results.pop(READING)
    expected = turns.results[THEIRS][0].ids
    for name, contender in contenders.items():
        exact = contender.library == OURS and contender.weights == "float32"
        if exact and not all(torch.equal(run.ids, expected) for run in turns.results[name]):
            raise SystemExit(
                f"{name} and {THEIRS} generated different tokens, so their times cannot be compared"
            )
    rows = summarize(turns)
    for name, contender in contenders.items():
        share = (turns.results[name][0].ids == expected).float().mean()
        rows[name] |= {
            "library": contender.library,
            "weights": contender.weights,
            "same_tokens": float(share),
        }
    return {
        "batch_size": batch_size,
        "rows": rows,
        "gigabytes_per_second": 4 * weights / median(reading) / 1e9,
        "limit_milliseconds": {kind: median(reading) * 1e3 * BYTES[kind] / 4 for kind in WEIGHTS},
        "goals": goal_lines(turns, contenders, batch_size),
        "rounds": rounds,
        "disturbed_rounds": turns.disturbed,
    }


def fastest_of_three(measure: Callable[[], float]) -> Callable[[], float]:
    """Return a function that measures three times and returns the shortest time."""
    return lambda: min(measure() for _ in range(3))


def summarize(rounds: Rounds[TimedTokens]) -> dict[str, dict[str, Any]]:
    """Return the times of all contenders, and their speed relative to Hugging Face's."""
    prefill = {name: [run.prefill for run in runs] for name, runs in rounds.results.items()}
    per_token = {name: [run.per_token for run in runs] for name, runs in rounds.results.items()}
    return {
        name: {
            "prefill_milliseconds": milliseconds(prefill[name]),
            "milliseconds_per_token": milliseconds(per_token[name]),
            "prefill_speed_relative_to_hugging_face": paired_ratio(prefill[THEIRS], prefill[name]),
            "decoding_speed_relative_to_hugging_face": paired_ratio(per_token[THEIRS], per_token[name]),
        }
        for name in rounds.results
    }


def run_ours(
    contenders: dict[str, Contender], setting: Setting, rounds: int, threads: int
) -> Rounds[TimedTokens]:
    """Run contenders of this library, for one sequence."""
    with OwnProcess(functions_of, contenders, setting, 1, threads, Path()) as process:
        return interleave({name: from_lists(process.function(name)) for name in contenders}, rounds)


def growth(setting: Setting, rounds: int, threads: int) -> dict[str, Any]:
    """Measure how much longer the last tokens take than the first."""
    long = setting._replace(new=setting.prompt)
    turns = run_ours({OURS: Contender(OURS, "float32")}, long, rounds, threads)
    first = [median(run.seconds[1 : EDGE + 1]) for run in turns.results[OURS]]
    last = [median(run.seconds[-EDGE:]) for run in turns.results[OURS]]
    return {
        "first_milliseconds": milliseconds(first),
        "last_milliseconds": milliseconds(last),
        "last_over_first": paired_ratio(last, first),
        "rounds": rounds,
        "disturbed_rounds": turns.disturbed,
    }


def overhead(setting: Setting, formats: Sequence[str], rounds: int, threads: int) -> dict[str, Any]:
    """Measure the time of a token of a model whose products take next to none."""
    narrow = setting._replace(vocab_size=64, d_model=12, num_heads=2)
    found = {name: each for name, each in contenders(formats, []).items() if each.library == OURS}
    turns = run_ours(found, narrow, rounds, threads)
    return {
        "milliseconds": {
            name: milliseconds([run.per_token for run in runs]) for name, runs in turns.results.items()
        },
        "rounds": rounds,
        "disturbed_rounds": turns.disturbed,
    }


def show(figures: dict[str, Any], setting: Setting) -> None:
    """Print a table for each batch size, the goals, the growth and the machine."""
    out = console()
    for batch in figures["batches"]:
        title = f"Batch {batch['batch_size']}, prompt {setting.prompt}, {setting.new} new tokens"
        table = Table(title=f"{title} (median, quartiles)")
        columns = ("", "prefill, ms", "decoding, ms/token", f"x {THEIRS}", "x limit", "same tokens")
        for column in columns:
            table.add_column(column, justify="right" if column else "left", no_wrap=not column)
        for name, row in batch["rows"].items():
            token = row["milliseconds_per_token"]
            table.add_row(
                name,
                f"{row['prefill_milliseconds']:.0f}",
                f"{token:.1f}",
                f"{row['decoding_speed_relative_to_hugging_face']:.2f}",
                f"{token[1] / batch['limit_milliseconds'][row['weights']]:.2f}",
                f"{row['same_tokens']:.0%}",
            )
        out.print(table)
        limits = ", ".join(f"{kind} {value:.2g} ms" for kind, value in batch["limit_milliseconds"].items())
        out.print(f"Limit: {batch['gigabytes_per_second']:.1f} GB/s; the weights are read once in {limits}")
        for line in batch["goals"]:
            out.print(line, highlight=False)
    for name, packages in figures["skipped"].items():
        out.print(f"{name} skipped: not installed ({', '.join(packages)})", highlight=False)
    everything = [*figures["batches"], figures["overhead"]]
    for name, value in figures["overhead"]["milliseconds"].items():
        line = goal_line(f"overhead per token, {name}, ms", value.median, at_most=OVERHEAD_GOAL)
        out.print(line, highlight=False)
    if grown := figures["growth"]:
        everything.append(grown)
        out.print(
            f"Growth: {grown['first_milliseconds']:.1f} ms per token after the prompt, "
            f"{grown['last_milliseconds']:.1f} ms after {setting.prompt} new tokens "
            f"({grown['last_over_first']:.2f} times as long)"
        )
    disturbed, rounds = (sum(part[key] for part in everything) for key in ("disturbed_rounds", "rounds"))
    out.print(f"Disturbed rounds: {disturbed} of {rounds}; {machine()}")


def main() -> None:
    """Parse the options, run the benchmark and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--new", type=int, help="number of new tokens (default: 64)")
    parser.add_argument("--weights", nargs="+", choices=WEIGHTS, default=WEIGHTS, help="formats of weights")
    parser.add_argument(
        "--engines", nargs="*", choices=[*ENGINES], metavar="NAME", default=[*ENGINES], help="default: all"
    )
    parser.add_argument("--no-growth", action="store_true", help="leave out the growth over many tokens")
    parser.add_argument("--folder", type=Path, help="keep the engines' files of the model here")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, for a quick test")
    parser.add_argument("--json", type=Path, help="also write all results to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.smoke:
        timing.BUSY_SECONDS = 0
    setting = SMOKE if arguments.smoke else Setting()
    setting = setting._replace(new=arguments.new or setting.new)
    missing = {name: ENGINES[name].packages for name in arguments.engines if ENGINES[name].missing()}
    engines = [name for name in arguments.engines if name not in missing]
    with ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        batches = []
        for size in arguments.batch_sizes:
            found = contenders(arguments.weights, engines)
            batches.append(compare(found, setting, size, arguments.rounds, arguments.threads, folder))
    figures: dict[str, Any] = {
        "setting": setting._asdict(),
        "batches": batches,
        "skipped": missing,
        "overhead": overhead(setting, arguments.weights, arguments.rounds, arguments.threads),
        "growth": None
        if arguments.no_growth
        else growth(setting, max(1, arguments.rounds // 2), arguments.threads),
    }
    show(figures, setting)
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
