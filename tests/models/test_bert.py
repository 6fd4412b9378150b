"""BERTModel. Parity with Hugging Face: ``tests/pretrained``."""

from __future__ import annotations

import pytest
import torch

from glassformer.models import BERTModel


def small(**options):
    sizes = {"vocab_size": 31, "d_model": 16, "num_layers": 2, "num_heads": 4, "max_seq_len": 8}
    return BERTModel(**{**sizes, **options}).eval()


IDS = torch.randint(0, 31, (2, 5), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        ("none", (2, 5, 16)),
        ("masked_lm", (2, 5, 31)),
        ("classification", (2, 3)),
        ("token_classification", (2, 5, 3)),
    ],
)
def test_the_output_depends_on_the_head(head, shape):
    model = small(head=head, labels=["a", "b", "c"])
    assert (
        model(IDS, attention_mask=torch.ones_like(IDS), token_type_ids=torch.zeros_like(IDS)).shape == shape
    )
    assert model.hidden_states(IDS).shape == (2, 5, 16)
    assert model.labels == ["a", "b", "c"]


def test_without_a_head_the_output_is_the_last_hidden_states():
    model = small()
    assert torch.equal(model(IDS), model.hidden_states(IDS))


def test_token_types_change_the_output():
    model = small()
    assert torch.equal(model(IDS), model(IDS, token_type_ids=torch.zeros_like(IDS)))
    assert not torch.allclose(model(IDS), model(IDS, token_type_ids=torch.ones_like(IDS)))


def test_the_masked_lm_head_is_tied_to_the_embedding():
    model = small(head="masked_lm")
    assert model.head.decoder.weight is model.token_embedding.weight
    assert model.num_parameters() == small().num_parameters() + 16 * 16 + 16 + 2 * 16 + 31


def test_initial_weights_are_those_of_bert():
    torch.manual_seed(0)
    model = small(d_model=64, vocab_size=500)
    assert abs(model.token_embedding.weight.std().item() - 0.02) < 0.001
    assert model.blocks[0].feed_forward.up_proj.bias.abs().max() == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: small(head="maskedlm"), ValueError, "did you mean 'masked_lm'"),
        (lambda: small(labels=0), ValueError, "labels must be positive, not 0"),
        (lambda: small(labels=["a", "a"]), ValueError, "different names"),
        (lambda: small(labels=[]), ValueError, "labels must be positive, not 0"),
        (lambda: small()(IDS + 31), ValueError, "ids are 0 to 30"),
        (lambda: small()(IDS.float()), TypeError, "must be integers"),
        (lambda: small()(IDS, token_type_ids=IDS * 0 + 2), ValueError, "ids are 0 to 1"),
        (lambda: small()(IDS, token_type_ids=IDS[:1] * 0), ValueError, r"token_type_ids must be .* \(2, 5\)"),
        (lambda: small()(IDS, attention_mask=IDS[:1] * 0), ValueError, r"attention_mask must be .* \(2, 5\)"),
        (lambda: small()(torch.zeros(1, 9).long()), ValueError, "outside the learned table of 8"),
        (lambda: small(num_token_types=0), ValueError, "num_token_types must be positive"),
    ],
)
def test_errors_name_the_mistake(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("pooler", [False, True])
def test_classification_does_not_depend_on_the_side_of_padding(pooler):
    model = small(head="classification", pooler=pooler).eval()
    ids = torch.arange(1, 6)[None]
    alone = model(ids)
    for left, right in ((3, 0), (0, 3), (2, 1)):
        padded = torch.nn.functional.pad(ids, (left, right))
        mask = torch.nn.functional.pad(torch.ones_like(ids), (left, right))
        torch.testing.assert_close(model(padded, mask), alone, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="the text is empty"):
        model(torch.zeros(2, 0, dtype=torch.long))
