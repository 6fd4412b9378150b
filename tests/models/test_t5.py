"""T5Model. Parity with Hugging Face: ``tests/pretrained``."""

from __future__ import annotations

import math

import pytest
import torch

from glassformer.generation import generate
from glassformer.models import T5Model


def small(**options):
    sizes = {"vocab_size": 31, "d_model": 16, "num_layers": 2, "num_heads": 4, "max_seq_len": 12}
    return T5Model(**{**sizes, **options}).eval()


SOURCE = torch.randint(2, 31, (2, 5), generator=torch.Generator().manual_seed(0))
TARGET = torch.randint(2, 31, (2, 4), generator=torch.Generator().manual_seed(1))


def test_the_documented_calls_work():
    model = small()
    logits = model(SOURCE, decoder_input_ids=TARGET, attention_mask=torch.ones_like(SOURCE))
    assert logits.shape == (2, 4, 31)
    hidden = model.hidden_states(SOURCE, TARGET)
    assert torch.equal(model.lm_head(hidden), logits)


def test_generate_returns_the_form_of_its_input():
    model = small()
    whole = model.generate(SOURCE, 6, temperature=0, stop_tokens=[])
    assert whole.shape == (2, 6)
    rows = model.generate(SOURCE.tolist(), 6, temperature=0, stop_tokens=[])
    assert rows == whole.tolist()
    assert model.generate(SOURCE[0].tolist(), 6, temperature=0, stop_tokens=[]) == rows[0]
    assert torch.equal(model.generate(SOURCE[0], 6, temperature=0, stop_tokens=[]), whole[0])


def test_padding_of_sources_does_not_affect_targets():
    model = small()
    sources = [[3, 4, 5, 6, 7], [8, 9], [10]]
    together = model.generate(sources, 6, temperature=0)
    assert together == [model.generate(source, 6, temperature=0) for source in sources]
    padded = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 0, 0, 0], [0, 0, 0, 0, 10]])
    mask = torch.tensor([[1] * 5, [1, 1, 0, 0, 0], [0, 0, 0, 0, 1]])
    targets = model.generate(padded, 6, attention_mask=mask, temperature=0)
    for row, target in zip(targets.tolist(), together, strict=True):
        assert row[: len(target)] == target
        assert set(row[len(target) :]) <= {model.pad_token}


def test_a_target_ends_with_the_end_token():
    model = small()
    first = model.generate(SOURCE, 1, temperature=0)
    model.end_token = int(first[0, 0])
    assert model.generate(SOURCE[:1], 6, temperature=0).tolist() == [[model.end_token]]


def test_sampling_with_every_filter_and_several_samples():
    model = small()
    options = {
        "temperature": 0.9,
        "top_k": 9,
        "top_p": 0.9,
        "min_p": 0.01,
        "repetition_penalty": 1.2,
        "seed": 3,
    }
    rows = model.generate(SOURCE, 5, num_return_sequences=3, stop_tokens=[], **options)
    assert rows.shape == (6, 5)
    assert torch.equal(rows, model.generate(SOURCE, 5, num_return_sequences=3, stop_tokens=[], **options))
    uncached = model.generate(SOURCE, 5, num_return_sequences=3, stop_tokens=[], use_cache=False, **options)
    assert torch.equal(rows, uncached)


def test_generation_restores_the_mode_and_builds_no_graph():
    model = small(dropout=0.5).train()
    a, b = (model.generate(SOURCE, 4, temperature=0) for _ in range(2))
    assert torch.equal(a, b)
    assert model.training
    assert model.encoder.blocks[0].training


def test_scores_and_streams_start_with_a_variance_near_one():
    torch.manual_seed(0)
    for options in ({}, {"attention_scale": None, "scale_embeddings": True, "scale_logits": False}):
        model = small(d_model=128, num_heads=4, vocab_size=400, **options)
        x = model.token_embedding(torch.arange(400)[None]) * model.embedding_scale
        attention = model.encoder.blocks[0].attention
        q, k = attention.q_proj(x), attention.k_proj(x)
        scale = attention.kernel.scale or 1 / math.sqrt(32)
        scores = q[..., :32] @ k[..., :32].mT * scale
        logits = model.lm_head(torch.randn(1, 50, 128) * model.logit_scale)
        for values in (x, scores, logits):
            assert 0.7 < values.std().item() < 1.4
    untied = small(d_model=128, tie_embeddings=False, scale_logits=False)
    assert untied.lm_head.weight is not untied.token_embedding.weight
    assert abs(untied.lm_head.weight.std().item() * math.sqrt(128) - 1) < 0.1


def test_one_bias_table_serves_all_layers_of_a_half():
    names = [name for name, _ in small().named_parameters() if "positions" in name]
    assert names == ["encoder.positions.embedding.weight", "decoder.positions.embedding.weight"]
    model = small()
    assert model.encoder.positions.bidirectional
    assert not model.decoder.positions.bidirectional


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: small()(SOURCE[:, :0], TARGET), ValueError, "source sequence is empty"),
        (
            lambda: small()(SOURCE, TARGET, torch.tensor([[1] * 5, [0] * 5])),
            ValueError,
            "source sequence is empty",
        ),
        (lambda: small().generate([[3], []], 4), ValueError, "row 1 of the prompt is empty"),
        (lambda: small()(SOURCE + 31, TARGET), ValueError, "ids are 0 to 30"),
        (lambda: small()(SOURCE, TARGET + 31), ValueError, "ids are 0 to 30"),
        (lambda: small()(SOURCE, TARGET[0]), ValueError, r"decoder_input_ids must be \(batch, seq\)"),
        (lambda: small()(SOURCE.float(), TARGET), TypeError, "must be integers"),
        (
            lambda: small()(SOURCE, TARGET, decoder_attention_mask=torch.ones(2, 3)),
            ValueError,
            "decoder_attention_mask must be",
        ),
        (
            lambda: small(end_token=31),
            ValueError,
            "end_token must be an id .*, 0 to 30, not 31",
        ),
        (lambda: small(num_decoder_layers=0), ValueError, "num_decoder_layers must be positive"),
        (
            lambda: small(positions={"kind": "relative_bias", "bidirectional": True}),
            ValueError,
            "unknown option",
        ),
    ],
)
def test_errors_name_the_mistake(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_number_of_targets_must_match():
    model = small()
    with pytest.raises(ValueError, match="got 1 targets for 2 sources"):
        model(torch.ones(2, 3, dtype=torch.long), torch.ones(1, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="got 4 targets for 1 sources"):
        model(torch.ones(1, 3, dtype=torch.long), torch.ones(4, 3, dtype=torch.long))


def test_a_conditioned_decoder_can_be_reused():
    source, mask = torch.tensor([[3, 4, 5], [6, 7, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    decoder = small().conditioned_on(source, mask)
    starts = [[0], [0]]
    beams = {"num_beams": 3, "num_return_sequences": 2}
    searched, likeliest = generate(decoder, starts, 4, **beams), generate(decoder, starts, 4, temperature=0)
    assert generate(decoder, starts, 4, num_beams=5) is not None
    assert generate(decoder, starts, 4, temperature=0) == likeliest
    assert generate(decoder, starts, 4, **beams) == searched
    with pytest.raises(ValueError, match="got 1 targets for 2 sources"):
        generate(decoder, [[0]], 4)


@pytest.mark.parametrize("source", [[5, 6, 7], torch.tensor([5, 6, 7])])
def test_a_flat_source_gives_one_target(source):
    with pytest.raises(ValueError, match="num_return_sequences must be 1 for a flat prompt"):
        small().generate(source, 5, num_beams=4, num_return_sequences=3)
