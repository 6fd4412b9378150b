"""Models with packed weights, of all families: outputs, maps, memory, copies, and what they refuse."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from glassformer import optimize_for_inference, save_pretrained
from glassformer.analysis import prune_heads
from glassformer.attention import record_attention
from glassformer.models import BERTModel, GPTModel, T5Model, TransformerModel, ViTModel
from glassformer.models.costs import describe, total
from glassformer.packed_linear import FORMATS, PackedLinear

TEXT = {"vocab_size": 43, "d_model": 48, "num_layers": 2, "num_heads": 4, "d_ff": 80, "max_seq_len": 24}
LLAMA = {"norm": "rms", "activation": "swiglu", "positions": "rotary", "num_kv_heads": 2, "bias": False}
IMAGE = {"image_size": 12, "patch_size": 4, "d_model": 48, "num_layers": 2, "num_heads": 4}
MODELS = {
    "GPT": (GPTModel, TEXT),
    "GPT, untied": (GPTModel, {**TEXT, "tie_embeddings": False}),
    "GPT, pruned": (GPTModel, {**TEXT, "pruned_heads": {"self": [[1], [0, 3]]}}),
    "Llama": (GPTModel, {**TEXT, **LLAMA}),
    **{
        f"BERT, head={head}": (BERTModel, {**TEXT, "head": head, "labels": 3})
        for head in ("none", "masked_lm", "classification", "token_classification")
    },
    "T5": (T5Model, TEXT),
    "T5 1.1": (T5Model, {**TEXT, "activation": "geglu_tanh", "tie_embeddings": False}),
    "ViT": (ViTModel, {**IMAGE, "labels": 5}),
    "ViT, LayerScale": (ViTModel, {**IMAGE, "layer_scale": 0.1, "head": "none"}),
}
models = pytest.mark.parametrize("parts", MODELS)
formats = pytest.mark.parametrize("weights", FORMATS)


def build(parts):
    family, keywords = MODELS[parts]
    torch.manual_seed(1)
    model = family(**keywords)
    for parameter in model.parameters():  # so that biases, norms and tokens count
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def inputs(model):
    generator = torch.Generator().manual_seed(2)
    if isinstance(model, ViTModel):
        return (torch.randn(2, 3, 12, 12, generator=generator),)
    ids = torch.randint(2, 43, (2, 9), generator=generator)
    return (ids, ids[:, :5]) if isinstance(model, T5Model) else (ids,)


def dense(optimized, model):
    """The given model with the weights that the optimized one multiplies with."""
    other = copy.deepcopy(model)
    for name in model.tied_parameters():  # only the packed copy is rounded
        layer = other.get_submodule(name.removesuffix(".weight"))
        layer.weight = torch.nn.Parameter(layer.weight.detach().clone())
    other.load_state_dict(optimized.state_dict())
    return other


def relative(actual, expected):
    return float((actual - expected).norm() / expected.norm())


@models
@formats
@torch.no_grad()
def test_outputs_are_those_of_the_stored_weights(parts, weights):
    model = build(parts)
    before = copy.deepcopy(model.state_dict())
    optimized = optimize_for_inference(model, weights)
    assert type(optimized) is type(model)
    assert not any(isinstance(module, torch.nn.Linear) for module in optimized.modules())
    reference = dense(optimized, model)
    bound = 0.15 if weights == "int8" else 1e-5  # int8 rounds the activations, too: to 1 part in 63 or 127
    assert relative(optimized(*inputs(model)), reference(*inputs(model))) < bound
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    exact = [torch.equal(value, before[name]) for name, value in optimized.state_dict().items()]
    assert all(exact) == FORMATS[weights].is_exact
    assert optimized.num_parameters() == model.num_parameters()


@models
@torch.no_grad()
def test_float32_gives_the_outputs_and_maps_of_the_original(parts):
    model = build(parts)
    optimized = optimize_for_inference(model)
    assert relative(optimized(*inputs(model)), model(*inputs(model))) < 1e-5
    for kind in model.attentions():
        with record_attention(model, kind=kind) as expected:
            model(*inputs(model))
        with record_attention(optimized, kind=kind) as found:
            optimized(*inputs(model))
        for layer in range(len(model.attentions()[kind])):
            torch.testing.assert_close(found[layer], expected[layer], rtol=0, atol=1e-5)


@models
@formats
@torch.no_grad()
def test_copies_give_the_same_output(parts, weights):
    optimized = optimize_for_inference(build(parts), weights)
    expected = optimized(*inputs(optimized))
    for copied in (copy.deepcopy(optimized), pickle.loads(pickle.dumps(optimized))):
        assert torch.equal(copied(*inputs(optimized)), expected)


@formats
def test_gradients_of_activations_are_those_of_the_stored_weights(weights):
    model = build("GPT")
    optimized = optimize_for_inference(model, weights)
    reference = dense(optimized, model)
    gradients = []
    for each in (optimized, reference):
        hidden = torch.ones(1, 3, 48, requires_grad=True)
        each.lm_head(each.blocks[0](hidden)).square().sum().backward()
        gradients.append(hidden.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_greedy_tokens_of_gpt2_are_equal():
    torch.manual_seed(0)
    model = GPTModel.from_preset("gpt2", num_layers=4).eval()
    optimized = optimize_for_inference(model)
    prompt = torch.randint(50257, (2, 20))
    options = {"temperature": 0}
    assert torch.equal(optimized.generate(prompt, 20, **options), model.generate(prompt, 20, **options))


@formats
def test_memory_is_that_of_the_packed_weights(weights):
    model = build("GPT")
    optimized = optimize_for_inference(model, weights)
    width = {"float32": 4, "bfloat16": 2, "int8": 1}[weights]
    block = 1 if weights == "float32" else 512
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    packed = [module for module in optimized.modules() if isinstance(module, PackedLinear)]
    numbers = sum(m.out_features * -(-m.in_features // block) * block for m in linear)
    rows = sum(m.out_features for m in linear)
    stored = sum(module.weight_bytes for module in packed)
    assert stored == width * numbers + (4 * rows if weights == "int8" else 0)
    shared = {parameter.data_ptr() for parameter in model.parameters()}
    assert {parameter.data_ptr() for parameter in optimized.parameters()} <= shared
    held = {id(parameter): parameter.numel() for parameter in optimized.parameters()}
    not_packed = sum(p.numel() for n, p in model.named_parameters() if "_proj.weight" not in n)
    assert sum(held.values()) == not_packed


def test_half_precision_is_computed_in_float32():
    model = build("GPT").bfloat16()
    optimized = optimize_for_inference(model)
    assert optimized.dtype == torch.float32
    with torch.no_grad():
        expected = copy.deepcopy(model).float()(*inputs(model))
        assert relative(optimized(*inputs(model)), expected) < 1e-5


def test_float32_saves_the_original_weights(tmp_path):
    model = build("GPT")
    optimize_for_inference(model).save_pretrained(tmp_path)
    loaded = TransformerModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_rounded_weights_are_not_saved(weights, tmp_path):
    optimized = optimize_for_inference(build("GPT"), weights)
    with pytest.raises(
        ValueError, match=f"rounded to {weights} .* save the model that was given to optimize_for"
    ):
        optimized.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


@formats
def test_what_a_packed_model_cannot_do_raises_and_changes_nothing(weights):
    optimized = optimize_for_inference(build("T5"), weights)
    state = optimized.state_dict()
    refused = {
        "cannot be trained: change the original model": optimized.train,
        "cannot be loaded into packed layers": lambda: optimized.load_state_dict(state),
        "cannot be moved to torch.float64": optimized.double,
        "cannot be moved to torch.bfloat16": lambda: optimized.to(torch.bfloat16),
        "cannot be moved to meta": lambda: optimized.to("meta"),
        "has packed .* weights already": lambda: optimize_for_inference(optimized),
    }
    for message, call in refused.items():
        with pytest.raises(ValueError, match=message):
            call()
    assert not any(module.training for module in optimized.modules())
    assert {tensor.dtype for tensor in optimized.parameters()} == {torch.float32}
    assert optimized.to("cpu").float().eval() is optimized


def test_wrong_arguments_raise():
    with pytest.raises(ValueError, match=r"unknown format of weights 'int4', did you mean 'int8'\?"):
        optimize_for_inference(build("GPT"), "int4")
    with pytest.raises(ValueError, match="the model is in float64: use model.float()"):
        optimize_for_inference(build("GPT").double())
    with pytest.raises(ValueError, match="a model on the CPU, not on meta"):
        optimize_for_inference(build("GPT").to("meta"), "int8")
    with pytest.raises(TypeError, match="needs a TransformerModel, not a Linear"):
        optimize_for_inference(torch.nn.Linear(2, 3))


@torch.no_grad()
@pytest.mark.parametrize("weights", FORMATS)
def test_a_later_token_or_another_row_changes_nothing(weights):
    optimized = optimize_for_inference(build("GPT"), weights)
    ids = torch.randint(optimized.vocab_size, (3, 7))
    changed = ids.clone()
    changed[:, -1] = (ids[:, -1] + 1) % optimized.vocab_size
    assert torch.equal(optimized(changed)[:, :-1], optimized(ids)[:, :-1])
    torch.testing.assert_close(optimized(ids[1:2]), optimized(ids)[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", FORMATS)
def test_a_broken_model_says_so(weights):
    model = build("GPT")
    with torch.no_grad():
        model.blocks[1].norm1.weight[5] = torch.nan
    with pytest.raises(ValueError, match="the model's logits are NaN after the prompt"):
        optimize_for_inference(model, weights).generate([[3, 4]], 2)
    with pytest.raises(ValueError, match="the model's logits are NaN after the prompt"):
        optimize_for_inference(model, weights).generate([3], 2)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_rounded_weights_leave_by_no_way(weights, tmp_path):
    optimized = optimize_for_inference(build("GPT"), weights)
    with pytest.raises(ValueError, match="the original ones are gone: save the model that was given"):
        save_pretrained(optimized, tmp_path / "folder", format="huggingface")
    assert not (tmp_path / "folder").exists()
    with pytest.raises(ValueError, match="the original ones are gone"):
        prune_heads(optimized, [(0, 1)])


def test_training_and_loading_are_refused_before_anything_changes():
    model = build("GPT")
    before = model.token_embedding.weight.clone()
    optimized = optimize_for_inference(model)
    with pytest.raises(ValueError, match="cannot be trained: change the original model"):
        optimized.requires_grad_(True)
    other = {f"0.{name}": torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="cannot be loaded into packed layers"):
        torch.nn.Sequential(optimized).load_state_dict(other)
    assert torch.equal(model.token_embedding.weight, before)


@pytest.mark.parametrize("weights", FORMATS)
def test_costs_are_those_of_the_original(weights):
    model = build("GPT")
    optimized = optimize_for_inference(model, weights)
    assert total(describe(optimized)) == total(describe(model))
    assert optimized.num_parameters() == model.num_parameters()


def test_layers_that_compute_more_are_refused():
    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model = build("GPT")
    model.lm_head.register_forward_hook(lambda module, inputs, output: output)
    with pytest.raises(ValueError, match="lm_head has hooks or a forward of its own"):
        optimize_for_inference(model)
    model = build("GPT")
    model.blocks[0].attention.q_proj = Doubled(model.config.d_model, model.config.d_model)
    with pytest.raises(ValueError, match=r"blocks\.0\.attention\.q_proj has hooks or a forward of its own"):
        optimize_for_inference(model)
