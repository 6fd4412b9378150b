"""Curves for TensorBoard, if it is there."""

import sys
from types import SimpleNamespace

import pytest

from glassformer.training.tensorboard_log import TensorBoardLog


def test_without_the_package_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'glassformer\[tensorboard\]'"):
        TensorBoardLog(tmp_path)


def test_every_metric_is_a_curve(tmp_path, monkeypatch):
    calls = []

    class Writer:
        def __init__(self, folder, purge_step):
            calls.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            calls.append((name, value, step))

        def flush(self):
            calls.append("flush")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    TensorBoardLog(tmp_path, first_step=3).append({"step": 4, "loss": 1.5})
    assert calls == [(str(tmp_path), 3), ("loss", 1.5, 4), "flush"]
