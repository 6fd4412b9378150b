"""The documentation covers the library, and its files exist."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from glassformer.cli.arguments import RENAMED_OPTIONS

ROOT = Path(__file__).parents[2]
PAGES = {
    **{name: [name] for name in ("attention", "positions", "layers", "tokenization", "generation", "models")},
    **{name: [name] for name in ("data", "pretrained", "training")},
    "analysis": ["analysis", "analysis.head_patterns", "analysis.behaviors"],
    "visualization": ["visualization", "visualization.explorer", "visualization.server"],
}
"""Packages by the page of the API reference that documents them."""


@pytest.mark.parametrize("page", PAGES)
def test_the_api_reference_has_every_public_name(page):
    text = (ROOT / f"docs/api/{page}.md").read_text("utf-8")
    documented = set(re.findall(r"^\.\. auto\w+:: (?:[\w.]+\.)?(\w+)$", text, re.MULTILINE))
    for package in PAGES[page]:
        assert set(import_module(f"glassformer.{package}").__all__) <= documented


def test_every_file_that_the_architecture_page_names_exists():
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    paths = set(re.findall(r"`((?:\w+/)*(?:\w+/|\w+\.py))`", text))
    assert len(paths) > 50
    missing = [path for path in paths if not (ROOT / path).exists() and not any((ROOT / "src").rglob(path))]
    assert not missing


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    links = re.findall(r"\]\(([\w/.-]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_the_command_line_page_lists_every_renamed_option():
    text = (ROOT / "docs/guides/command_line.md").read_text("utf-8")
    for command, options in RENAMED_OPTIONS.items():
        for old, new in options.items():
            assert f"| `{command}` | `{old}` | `{new}` |" in text
