"""Attribution targets by the task of a model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from glassformer.analysis.attribution_targets import NextTokenLogProb, default_target
from glassformer.models import BERTModel, GPTModel

TEXT = {"vocab_size": 40, "d_model": 24, "num_layers": 3, "num_heads": 4}
IDS = [3, 1, 4, 1, 5, 9]


def randomize(model):
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.double()


def gpt():
    return randomize(GPTModel(**TEXT, max_seq_len=16, positions="rotary", num_kv_heads=2))


def test_the_default_target_depends_on_the_task_of_the_model():
    def target(model, example=IDS, **choice):
        inputs = (torch.tensor([example]),)
        return default_target(model, inputs, model(*inputs), **choice)

    causal = gpt()
    found = target(causal)
    assert (found.position, found.depends_on(6)) == (5, [0, 1, 2, 3, 4])
    assert found.token == int(causal(torch.tensor([IDS]))[0, -1].argmax())
    assert target(causal, position=2, answer=9) == NextTokenLogProb(2, 9)
    masked = randomize(BERTModel(**TEXT, head="masked_lm"))
    assert target(masked, position=1, answer=3).depends_on(4) == [0, 2, 3]
    masked.tokenizer = SimpleNamespace(mask_token=4)
    assert target(masked).position == 2
    masked.tokenizer = None
    tagger = randomize(BERTModel(**TEXT, head="token_classification", labels=3))
    assert target(tagger, position=4, answer=2).token == 2
    classifier = randomize(BERTModel(**TEXT, head="classification", labels=3))
    assert target(classifier, answer=2).label == 2
    unknown = randomize(BERTModel(**TEXT))
    unknown.head.task = "regression"
    for model, choice, error, message in (
        (unknown, {}, TypeError, "no default attribution target for the task 'regression': give one"),
        (gpt(), {"position": 6}, ValueError, "position 6 does not exist: positions are 0 to 5"),
        (gpt(), {"answer": 40}, ValueError, "answer 40 does not exist: ids are 0 to 39"),
        (masked, {}, ValueError, "no mask token: give position="),
        (tagger, {}, ValueError, "each token has a class of its own: give position="),
        (classifier, {"position": 1}, TypeError, "give no position"),
        (randomize(BERTModel(**TEXT)), {"answer": 1}, TypeError, "give neither position nor answer"),
    ):
        with pytest.raises(error, match=message):
            target(model, **choice)
