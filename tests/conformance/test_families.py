"""Conformance of all model families. Add a family, or a new part of one, to ``MODELS``.

Decoder-only models have a suite of their own besides, in ``test_models.py``.
"""

from __future__ import annotations

import copy
import io
import multiprocessing
import operator
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
import torch.nn.functional as F

from glassformer.attention import KERNELS, MultiHeadAttention
from glassformer.models import BERTModel, GPTModel, T5Model, TransformerModel, ViTModel
from glassformer.models.bert import HEADS
from glassformer.positions.build import SCHEMES

TEXT = {"vocab_size": 43, "d_model": 24, "num_layers": 3, "num_heads": 6, "d_ff": 40, "max_seq_len": 16}
IMAGE = {"image_size": 12, "patch_size": 4, "num_channels": 2, "d_model": 24, "num_layers": 3, "num_heads": 4}
MODELS = {
    **{f"BERT, head={head}": (BERTModel, TEXT, {"head": head, "labels": 3}) for head in HEADS},
    **{f"BERT, positions={kind}": (BERTModel, TEXT, {"positions": kind}) for kind in SCHEMES},
    "BERT, pre-norm, gated": (BERTModel, TEXT, {"residual": "pre", "activation": "swiglu", "norm": "rms"}),
    "BERT, norms of queries, keys and outputs": (
        BERTModel,
        TEXT,
        {"residual": "pre", "qk_norm": "head", "output_norm": True, "attention_softcap": 1.0},
    ),
    "BERT, scaled": (BERTModel, TEXT, {"scale_embeddings": True, "residual_scale": 0.5, "head": "masked_lm"}),
    "BERT, Longformer": (
        BERTModel,
        TEXT,
        {"pattern": {"kind": "longformer", "window": 4, "global_tokens": [0, 5]}, "positions": "alibi"},
    ),
    "BERT, BigBird": (
        BERTModel,
        TEXT,
        {
            "pattern": {"kind": "big_bird", "window": 2, "random_blocks": 1, "block_size": 2},
            "positions": "relative_bias",
            "gradient_checkpointing": True,
        },
    ),
    "BERT, linear": (BERTModel, TEXT, {"kernel": "linear", "positions": "rotary"}),
    "BERT, checkpointing": (BERTModel, TEXT, {"gradient_checkpointing": True}),
    "BERT, pruned": (BERTModel, TEXT, {"positions": "alibi", "pruned_heads": {"self": [[1], [], [0, 5]]}}),
    "BERT, no pooler": (BERTModel, TEXT, {"pooler": False, "head": "classification"}),
    **{f"T5, positions={kind}": (T5Model, TEXT, {"positions": kind}) for kind in SCHEMES},
    "T5 1.1": (T5Model, TEXT, {"activation": "geglu_tanh", "tie_embeddings": False, "scale_logits": False}),
    "T5, uneven halves, wide heads": (T5Model, TEXT, {"num_decoder_layers": 2, "d_head": 10}),
    "T5, norms of queries, keys and outputs": (
        T5Model,
        TEXT,
        {"qk_norm": "projection", "input_norm": False, "output_norm": True, "attention_softcap": 1.0},
    ),
    "T5, pruned": (
        T5Model,
        TEXT,
        {"pruned_heads": {"encoder": [[1], [], [0, 5]], "cross": [[0, 1, 2, 3, 4], [3], []]}},
    ),
    "T5, pruned decoder, uneven halves": (
        T5Model,
        TEXT,
        {"num_decoder_layers": 2, "d_head": 10, "pruned_heads": {"decoder": [[], [2, 3]]}},
    ),
    "T5, Longformer": (T5Model, TEXT, {"pattern": {"kind": "longformer", "window": 4}}),
    "T5, sliding window": (T5Model, TEXT, {"pattern": {"kind": "sliding_window", "window": 3}}),
    "T5, linear": (
        T5Model,
        TEXT,
        {"kernel": {"kind": "linear", "feature_map": "favor", "num_features": 8}, "positions": "sinusoidal"},
    ),
    "T5, checkpointing": (T5Model, TEXT, {"gradient_checkpointing": True}),
    "the Transformer of 2017": (
        T5Model,
        TEXT,
        {
            "positions": "sinusoidal",
            "norm": "layer",
            "residual": "post",
            "bias": True,
            "attention_scale": None,
            "scale_embeddings": True,
            "scale_logits": False,
        },
    ),
    "ViT": (ViTModel, IMAGE, {"labels": 5}),
    "ViT, norms of queries and keys": (
        ViTModel,
        IMAGE,
        {"labels": 5, "qk_norm": "per_head", "residual_scale": 0.5, "activation": "quick_gelu"},
    ),
    "ViT, linear": (ViTModel, IMAGE, {"labels": 5, "kernel": "linear"}),
    "ViT, pruned": (ViTModel, IMAGE, {"pruned_heads": {"self": [[0], [1, 2], []]}}),
    "ViT, LayerScale and registers": (
        ViTModel,
        IMAGE,
        {"layer_scale": 0.1, "num_registers": 2, "head": "none"},
    ),
    "ViT, pooler, checkpointing": (
        ViTModel,
        IMAGE,
        {"pooler": True, "labels": ["cat", "dog"], "gradient_checkpointing": True},
    ),
}
models = pytest.mark.parametrize("parts", MODELS)
encoders = pytest.mark.parametrize("parts", [name for name in MODELS if name.startswith("BERT")])
encoder_decoders = pytest.mark.parametrize(
    "parts", [name for name, (family, _, _) in MODELS.items() if family is T5Model]
)


