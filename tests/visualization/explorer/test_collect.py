"""Contents of a page: attention, predictions, labels and notes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassformer.analysis import HeadReport
from glassformer.attention import record_attention
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization import AttentionVisualizer, explorer
from glassformer.visualization.explorer import (
    collect_contents,
    with_head_labels,
)
from glassformer.visualization.explorer.encoding import (
    dequantize,
    max_error,
    unpack_json,
    unpack_maps,
)


def test_contents_agree_with_the_model(tiny):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=64)
    model.tokenizer = ByteTokenizer()
    contents = collect_contents(model, "The cat.", analyses=False)
    with record_attention(model) as recording, torch.no_grad():
        logits = model(torch.tensor([list(b"The cat.")]))[0]
    (attention,) = contents.attention
    assert attention.queries == attention.keys == ["T", "h", "e", "·", "c", "a", "t", "."]
    for layer, packed in enumerate(attention.maps):
        expected = recording[layer][0].numpy()
        back = dequantize(unpack_maps(packed))
        seen = ~np.isnan(back)
        np.testing.assert_array_equal(seen, np.broadcast_to(np.tri(8, dtype=bool), seen.shape))
        assert (np.abs(back - expected)[seen] <= max_error(expected)[seen] + 1e-6).all()
        mean = dequantize(unpack_maps(attention.thumbnails[layer]))[-1]
        np.testing.assert_allclose(np.nan_to_num(mean), expected.mean(0), atol=0.004)
    (predictions,) = contents.predictions
    rows, targets = unpack_json(predictions.data), unpack_json(predictions.targets.data)
    best = logits.softmax(-1).max(-1)
    for position, (row,) in enumerate(rows):
        assert predictions.tokens[row[0]] == ByteTokenizer().label(int(best.indices[position]))
        assert row[1] == pytest.approx(float(best.values[position]), abs=1e-5)
    place, share, rank = targets[0]
    order = logits[0].argsort(descending=True).tolist()
    assert (predictions.tokens[place], rank) == ("h", 1 + order.index(ord("h")))
    assert share == pytest.approx(float(logits[0].softmax(-1)[ord("h")]), abs=1e-5)
    assert targets[-1] is None


def test_chosen_layers_and_kind(tiny):
    model = tiny(T5Model, vocab_size=257, num_layers=3)
    model.tokenizer = ByteTokenizer()
    contents = collect_contents(model, "abc", target_text="de", kind="cross", layers=[2, 0], analyses=False)
    (attention,) = contents.attention
    end = "⟨end⟩"  # the end token, for which the byte tokenizer has no label
    assert (attention.kind, attention.layers) == ("cross", [0, 2])
    assert (attention.queries, attention.keys) == (["d", "e", end], ["a", "b", "c", end])
    assert "2 of 3 layers" in contents.title
    with pytest.raises(ValueError, match="layer 3 does not exist: layers are 0 to 2"):
        collect_contents(model, "abc", layers=[3])
    with pytest.raises(ValueError, match="unknown theme 'drk', did you mean 'dark'"):
        collect_contents(model, "abc", theme="drk")
    with pytest.raises(ValueError, match="crss"):
        collect_contents(model, "abc", kind="crss")


def test_inputs_that_the_model_cannot_read(tiny):
    model = tiny(GPTModel, vocab_size=100, max_seq_len=16)
    with pytest.raises(ValueError, match="no tokenizer"):
        collect_contents(model, "text")
    with pytest.raises(ValueError, match="empty"):
        collect_contents(model, [])
    with pytest.raises(ValueError, match="No input for the GPTModel"):
        collect_contents(model)
    with pytest.raises(TypeError, match="image"):
        collect_contents(model, image=np.zeros((8, 8)))
    vit = tiny(ViTModel, image_size=16, patch_size=4, num_channels=1, labels=["cat", "dog"])
    with pytest.raises(TypeError, match="takes no text"):
        collect_contents(vit, "text")
    contents = collect_contents(vit, image=np.zeros((8, 12)), analyses=False)
    assert contents.notes == ["stretched from 8 x 12 to 16 x 16 pixels"]
    assert contents.predictions[0].title == "the class"
    assert set(contents.predictions[0].tokens) == {"cat", "dog"}


def test_cut_ids_have_a_note_and_numbers_as_labels(tiny):
    model = tiny(GPTModel, vocab_size=100, max_seq_len=16)
    contents = collect_contents(model, [7] * 20, analyses=False)
    assert contents.notes == ["cut to the model's 16 tokens of 20"]
    assert contents.attention[0].keys == ["7"] * 16
    assert contents.text == "16 token ids"
    bert = tiny(BERTModel, vocab_size=257, max_seq_len=32)
    assert collect_contents(bert, "x", analyses=False).notes == ["read as bytes: the model has no tokenizer"]


def test_long_texts_are_shortened_between_words(tiny):
    model = tiny(GPTModel, vocab_size=257, max_seq_len=64)
    model.tokenizer = ByteTokenizer()
    contents = collect_contents(model, "The people of the United States. " * 20, analyses=False)
    assert contents.text.endswith(" of the United States. …”")
    assert len(contents.text) <= 302
    assert contents.notes == ["cut to the model's 64 tokens of 660", "the last word read is “States”"]
    assert collect_contents(model, "x" * 500, analyses=False).text == f"“{'x' * 299}…”"
    t5 = tiny(T5Model, vocab_size=257, max_seq_len=8)
    t5.tokenizer = ByteTokenizer()
    pair = collect_contents(t5, "one two three", target_text="vier", analyses=False)
    assert pair.notes == ["cut to the model's 8 tokens of 14", "the last word read is “two”"]


@pytest.mark.parametrize(
    ("head", "positions"), [("classification", 1), ("token_classification", 5), ("none", 0)]
)
def test_predictions_of_an_encoder_depend_on_its_task(tiny, head, positions):
    model = tiny(BERTModel, vocab_size=257, max_seq_len=64, head=head, labels=["yes", "no"])
    predictions = collect_contents(model, "which").predictions
    assert [len(unpack_json(entry.data)) for entry in predictions] == [positions] * bool(positions)
    assert all(set(entry.tokens) == {"yes", "no"} for entry in predictions)


def test_labels_of_a_report_are_assigned_to_their_heads(tiny, tmp_path):
    model = tiny(GPTModel, vocab_size=257)
    row = {
        "name": "previous",
        "pattern": "previous",
        "measure": "rate",
        "score": 0.9,
        "low": 0.8,
        "high": 0.95,
    }
    row |= {"control": "random weights", "control_score": 0.2, "main": True}
    rows = [{"layer": 1, "head": 3, **row}, {"layer": 0, "head": 2, **row, "name": ""}]
    HeadReport("tiny", {}, rows).save(tmp_path / "heads.json")
    page = AttentionVisualizer(model).explore("abc", heads_report=tmp_path / "heads.json", analyses=False)
    (name,) = page.contents.head_labels
    assert (name.layer, name.head, name.name, name.score, name.control_score) == (1, 3, "previous", 0.9, 0.2)
    assert "tiny" in page.contents.head_labels_source
    with pytest.raises(ValueError, match=r"labels head 1\.9, which the model does not have"):
        with_head_labels(page.contents, HeadReport("other", {}, [{"layer": 1, "head": 9, **row}]))


def test_on_progress_is_called_when_each_step_begins(tiny):
    messages = []
    collect_contents(tiny(GPTModel, vocab_size=257, max_seq_len=64), "abc", on_progress=messages.append)
    assert messages == [
        "recording attention",
        "computing the logit lens",
        "computing rollout and testing its faithfulness",
        "decomposing attention scores",
    ]
    messages.clear()
    AttentionVisualizer(tiny(GPTModel, vocab_size=257)).explore(
        "abc", analyses=False, on_progress=messages.append
    )
    assert messages == ["recording attention"]


def test_old_names_warn(tiny):
    model = tiny(GPTModel, vocab_size=257)
    with pytest.warns(DeprecationWarning, match="gather is now called collect_contents"):
        gather = explorer.gather
    with pytest.warns(DeprecationWarning, match="'told' of explore.* is now called 'on_progress'"):
        explorer.explore(model, "abc", analyses=False, told=print)
    with pytest.warns(DeprecationWarning, match="'told'"):
        assert gather(model, "abc", analyses=False, told=print).name == "GPTModel"
    with pytest.raises(TypeError, match="unexpected keyword argument 'layer'"):
        explorer.explore(model, "abc", layer=0)
