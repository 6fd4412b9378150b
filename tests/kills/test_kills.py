"""A few kills of the faster commands; all of them: python tests/kills/run.py."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_killed_commands_lose_nothing_and_leave_nothing():
    script = Path(__file__).with_name("run.py")
    command = [sys.executable, str(script), "--kills", "6", "--only", "train", "tokenize", "prune"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "6 kills, 0 losses and leftovers"