def build(parts, **overrides):
    family, sizes, keywords = MODELS[parts]
    torch.manual_seed(1)
    model = family(**{**sizes, **keywords, **overrides}).double()
    for parameter in model.parameters():  # so that biases, norms and tokens count
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def tokens(*shape, seed=2):
    return torch.randint(2, TEXT["vocab_size"], shape, generator=torch.Generator().manual_seed(seed))


def images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


INPUTS = {
    BERTModel: lambda: (tokens(2, 9), None, torch.tensor([[0] * 4 + [1] * 5] * 2)),
    T5Model: lambda: (tokens(2, 7), tokens(2, 9, seed=3)),
    ViTModel: lambda: (images(2, 2, 12, 12),),
}


def run(model):
    return model(*INPUTS[type(model)]())


def unused(model):
    """Parameters that play no part in the output: a pooler that the head does not read."""
    return ["pooler."] if model.config.get("head") != "classification" else []


@pytest.mark.slow
@models
def test_gradients_reach_every_parameter(parts):
    model = build(parts).train()
    run(model).square().sum().backward()
    for name, parameter in model.named_parameters():
        if name.startswith(tuple(unused(model))):
            assert parameter.grad is None, name
        elif not name.endswith("k_proj.bias"):  # adds the same to all scores of a query
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.slow
@models
def test_fast_kernels_give_the_outputs_and_gradients_of_the_textbook(parts):
    reference = build(parts, kernel="textbook")
    expected = run(reference)
    expected.square().sum().backward()
    for kernel in [kernel for kernel in KERNELS if kernel != "linear"]:
        model = build(parts, kernel=kernel)
        output = run(model)
        torch.testing.assert_close(output, expected, atol=1e-10, rtol=1e-8)
        output.square().sum().backward()
        for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-9, rtol=1e-8)


@pytest.mark.slow
@models
def test_gradient_checkpointing_does_not_change_gradients(parts):
    gradients = []
    for recompute in (False, True):
        model = build(parts, gradient_checkpointing=recompute).train()
        run(model).square().sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(*gradients)


