"""The explorer in Firefox: every view of every family, and a live page."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassformer.models import GPTModel
from glassformer.visualization.explorer import Explorer, collect_contents, page_html
from glassformer.visualization.explorer.live import attention_and_output
from glassformer.visualization.explorer.live_weights import dequantized_state

pytestmark = pytest.mark.slow
READY = "window.glassformer?.ready.then(() => window.glassformer.settled)"
MATRIX = "Array.from(window.glassformer.scene().shownMatrix.weights, (weight) => weight || 0)"
PIXELS = """(() => {
  const { canvas } = window.glassformer.mainCanvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size;
})()"""


@pytest.mark.parametrize("family", ["decoder", "encoder", "encoder-decoder", "vit"])
def test_every_view_is_drawn(firefox, pages, family):
    firefox.goto(pages[family].path.as_uri(), 1600, 900)
    firefox.evaluate(READY)
    views = firefox.evaluate("window.glassformer.views.map(({ name }) => name)")
    assert {"heads", "map", "lines"} <= set(views)
    for view in views:
        firefox.evaluate(
            f"window.glassformer.set({{ view: '{view}' }}).then(() => window.glassformer.settled)"
        )
        assert firefox.evaluate("window.glassformer.state.view") == view
        assert firefox.evaluate(PIXELS) > 20  # colors


def test_a_live_page_computes_the_attention_of_a_typed_text(firefox, tiny, tmp_path):
    model, text = tiny(GPTModel, vocab_size=257, max_seq_len=64), "A dog ran."
    contents = collect_contents(model, "The cat sat.", live=True, analyses=False)
    path = Explorer(contents, page_html(contents)).save(tmp_path / "live.html").path
    firefox.goto(path.as_uri())
    firefox.evaluate(READY)
    firefox.evaluate(f"(window.glassformer.live.field.value = '{text}', window.glassformer.live.submit())")
    firefox.evaluate("window.glassformer.set({ view: 'map', layer: 1, head: 0 })")
    expected, _ = attention_and_output(model, [torch.tensor([list(text.encode())])], dequantized_state(model))
    shown = np.array(firefox.evaluate(MATRIX)).reshape(len(text), len(text))
    np.testing.assert_allclose(shown, expected[1][0, 0].numpy(), atol=0.008)
