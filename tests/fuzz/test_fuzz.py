"""A short run of the fuzzer: a damaged file is loaded, or refused with its name, and does nothing else."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

RUN = Path(__file__).with_name("run.py")
damage = runpy.run_path(str(RUN.with_name("mutations.py")))["damage"]


@pytest.mark.slow
def test_damaged_files_are_loaded_or_refused_by_name():
    done = subprocess.run([sys.executable, RUN, "--inputs", "20"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    *rows, total = done.stdout.splitlines()[1:]
    assert len(rows) >= 50
    loads, refused = map(int, total.replace(",", "").split()[2:4])
    assert loads > 100
    assert refused > 500


@pytest.mark.parametrize("content", [b"", b"{}", b'{"a": [1, {"b": "c"}]}', b"a\tb\n", bytes(range(256))])
def test_damage_is_a_function_of_the_content_and_the_seed(content):
    copies = [[damage(content, Random(seed)) for seed in range(50)] for _ in range(2)]
    assert copies[0] == copies[1]
    assert len(set(copies[0])) > 10