@pytest.mark.slow
@models
def test_saving_and_loading_gives_the_same_model(parts, tmp_path):
    model = build(parts)
    model.save_pretrained(tmp_path)
    for family in (type(model), TransformerModel):
        again = family.from_pretrained(tmp_path)
        assert type(again) is type(model)
        assert again.config == model.config
        there, here = again.state_dict(), model.state_dict()
        assert list(there) == list(here)
        assert [name for name in here if not torch.equal(there[name], here[name])] == []
        # Products of the same numbers may differ in their last bits where these lie otherwise in memory.
        torch.testing.assert_close(run(again), run(model), rtol=0, atol=1e-12)
        assert again.num_parameters() == model.num_parameters()


def copies(model):
    """The model copied, and saved and loaded with pickle, by name."""
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return {"deepcopy": copy.deepcopy(model), "torch.save": torch.load(file, weights_only=False)}


@models
def test_copies_give_the_same_output_and_share_no_parameters(parts):
    model = build(parts)
    expected = run(model)
    for how, copied in copies(model).items():
        assert torch.equal(run(copied), expected), how
        for name, source in copied.tied_parameters().items():
            assert copied.get_parameter(name) is copied.get_parameter(source)
        for parameter in copied.parameters():
            torch.nn.init.zeros_(parameter)
    assert torch.equal(run(model), expected)


@pytest.mark.slow
def test_models_can_be_passed_to_another_process():
    built = [build(parts).requires_grad_(False) for parts in MODELS]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        outputs = [pool.submit(operator.call, model, *INPUTS[type(model)]()) for model in built]
        for model, output in zip(built, outputs, strict=True):
            torch.testing.assert_close(output.result(), run(model))


@models
def test_attentions_are_all_there_are(parts):
    model = build(parts)
    listed = [attention for kind in model.attentions().values() for attention in kind]
    assert {id(a) for a in listed} == {id(m) for m in model.modules() if isinstance(m, MultiHeadAttention)}
    assert len(listed) == len({id(a) for a in listed})


INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.uint64]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_inputs_may_be_integers_of_any_type(dtype):
    source, target, mask = tokens(2, 7), tokens(2, 7, seed=3), torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 0]])
    for parts, inputs in (
        ("BERT, positions=learned", (source, mask, mask)),
        ("T5, positions=relative_bias", (source, target, mask, mask)),
    ):
        model = build(parts)
        assert torch.equal(model(*(tensor.to(dtype) for tensor in inputs)), model(*inputs))


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.complex64])
def test_ids_that_are_not_integers_raise(dtype):
    ids = tokens(2, 7)
    model, seq2seq = build("BERT, positions=learned"), build("T5, positions=relative_bias")
    for call in (
        lambda wrong: model(wrong),
        lambda wrong: model(ids, token_type_ids=wrong),
        lambda wrong: seq2seq(wrong, ids),
        lambda wrong: seq2seq(ids, wrong),
    ):
        with pytest.raises(TypeError, match=f"token ids must be integers, not {dtype}"):
            call(ids.to(dtype))


@encoders
def test_padding_of_a_row_does_not_affect_others(parts):
    model, ids = build(parts, head="none"), tokens(3, 7)
    mask = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]])
    output = model(ids, attention_mask=mask)
    torch.testing.assert_close(output[0], model(ids[:1])[0])
    torch.testing.assert_close(output[1, 2:], model(ids[1:2, 2:])[0])
    torch.testing.assert_close(output[2, :4], model(ids[2:, :4])[0])
    assert torch.equal(model(ids, attention_mask=mask.bool()), output)


@encoders
def test_encoders_are_bidirectional(parts):
    model = build(parts, head="none")
    embedded = []
    model.token_embedding.register_forward_hook(lambda *args: embedded.append(args[2].requires_grad_()))
    model.requires_grad_(False)
    output = model(tokens(1, 6))
    for position in (0, 5):
        (gradient,) = torch.autograd.grad(output[0, position].sum(), embedded[0], retain_graph=True)
        assert (gradient.abs().sum(-1) > 0).all()


