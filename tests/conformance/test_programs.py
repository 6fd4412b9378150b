"""Conformance of compiled, exported and traced models, and of ONNX files. Add a model to ``MODELS``."""

from __future__ import annotations

import onnxruntime
import pytest
import torch
from torch._inductor import config as inductor_config
from torch.export import Dim

from glassformer.attention import FusedAttention, ScaledDotProductAttention
from glassformer.data.batches import Batch
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.positions.build import SCHEMES
from glassformer.training import trainer
from glassformer.training.classification import Classification
from glassformer.training.language_modeling import LanguageModeling
from glassformer.training.sequence_to_sequence import SequenceToSequence

TEXT = {"vocab_size": 31, "d_model": 16, "num_layers": 1, "num_heads": 4, "d_ff": 20, "max_seq_len": 16}
IMAGE = {"image_size": 12, "patch_size": 4, "num_channels": 2, "d_model": 16, "num_layers": 1, "num_heads": 4}
MODELS = {
    **{f"GPT, {kind}": (GPTModel, {"positions": kind}) for kind in SCHEMES},
    **{f"BERT, {kind}": (BERTModel, {"positions": kind}) for kind in SCHEMES},
    **{f"T5, {kind}": (T5Model, {"positions": kind}) for kind in SCHEMES},
    "GPT, sliding window, grouped-query": (GPTModel, {"window": 3, "num_kv_heads": 2, "num_layers": 2}),
    "GPT, textbook kernel": (GPTModel, {"kernel": "textbook", "num_kv_heads": 2}),
    "GPT, flash, learned bias": (GPTModel, {"kernel": "flash", "positions": "relative_bias"}),
    "GPT, block-sparse, Longformer": (
        GPTModel,
        {"kernel": "block_sparse", "pattern": {"kind": "longformer", "window": 4, "global_tokens": [0, 3]}},
    ),
    "GPT, linear": (GPTModel, {"kernel": "linear", "num_kv_heads": 2}),
    "BERT, linear, FAVOR+": (
        BERTModel,
        {"kernel": {"kind": "linear", "feature_map": "favor", "num_features": 8}, "positions": "rotary"},
    ),
    "GPT, pruned, ALiBi": (GPTModel, {"positions": "alibi", "pruned_heads": {"self": [[1]]}}),
    "GPT, dynamic scaling": (
        GPTModel,
        {
            "positions": {
                "kind": "rotary",
                "pairing": "interleaved",
                "scaling": {"kind": "dynamic", "factor": 2.0, "original_max_seq_len": 8},
            }
        },
    ),
    "BERT, classification": (BERTModel, {"head": "classification", "labels": 3}),
    "ViT": (ViTModel, {"labels": 3, "num_registers": 1}),
}
PROGRAMS = (FusedAttention, ScaledDotProductAttention)
"""Kernels that are compiled; others make a break in the graph."""
SIZES = [(2, 7), (3, 12)]
"""Rows and columns of the texts that make a program, and of others that it must take."""


def build(parts, **overrides):
    family, keywords = MODELS[parts]
    torch.manual_seed(1)
    model = family(**{**(IMAGE if family is ViTModel else TEXT), **keywords, **overrides})
    for parameter in model.parameters():  # so that biases, norms and tokens count
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def make_inputs(model, batch, seq, is_padded):
    """Inputs of a forward pass; for a ViT, images of which ``seq`` changes the height."""
    generator = torch.Generator().manual_seed(seq)
    dtype = next(model.parameters()).dtype
    if isinstance(model, ViTModel):
        return {"pixel_values": torch.randn(batch, 2, 4 * (seq % 3 + 2), 12, generator=generator).to(dtype)}
    lengths = {"input_ids": ("attention_mask", seq)}
    if isinstance(model, T5Model):
        lengths["decoder_input_ids"] = "decoder_attention_mask", seq + 2
    inputs = {}
    for ids, (mask, length) in lengths.items():
        inputs[ids] = torch.randint(2, TEXT["vocab_size"], (batch, length), generator=generator)
        if is_padded:
            inputs[mask] = torch.ones(batch, length, dtype=torch.long)
            inputs[mask][0, :2] = 0  # on the left
            inputs[mask][-1, -1:] = 0  # on the right
    return inputs


def dynamic_shapes(inputs):
    batch, seq, target, rows = Dim("batch", min=1), Dim("seq", max=16), Dim("target", max=16), Dim("rows")
    return {
        name: {0: batch, 2: 4 * rows}
        if name == "pixel_values"
        else {0: batch, 1: target if name.startswith("decoder") else seq}
        for name in inputs
    }


def assert_equals_model(program, model, is_padded, **tolerances):
    for batch, seq in SIZES:
        inputs = make_inputs(model, batch, seq, is_padded)
        output, expected = program(**inputs), model(**inputs)
        assert output.shape == expected.shape
        torch.testing.assert_close(output, expected, **tolerances)


