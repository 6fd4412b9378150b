"""Classification of texts and of images."""

from __future__ import annotations

import json
import math
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from glassformer.data.batches import Batch
from glassformer.data.images import Images, shift_and_rotate
from glassformer.models import BERTModel, TransformerModel, ViTModel
from glassformer.tokenization import WordPieceTokenizer
from glassformer.training import DataConfig, ModelConfig, OptimizerConfig, classification, train
from glassformer.training.classification import (
    Classification,
    ImageBatches,
    ImageClassification,
    evaluate_classifier,
    image_batch,
)


class Fixed(torch.nn.Module):
    """A model whose logits are its input."""

    device = torch.device("cpu")

    def forward(self, pixel_values):
        return pixel_values


def test_metrics_are_over_all_batches():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 5.0], [1.0, 0.0]])
    labels = torch.tensor([0, 0, 0, 1, 1])
    batches = [
        Batch({"pixel_values": logits[:2], "labels": labels[:2]}),
        Batch({"pixel_values": logits[2:], "labels": labels[2:]}),
    ]
    metrics = evaluate_classifier(Fixed(), batches)
    assert metrics["accuracy"] == pytest.approx(3 / 5)
    assert metrics["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert metrics["loss"] == pytest.approx(F.cross_entropy(logits, labels).item())
    smooth = Classification(label_smoothing=0.2)
    assert smooth(Fixed(), batches[0]).item() == pytest.approx(
        F.cross_entropy(logits[:2], labels[:2], label_smoothing=0.2).item()
    )
    assert smooth.count(batches[1]) == 3


@pytest.fixture
def texts(tmp_path):
    lines = []
    for number in range(120):
        word, label = ("battle", "war") if number % 2 else ("treaty", "peace")
        lines.append(f"number {number} of the {word} and so on\t{label}\n")
    (tmp_path / "texts.tsv").write_text("".join(lines), encoding="utf-8")
    return DataConfig(
        str(tmp_path / "texts.tsv"),
        "wordpiece",
        80,
        seq_len=24,
        fractions=(0.7, 0.1, 0.2),
        folder=str(tmp_path),
    )


SMALL_BERT = ModelConfig("bert", "none", d_model=16, num_layers=1, num_heads=2, residual="pre")


@pytest.mark.slow
def test_train_on_texts_from_a_file(classifier_config, texts, console):
    result = train(classifier_config("text-classification", texts, SMALL_BERT, steps=200), console=console)
    assert result.results["test_accuracy"] == 1.0
    assert result.results["test_bag_of_words_accuracy"] == 1.0
    assert 0.3 < result.results["test_commonest_label_accuracy"] < 0.7
    assert json.loads((result.run_folder / "results.json").read_text()) == result.results
    model = TransformerModel.from_pretrained(result.checkpoint)
    assert model.labels == ["peace", "war"]
    ids = model.tokenizer.add_special_tokens(model.tokenizer.encode("number 7 of the battle and so on"))
    assert model.labels[int(model(torch.tensor([ids])).argmax())] == "war"


@pytest.mark.slow
def test_fine_tuning_starts_from_the_weights_and_tokenizer_of_a_model(
    classifier_config, texts, console, tmp_path
):
    torch.manual_seed(3)
    tokenizer = WordPieceTokenizer.train(["number of the battle treaty and so on 0123456789"] * 3, 60)
    start = BERTModel(tokenizer.vocab_size, 16, 1, 2, max_seq_len=24, head="masked_lm", residual="pre")
    start.tokenizer = tokenizer
    start.save_pretrained(tmp_path / "start")
    run = classifier_config(
        "text-classification", texts, ModelConfig(start_from=str(tmp_path / "start")), steps=1
    )
    run = replace(run, model=replace(run.model, dropout=0.1), optimizer=OptimizerConfig(learning_rate=0.0))
    tuned = TransformerModel.from_pretrained(train(run, console=console).checkpoint)
    assert tuned.config == {
        **start.config,
        "head": "classification",
        "labels": ["peace", "war"],
        "dropout": 0.1,
    }
    assert torch.equal(tuned.blocks[0].attention.q_proj.weight, start.blocks[0].attention.q_proj.weight)
    assert tuned.tokenizer.encode("battle") == tokenizer.encode("battle")
    # A run folder is accepted in place of a model folder.
    again = replace(run, run_folder=str(tmp_path / "again"), model=ModelConfig(start_from=run.run_folder))
    assert train(again, console=console).status == "finished"


@pytest.mark.parametrize(
    ("labels", "tokenizer", "message"),
    [
        ("xxxx", "wordpiece", "got only 'x' in the training split"),
        ("abcdefghijkl", "wordpiece", "choose another data.split_seed"),
        ("xyxyxyxyxy", "byte", "unknown tokenizer of labeled texts .* 'byte'.*bpe, wordpiece"),
    ],
)
def test_unusable_labels_and_tokenizers_are_rejected(
    classifier_config, tmp_path, console, labels, tokenizer, message
):
    file = tmp_path / "own.tsv"
    file.write_text("".join(f"text {n}\t{label}\n" for n, label in enumerate(labels)), encoding="utf-8")
    data = DataConfig(str(file), tokenizer, 40, seq_len=8, fractions=(0.5, 0.25, 0.25), folder=str(tmp_path))
    with pytest.raises(ValueError, match=message):
        train(classifier_config("text-classification", data, SMALL_BERT), console=console)


@pytest.mark.slow
def test_resuming_uses_the_trained_tokenizer_and_gives_the_same_weights(
    classifier_config, texts, console, tmp_path
):
    run = classifier_config("text-classification", texts, SMALL_BERT, steps=8)
    whole = train(run, console=console)
    again = replace(run, run_folder=str(tmp_path / "again"))
    train(again, console=console)
    last = tmp_path / "again" / "checkpoints" / "step-000008"
    for file in last.iterdir():
        file.unlink()
    last.rmdir()
    resumed = train(again, resume=True, console=console)
    assert (resumed.checkpoint / "model.safetensors").read_bytes() == (
        whole.checkpoint / "model.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_a_finished_run_is_not_evaluated_again(classifier_config, texts, console, monkeypatch):
    run = classifier_config("text-classification", texts, SMALL_BERT, steps=2)
    first = train(run, console=console)
    monkeypatch.setattr(classification, "baseline_accuracies", None)
    assert train(run, resume=True, console=console).results == first.results


@pytest.mark.slow
def test_a_signal_in_the_last_evaluation_leaves_the_test_split_for_a_resumed_run(
    classifier_config, texts, console
):
    run = classifier_config("text-classification", texts, SMALL_BERT, steps=2)
    calls = iter(["before the run", "step 0", "step 2"])

    def sample(model):
        if next(calls) == "step 2":
            signal.raise_signal(signal.SIGTERM)
        return ""

    stopped = train(run, sample=sample, console=console)
    assert (stopped.status, stopped.step, stopped.signal) == ("interrupted", 2, "SIGTERM")
    assert stopped.results is None
    assert "test_accuracy" in train(run, resume=True, console=console).results


def test_sequences_longer_than_the_model_are_rejected_before_training(
    classifier_config, texts, console, tmp_path
):
    run = classifier_config("text-classification", texts, replace(SMALL_BERT, max_seq_len=16))
    with pytest.raises(ValueError, match="at most the model's max_seq_len=16, got 24"):
        train(run, console=console)
    assert not (tmp_path / "run").exists()


def test_seq_len_must_exceed_the_special_tokens(classifier_config, texts, console, tmp_path):
    run = classifier_config("text-classification", replace(texts, seq_len=2), SMALL_BERT)
    with pytest.raises(ValueError, match="seq_len must be above 2, the number of special tokens, got 2"):
        train(run, console=console)
    assert not (tmp_path / "run").exists()


def test_the_initial_loss_of_a_classifier_is_that_of_chance(classifier_config, texts, console):
    result = train(classifier_config("text-classification", texts, SMALL_BERT, steps=1), console=console)
    first = json.loads((result.run_folder / "metrics.jsonl").read_text().splitlines()[0])
    assert first["validation_loss"] == pytest.approx(math.log(2), abs=0.1)


def test_a_bag_of_words_baseline_that_cannot_be_computed_is_skipped(
    classifier_config, texts, console, monkeypatch
):
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    result = train(classifier_config("text-classification", texts, SMALL_BERT, steps=1), console=console)
    assert "test_commonest_label_accuracy" in result.results
    assert "test_bag_of_words_accuracy" not in result.results
    assert "skipped the bag-of-words baseline: it needs scikit-learn" in console.file.getvalue()


def test_images_are_shifted_by_pixels_and_rotated_about_their_center():
    image = torch.zeros(1, 1, 5, 7)
    image[0, 0, 1, 2] = 1.0
    still = shift_and_rotate(image, torch.zeros(1, 2), torch.zeros(1))
    torch.testing.assert_close(still, image)
    moved = shift_and_rotate(image, torch.tensor([[2.0, 1.0]]), torch.zeros(1))
    assert moved[0, 0].argmax() == 2 * 7 + 4
    torch.testing.assert_close(moved.sum(), torch.tensor(1.0))
    square = torch.zeros(1, 1, 5, 5)
    square[0, 0, 2, 4] = 1.0  # right of the center
    for degrees, place in ((90.0, (0, 2)), (180.0, (2, 0)), (-90.0, (4, 2))):
        turned = shift_and_rotate(square, torch.zeros(1, 2), torch.tensor([degrees]))
        assert divmod(int(turned[0, 0].argmax()), 5) == place
    both = shift_and_rotate(square, torch.tensor([[1.0, 0.0]]), torch.tensor([90.0]))
    assert divmod(int(both[0, 0].argmax()), 5) == (0, 3)  # rotated first, then shifted


def test_image_batches_are_functions_of_their_number():
    random = np.random.default_rng(0)
    images = Images(random.random((30, 1, 6, 6), np.float32), np.arange(30))
    first, again = (ImageBatches(images, 8, 0, max_shift=1.0, max_rotation=10.0) for _ in range(2))
    again.batch(0)
    for number in (1, 5):
        a, b = first.batch(number).tensors, again.batch(number).tensors
        assert torch.equal(a["images"], b["images"])
        assert torch.equal(a["labels"], b["labels"])
        original = torch.from_numpy(images.pixels[a["labels"].numpy()])
        assert not torch.allclose(a["images"], original, atol=1e-2)
    plain = ImageBatches(images, 8, 0).batch(1).tensors
    assert torch.equal(plain["images"], torch.from_numpy(images.pixels[plain["labels"].numpy()]))


@pytest.mark.slow
def test_train_on_images_from_a_file(classifier_config, console, tmp_path):
    random = np.random.default_rng(0)
    images = random.random((200, 8, 8)) * 0.2
    labels = np.arange(200) % 2
    images[labels == 1, :4] += 0.6  # the upper half is bright
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    data = DataConfig(str(tmp_path / "own.npz"), fractions=(0.6, 0.2, 0.2), folder=str(tmp_path))
    model = ModelConfig("vit", "none", d_model=16, num_layers=1, num_heads=2, options={"patch_size": 4})
    run = classifier_config("image-classification", data, model, steps=40)
    result = train(run, console=console)
    assert result.results["test_accuracy"] == 1.0
    assert TransformerModel.from_pretrained(result.checkpoint).config["image_size"] == 8
    oblong = tmp_path / "oblong.npz"
    np.savez(oblong, images=images[:, :4], labels=labels)
    wrong = replace(run, data=replace(data, source=str(oblong)), run_folder=str(tmp_path / "other"))
    with pytest.raises(ValueError, match="images must be square, got 4 x 8"):
        train(wrong, console=console)
    odd = replace(run, model=replace(model, options={"patch_size": 3}), run_folder=str(tmp_path / "other"))
    with pytest.raises(ValueError, match="image_size=8 is not a multiple of patch_size=3"):
        train(odd, console=console)
    assert not (tmp_path / "other").exists()


def test_images_are_normalized_as_the_model_expects():
    model = ViTModel(8, 4, 16, 1, 2, num_channels=1, labels=3, pixel_mean=0.25, pixel_std=0.5)
    torch.nn.init.normal_(model.head.classifier.weight)
    images = Images(np.random.default_rng(0).random((6, 1, 8, 8), np.float32), np.arange(6) % 3)
    batch = image_batch(images)
    logits = model((torch.from_numpy(images.pixels) - 0.25) / 0.5)
    expected = F.cross_entropy(logits, batch.tensors["labels"])
    torch.testing.assert_close(ImageClassification()(model, batch), expected)
    metrics = evaluate_classifier(model, [batch], ImageClassification())
    assert metrics["loss"] == pytest.approx(expected.item())
