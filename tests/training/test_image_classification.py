"""Image classification: random shifts and rotations, normalization, and whole runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from glassformer.data.images import Images
from glassformer.models import TransformerModel, ViTModel
from glassformer.training import DataConfig, ModelConfig, train
from glassformer.training.image_classification import (
    ImageBatches,
    ImageClassification,
    image_batch,
    shift_and_rotate,
)
from glassformer.training.text_classification import evaluate_classifier


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
