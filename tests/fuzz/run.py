"""Fuzzing of every reader: damaged files are read under limits of memory and time, and the outcomes counted.

python tests/fuzz/run.py --inputs 500            # of each reader; exit code 1 if there are faults
python tests/fuzz/run.py --only gguf --show 17   # repeat input 17 of a reader, with the traceback
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the process forks

import torch
from mutations import damage
from readers import Reader, build_readers

OUTCOMES = ("loads", "refused", "unnamed", "exception", "memory", "timeout", "crash")
FAULTS = OUTCOMES[2:]
"""A refusal without the file's name, another exception, too much memory or time, and a process that died."""
REFUSALS = (ValueError, TypeError, OSError)


def main() -> int:
    """Fuzz the readers and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=500, help="damaged files for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--memory", type=float, default=2, help="limit in GiB above what the process has at the start"
    )
    parser.add_argument("--timeout", type=float, default=20, help="seconds for one input")
    parser.add_argument("--only", default="", help="readers whose name contains this")
    parser.add_argument("--show", type=int, help="number of one input to repeat, with its traceback")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        readers = [reader for reader in build_readers(Path(name)) if options.only in reader.name]
        if options.show is not None:
            for reader in readers:
                print(f"{reader.name}, input {options.show}")
                print(outcome(reader, options.show, options.seed, show=True)[0])
            return 0
        for reader in readers:
            reader.read(reader.folder, reader.file)  # undamaged, it loads
        return fuzz(readers, options)


def fuzz(readers: list[Reader], options: argparse.Namespace) -> int:
    """Print a row of outcomes for each reader, and an example of each kind of fault."""
    width = max(len(reader.name) for reader in readers)
    print(f"{'reader':{width}} {'inputs':>7}", *(f"{name:>9}" for name in OUTCOMES), f"{'seconds':>8}")
    total: Counter[str] = Counter()
    for reader in readers:
        start = time.monotonic()
        results = run_forked(reader, options)
        counts = Counter(kind for kind, _ in results)
        total += counts
        row = (f"{counts[name]:9,}" for name in OUTCOMES)
        print(f"{reader.name:{width}} {len(results):7,}", *row, f"{time.monotonic() - start:8.1f}")
        shown: set[str] = set()
        for number, (kind, message) in enumerate(results):
            if kind in FAULTS and (key := kind + message[:40]) not in shown and len(shown) < 8:
                shown.add(key)
                print(f"    {kind}, input {number}: {message[:300]}")
        sys.stdout.flush()
    print(f"{'all':{width}} {total.total():7,}", *(f"{total[name]:9,}" for name in OUTCOMES))
    return int(any(total[name] for name in FAULTS))


def run_forked(reader: Reader, options: argparse.Namespace) -> list[tuple[str, str]]:
    """Outcome and message of every input, read in a child process that is replaced when it dies or hangs."""
    results: list[tuple[str, str]] = []
    original = reader.file.read_bytes()
    while len(results) < options.inputs:
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(receive)
            try:
                _work(reader, range(len(results), options.inputs), options, send)
            except BaseException:
                traceback.print_exc()
                os._exit(1)  # not through the blocks of the parent, which remove the samples
            os._exit(0)
        os.close(send)
        with os.fdopen(receive, "rb") as pipe:
            complete = _collect(pipe, results, options)
        if not complete:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not complete:
            results.append(("timeout", f"more than {options.timeout:g} s"))
        elif status and len(results) < options.inputs:
            results.append(("crash", f"the process ended with status {status}"))
    reader.file.write_bytes(original)
    return results


def _collect(pipe, results, options) -> bool:
    """Append the outcomes that a child sends; False if it takes too long for one."""
    rest = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], options.timeout)
        if not ready:
            return False
        data = os.read(pipe.fileno(), 65_536)
        if not data:
            return True
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            kind, _, message = line.decode("utf-8", "replace").partition("\t")
            results.append((kind, message))


def _work(reader: Reader, numbers: range, options: argparse.Namespace, send: int) -> None:
    """Body of the child."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + int(options.memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number in numbers:
        kind, message = outcome(reader, number, options.seed)
        os.write(send, f"{kind}\t{' '.join(message.split())[:1000]}\n".encode("utf-8", "replace"))


def outcome(reader: Reader, number: int, seed: int, show: bool = False) -> tuple[str, str]:
    """Read one damaged file; the input is a function of the seed, the reader and the number."""
    random = Random(f"{seed} {reader.name} {number}")
    original = reader.file.read_bytes()
    reader.file.write_bytes(damage(original, random))
    try:
        reader.read(reader.folder, reader.file)
    except REFUSALS as error:
        if show:
            traceback.print_exc()
        named = reader.in_memory or str(reader.folder) in str(error) or reader.file.name in str(error)
        return ("refused" if named else "unnamed"), f"{type(error).__name__}: {error}"
    except BaseException as error:  # a panic of a Rust library is no Exception
        if show:
            traceback.print_exc()
        out_of_memory = isinstance(error, MemoryError) or "allocate memory" in str(error)
        return ("memory" if out_of_memory else "exception"), f"{type(error).__name__}: {error}"
    finally:
        reader.file.write_bytes(original)
    return "loads", ""


if __name__ == "__main__":
    sys.exit(main())