@encoder_decoders
def test_source_and_target_may_be_padded(parts):
    model, source, target = build(parts), tokens(3, 7), tokens(3, 5, seed=3)
    mask = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]])
    target_mask = torch.tensor([[1] * 5, [0, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    logits = model(source, target, attention_mask=mask, decoder_attention_mask=target_mask)
    torch.testing.assert_close(logits[0], model(source[:1], target[:1])[0])
    torch.testing.assert_close(logits[1, 1:], model(source[1:2, 2:], target[1:2, 1:])[0])
    torch.testing.assert_close(logits[2, :3], model(source[2:, :4], target[2:, :3])[0])


@pytest.mark.slow
@encoder_decoders
def test_a_decoder_attends_to_the_source_and_is_causal(parts):
    model, source, target = build(parts), tokens(2, 7), tokens(2, 9, seed=3)
    before = model(source, target)
    for changed in range(9):
        other = target.clone()
        other[:, changed] = (other[:, changed] + 1) % TEXT["vocab_size"]
        after = model(source, other)
        assert torch.equal(after[:, :changed], before[:, :changed])
        assert not torch.allclose(after[:, changed], before[:, changed])
    for changed in range(7):
        other = source.clone()
        other[:, changed] = (other[:, changed] + 1) % TEXT["vocab_size"]
        assert not torch.allclose(model(other, target)[:, 0], before[:, 0])


@pytest.mark.slow
@encoder_decoders
@pytest.mark.parametrize("cuts", [[], [1], [4], [2, 3, 8], list(range(1, 9))])
def test_decoding_with_caches_gives_the_same_logits(parts, cuts):
    model, source, target = build(parts), tokens(2, 7), tokens(2, 9, seed=3)
    mask = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 1]])
    expected = model(source, target, attention_mask=mask)
    decoder = model.conditioned_on(source, mask)
    cache, pieces, start = decoder.make_cache(9), [], 0
    for end in [*cuts, 9]:
        pieces.append(decoder.next_token_logits(target[:, start:end], cache=cache))
        torch.testing.assert_close(pieces[-1], expected[:, end - 1], atol=1e-10, rtol=0)
        start = end
    padded = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])  # the second target has 5 tokens
    after = torch.stack([expected[0, 8], expected[1, 4]])
    torch.testing.assert_close(decoder.next_token_logits(target, padded), after, atol=1e-10, rtol=0)


@pytest.mark.slow
@encoder_decoders
def test_several_targets_share_a_source(parts):
    model, source, target = build(parts), tokens(2, 7), tokens(6, 4, seed=3)
    mask = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 1]])
    rows = torch.tensor([0, 0, 0, 1, 1, 1])
    expected = model(source[rows], target, attention_mask=mask[rows])[:, -1]
    fresh, used = model.conditioned_on(source, mask), model.conditioned_on(source, mask)
    used.next_token_logits(target[:2, :1])  # has its memory in the cache already
    for decoder in (fresh, used):
        torch.testing.assert_close(decoder.next_token_logits(target), expected, atol=1e-10, rtol=0)


@pytest.mark.slow
@encoder_decoders
def test_overfits_a_few_pairs_and_generates_their_targets(parts):
    family, sizes, keywords = MODELS[parts]
    torch.manual_seed(0)
    model = family(**{**sizes, **keywords})
    source, target = tokens(4, 6), tokens(4, 5, seed=5)
    target = torch.cat([target, torch.full((4, 1), model.end_token)], dim=1)
    shifted = torch.cat([torch.full((4, 1), model.start_token), target[:, :-1]], dim=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for step in range(600):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1.0, (step + 1) / 20)
        loss = F.cross_entropy(model(source, shifted).flatten(0, 1), target.flatten())
        if loss.item() < 0.01:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01
    assert model.training
    assert torch.equal(model.generate(source, 8, temperature=0), target)
    assert model.generate(source.tolist(), 8, temperature=0) == target.tolist()


def test_every_family_is_tested():
    assert {family for family, _, _ in MODELS.values()} | {GPTModel} == set(
        TransformerModel.families.values()
    )
