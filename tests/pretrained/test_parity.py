"""Parity with `transformers`: random weights and uneven sizes, loaded, compared and written back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.llama import modeling_llama
from transformers.models.mistral import modeling_mistral
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.t5 import modeling_t5

import glassformer
from glassformer.models import TransformerModel

LENGTHS = (11, 7, 4)
VOCABULARY = 61

Inputs = dict[str, Tensor]
Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A model of `transformers`, and how to call it and ours."""

    peer: Callable[..., nn.Module]
    config: Callable[..., Any]
    sizes: dict[str, Any]
    inputs: Callable[[str], Inputs]
    call_peer: Callable[[nn.Module, Inputs], Outputs]
    call_ours: Callable[[Any, Inputs], Outputs]

    def make(self, **changes: Any) -> nn.Module:
        model = self.peer(self.config(**{**self.sizes, **changes})).eval()
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in model.parameters():
                width = parameter.shape[-1] if parameter.dim() > 1 else 16
                parameter.add_(torch.randn(parameter.shape, generator=generator) / width**0.5)
        return model


def padded_inputs(side: str) -> Inputs:
    """Return rows of different lengths, padded, with the positions of their tokens."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(2, VOCABULARY, (len(LENGTHS), max(LENGTHS)), generator=generator)
    columns, lengths = torch.arange(max(LENGTHS)), torch.tensor(LENGTHS)[:, None]
    mask = columns < lengths if side == "right" else columns >= max(LENGTHS) - lengths
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return {"input_ids": ids * mask, "attention_mask": mask.long(), "position_ids": positions}


def causal_peer(model: nn.Module, inputs: Inputs) -> Outputs:
    output = model(**inputs, output_hidden_states=True, use_cache=False)
    return {"logits": output.logits, "hidden": output.hidden_states[-1]}


def causal_ours(model: Any, inputs: Inputs) -> Outputs:
    arguments = (inputs["input_ids"], inputs["attention_mask"])
    return {"logits": model(*arguments), "hidden": model.hidden_states(*arguments)}


def right_padded_segments(side: str) -> Inputs:
    """Return inputs padded on the right, because the peer would pool padding on the left."""
    return segments("right")


def segments(side: str) -> Inputs:
    inputs = padded_inputs(side)
    return {**inputs, "token_type_ids": (torch.arange(max(LENGTHS)) > 3).long().expand(len(LENGTHS), -1)}


def bert_peer(model: nn.Module, inputs: Inputs) -> Outputs:
    output = model(**inputs, output_hidden_states=True)
    hidden = output.hidden_states[-1]
    outputs = {"logits": getattr(output, "logits", hidden), "hidden": hidden}
    return {**outputs, "pooled": output.pooler_output} if hasattr(output, "pooler_output") else outputs


def bert_ours(model: Any, inputs: Inputs) -> Outputs:
    arguments = [inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
    hidden = model.hidden_states(*arguments)
    return {"logits": model(*arguments), "hidden": hidden, "pooled": model.pooler(hidden)}


def source_and_target(side: str) -> Inputs:
    inputs = padded_inputs(side)
    del inputs["position_ids"]
    target = torch.randint(2, VOCABULARY, (len(LENGTHS), 6), generator=torch.Generator().manual_seed(4))
    mask = torch.ones_like(target)
    mask[1, -2:] = 0
    if side == "left":
        mask = mask.flip(1)
    return {**inputs, "decoder_input_ids": target * mask, "decoder_attention_mask": mask}


def t5_peer(model: nn.Module, inputs: Inputs) -> Outputs:
    output = model(**inputs, output_hidden_states=True, use_cache=False)
    scale = model.config.d_model**-0.5 if model.config.scale_decoder_outputs else 1.0
    hidden = output.decoder_hidden_states[-1] * scale
    return {"logits": output.logits, "hidden": hidden, "memory": output.encoder_last_hidden_state}


def t5_ours(model: Any, inputs: Inputs) -> Outputs:
    memory, _ = model.encode(inputs["input_ids"], inputs["attention_mask"])
    return {"logits": model(**inputs), "hidden": model.hidden_states(**inputs), "memory": memory}


def images(side: str) -> Inputs:
    return {"pixel_values": torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(5))}


def vit_peer(model: nn.Module, inputs: Inputs) -> Outputs:
    output = model(**inputs, output_hidden_states=True)
    if hasattr(output, "logits"):
        return {"logits": output.logits}
    return {"hidden": output.last_hidden_state, "pooled": output.pooler_output}


def vit_ours(model: Any, inputs: Inputs) -> Outputs:
    hidden = model.hidden_states(**inputs)
    return {"logits": model(**inputs), "hidden": hidden, "pooled": model.pooler(hidden)}


LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 36,
    "intermediate_size": 29,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 40,
}
BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 21,
    "intermediate_size": 29,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "max_position_embeddings": 40,
}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 21,
    "d_kv": 6,
    "d_ff": 29,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 9,
    "decoder_start_token_id": 0,
}
VIT = {
    "hidden_size": 21,
    "intermediate_size": 29,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "image_size": 12,
    "patch_size": 4,
}


def causal(peer: Any, config: Any, sizes: dict[str, Any], **more: Any) -> Case:
    return Case(peer, config, {**sizes, **more}, padded_inputs, causal_peer, causal_ours)


def bert(peer: Any, **more: Any) -> Case:
    return Case(peer, transformers.BertConfig, {**BERT, **more}, segments, bert_peer, bert_ours)


def t5(**more: Any) -> Case:
    return Case(
        untied if more.get("tie_word_embeddings") is False else transformers.T5ForConditionalGeneration,
        transformers.T5Config,
        {**T5, **more},
        source_and_target,
        t5_peer,
        t5_ours,
    )


def untied(config: Any) -> nn.Module:
    model = transformers.T5ForConditionalGeneration(config)
    model.lm_head.weight = nn.Parameter(torch.randn(VOCABULARY, 21) / 5)
    return model


def vit(peer: Any, **more: Any) -> Case:
    return Case(peer, transformers.ViTConfig, {**VIT, **more}, images, vit_peer, vit_ours)


CASES = {
    "gpt2": causal(
        transformers.GPT2LMHeadModel,
        transformers.GPT2Config,
        {"vocab_size": VOCABULARY, "n_embd": 21, "n_layer": 3, "n_head": 3, "n_inner": 29, "n_positions": 40},
    ),
    "llama": causal(transformers.LlamaForCausalLM, transformers.LlamaConfig, LLAMA, head_dim=10),
    "llama_with_biases": causal(
        transformers.LlamaForCausalLM,
        transformers.LlamaConfig,
        LLAMA,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=True,
        hidden_act="gelu",
    ),
    "mistral": causal(transformers.MistralForCausalLM, transformers.MistralConfig, LLAMA, sliding_window=5),
    "qwen2": causal(transformers.Qwen2ForCausalLM, transformers.Qwen2Config, LLAMA, tie_word_embeddings=True),
    "qwen2_with_window": causal(
        transformers.Qwen2ForCausalLM,
        transformers.Qwen2Config,
        LLAMA,
        use_sliding_window=True,
        sliding_window=5,
        max_window_layers=0,
    ),
    "gpt_neox": causal(
        transformers.GPTNeoXForCausalLM,
        transformers.GPTNeoXConfig,
        {name: size for name, size in LLAMA.items() if name != "num_key_value_heads"},
        num_attention_heads=3,
        rotary_pct=0.34,
    ),
    "gpt_neox_in_sequence": causal(
        transformers.GPTNeoXForCausalLM,
        transformers.GPTNeoXConfig,
        {name: size for name, size in LLAMA.items() if name != "num_key_value_heads"},
        use_parallel_residual=False,
        attention_bias=False,
        rotary_pct=1.0,
        tie_word_embeddings=True,
    ),
    "bert": bert(transformers.BertModel),
    "bert_for_masked_lm": bert(transformers.BertForMaskedLM, hidden_act="gelu_new"),
    "bert_for_classes": replace(
        bert(transformers.BertForSequenceClassification, num_labels=5), inputs=right_padded_segments
    ),
    "bert_for_classes_of_tokens": bert(
        transformers.BertForTokenClassification, id2label=dict(enumerate("abcde"))
    ),
    "t5": t5(),
    "t5_1.1": t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "t5_tied_unscaled": t5(feed_forward_proj="gated-silu", scale_decoder_outputs=False),
    "vit": vit(transformers.ViTForImageClassification, num_labels=5, qkv_bias=False),
    "vit_without_head": vit(transformers.ViTModel, layer_norm_eps=1e-5),
}
EXACT = [name for name in CASES if name.startswith(("gpt2", "bert", "vit"))]


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def convert(peer: nn.Module, folder: Path, **options: Any) -> TransformerModel:
    peer.save_pretrained(folder)
    return glassformer.from_pretrained(folder, **options)


def compare(ours: Outputs, theirs: Outputs, inputs: Inputs, tolerance: float) -> float:
    """Return the largest difference at tokens that are not padding."""
    masks = {n: inputs[n].bool() for n in ("attention_mask", "decoder_attention_mask") if n in inputs}
    largest = 0.0
    assert set(theirs) <= set(ours)
    for name, expected in theirs.items():
        got = ours[name]
        assert got.shape == expected.shape
        valid = next((m for m in masks.values() if got.dim() == 3 and m.shape == got.shape[:2]), ...)
        difference = float((got - expected)[valid].abs().max())
        assert difference <= tolerance, (name, difference)
        assert float(expected[valid].std()) > 1e-2, name  # else the comparison would prove little
        largest = max(largest, difference)
    return largest


@pytest.mark.slow
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_logits_and_hidden_states_are_equal(name: str, side: str, tmp_path: Path) -> None:
    case = CASES[name]
    peer = case.make()
    inputs = case.inputs(side)
    compare(
        case.call_ours(convert(peer, tmp_path), inputs), case.call_peer(peer, inputs), inputs, tolerance=1e-5
    )


@pytest.fixture
def exact_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the functions in which the peers round to float32 by functions in float64."""

    def norm(self: Any, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    def rotary(self: Any, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        pairs = torch.arange(self.inv_freq.numel(), dtype=torch.float64) / self.inv_freq.numel()
        angles = position_ids[..., None] * self.config.rope_parameters["rope_theta"] ** -pairs
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()

    for module, prefix in (
        (modeling_llama, "Llama"),
        (modeling_mistral, "Mistral"),
        (modeling_qwen2, "Qwen2"),
    ):
        monkeypatch.setattr(getattr(module, f"{prefix}RMSNorm"), "forward", norm)
        monkeypatch.setattr(getattr(module, f"{prefix}RotaryEmbedding"), "forward", rotary)
    monkeypatch.setattr(modeling_gpt_neox.GPTNeoXRotaryEmbedding, "forward", rotary)
    monkeypatch.setattr(modeling_t5.T5LayerNorm, "forward", norm)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_outputs_are_equal_to_ten_digits_in_double_precision(
    name: str, side: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if name not in EXACT:
        request.getfixturevalue("exact_peers")
    case = CASES[name]
    peer = case.make().double()
    ours = convert(peer, tmp_path)
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float64}
    inputs = {n: t.double() if t.is_floating_point() else t for n, t in case.inputs(side).items()}
    compare(case.call_ours(ours, inputs), case.call_peer(peer, inputs), inputs, tolerance=1e-10)


@pytest.mark.slow
def test_gradients_are_equal(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    peer = case.make()
    ours = convert(peer, tmp_path / "before")
    inputs = case.inputs("right")
    for model, call in ((peer, case.call_peer), (ours, case.call_ours)):
        outputs = call(model, inputs)  # type: ignore[operator]
        logits = outputs["logits"] if "logits" in outputs else outputs["hidden"]
        mask = inputs.get("decoder_attention_mask", inputs.get("attention_mask"))
        if mask is not None and logits.dim() == 3:
            logits = logits[mask.bool()]
        F.cross_entropy(logits.flatten(0, -2), torch.arange(logits.flatten(0, -2).size(0)) % 5).backward()
    # The gradients are saved as weights in the format of the peer and compared there.
    for model in (peer, ours):
        for parameter in model.parameters():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.data = gradient
    peer.save_pretrained(tmp_path / "theirs")
    glassformer.save_pretrained(ours, tmp_path / "ours", format="huggingface")
    theirs, own = (load_file(tmp_path / side / "model.safetensors") for side in ("theirs", "ours"))
    assert set(own) == set(theirs)
    for tensor, gradient in theirs.items():
        torch.testing.assert_close(own[tensor], gradient, rtol=0, atol=1e-5, msg=tensor)
    assert max(float(gradient.abs().max()) for gradient in theirs.values()) > 1e-2


@pytest.mark.slow
@torch.no_grad()
def test_written_weights_are_bit_equal(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    peer = case.make()
    ours = convert(peer, tmp_path / "theirs")
    glassformer.save_pretrained(ours, tmp_path / "ours", format="huggingface")
    theirs, own = (load_file(tmp_path / side / "model.safetensors") for side in ("theirs", "ours"))
    assert set(own) == set(theirs)
    for tensor, values in theirs.items():
        assert torch.equal(own[tensor], values), tensor
    reread = type(peer).from_pretrained(tmp_path / "ours").eval()
    inputs = case.inputs("left")
    before, after = case.call_peer(peer, inputs), case.call_peer(reread, inputs)
    assert all(torch.equal(after[output], values) for output, values in before.items())
    again = glassformer.from_pretrained(tmp_path / "ours")
    glassformer.save_pretrained(again, tmp_path / "again", format="huggingface")
    configs = [(tmp_path / folder / "config.json").read_text() for folder in ("ours", "again")]
    assert configs[0] == configs[1]


LANGUAGE = [name for name in CASES if name.startswith(("gpt", "llama", "mistral", "qwen2", "t5"))]


@pytest.mark.slow
@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("name", LANGUAGE)
def test_generated_ids_are_equal(name: str, num_beams: int, tmp_path: Path) -> None:
    case = CASES[name]
    peer = case.make()
    ours: Any = convert(peer, tmp_path)
    inputs = case.inputs("left")
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    plan = {"num_beams": num_beams, "do_sample": False, "length_penalty": 1.0, "early_stopping": False}
    if name.startswith("t5"):
        end, pad = peer.config.eos_token_id, 0
    else:
        end, pad = int(peer(ids, attention_mask=mask).logits[0, -1].argmin()), 0
    theirs = peer.generate(
        ids, attention_mask=mask, max_new_tokens=12, eos_token_id=end, pad_token_id=pad, **plan
    )
    if name.startswith("t5"):
        own = ours.generate(ids, 12, attention_mask=mask, num_beams=num_beams, temperature=0)
        theirs = theirs[:, 1:]
    else:
        own = ours.generate(
            ids, 12, attention_mask=mask, num_beams=num_beams, temperature=0, stop_tokens=[end], pad_id=pad
        )
    assert own.tolist() == theirs.tolist()


def test_the_written_config_has_the_architecture_and_the_labels(tmp_path: Path) -> None:
    ours = convert(CASES["bert_for_classes_of_tokens"].make(), tmp_path / "theirs")
    assert ours.config["labels"] == ["a", "b", "c", "d", "e"]
    glassformer.save_pretrained(ours, tmp_path / "ours", format="huggingface")
    config = json.loads((tmp_path / "ours/config.json").read_text())
    assert (config["architectures"], config["model_type"]) == (["BertForTokenClassification"], "bert")
    assert config["id2label"] == {"0": "a", "1": "b", "2": "c", "3": "d", "4": "e"}


def test_an_unused_pooler_of_a_vit_classifier_is_an_error(tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=3,
        intermediate_size=32,
        image_size=8,
        patch_size=4,
    )
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors |= {"vit.pooler.dense.weight": torch.randn(24, 24), "vit.pooler.dense.bias": torch.randn(24)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"vit.pooler.dense.bias is not part of the model"):
        glassformer.from_pretrained(tmp_path)
