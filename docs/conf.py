"""Configuration of the documentation: Sphinx, MyST and Furo. Build it with ``make docs``."""

from __future__ import annotations

import logging
import os
import re
from importlib import import_module
from importlib.metadata import version as version_of
from typing import Any

project = "glassformer"
author = "The glassformer authors"
version = release = version_of("glassformer")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["attrs_block", "colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "glassformer"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False

# Pages with code cells are executed at every build, and an error stops it.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
nb_render_markdown_format = "gfm"  # the pages of studies print tables
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
logging.getLogger("traitlets").setLevel(logging.WARNING)

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
autodoc_type_aliases = {"Mask": "glassformer.contracts.Mask", "Cache": "glassformer.contracts.Cache"}
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Names that a package imports when they are first used, which autodoc would not find.
for package in ("glassformer", "glassformer.training"):
    module = import_module(package)
    for name in module.__all__:
        setattr(module, name, getattr(module, name))


def escape_bars(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep ``|x|`` in a formula from being read as a substitution of reStructuredText."""
    for number, line in enumerate(lines):
        segments = line.split("``")  # every second one is code
        segments[::2] = [segment.replace("|", "\\|") for segment in segments[::2]]
        lines[number] = "``".join(segments)


def link_aliases(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Show the names of ``autodoc_type_aliases``, which Sphinx wraps in an object, as links."""
    alias = re.compile(r"TypeAliasForwardRef\('([\w.]+)'\)")
    return signature and alias.sub(r"~\1", signature), returns and alias.sub(r"~\1", returns)


def setup(app: Any) -> None:
    """Connect the hooks."""
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-process-signature", link_aliases)
