"""The explorer: every head of a model in one HTML file that opens offline, or in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from glassformer.analysis.head_report import HeadReport
from glassformer.analysis.images import Picture as ImageSource
from glassformer.files import atomic_write
from glassformer.models import TransformerModel
from glassformer.visualization.arguments import as_given, whole_number
from glassformer.visualization.explorer.contents import Contents
from glassformer.visualization.explorer.gathering import LARGEST, Text, gather, silent
from glassformer.visualization.explorer.naming import with_names
from glassformer.visualization.explorer.page import page_html
from glassformer.visualization.measured import check_of_model, report_from
from glassformer.visualization.writing import check_folder

__all__ = ["Contents", "Explorer", "check_page_path", "explore", "gather", "page_html", "silent"]


@dataclass(frozen=True, repr=False)
class Explorer:
    """A page. A notebook shows it where it stands: as a frame of its own, so that several do not meet."""

    contents: Contents
    html: str
    path: Path | None = None
    """Where it was written."""

    def save(self, path: str | Path) -> Explorer:
        """Write the page, whole or not at all; the folder is made if it is missing."""
        path = check_page_path(path)
        atomic_write(path, self.html)
        return Explorer(self.contents, self.html, path)

    def _repr_html_(self) -> str:
        """The page in a frame that may run its own script, and reach nothing around it."""
        return (
            f'<iframe title="{escape(self.contents.heading)}" sandbox="allow-scripts allow-downloads" '
            'allow="clipboard-write" '
            'style="width: 100%; height: 56rem; max-height: 90vh; border: 1px solid #8888" '
            f'srcdoc="{_in_quotes(self.html)}"></iframe>'
        )

    def __repr__(self) -> str:
        where = "not written" if self.path is None else str(self.path)
        return f"Explorer({self.contents.heading}; {len(self.html) / 1e6:.1f} MB, {where})"


def _in_quotes(html: str) -> str:
    """As the value of an attribute in double quotes, in which nothing else means anything."""
    return html.replace("&", "&amp;").replace('"', "&quot;")


def explore(
    model: TransformerModel,
    text: Text | None = None,
    save_path: str | Path | None = None,
    *,
    image: ImageSource | None = None,
    target_text: Text | None = None,
    kind: str | None = None,
    layers: Sequence[int] | None = None,
    name: str | None = None,
    heads_report: HeadReport | str | Path | None = None,
    analyses: bool = True,
    faithfulness: bool | None = None,
    force: bool = False,
    told: Callable[[str], object] = silent,
) -> Explorer:
    """Every head of a model on a text, or an image, as one page.

    Args:
        model: with a tokenizer; without one, texts are read as bytes where the vocabulary allows it.
        text: what it reads, or token ids.
        save_path: where the page is written, ending in .html; by default it is only shown in a notebook.
        image: instead of a text, for a model of images: as ``analysis.read_image`` takes it.
        target_text: what an encoder-decoder writes; by default what it writes by itself.
        kind: of attention; by default all kinds, and the page switches between them.
        layers: numbers; default all.
        name: what the page calls the model; by default its class.
        heads_report: of an analysis, or the ``heads.json`` that it was saved as: heads are given its names.
        analyses: whether the page has logit lens, rollout and scores in parts.
        faithfulness: whether rollouts are put to a deletion test, which reads the text some hundred times.
            Default: as thorough a test as takes some seconds, if any does.
        force: whether a page of more than 100 MB is wanted.
        told: called with what is done now, in words.

    Raises:
        ValueError: an empty text, a layer or kind that does not exist, a page of more than 100 MB, a suffix
            that is not .html, a report of another model.
        TypeError: a model that does not read what it is given.
        OSError: the place cannot be written to; known before the work.
    """
    if save_path is not None:
        check_page_path(save_path)
    if image is not None and (text is not None or target_text is not None):
        raise ValueError("a model reads a text or an image: give one of them")
    report = None if heads_report is None else report_from(heads_report)
    if report is not None:
        check_of_model(model, report, whole=False)
    if layers is not None:
        layers = [whole_number(layer, "a layer") for layer in layers]
    if text is not None:
        text, target_text = as_given(text, target_text)
    contents = gather(
        model,
        text,
        image=image,
        target_text=target_text,
        kind=kind,
        layers=layers,
        name=name,
        analyses=analyses,
        faithfulness=faithfulness,
        force=force,
        told=told,
    )
    if report is not None:
        contents = with_names(contents, report)
    page = Explorer(contents, page_html(contents))
    if not force and len(page.html) > LARGEST:
        raise ValueError(
            f"the page would be {len(page.html) / 1e6:.0f} MB: choose layers, give a shorter text, or "
            "force it"
        )
    return page if save_path is None else page.save(save_path)


def check_page_path(path: str | Path) -> Path:
    """Make sure, before any work, that a page can be written there; its folder is made if it is missing.

    Raises:
        ValueError: a suffix that is not .html.
        OSError: the folder cannot be made or written to, or the path is a folder itself.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name the page that is to be written")
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"a page is saved as .html, not {path.suffix or path.name!r}")
    check_folder(path.parent)
    return path
