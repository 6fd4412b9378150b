"""One HTML file with everything in it: no request leaves it, and nothing in it runs but its one module."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from glassformer.visualization.explorer.contents import Contents

MODULES = (
    "labels.js",
    "data.js",
    "colours.js",
    "painter.js",
    "heading.js",
    "state.js",
    "heads_view.js",
    "map_layout.js",
    "profiles.js",
    "map_view.js",
    "by_head_view.js",
    "flow_view.js",
    "lines_view.js",
    "token_strip.js",
    "image_view.js",
    "guesses_view.js",
    "score_view.js",
    "scene.js",
    "panel.js",
    "export.js",
    "keys.js",
    "moving.js",
    "controls.js",
    "surface.js",
    "explorer.js",
)
"""In the order in which they are joined: each uses only those before it, and what is called later."""


def page_html(contents: Contents) -> str:
    """The page as HTML, in ASCII: every other character of a text is written as an escape.

    Texts stand in JSON only, where ``<``, ``>`` and ``&`` are escaped too, and the module puts them on the
    page as text. The Content-Security-Policy lets nothing run but that module, and nothing be fetched at all.
    """
    blocks: dict[str, str] = {}
    header = _data_in_blocks(contents.as_json(), blocks)
    script, css = module(), style()
    scripts = "\n".join(
        f'<script type="text/plain" id="{name}">{data}</script>' for name, data in blocks.items()
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy()}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{_text(contents.heading)}</title>\n<style>{css}</style>\n</head>\n<body>\n"
        "<noscript>This page draws its pictures with JavaScript, which is switched off here.</noscript>\n"
        '<main id="explorer"><p>The page is unpacking its pictures. If this stays, the browser is too old: '
        "one of 2023 or later can show them.</p></main>\n"
        f'<script type="application/json" id="contents">{_json(header)}</script>\n{scripts}\n'
        f'<script type="module">{script}</script>\n</body>\n</html>\n'
    )


@cache
def policy() -> str:
    """The Content-Security-Policy of a page, which a server can send along, too."""
    return (
        f"default-src 'none'; script-src '{_hash(module())}'; style-src '{_hash(style())}'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


@cache
def module() -> str:
    """The page's one module: its files in order, joined without a build step."""
    return "\n".join(_joined(name) for name in MODULES)


@cache
def style() -> str:
    """The page's style sheet."""
    return _own_file("explorer.css")


def _joined(name: str) -> str:
    """A file as a scope of its own, which gives what it exported to those after it."""
    source = re.sub(r"^import [^;]*;\n", "", _own_file(name), flags=re.MULTILINE)
    exported = ", ".join(
        re.findall(r"^export (?:async )?(?:function|class|const) (\w+)", source, re.MULTILINE)
    )
    body = re.sub(r"^export (?=\w)", "", source, flags=re.MULTILINE)
    given = f"const {{ {exported} }} = " if exported else ""
    return f"{given}(() => {{\n{body}return {{ {exported} }};\n}})();"


def _own_file(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _data_in_blocks(value: Any, blocks: dict[str, str]) -> Any:
    """A copy in which long packed data are names of blocks, to be read one by one when they are needed."""
    if isinstance(value, list):
        return [_data_in_blocks(item, blocks) for item in value]
    if not isinstance(value, dict):
        return value
    copy = {name: _data_in_blocks(item, blocks) for name, item in value.items()}
    if isinstance(value.get("data"), str):
        name = f"block-{len(blocks)}"
        blocks[name] = copy.pop("data")
        copy["block"] = name
    return copy


def _json(value: Any) -> str:
    """JSON in ASCII that no HTML parser can take for an end of the script, or a beginning of a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _text(text: str) -> str:
    """Text in HTML: in ASCII, a lone surrogate or a control character as U+FFFD."""
    clean = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text)
    return escape(clean).encode("ascii", "xmlcharrefreplace").decode("ascii")


def _hash(text: str) -> str:
    """How a Content-Security-Policy names what may be used."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"
