"""What a model of images reads: pixels of the right size, channels and range."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from glassformer.analysis import read_image
from glassformer.models import GPTModel, ViTModel

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
COLOURS = np.stack([GREY, GREY[::-1], GREY.T], axis=-1)


def build(channels=3, **options):
    return ViTModel(8, 4, 8, 1, 2, num_channels=channels, **options)


def test_values_become_minus_one_to_one_channel_by_channel():
    reading = read_image(build(), COLOURS)
    assert reading.pixel_values.shape == (1, 3, 8, 8)
    assert reading.grid == (2, 2)
    assert reading.notes == ()
    expected = torch.tensor(COLOURS / 255 * 2 - 1, dtype=torch.float32).permute(2, 0, 1)
    torch.testing.assert_close(reading.pixel_values[0], expected)
    torch.testing.assert_close(read_image(build(), COLOURS / 255).pixel_values[0], expected)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("array", [GREY, COLOURS], ids=["grey", "colours"])
def test_a_file_reads_like_its_array(array, suffix, tmp_path):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(array).save(path)
    for channels in (1, 3):
        model = build(channels)
        assert torch.equal(read_image(model, path).pixel_values, read_image(model, array).pixel_values)
        assert torch.equal(read_image(model, str(path)).pixel_values, read_image(model, path).pixel_values)


def test_grey_and_colours_become_what_the_model_has():
    same = read_image(build(3), GREY).pixel_values[0]
    assert torch.equal(same[0], same[1])
    assert torch.equal(same[1], same[2])
    grey = np.asarray(Image.fromarray(COLOURS).convert("L"))
    ours = (read_image(build(1), COLOURS).pixel_values[0, 0] + 1) / 2 * 255
    assert np.abs(ours.numpy() - grey).max() < 1  # theirs is rounded
    assert torch.equal(
        read_image(build(1), GREY[..., None]).pixel_values, read_image(build(1), GREY).pixel_values
    )


def test_another_size_is_resized_and_that_is_said():
    reading = read_image(build(), np.full((30, 17, 3), 255, dtype=np.uint8))
    assert reading.pixel_values.shape == (1, 3, 8, 8)
    assert reading.notes == ("stretched from 30 x 17 to 8 x 8 pixels",)
    square = read_image(build(), np.full((30, 30, 3), 255, dtype=np.uint8))
    assert square.notes == ("resized from 30 x 30 to 8 x 8 pixels",)
    torch.testing.assert_close(reading.pixel_values, torch.ones(1, 3, 8, 8))


def test_a_tensor_is_read_as_it_is_whatever_its_size():
    pixels = torch.randn(3, 12, 8)
    reading = read_image(build(), pixels)
    assert torch.equal(reading.pixel_values, pixels[None])
    assert reading.grid == (3, 2)
    assert torch.equal(read_image(build(), pixels[None]).pixel_values, pixels[None])
    assert read_image(build().double(), pixels).pixel_values.dtype == torch.float64


def test_what_is_shown_is_what_was_read():
    shown = read_image(build(), COLOURS).shown()
    assert shown.shape == (8, 8, 3)
    np.testing.assert_allclose(shown, COLOURS / 255, atol=1e-6)
    grey = read_image(build(1), GREY).shown()
    np.testing.assert_allclose(grey, np.repeat(GREY[..., None], 3, axis=-1) / 255, atol=1e-6)
    pale = np.full((8, 8, 3), 200, np.uint8)
    np.testing.assert_allclose(read_image(build(), pale).shown(), pale / 255, atol=1e-6)
    assert np.isfinite(read_image(build(1), GREY * 0).shown()).all()


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (GREY[0], ValueError, r"\(height, width\) or \(height, width, 3\), not \(8,\)"),
        (np.zeros((8, 8, 2)), ValueError, r"not \(8, 8, 2\)"),
        (np.zeros((0, 8)), ValueError, "numbers from 0 to 255"),
        (GREY / 1.0, ValueError, "fractions from 0 to 1"),
        (GREY.astype(np.int64) * 9, ValueError, "numbers from 0 to 255"),
        (torch.randn(2, 3, 8, 8), ValueError, "one image at a time, not 2"),
        (torch.randn(1, 8, 8), ValueError, "3 channels"),
        (torch.randn(3, 8, 9), ValueError, "not filled by patches"),
        (torch.zeros(3, 8, 8, dtype=torch.long), TypeError, "floating-point"),
        ([[0, 1]], TypeError, "a file, an array or a tensor, not list"),
        ("nowhere.png", FileNotFoundError, "nowhere.png"),
    ],
)
def test_what_is_no_image_is_named(image, error, message):
    with pytest.raises(error, match=message):
        read_image(build(), image)


def test_other_numbers_of_channels_take_tensors_only():
    with pytest.raises(ValueError, match="for 2 channels give a tensor"):
        read_image(build(2), COLOURS)
    assert read_image(build(2), torch.randn(2, 8, 8)).grid == (2, 2)


def test_a_file_that_is_no_image_is_an_error_of_the_file(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(OSError, match=r"a\.png"):
        read_image(build(), tmp_path / "a.png")


def test_a_model_of_texts_reads_no_images():
    with pytest.raises(TypeError, match="a GPTModel reads no images: give it a text"):
        read_image(GPTModel(5, 4, 1, 1), GREY)


def test_files_of_sixteen_bits_and_of_transparent_images(tmp_path):
    model = ViTModel(8, 4, 16, 1, 2, num_channels=1)
    grey = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "eight.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    expected = read_image(model, tmp_path / "eight.png").pixel_values
    sixteen = read_image(model, tmp_path / "sixteen.png").pixel_values
    torch.testing.assert_close(sixteen, expected, atol=1e-6, rtol=0)
    black = np.zeros((8, 8), np.uint8)  # black ink whose shape is in alpha, on nothing
    Image.merge("LA", [Image.fromarray(black), Image.fromarray(255 - grey)]).save(tmp_path / "ink.png")
    ink = read_image(model, tmp_path / "ink.png")
    torch.testing.assert_close(ink.pixel_values, expected, atol=2 / 255 / 0.5, rtol=0)
    assert ink.notes == ("what is transparent was put on white", "converted from LA to L")
    Image.fromarray(grey.astype(np.int32) * 70_000).save(tmp_path / "more.tiff")
    with pytest.raises(ValueError, match="fractions from 0 to 1"):
        read_image(model, tmp_path / "more.tiff")
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "real.tiff")
    with pytest.raises(ValueError, match="says not where white is"):
        read_image(model, tmp_path / "real.tiff")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(orientation, tmp_path):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(COLOURS).save(tmp_path / "photo.png", exif=exif)
    reading = read_image(build(), tmp_path / "photo.png")
    turns = {
        **{1: COLOURS, 2: COLOURS[:, ::-1], 3: COLOURS[::-1, ::-1], 4: COLOURS[::-1]},
        **{5: COLOURS.swapaxes(0, 1), 6: np.rot90(COLOURS, -1), 8: np.rot90(COLOURS)},
        7: COLOURS[::-1, ::-1].swapaxes(0, 1),
    }
    expected = read_image(build(), np.ascontiguousarray(turns[orientation])).pixel_values
    assert torch.equal(reading.pixel_values, expected)
    assert reading.notes == (("turned upright as its EXIF says",) if orientation > 1 else ())


@pytest.mark.parametrize(
    ("mode", "channels", "notes"),
    [
        ("L", 3, ("converted from L to RGB",)),
        ("P", 3, ("converted from P to RGB",)),
        ("CMYK", 3, ("converted from CMYK to RGB",)),
        ("I;16", 1, ("converted from I;16 to L",)),
        ("RGB", 1, ("converted from RGB to L",)),
        ("1", 1, ("converted from 1 to L",)),
        ("L", 1, ()),
        ("RGB", 3, ()),
    ],
)
def test_an_image_of_another_mode_is_converted_and_that_is_said(mode, channels, notes, tmp_path):
    image = Image.fromarray(GREY.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(COLOURS)
    image = image if image.mode == mode else image.convert(mode)
    model = build(channels)
    reading = read_image(model, image)
    assert reading.notes == notes
    image.save(tmp_path / "image.tiff")
    from_file = read_image(model, tmp_path / "image.tiff")
    assert from_file.notes == notes
    assert torch.equal(from_file.pixel_values, reading.pixel_values)


def test_pixel_values_that_are_of_no_image_are_stretched_to_be_seen():
    shown = read_image(build(), torch.linspace(-9, 30, 192).view(3, 8, 8)).shown()
    assert (shown.min(), shown.max()) == (0, 1)
    model = build(pixel_mean=[0.5, 0.4, 0.3], pixel_std=[0.2, 0.3, 0.4])
    np.testing.assert_allclose(read_image(model, COLOURS).shown(), COLOURS / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_said_of_what_is_transparent(mode, tmp_path):
    opaque = Image.fromarray(COLOURS).convert(mode)
    opaque.save(tmp_path / "opaque.png")
    assert read_image(build(), tmp_path / "opaque.png").notes == (f"converted from {mode} to RGB",)
    if mode == "P":
        opaque.save(tmp_path / "clear.png", transparency=opaque.getpixel((0, 0)))
    else:
        opaque.putalpha(100)
        opaque.save(tmp_path / "clear.png")
    notes = read_image(build(), tmp_path / "clear.png").notes
    assert notes == ("what is transparent was put on white", f"converted from {mode} to RGB")


def test_an_animation_is_read_by_its_first_frame(tmp_path):
    frames = [Image.fromarray(COLOURS), Image.fromarray(COLOURS[::-1].copy())]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    notes = read_image(build(), tmp_path / "moving.gif").notes
    assert notes[0] == "first frame of 2"
