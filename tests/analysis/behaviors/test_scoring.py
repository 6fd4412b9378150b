"""Resumable forward passes, and batches of items of similar length."""

from __future__ import annotations

import pytest
import torch

from glassformer.analysis.behaviors.scoring import (
    ResumableForward,
    item_loss,
    score_positions,
)
from glassformer.analysis.behaviors.tasks import TaskItem
from glassformer.models import GPTModel


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(2)
    options = {"num_kv_heads": 2, "max_seq_len": 120, "positions": "relative_bias", "window": 30}
    model = GPTModel(257, 24, 3, 4, **options).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_a_resumed_forward_pass_gives_the_output_of_a_complete_one(model):
    ids = torch.randint(0, 257, (3, 40))
    with torch.no_grad():
        forward = ResumableForward(model, ids)
        assert torch.equal(forward.hidden, model.hidden_states(ids))
        for layer in range(4):
            forward.advance_to(layer)
            assert torch.equal(forward.finish(), forward.hidden)
    with pytest.raises(ValueError, match="stream is at layer 3 and cannot go back to layer 1"):
        forward.advance_to(1)
    assert not any(block._forward_pre_hooks for block in model.blocks)


def test_scores_of_a_choice_between_two_and_among_all_ids():
    logits = torch.tensor([[0.0, 1.0, 3.0], [0.0, 1.0, 3.0]])
    score, accuracy = score_positions(logits, torch.tensor([1, 1]), torch.tensor([0, -1]))
    assert score.tolist() == pytest.approx([1.0, float(logits[0].log_softmax(-1)[1])])
    assert accuracy.tolist() == [1, 0]


def test_the_loss_of_an_item_is_its_negative_score_with_a_gradient(model):
    item = TaskItem((1, 2, 3), (2, 3), (3, 4))
    loss = item_loss(model, item)
    log_p = model(torch.tensor([item.ids]))[0].detach().log_softmax(-1)
    assert float(loss.detach()) == pytest.approx(-float(log_p[1, 3] + log_p[2, 4]) / 2, rel=1e-5)
    assert loss.requires_grad
