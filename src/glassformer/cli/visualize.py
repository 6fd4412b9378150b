"""``glassformer visualize``: figures of attention heads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from glassformer.cli.arguments import Command, check_exclusive, check_image

if TYPE_CHECKING:
    from glassformer.visualization import AttentionVisualizer

DEFAULT_TEXT = "The cat sat on the mat because it was tired."


@dataclass
class Visualize(Command):
    """Draw attention heads on a text or image, attributions of the answer, or a map of head patterns."""

    target: Annotated[str, tyro.conf.Positional]
    """Folder of a model, or of a run (its best checkpoint is used), a .gguf file, or a name on the hub."""
    text: str | None = None
    """Input text. Default: a sentence."""
    target_text: str | None = None
    """Target of an encoder-decoder. Default: what it generates."""
    kind: str | None = None
    """Kind of attention of an encoder-decoder: encoder, decoder or cross. Default: all of them."""
    image: Path | None = None
    """Input image of a vision transformer; draws the attention of the class token over it."""
    layer: int | None = None
    """Layer to draw, from 0. Default: every layer, in a figure of its own."""
    head: int | None = None
    """Draw one large head of the layer. Default: all of them side by side."""
    rollout: bool = False
    """Instead, draw how much each input token contributed to the answer, by attention rollout."""
    logit_lens: bool = False
    """Instead, draw the most likely token after each layer."""
    position: int | None = None
    """With --rollout: the position of the answer; negative ones count from the end. Default: the last one."""
    patterns: str | None = None
    """Instead, measure head patterns on this data (file, folder, .jsonl, or sotu) and draw a map of them."""
    max_texts: int = 200
    """With --patterns: the number of paragraphs to read at most."""
    output: Path = Path("attention.png")
    """File to write, as .png, .svg or .pdf. Several figures add -layer0, -cross-layer0, ... to its name."""

    @property
    def input_text(self) -> str:
        """The given text, or a sentence."""
        return DEFAULT_TEXT if self.text is None else self.text

    def run(self) -> None:
        """Draw, and print the paths of the figures."""
        from glassformer.attention import attentions_of
        from glassformer.choices import choose
        from glassformer.cli.resolve_model import load_model, model_name
        from glassformer.data import Corpus
        from glassformer.data.corpora import first_paragraphs
        from glassformer.visualization import AttentionVisualizer, check_writable

        if self.max_texts < 1:
            raise ValueError(f"--max-texts must be at least 1, got {self.max_texts}.")
        if self.rollout + self.logit_lens + (self.patterns is not None) > 1:
            raise ValueError("--rollout, --logit-lens and --patterns are different figures: choose one.")
        if self.position is not None and not self.rollout:
            raise ValueError("--position needs --rollout.")
        if self.head is not None and self.layer is None:
            raise ValueError("--head needs --layer.")
        self.check_conflicts()
        check_writable(self.output)
        if self.image is not None:
            check_image(self.image)
        model = load_model(self.target)
        visualizer = AttentionVisualizer(model, model_name(self.target))
        if self.patterns is not None:
            texts = Corpus(self.patterns, (1, 0, 0)).texts("train")
            visualizer.analyze_head_patterns(first_paragraphs(texts, self.max_texts), save_path=self.output)
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

    def check_conflicts(self) -> None:
        """Raise a ValueError for options that have no effect beside others."""
        conflicts = {
            "image": ("text", "target_text", "kind", "head", "logit_lens", "patterns"),
            "logit_lens": ("layer", "head", "kind"),
            "rollout": ("layer", "head", "kind"),
            "patterns": ("text", "target_text", "layer", "head", "kind"),
        }
        for option, others in conflicts.items():
            if getattr(self, option):
                check_exclusive(self, f"--{option.replace('_', '-')}", others)

    def draw_through_layers(self, visualizer: AttentionVisualizer) -> None:
        """Draw the logit lens or the rollout."""
        if self.logit_lens:
            visualizer.plot_logit_lens(self.input_text, self.output, target_text=self.target_text)
        else:
            example = self.input_text if self.image is None else self.image
            visualizer.plot_rollout(example, self.position, self.output, target_text=self.target_text)

    def draw(self, visualizer: AttentionVisualizer, kind: str, layer: int, path: Path) -> None:
        """Draw one layer, or one head."""
        if self.image is not None:
            visualizer.plot_vit_attention(self.image, layer, path)
        elif self.head is not None:
            visualizer.plot_head(
                self.input_text, layer, self.head, path, kind=kind, target_text=self.target_text
            )
        else:
            visualizer.plot_attention_heads(
                self.input_text, layer, path, kind=kind, target_text=self.target_text
            )
