"""Classification of texts and images: figures, baselines, moved images, and whole runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from glassformer.data.examples import Batch
from glassformer.data.images import Images
from glassformer.models import BERTModel, TransformerModel, ViTModel
from glassformer.tokenization import WordPieceTokenizer
from glassformer.training import (
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    TaskConfig,
    text_classification,
    train,
)
from glassformer.training.bag_of_words import BagOfWords, bag_of_words_accuracy
from glassformer.training.image_classification import ImageBatches, ImageClassification, image_batch, move
from glassformer.training.text_classification import Classification, classification_figures


class Fixed(torch.nn.Module):
    """Answers with the logits that it is given."""

    device = torch.device("cpu")

    def forward(self, pixel_values):
        return pixel_values


def test_figures_are_over_all_batches():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 5.0], [1.0, 0.0]])
    labels = torch.tensor([0, 0, 0, 1, 1])
    batches = [
        Batch({"pixel_values": logits[:2], "labels": labels[:2]}),
        Batch({"pixel_values": logits[2:], "labels": labels[2:]}),
    ]
    figures = classification_figures(Fixed(), batches)
    assert figures["accuracy"] == pytest.approx(3 / 5)
    assert figures["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert figures["loss"] == pytest.approx(F.cross_entropy(logits, labels).item())
    smooth = Classification(label_smoothing=0.2)
    assert smooth(Fixed(), batches[0]).item() == pytest.approx(
        F.cross_entropy(logits[:2], labels[:2], label_smoothing=0.2).item()
    )
    assert smooth.count(batches[1]) == 3


def test_a_bag_of_words_learns_which_words_matter():
    random = np.random.default_rng(0)
    filler = [" ".join(random.choice(["of", "the", "and", "to"], 12)) for _ in range(200)]
    labels = ["war" if number % 2 else "peace" for number in range(200)]
    texts = [
        f"{text} {'battle' if label == 'war' else 'treaty'}"
        for text, label in zip(filler, labels, strict=True)
    ]
    assert bag_of_words_accuracy(texts[:150], labels[:150], texts[150:], labels[150:]) == 1.0
    assert 0.2 < bag_of_words_accuracy(filler[:150], labels[:150], filler[150:], labels[150:]) < 0.8


def test_the_bag_of_words_is_at_the_minimum_of_its_loss():
    texts, labels = ["a b", "b c c", "a a d", "c d"], [0, 1, 0, 1]
    model = BagOfWords(texts, labels, decay=1e-2)
    features = model.features(texts)
    torch.testing.assert_close(features.to_dense().norm(dim=1), torch.ones(4))
    loss = F.cross_entropy(model(features), torch.tensor(labels)) + 1e-2 * model.layer.weight.square().sum()
    for gradient in torch.autograd.grad(loss, list(model.parameters())):
        assert gradient.abs().max() < 1e-4
    assert model.features(["unknown words"]).to_dense().abs().sum() == 0


def test_images_are_moved_by_pixels_and_turned_about_their_middle():
    image = torch.zeros(1, 1, 5, 7)
    image[0, 0, 1, 2] = 1.0
    still = move(image, torch.zeros(1, 2), torch.zeros(1))
    torch.testing.assert_close(still, image)
    moved = move(image, torch.tensor([[2.0, 1.0]]), torch.zeros(1))
    assert moved[0, 0].argmax() == 2 * 7 + 4
    torch.testing.assert_close(moved.sum(), torch.tensor(1.0))
    square = torch.zeros(1, 1, 5, 5)
    square[0, 0, 2, 4] = 1.0  # right of the middle
    for degrees, place in ((90.0, (0, 2)), (180.0, (2, 0)), (-90.0, (4, 2))):
        turned = move(square, torch.zeros(1, 2), torch.tensor([degrees]))
        assert divmod(int(turned[0, 0].argmax()), 5) == place
    both = move(square, torch.tensor([[1.0, 0.0]]), torch.tensor([90.0]))
    assert divmod(int(both[0, 0].argmax()), 5) == (0, 3)  # turned first, then moved


def test_image_batches_depend_on_their_number_alone():
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


def tiny(config, task, data, model, **changes):
    return replace(
        config,
        task=TaskConfig(task),
        data=data,
        model=model,
        batch_size=16,
        optimizer=OptimizerConfig(learning_rate=3e-3),
        evaluation=EvaluationConfig(every=0),
        **changes,
    )


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


def test_texts_from_a_file_to_figures(config, texts, console):
    result = train(tiny(config, "text-classification", texts, SMALL_BERT, steps=200), console=console)
    assert result.results["test_accuracy"] == 1.0
    assert result.results["test_bag_of_words_accuracy"] == 1.0
    assert 0.3 < result.results["test_commonest_label_accuracy"] < 0.7
    assert json.loads((result.run_folder / "results.json").read_text()) == result.results
    model = TransformerModel.from_pretrained(result.checkpoint)
    assert model.labels == ["peace", "war"]
    ids = model.tokenizer.add_marks(model.tokenizer.encode("number 7 of the battle and so on"))
    assert model.labels[int(model(torch.tensor([ids])).argmax())] == "war"


def test_fine_tuning_starts_from_the_weights_and_the_tokenizer_of_a_model(config, texts, console, tmp_path):
    torch.manual_seed(3)
    tokenizer = WordPieceTokenizer.train(["number of the battle treaty and so on 0123456789"] * 3, 60)
    start = BERTModel(tokenizer.vocab_size, 16, 1, 2, max_seq_len=24, head="masked_lm", residual="pre")
    start.tokenizer = tokenizer
    start.save_pretrained(tmp_path / "start")
    run = tiny(config, "text-classification", texts, ModelConfig(start_from=str(tmp_path / "start")), steps=1)
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
    # A run's folder stands for its best checkpoint.
    again = replace(run, run_folder=str(tmp_path / "again"), model=ModelConfig(start_from=run.run_folder))
    assert train(again, console=console).status == "finished"


@pytest.mark.parametrize(
    ("labels", "tokenizer", "message"),
    [
        ("xxxx", "wordpiece", "the label 'x' only; two are needed"),
        ("abcdefghijkl", "wordpiece", "choose another data.split_seed"),
        ("xyxyxyxyxy", "byte", "must be bpe, wordpiece, or a tokenizer.json, not 'byte'"),
    ],
)
def test_texts_that_cannot_be_told_apart(config, tmp_path, console, labels, tokenizer, message):
    file = tmp_path / "own.tsv"
    file.write_text("".join(f"text {n}\t{label}\n" for n, label in enumerate(labels)), encoding="utf-8")
    data = DataConfig(str(file), tokenizer, 40, seq_len=8, fractions=(0.5, 0.25, 0.25), folder=str(tmp_path))
    with pytest.raises(ValueError, match=message):
        train(tiny(config, "text-classification", data, SMALL_BERT), console=console)


def test_a_run_with_a_trained_tokenizer_goes_on_to_the_bit(config, texts, console, tmp_path):
    run = tiny(config, "text-classification", texts, SMALL_BERT, steps=8)
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


def test_finished_runs_are_not_tested_again(config, texts, console, monkeypatch):
    run = tiny(config, "text-classification", texts, SMALL_BERT, steps=2)
    first = train(run, console=console)
    monkeypatch.setattr(text_classification, "bag_of_words_accuracy", None)
    assert train(run, resume=True, console=console).results == first.results


def test_texts_longer_than_the_model_are_known_before_the_run(config, texts, console, tmp_path):
    run = tiny(config, "text-classification", texts, replace(SMALL_BERT, max_seq_len=16))
    with pytest.raises(ValueError, match="seq_len=24 is more than the model reads at once: max_seq_len=16"):
        train(run, console=console)
    assert not (tmp_path / "run").exists()


def test_images_from_a_file_to_figures(config, console, tmp_path):
    random = np.random.default_rng(0)
    images = random.random((200, 8, 8)) * 0.2
    labels = np.arange(200) % 2
    images[labels == 1, :4] += 0.6  # the upper half is bright
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    data = DataConfig(str(tmp_path / "own.npz"), fractions=(0.6, 0.2, 0.2), folder=str(tmp_path))
    model = ModelConfig("vit", "none", d_model=16, num_layers=1, num_heads=2, options={"patch_size": 4})
    run = tiny(config, "image-classification", data, model, steps=40)
    result = train(run, console=console)
    assert result.results["test_accuracy"] == 1.0
    assert TransformerModel.from_pretrained(result.checkpoint).config["image_size"] == 8
    oblong = tmp_path / "oblong.npz"
    np.savez(oblong, images=images[:, :4], labels=labels)
    wrong = replace(run, data=replace(data, source=str(oblong)), run_folder=str(tmp_path / "other"))
    with pytest.raises(ValueError, match="images must be square, not 4 x 8"):
        train(wrong, console=console)
    odd = replace(run, model=replace(model, options={"patch_size": 3}), run_folder=str(tmp_path / "other"))
    with pytest.raises(ValueError, match="image_size=8 is no multiple of patch_size=3"):
        train(odd, console=console)
    assert not (tmp_path / "other").exists()


def test_images_are_read_in_the_scale_of_the_model():
    model = ViTModel(8, 4, 16, 1, 2, num_channels=1, labels=3, pixel_mean=0.25, pixel_std=0.5)
    torch.nn.init.normal_(model.head.classifier.weight)
    images = Images(np.random.default_rng(0).random((6, 1, 8, 8), np.float32), np.arange(6) % 3)
    batch = image_batch(images)
    logits = model((torch.from_numpy(images.pixels) - 0.25) / 0.5)
    expected = F.cross_entropy(logits, batch.tensors["labels"])
    torch.testing.assert_close(ImageClassification()(model, batch), expected)
    figures = classification_figures(model, [batch], ImageClassification())
    assert figures["loss"] == pytest.approx(expected.item())


def test_a_text_has_room_beside_its_marks(config, texts, console, tmp_path):
    run = tiny(config, "text-classification", replace(texts, seq_len=2), SMALL_BERT)
    with pytest.raises(ValueError, match="seq_len must leave room for a token beside the 2 marks, not 2"):
        train(run, console=console)
    assert not (tmp_path / "run").exists()


def test_the_first_loss_of_a_classifier_is_that_of_guessing(config, texts, console):
    result = train(tiny(config, "text-classification", texts, SMALL_BERT, steps=1), console=console)
    first = json.loads((result.run_folder / "metrics.jsonl").read_text().splitlines()[0])
    assert first["validation_loss"] == pytest.approx(math.log(2), abs=0.1)
