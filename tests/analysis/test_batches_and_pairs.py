"""Batches of one text, and pairs of sentences, as inputs of analyses and figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassformer.analysis import (
    attention_rollout,
    deletion_test,
    encode_text,
    gradient_rollout,
    logit_lens,
    score_parts,
)
from glassformer.analysis.inputs import model_inputs
from glassformer.attention import record_attention
from glassformer.models import BERTModel, GPTModel, T5Model
from glassformer.tokenization import WordPieceTokenizer
from glassformer.visualization import AttentionVisualizer

IDS = [7, 1, 4]
BATCHES = {
    "tensor": torch.tensor([IDS]),
    "one dimension": torch.tensor(IDS),
    "array": np.array([IDS]),
    "list": [IDS],
    "tuple": (IDS,),
    "list of a tensor": [torch.tensor(IDS)],
    "list of scalars": list(torch.tensor(IDS)),
    "numpy integers": tuple(np.array(IDS)),
}


def randomized(model):
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def decoder():
    return randomized(GPTModel(12, 16, 2, 2, max_seq_len=16))


@pytest.fixture(scope="module")
def encoder():
    tokenizer = WordPieceTokenizer.train(["the cat sat on the mat"] * 9, 60)
    model = randomized(BERTModel(tokenizer.vocab_size, 16, 2, 2, head="masked_lm", max_seq_len=16))
    model.tokenizer = tokenizer
    return model


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_a_batch_of_one_is_its_text(decoder, batch):
    assert encode_text(decoder, batch).ids == IDS
    assert torch.equal(attention_rollout(decoder, batch), attention_rollout(decoder, IDS))
    assert torch.equal(logit_lens(decoder, batch).tokens, logit_lens(decoder, IDS).tokens)
    visualizer = AttentionVisualizer(decoder)
    for draw in (visualizer.plot_rollout, visualizer.plot_logit_lens):
        assert len(draw(batch).axes) == len(draw(IDS).axes)
    assert "3 token ids" in [text.get_text() for text in visualizer.plot_attention_heads(batch, 0).texts]
    assert visualizer.explore(batch, analyses=False).contents.attention[0].queries == ["7", "1", "4"]


def test_a_batch_of_one_source_and_target():
    model = randomized(T5Model(12, 8, 1, 2, num_decoder_layers=1))
    source, target = torch.tensor([[3, 4]]), torch.tensor([[5, 6, 7]])
    found, expected = model_inputs(model, (source, target)), model_inputs(model, ([3, 4], [5, 6, 7]))
    assert all(map(torch.equal, found, expected))
    assert torch.equal(
        attention_rollout(model, (source, target)), attention_rollout(model, ([3, 4], [5, 6, 7]))
    )


@pytest.mark.parametrize(
    "batch", [torch.tensor([IDS, IDS]), [IDS, IDS], np.array([IDS, IDS]), [IDS, IDS, IDS], [[1], [2, 3]]]
)
def test_larger_batches_are_refused_in_words(decoder, batch):
    visualizer = AttentionVisualizer(decoder)
    for use in (
        lambda: attention_rollout(decoder, batch),
        lambda: logit_lens(decoder, batch),
        lambda: visualizer.plot_rollout(batch),
        lambda: visualizer.plot_logit_lens(batch),
        lambda: visualizer.plot_attention_heads(batch, 0),
        lambda: visualizer.explore(batch),
    ):
        with pytest.raises(ValueError, match=f"give one text at a time, not a batch of {len(batch)}"):
            use()


def test_other_shapes_are_refused_in_words(decoder):
    with pytest.raises(ValueError, match=r"must be \(seq,\) or \(1, seq\)"):
        attention_rollout(decoder, torch.tensor([[IDS]]))
    for empty in (torch.zeros(1, 0, dtype=torch.long), [[]], []):
        with pytest.raises(ValueError, match="the text is empty"):
            attention_rollout(decoder, empty)
    with pytest.raises(TypeError, match="a GPTModel takes one text, not a pair: it has no segments"):
        attention_rollout(decoder, ([1, 2], [3]))
    with pytest.raises(TypeError, match="takes one text, not a pair"):
        logit_lens(randomized(BERTModel(12, 8, 1, 2, head="masked_lm", num_token_types=1)), ([1], [2]))


def test_pairs_are_encoded_like_transformers_does(encoder, tmp_path):
    transformers = pytest.importorskip("transformers")
    encoder.save_pretrained(tmp_path)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), model_input_names=["input_ids", "token_type_ids"]
    )
    for first, second in (("the cat", "sat on"), ("a", "mat"), ("the cat sat on the mat " * 3, "cat " * 4)):
        expected = theirs(first, second, truncation=True, max_length=16)
        ids, mask, segments = model_inputs(encoder, (first, second))
        assert ids[0].tolist() == expected["input_ids"]
        assert segments[0].tolist() == expected["token_type_ids"]
        assert mask.bool().all()


def test_analyses_of_a_pair_are_those_of_its_segments(encoder):
    pair = ("the cat", "sat [MASK]")
    encoded = encode_text(encoder, pair)
    ids, segments = torch.tensor([encoded.ids]), torch.tensor([encoded.token_type_ids])
    assert set(encoded.token_type_ids) == {0, 1}
    with torch.no_grad(), record_attention(encoder) as recording:
        logits = encoder(ids, token_type_ids=segments)
    assert not torch.allclose(logits, encoder(ids), atol=1e-3)
    lens = logit_lens(encoder, pair)
    torch.testing.assert_close(lens.log_probabilities[-1, :, 0], logits[0].log_softmax(-1).amax(-1))
    mixed = [(weights[0].double().mean(0) + torch.eye(ids.size(1))) / 2 for weights in recording.values()]
    torch.testing.assert_close(attention_rollout(encoder, pair), mixed[1] @ mixed[0])
    rolled = gradient_rollout(encoder, pair)
    assert rolled.shape == (ids.size(1), ids.size(1))
    test = deletion_test(encoder, pair, rolled.mean(0))
    assert np.isfinite(test.drops).all()
    parts = score_parts(encoder, pair, 0)
    torch.testing.assert_close(parts.content + parts.position + parts.bias, parts.score)
    second = encoded.token_type_ids.index(1)
    as_ids = (encoded.ids[:second], encoded.ids[second:])
    assert torch.equal(attention_rollout(encoder, as_ids), attention_rollout(encoder, pair))


def test_figures_and_pages_of_a_pair(encoder, tmp_path):
    pair = ("the cat", "sat [MASK]")
    visualizer = AttentionVisualizer(encoder)
    encoded = encode_text(encoder, pair)
    with torch.no_grad(), record_attention(encoder, 1) as recording:
        encoder(torch.tensor([encoded.ids]), token_type_ids=torch.tensor([encoded.token_type_ids]))
    figure = visualizer.plot_head(pair, 1, 0)
    drawn = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(drawn, recording[1][0, 0].numpy(), atol=1e-6)
    words = " ".join(text.get_text() for text in figure.texts)
    assert "the cat" in words
    assert "sat [MASK]" in words
    visualizer.plot_attention_heads(pair, 0)
    visualizer.plot_rollout(pair)
    visualizer.plot_logit_lens(pair)
    contents = visualizer.explore(pair, tmp_path / "pair.html").contents
    assert contents.text == "“the cat” and “sat [MASK]”"
    assert len(contents.rollouts) == 2
