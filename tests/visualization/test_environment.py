"""Figures on machines without fonts, without a home folder, and with another locale and time zone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
WRITE_FONT_LIST = """
from matplotlib import font_manager
find = font_manager.findSystemFonts
font_manager.findSystemFonts = lambda paths=None, fontext="ttf": find(paths, fontext) if paths else []
manager = font_manager._load_fontmanager(try_read_cache=False)
assert {entry.name for entry in manager.ttflist} >= {"DejaVu Sans"}
"""
DRAW = """
import json, sys, warnings
from pathlib import Path
warnings.simplefilter("error")
import matplotlib
from matplotlib.font_manager import fontManager
inside = Path(matplotlib.get_data_path())
assert all(inside in (inside / entry.fname).parents for entry in fontManager.ttflist)
import torch
from glassformer.models import GPTModel
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization import AttentionVisualizer, draw_loss_curve, save_figure
torch.manual_seed(0)
model = GPTModel(257, 24, 2, 4, max_seq_len=80)
model.tokenizer = ByteTokenizer()
visualizer, folder = AttentionVisualizer(model, "模型"), Path(sys.argv[1])
figures = [
    visualizer.plot_attention_heads("a\\r\\n\\t漢 שלום", 0, folder / "heads.png"),
    visualizer.plot_head("a\\r漢", 1, 0, folder / "head.svg"),
    visualizer.plot_rollout("a\\r漢", save_path=folder / "rollout.png"),
    visualizer.plot_logit_lens("a\\r漢", folder / "lens.pdf"),
]
save_figure(draw_loss_curve([
    {"step": 0, "validation_loss": 4.0, "validation_bits_per_byte": 2.0}, {"step": 1, "loss": 3.5},
], {"模型": 2.2}), folder / "loss.png")
texts = [" ".join(text.get_text() for text in figure.texts) for figure in figures]
print(json.dumps([" ".join(text.split()) for text in texts]))
"""


def bare_environment(folder):
    """Variables of a machine that has only matplotlib's fonts, and nothing in its font cache."""
    inherited = {"PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"}
    variables = {name: value for name, value in os.environ.items() if name in inherited}
    (folder / "fonts.conf").write_text("<fontconfig/>")
    variables |= {"FONTCONFIG_FILE": str(folder / "fonts.conf"), "MPLCONFIGDIR": str(folder)}
    variables |= {"LC_ALL": "C", "TZ": "Pacific/Kiritimati", "HOME": "/nonexistent", "OMP_NUM_THREADS": "1"}
    run(["-c", WRITE_FONT_LIST], variables)
    assert list(folder.glob("fontlist-*.json"))
    return variables


def run(arguments, variables):
    command = [sys.executable, "-W", "error::UserWarning", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, env=variables, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_figures_are_drawn_with_the_fonts_of_matplotlib_alone(tmp_path):
    output = run(["-X", "utf8", "-c", DRAW, str(tmp_path)], bare_environment(tmp_path))
    titles = json.loads(output.splitlines()[-1])
    assert all("U+6A21 U+578B: GPT, 2 layers x 4 heads" in texts for texts in titles)
    assert "U+240D a carriage return" in titles[0]
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.stem in ("heads", "head", "lens")) == [
        *(".pdf", ".png", ".svg")
    ]


def test_the_tests_of_figures_pass_on_a_bare_machine(tmp_path):
    files = [f"tests/visualization/figures/test_{name}.py" for name in ("style", "layout", "head_map")]
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *files]
    assert " passed" in run(arguments, bare_environment(tmp_path))
