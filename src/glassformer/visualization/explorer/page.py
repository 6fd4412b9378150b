"""Assembly of an explorer page as one self-contained HTML file.

The page makes no requests, and its Content-Security-Policy lets only its own module run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from glassformer.visualization.explorer.schema import Contents

MODULES = (
    "text.js",
    "vectors.js",
    "data.js",
    "colors.js",
    "painter.js",
    "heading.js",
    "state.js",
    "head_rows.js",
    "heads_view.js",
    "words.js",
    "text_layout.js",
    "head_strips.js",
    "text_view.js",
    "map_layout.js",
    "profiles.js",
    "map_view.js",
    "by_head_view.js",
    "rollout_view.js",
    "lines_view.js",
    "token_strip.js",
    "image_view.js",
    "predictions_view.js",
    "score_view.js",
    "step_view.js",
    "scene.js",
    "panel.js",
    "export.js",
    "keyboard.js",
    "navigation.js",
    "controls.js",
    "help.js",
    "tour.js",
    "canvas.js",
    "explorer.js",
    "page.js",
)
"""Files of the page's module in the order in which they run; later, each may call functions of any other."""
LIVE_MODULES = (
    "live_products.js",
    "live_forward.js",
    "live_worker.js",
    "live_word_piece.js",
    "live_tokenizer.js",
    "live_model.js",
    "live_encoding.js",
    "live_contents.js",
    "live_text.js",
)
"""Files that follow in pages that compute the attention of typed texts."""
STYLE, LIVE_STYLE = "explorer.css", "live.css"


def asset(name: str) -> str:
    """The text of a file in ``web/``: a script or a style sheet."""
    return files(__package__).joinpath("web", name).read_text("utf-8")


def page_html(contents: Contents) -> str:
    """The page as HTML in ASCII.

    Texts are stored in JSON only, in which ``<``, ``>`` and ``&`` are escaped, and the module inserts them as
    text, never as HTML.
    """
    blocks: dict[str, str] = {}
    header = _move_data_to_blocks(contents.as_json(), blocks)
    live = contents.live is not None
    script, css = module(live), style(live)
    scripts = "\n".join(
        f'<script type="text/plain" id="{name}">{data}</script>' for name, data in blocks.items()
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(live)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{_escape(contents.heading)}</title>\n<style>{css}</style>\n</head>\n<body>\n"
        "<noscript>This page needs JavaScript, which is disabled in this browser.</noscript>\n"
        '<main id="explorer"><p>Loading. If this message stays, the browser is too old: '
        "use one of 2023 or later.</p></main>\n"
        f'<script type="application/json" id="contents">{_json(header)}</script>\n{scripts}\n'
        f'<script type="module">{script}</script>\n</body>\n</html>\n'
    )


@cache
def policy(live: bool = False) -> str:
    """The Content-Security-Policy of a page, which a server can also send as a header.

    Args:
        live: whether the page computes the attention of typed texts, which it does in a worker.
    """
    worker = "worker-src blob:; " if live else ""
    return (
        f"default-src 'none'; script-src '{_hash(module(live))}'; style-src '{_hash(style(live))}'; "
        f"{worker}img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


@cache
def module(live: bool = False) -> str:
    """All files of the page's module, joined into one."""
    return "\n".join(_as_scope(name) for name in (*MODULES, *(LIVE_MODULES if live else ())))


@cache
def style(live: bool = False) -> str:
    """The page's style sheet."""
    return asset(STYLE) + (asset(LIVE_STYLE) if live else "")


def _as_scope(name: str) -> str:
    """A file, without its comments, as a function that runs at once and returns what the file exports."""
    source = re.sub(r"^import [^;]*;\n", "", asset(name), flags=re.MULTILINE)
    source = re.sub(r"^[ \t]*(/\*\*.*?\*/|//[^\n]*)\n", "", source, flags=re.MULTILINE | re.DOTALL)
    exported = ", ".join(
        re.findall(r"^export (?:async )?(?:function|class|const) (\w+)", source, re.MULTILINE)
    )
    body = re.sub(r"^export (?=\w)", "", source, flags=re.MULTILINE)
    given = f"const {{ {exported} }} = " if exported else ""
    return f"{given}(() => {{\n{body}return {{ {exported} }};\n}})();"


def _move_data_to_blocks(value: Any, blocks: dict[str, str]) -> Any:
    """A copy in which each encoded text is replaced by the id of its own block, to be decoded when needed."""
    if isinstance(value, list):
        return [_move_data_to_blocks(item, blocks) for item in value]
    if not isinstance(value, dict):
        return value
    copy = {name: _move_data_to_blocks(item, blocks) for name, item in value.items()}
    if isinstance(value.get("data"), str):
        name = f"block-{len(blocks)}"
        blocks[name] = copy.pop("data")
        copy["block"] = name
    return copy


def _json(value: Any) -> str:
    """JSON in ASCII in which an HTML parser finds neither the end of a script nor a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _escape(text: str) -> str:
    """Text escaped for HTML in ASCII; lone surrogates and control characters become U+FFFD."""
    clean = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text)
    return escape(clean).encode("ascii", "xmlcharrefreplace").decode("ascii")


def _hash(text: str) -> str:
    """The source expression of a Content-Security-Policy for a script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"
