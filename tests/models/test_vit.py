"""ViTModel. Parity with Hugging Face: ``tests/pretrained``."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from glassformer.models import ViTModel


def small(**options):
    sizes = {
        "image_size": 12,
        "patch_size": 4,
        "num_channels": 1,
        "d_model": 16,
        "num_layers": 2,
        "num_heads": 4,
    }
    return ViTModel(**{**sizes, "labels": 3, **options}).eval()


IMAGES = torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def test_the_output_depends_on_the_head():
    assert small()(IMAGES).shape == (2, 3)
    assert small(head="none")(IMAGES).shape == (2, 1 + 9, 16)
    assert small(head="none", num_registers=4)(IMAGES).shape == (2, 1 + 4 + 9, 16)
    assert small(labels=["cat", "dog"]).labels == ["cat", "dog"]


def test_patches_are_ordered_row_by_row():
    model = small(head="none", num_layers=1)
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    model(IMAGES)
    patch = IMAGES[:, :, 4:8, 8:12]  # second row, third column
    expected = (patch.flatten(1) @ model.patch_embedding.weight.flatten(1).T) + model.patch_embedding.bias
    torch.testing.assert_close(seen[0][:, 1 + 5], expected + model.positions.table[1 + 5])
    torch.testing.assert_close(seen[0][0, 0], model.class_token[0, 0] + model.positions.table[0])


def test_positions_of_another_image_size_are_interpolated():
    model = small(head="none")
    assert model(torch.randn(1, 1, 20, 8)).shape == (1, 1 + 5 * 2, 16)
    assert torch.equal(model.positions((3, 3)), model.positions.table)
    resized = model.positions((5, 2))
    torch.testing.assert_close(resized[0], model.positions.table[0])
    grid = model.positions.table[1:].T.reshape(1, 16, 3, 3)
    expected = F.interpolate(grid, size=(5, 2), mode="bicubic", align_corners=False)
    torch.testing.assert_close(resized[1:], expected[0].flatten(1).T)


def test_pixel_values_are_images_normalized_channel_by_channel():
    images = torch.rand(2, 1, 12, 12)
    torch.testing.assert_close(small().normalize(images), images * 2 - 1)
    coloured = small(num_channels=3, pixel_mean=[0.1, 0.2, 0.3], pixel_std=[1.0, 2.0, 4.0])
    image = torch.rand(3, 12, 12)
    for channel, (mean, std) in enumerate(((0.1, 1.0), (0.2, 2.0), (0.3, 4.0))):
        torch.testing.assert_close(coloured.normalize(image)[channel], (image[channel] - mean) / std)


def test_layer_scale_starts_close_to_the_identity():
    model = small(head="none", layer_scale=1e-6)
    stream = []
    model.blocks[0].register_forward_pre_hook(lambda module, arguments: stream.append(arguments[0]))
    model.blocks[-1].register_forward_hook(lambda module, arguments, output: stream.append(output))
    model(IMAGES)
    torch.testing.assert_close(stream[0], stream[1], atol=1e-4, rtol=0)
    assert not torch.equal(stream[0], stream[1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: small()(IMAGES.expand(-1, 3, -1, -1)),
            ValueError,
            r"1 channels.*not of shape \(2, 3, 12, 12\)",
        ),
        (lambda: small()(IMAGES[0]), ValueError, r"not of shape \(1, 12, 12\)"),
        (
            lambda: small()(torch.randn(1, 1, 12, 10)),
            ValueError,
            "12 x 10 pixels, no multiple of the patch size 4",
        ),
        (lambda: small()(torch.randn(1, 1, 0, 12)), ValueError, "0 x 12 pixels"),
        (lambda: small()(IMAGES.byte()), TypeError, "floating-point numbers, not torch.uint8"),
        (lambda: small(patch_size=5), ValueError, "image_size=12 is not a multiple of patch_size=5"),
        (lambda: small(num_registers=-1), ValueError, "num_registers must not be negative"),
        (lambda: small(head="masked_lm"), ValueError, "classification"),
        (
            lambda: small(pixel_mean=[0.1, 0.2]),
            ValueError,
            "pixel_mean must be one number, or one for each of 1",
        ),
        (lambda: small(pixel_std=0.0), ValueError, "pixel_std must be positive"),
    ],
)
def test_errors_name_the_mistake(call, error, message):
    with pytest.raises(error, match=message):
        call()
