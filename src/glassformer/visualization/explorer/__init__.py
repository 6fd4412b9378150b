"""Interactive page with every attention head of a model, as one HTML file or in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.analysis.head_patterns import HeadReport
from glassformer.deprecation import renamed_arguments, renamed_attributes
from glassformer.files import PAGE_SUFFIXES, atomic_write, check_writable
from glassformer.models import TransformerModel
from glassformer.visualization.explorer.collect import (
    MAX_PAGE_SIZE,
    PageOptions,
    collect_contents,
    no_progress,
)
from glassformer.visualization.explorer.page import page_html
from glassformer.visualization.explorer.schema import Contents, with_head_labels
from glassformer.visualization.figures.head_map import check_head_report, load_head_report
from glassformer.visualization.model_input import Text

__all__ = [
    "Contents",
    "Explorer",
    "PageOptions",
    "check_page_path",
    "collect_contents",
    "explore",
    "no_progress",
    "page_html",
    "with_head_labels",
]

if not TYPE_CHECKING:
    __getattr__ = renamed_attributes(__name__, {"gather": "collect_contents", "silent": "no_progress"})


@dataclass(frozen=True, repr=False)
class Explorer:
    """An explorer page. Notebooks display it in a frame."""

    contents: Contents
    html: str
    path: Path | None = None
    """The file it was saved as."""

    def save(self, path: str | Path) -> Explorer:
        """Write the page atomically; missing folders are made."""
        path = check_page_path(path)
        atomic_write(path, self.html)
        return Explorer(self.contents, self.html, path)

    def _repr_html_(self) -> str:
        """The page in a sandboxed frame, so that several pages in a notebook are independent."""
        source = self.html.replace("&", "&amp;").replace('"', "&quot;")
        return (
            f'<iframe title="{escape(self.contents.heading)}" sandbox="allow-scripts allow-downloads" '
            'allow="clipboard-write" '
            'style="width: 100%; height: 56rem; max-height: 90vh; border: 1px solid #8888" '
            f'srcdoc="{source}"></iframe>'
        )

    def __repr__(self) -> str:
        path = "not saved" if self.path is None else str(self.path)
        return f"Explorer({self.contents.heading}; {len(self.html) / 1e6:.1f} MB, {path})"


@renamed_arguments(told="on_progress")
def explore(
    model: TransformerModel,
    text: Text | None = None,
    save_path: str | Path | None = None,
    *,
    heads_report: HeadReport | str | Path | None = None,
    **options: Any,
) -> Explorer:
    """Make a page with every attention head of a model on a text or an image.

    Args:
        model: any model; without a tokenizer, texts are read as bytes if the vocabulary allows it.
        text: the input, as text or token ids.
        save_path: the file to write, ending in .html. Default: none.
        heads_report: of an analysis of the model, or the path of its ``heads.json``; heads get their labels.
        options: fields of ``PageOptions``: ``image``, ``target_text``, ``kind``, ``layers``, ``name``,
            ``analyses``, ``faithfulness``, ``theme``, ``live``, ``force``, ``on_progress``.

    Raises:
        ValueError: if the input is empty, a layer or kind does not exist, the page takes more than 100 MB,
            the path does not end in .html, the report is of another model, or ``live`` is given and the page
            cannot compute the model.
        TypeError: if the model cannot read inputs of this type.
        OSError: if the path cannot be written to; checked before the model runs.
    """
    if save_path is not None:
        check_page_path(save_path)
    report = None if heads_report is None else load_head_report(heads_report)
    if report is not None:
        check_head_report(model, report, complete=False)
    contents = collect_contents(model, text, **options)
    if report is not None:
        contents = with_head_labels(contents, report)
    page = Explorer(contents, page_html(contents))
    if len(page.html) > MAX_PAGE_SIZE and not options.get("force"):
        raise ValueError(
            f"The page would be {len(page.html) / 1e6:.0f} MB: choose fewer layers, a shorter text, or force."
        )
    return page if save_path is None else page.save(save_path)


def check_page_path(path: str | Path) -> Path:
    """Check that a page can be written to a path; missing folders are made.

    Raises:
        ValueError: if the path does not end in .html.
        OSError: if the folder cannot be made or written to, or the path is a folder.
    """
    return check_writable(path, PAGE_SUFFIXES, "page")