PADDED = [
    name for name in MODELS if name != "ViT" and any(kind in name for kind in ("learned", "rotary", "alibi"))
]
models = pytest.mark.parametrize(
    ("parts", "is_padded"), [*((parts, False) for parts in MODELS), *((parts, True) for parts in PADDED)]
)


@pytest.fixture(autouse=True)
def compiler():
    torch.compiler.reset()
    with torch.no_grad():
        yield
    torch.compiler.reset()


@pytest.mark.slow
@models
def test_compiled_models_take_any_size(parts, is_padded):
    model, graphs = build(parts).double(), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    attentions = [attention for kind in model.attentions().values() for attention in kind]
    in_python = not all(type(attention.kernel) in PROGRAMS for attention in attentions)
    assert_equals_model(torch.compile(model, backend=backend, fullgraph=not in_python), model, is_padded)
    assert 1 <= len(graphs) <= len(SIZES) or in_python  # tiles and chunks are outside of the graphs


@pytest.mark.slow
@models
def test_exported_models_take_any_size(parts, is_padded):
    model = build(parts).double()
    inputs = make_inputs(model, *SIZES[0], is_padded)
    program = torch.export.export(model, (), inputs, dynamic_shapes=dynamic_shapes(inputs), strict=False)
    assert_equals_model(program.module(), model, is_padded)


@pytest.mark.slow
@models
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.trace:DeprecationWarning")
def test_traced_models_take_any_size(parts, is_padded):
    model = build(parts).double()
    inputs = make_inputs(model, *SIZES[0], is_padded)
    model(**inputs)  # tensors that this computes must not become constants of the program
    program = torch.jit.trace(model, example_kwarg_inputs=inputs, check_trace=False)
    assert_equals_model(program, model, is_padded)


@pytest.mark.slow
@pytest.mark.parametrize("parts", ["GPT, learned", "BERT, learned", "T5, relative_bias", "ViT"])
def test_inductor_gives_the_same_outputs(parts):
    model = build(parts)
    program = torch.compile(model, fullgraph=True, dynamic=True)
    with inductor_config.patch(compile_threads=1):  # no processes that outlive the test
        assert_equals_model(program, model, is_padded=parts != "ViT", atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "is_padded"),
    [
        ("GPT, learned", False),
        ("GPT, rotary", True),
        ("BERT, alibi", True),
        ("T5, relative_bias", True),
        ("ViT", False),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of the exporter, about itself
def test_onnx_files_give_the_same_outputs(parts, is_padded, tmp_path):
    model = build(parts, num_layers=2)  # so that what is wrong at padding would reach other tokens
    inputs = make_inputs(model, *SIZES[0], is_padded)
    shapes = dynamic_shapes(inputs)
    program = torch.onnx.export(model, (), kwargs=inputs, dynamo=True, dynamic_shapes=shapes, verbose=False)
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")

    def run(**inputs):
        (output,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return torch.from_numpy(output)

    assert_equals_model(run, model, is_padded, atol=1e-5, rtol=1e-5)


def random_ids(*shape):
    return torch.randint(2, TEXT["vocab_size"], shape)


def padded_mask(*shape):
    mask = torch.ones(shape, dtype=torch.bool)
    mask[0, -1] = False
    return mask


OBJECTIVES = {
    "GPT, rotary": (LanguageModeling(), random_ids),
    "BERT, classification": (
        Classification(),
        lambda batch, seq: Batch(
            {
                "input_ids": random_ids(batch, seq),
                "attention_mask": padded_mask(batch, seq),
                "labels": torch.arange(batch) % 3,
            }
        ),
    ),
    "T5, relative_bias": (
        SequenceToSequence(0),
        lambda batch, seq: Batch(
            {
                "source": random_ids(batch, seq),
                "source_mask": padded_mask(batch, seq),
                "target": random_ids(batch, seq + 1),
            }
        ),
    ),
    "ViT": (
        Classification(),
        lambda batch, seq: Batch(
            {"pixel_values": torch.randn(batch, 2, 12, 12).double(), "labels": torch.arange(batch) % 3}
        ),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("parts", OBJECTIVES)
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler reads it
def test_training_with_compiled_blocks_has_no_graph_breaks_and_the_same_gradients(parts, monkeypatch):
    objective, make_batch = OBJECTIVES[parts]
    model = build(parts, num_layers=1 if parts.startswith("T5") else 2).double().train()
    batches = [make_batch(batch, seq) for batch, seq in [(4, 9), (4, 12), (3, 7), (2, 10)]]

    def gradients():
        found = []
        for batch in batches:
            model.zero_grad()
            with torch.enable_grad():
                objective.loss_sum(model, batch).backward()
            found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        return found

    expected, graphs = gradients(), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self: compile_module(self, backend=backend, fullgraph=True)
    )
    trainer.compile_blocks(model)
    torch.testing.assert_close(gradients(), expected)
    assert 1 <= len(graphs) < len(batches)  # not one for each length, nor for each block
