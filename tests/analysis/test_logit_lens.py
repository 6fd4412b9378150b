"""The logit lens equals the model at the last stream, and a shorter model at earlier ones."""

from __future__ import annotations

import pytest
import torch

from glassformer.analysis.logit_lens import logit_lens, readout
from glassformer.attention import record_activations
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel

TEXT = {"vocab_size": 40, "d_model": 24, "num_layers": 3, "num_heads": 4}
IDS = [3, 1, 4, 1, 5]
MODELS = {
    "GPT": (lambda: GPTModel(**TEXT, max_seq_len=8, norm="rms"), IDS),
    "GPT with a head of its own": (
        lambda: GPTModel(
            **TEXT, d_embedding=10, head_bias=True, logit_scale=0.5, logit_softcap=2.0, output_norm=True
        ),
        IDS,
    ),
    "T5": (lambda: T5Model(**TEXT, num_decoder_layers=2), (IDS, [7, 8, 9])),
    "BERT": (lambda: BERTModel(**TEXT, head="masked_lm"), IDS),
    "BERT pre-norm": (lambda: BERTModel(**TEXT, head="masked_lm", residual="pre"), IDS),
}


def inputs(model, example):
    if isinstance(example, tuple):
        source, target = example
        return torch.tensor([source]), torch.tensor([[model.start_token, *target[:-1]]])
    return (torch.tensor([example]),)


@pytest.mark.parametrize("name", MODELS)
def test_the_last_stream_gives_the_logits_of_the_model(name):
    build, example = MODELS[name]
    model = build().eval()
    kind, logits_from = readout(model)
    with torch.no_grad(), record_activations(model, kind=kind) as activations:
        logits = model(*inputs(model, example))
    assert torch.equal(logits_from(activations.resid_pre[len(model.attentions()[kind])]), logits)
    lens = logit_lens(model, example, top_k=4)
    best = logits[0].log_softmax(-1).topk(4)
    assert lens.layers == list(range(len(model.attentions()[kind]) + 1))
    assert torch.equal(lens.tokens[-1], best.indices)
    assert torch.equal(lens.log_probabilities[-1], best.values)
    assert lens.divergence[-1].tolist() == [0] * logits.size(1)
    assert float(lens.divergence[0].min()) > 0


def test_an_earlier_stream_gives_the_logits_of_a_shorter_model():
    model = GPTModel(**TEXT, max_seq_len=8).eval()
    lens = logit_lens(model, IDS, top_k=40, layers=[2])
    with torch.no_grad():
        final = model(torch.tensor([IDS]))[0].log_softmax(-1)
        del model.blocks[2]
        expected = model(torch.tensor([IDS]))[0].log_softmax(-1)
    found = torch.empty(5, 40).scatter(-1, lens.tokens[0], lens.log_probabilities[0])
    torch.testing.assert_close(found, expected)
    kl = torch.nn.functional.kl_div(expected, final, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(lens.divergence[0], kl)


def test_the_model_is_not_changed():
    model = GPTModel(**TEXT, max_seq_len=8, dropout=0.5).train()
    first, second = logit_lens(model, IDS), logit_lens(model, IDS)
    assert torch.equal(first.log_probabilities, second.log_probabilities)
    assert model.training
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_models_without_a_vocabulary_raise_errors():
    with pytest.raises(TypeError, match="BERTModel for the task 'none' has no head over a vocabulary"):
        logit_lens(BERTModel(**TEXT), IDS)
    with pytest.raises(TypeError, match="a ViTModel for the task .* has no head over a vocabulary"):
        logit_lens(ViTModel(8, 4, 24, 1, 4), torch.zeros(3, 8, 8))
    model = GPTModel(**TEXT, max_seq_len=8)
    with pytest.raises(ValueError, match="stream 4 does not exist: streams are 0 to 3"):
        logit_lens(model, IDS, layers=[4])
    with pytest.raises(ValueError, match="top_k must be between 1 and the 40 tokens, not 41"):
        logit_lens(model, IDS, top_k=41)
