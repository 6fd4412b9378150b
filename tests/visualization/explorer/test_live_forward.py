"""The forward pass of live pages, against Python with the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassformer.models import BERTModel, GPTModel
from glassformer.visualization.explorer import collect_contents, page_html
from glassformer.visualization.explorer.live import attention_and_output
from glassformer.visualization.explorer.live_weights import (
    dequantized_state,
    is_quantized,
    named_weights,
    unpack_matrix,
)

pytestmark = pytest.mark.slow
FORWARD = """async (ids) => {
  const { attention, logits } = await window.glassformer.live.model.forward(ids);
  return { attention: attention.map((layer) => Array.from(layer)), logits: logits && Array.from(logits) };
}"""
TOLERANCE = 1e-3
GPTS = {
    "gpt2": {},
    "llama": {
        "positions": "rotary",
        "norm": "rms",
        "activation": "swiglu",
        "bias": False,
        "num_kv_heads": 2,
        "tie_embeddings": False,
    },
    "neox": {
        "positions": {"kind": "rotary", "d_rotary": 4, "pairing": "interleaved"},
        "residual": "parallel",
        "activation": "gelu",
    },
    "yarn": {
        "positions": {
            "kind": "rotary",
            "scaling": {"kind": "yarn", "factor": 4.0, "original_max_seq_len": 16},
        },
        "activation": "geglu",
        "window": 5,
    },
    "alibi": {"positions": "alibi", "residual": "parallel_shared", "activation": "relu", "num_heads": 6},
    "relative": {
        "positions": "relative_bias",
        "residual": "post",
        "activation": "silu",
        "d_head": 10,
        "attention_scale": 0.7,
    },
    "sinusoidal": {
        "positions": "sinusoidal",
        "activation": "reglu",
        "layer_scale": 0.5,
        "kernel": "textbook",
    },
    "none": {"positions": "none", "activation": "geglu_tanh", "qkv_bias": False, "vocab_size": 301},
}
BERTS = {
    "bert": {"head": "masked_lm"},
    "bare": {"head": "none", "positions": "relative_bias", "residual": "pre", "norm": "rms"},
}


def computed_by_page(page, model, ids):
    """Attention ``(layer, head, query, key)`` and logits ``(query, vocab_size)`` or None."""
    result = page.evaluate(FORWARD, ids)
    shape = (len(model.blocks), model.blocks[0].attention.num_heads, len(ids), len(ids))
    logits = result["logits"] and np.array(result["logits"]).reshape(len(ids), -1)
    return np.array(result["attention"]).reshape(shape), logits


def computed_by_python(model, ids):
    attention, output = attention_and_output(model, [torch.tensor([ids])], dequantized_state(model))
    return torch.cat(attention).numpy(), output[0].numpy()


@pytest.mark.parametrize("name", [*GPTS, *BERTS])
def test_forward_pass_equals_python(name, live_page, tiny):
    family, options = (GPTModel, GPTS[name]) if name in GPTS else (BERTModel, BERTS[name])
    model = tiny(family, **{"vocab_size": 257, "max_seq_len": 48, "d_model": 24, **options})
    with live_page(model) as page:
        for length in (1, 2, 13, 48):
            ids = torch.randint(257, (length,), generator=torch.Generator().manual_seed(length)).tolist()
            attention, logits = computed_by_page(page, model, ids)
            expected, expected_output = computed_by_python(model, ids)
            np.testing.assert_allclose(attention, expected, atol=TOLERANCE)
            if options.get("head") == "none":
                assert logits is None
            else:
                np.testing.assert_allclose(logits, expected_output, atol=TOLERANCE)


def test_page_itself_computes_where_workers_are_forbidden(tiny, open_page, tmp_path):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48)
    contents = collect_contents(model, "The cat sat.", live=True, analyses=False)
    html = page_html(contents).replace("worker-src blob:; ", "")
    path = tmp_path / "live.html"
    path.write_text(html, "utf-8")
    with pytest.raises(AssertionError, match="worker"), open_page(path) as page:  # the policy's complaint
        attention, logits = computed_by_page(page, model, [1, 2, 3])
    expected, expected_logits = computed_by_python(model, [1, 2, 3])
    np.testing.assert_allclose(attention, expected, atol=TOLERANCE)
    np.testing.assert_allclose(logits, expected_logits, atol=TOLERANCE)


def test_packed_weights_are_the_dequantized_ones(tiny):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48)
    with torch.no_grad():
        model.token_embedding.weight[3] = 0
    live = collect_contents(model, "The cat sat.", live=True, analyses=False).live
    state = dequantized_state(model)
    for name, tensor in named_weights(model).items():
        if is_quantized(tensor):
            assert torch.equal(unpack_matrix(live.tensors[name]), state[name])
            step = tensor.abs().amax(1, keepdim=True) / 127
            assert bool(((state[name] - tensor).abs() <= 0.5 * step + 1e-6).all())
    assert torch.equal(state["lm_head.weight"], state["token_embedding.weight"])
    assert "lm_head.weight" not in live.tensors
    assert live.size == sum(p.numel() for p in model.parameters() if p.dim() == 2)


def test_difference_from_float32_is_measured(tiny):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=48)
    live = collect_contents(model, "The cat sat.", live=True, analyses=False).live
    inputs = [torch.tensor([list(b"The cat sat.")])]
    (a, x), (b, y) = (
        attention_and_output(model, inputs, state) for state in (None, dequantized_state(model))
    )
    assert live.attention_difference == float((torch.cat(a) - torch.cat(b)).abs().max()) > 0
    assert live.probability_difference == float((x.softmax(-1) - y.softmax(-1)).abs().max()) > 0
