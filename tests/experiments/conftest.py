"""Planted functions of runs, which the processes of a sweep can import, and the results of a sweep."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest


@pytest.fixture
def planted(monkeypatch):
    """Let runs name the functions of ``planted.py``, in this process and in workers."""
    folder = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(folder)
    paths = [folder, *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


@pytest.fixture
def values_of():
    """A function that reads the value of each run of a sweep, by the name of the run."""

    def values(folder):
        files = sorted(folder.glob("*/result.json"))
        return {path.parent.name: json.loads(path.read_text())["value"] for path in files}

    return values
