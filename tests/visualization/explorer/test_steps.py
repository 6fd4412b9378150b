"""The step through attention: queries, keys and values on the page against those of the model."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from glassformer.attention import attentions_of
from glassformer.models import GPTModel, T5Model
from glassformer.visualization import AttentionVisualizer
from glassformer.visualization.explorer import collect_contents, vectors
from glassformer.visualization.explorer.vectors import attention_vectors, pack_vectors

VECTORS = """() => {
  const { layerVectors: found, attention, maps } = glassformer.scene();
  const rows = (name, tokens) => Array.from({ length: maps.count }, (_, head) =>
    Array.from({ length: tokens.length }, (_, token) => Array.from(found.vector(name, head, token))));
  return [rows("queries", attention.queries), rows("keys", attention.keys), rows("values", attention.keys)];
}"""


MINUS = "\u2212"
NUMBER = re.compile(rf"{MINUS}?\d+\.\d\d")


def kernel_inputs(model, kind, layer, inputs):
    """Queries, keys and values of a layer with as many heads as the queries have."""
    found = []
    kernel = attentions_of(model)[kind][layer].kernel
    handle = kernel.register_forward_pre_hook(lambda _, args: found.extend(args[:3]))
    with torch.no_grad():
        model(*inputs)
    handle.remove()
    group = found[0].size(1) // found[1].size(1)
    tensors = [found[0], *(x.repeat_interleave(group, 1) for x in found[1:])]
    return [x[0].numpy() for x in tensors]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"num_heads": 4, "num_kv_heads": 2, "positions": "rotary"}])
def test_vectors_and_their_output_are_those_of_the_model(open_page, random_model, tmp_path, options):
    model = random_model(GPTModel, vocab_size=257, max_seq_len=32, **options)
    path = AttentionVisualizer(model).explore("The cat", tmp_path / "steps.html").path
    ids = torch.tensor([list(b"The cat")])
    with open_page(path, link="#view=step&layer=1&head=1&query=5") as page:
        expected = kernel_inputs(model, "self", 1, [ids])
        for found, wanted in zip(map(np.array, page.evaluate(VECTORS)), expected, strict=True):
            step = np.abs(wanted).max(-1, keepdims=True) / 127
            assert (np.abs(found - wanted) <= 0.501 * step).all()
        q, k, _ = (tensor[1] for tensor in expected)
        shown = [text["text"] for text in page.visible_texts()]
        numbers = [float(text.replace(MINUS, "-")) for text in shown if NUMBER.fullmatch(text)]
        for score in (k[:6] @ q[5]) / np.sqrt(q.shape[-1]):
            assert min(abs(number - score) for number in numbers) <= 0.035 + 1e-3 * abs(score)
        assert any("softmax(q k / √d) v" in text for text in shown)
        assert any(text.startswith("output: ") for text in shown)
        page.set_state(head=-1)
        assert any("choose a head" in text["text"] for text in page.visible_texts())


@pytest.mark.slow
def test_a_key_is_chosen_by_a_click_and_by_arrows(open_page, pages):
    with open_page(pages["decoder"].path, link="#view=step&layer=1&head=0&query=6&key=0") as page:
        labels = [text for text in page.visible_texts() if text["text"].strip("\u2068\u2069") == "h"]
        box = page.locator(".stage").bounding_box()
        page.mouse.click(box["x"] + 1 + labels[-1]["x"] + 3, box["y"] + 1 + labels[-1]["y"])
        assert (page.state()["query"], page.state()["key"]) == (6, 1)
        page.locator(".stage").press("ArrowDown")
        page.locator(".stage").press("ArrowRight")
        assert (page.state()["query"], page.state()["key"]) == (7, 2)


def test_every_kind_of_attention_has_its_vectors(tiny):
    contents = collect_contents(tiny(T5Model, vocab_size=257), "ab", target_text="xyz")
    kinds = {item.kind: item for item in contents.vectors}
    assert set(kinds) == {"encoder", "decoder", "cross"}
    assert kinds["encoder"].scale == 1
    assert kinds["encoder"].has_bias
    assert not kinds["cross"].has_bias


def test_long_texts_and_linear_attention_have_none(tiny, monkeypatch):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=32)
    contents = collect_contents(model, "abc")
    assert len(contents.vectors) == 1
    monkeypatch.setattr(vectors, "BUDGET", 300)
    assert attention_vectors(model, "abc", contents.attention) == []
    linear = tiny(GPTModel, vocab_size=257, max_seq_len=32, kernel="linear")
    assert collect_contents(linear, "abc", analyses=False).vectors == []


def test_a_vector_of_zeros_stays_zero():
    packed = pack_vectors([np.zeros((2, 3, 4), np.float32)] * 3)
    assert (packed.num_heads, packed.num_kv_heads, packed.d_head) == (2, 2, 4)
