"""Images as pixel values of the right size, channels and range."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from glassformer.analysis import preprocess_image
from glassformer.models import GPTModel, ViTModel

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
COLOURS = np.stack([GREY, GREY[::-1], GREY.T], axis=-1)


def build(channels=3, **options):
    return ViTModel(8, 4, 8, 1, 2, num_channels=channels, **options)


def test_values_are_normalized_by_channel():
    preprocessed = preprocess_image(build(), COLOURS)
    assert preprocessed.pixel_values.shape == (1, 3, 8, 8)
    assert preprocessed.grid == (2, 2)
    assert preprocessed.notes == ()
    expected = torch.tensor(COLOURS / 255 * 2 - 1, dtype=torch.float32).permute(2, 0, 1)
    torch.testing.assert_close(preprocessed.pixel_values[0], expected)
    torch.testing.assert_close(preprocess_image(build(), COLOURS / 255).pixel_values[0], expected)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("array", [GREY, COLOURS], ids=["grey", "colours"])
def test_a_file_gives_the_pixel_values_of_its_array(array, suffix, tmp_path):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(array).save(path)
    for channels in (1, 3):
        model = build(channels)
        assert torch.equal(
            preprocess_image(model, path).pixel_values, preprocess_image(model, array).pixel_values
        )
        assert torch.equal(
            preprocess_image(model, str(path)).pixel_values, preprocess_image(model, path).pixel_values
        )


def test_images_are_converted_to_the_channels_of_the_model():
    same = preprocess_image(build(3), GREY).pixel_values[0]
    assert torch.equal(same[0], same[1])
    assert torch.equal(same[1], same[2])
    grey = np.asarray(Image.fromarray(COLOURS).convert("L"))
    ours = (preprocess_image(build(1), COLOURS).pixel_values[0, 0] + 1) / 2 * 255
    assert np.abs(ours.numpy() - grey).max() < 1  # theirs is rounded
    assert torch.equal(
        preprocess_image(build(1), GREY[..., None]).pixel_values,
        preprocess_image(build(1), GREY).pixel_values,
    )


def test_an_image_of_another_size_is_resized_with_a_note():
    preprocessed = preprocess_image(build(), np.full((30, 17, 3), 255, dtype=np.uint8))
    assert preprocessed.pixel_values.shape == (1, 3, 8, 8)
    assert preprocessed.notes == ("stretched from 30 x 17 to 8 x 8 pixels",)
    square = preprocess_image(build(), np.full((30, 30, 3), 255, dtype=np.uint8))
    assert square.notes == ("resized from 30 x 30 to 8 x 8 pixels",)
    torch.testing.assert_close(preprocessed.pixel_values, torch.ones(1, 3, 8, 8))


def test_a_tensor_of_any_size_is_not_changed():
    pixels = torch.randn(3, 12, 8)
    preprocessed = preprocess_image(build(), pixels)
    assert torch.equal(preprocessed.pixel_values, pixels[None])
    assert preprocessed.grid == (3, 2)
    assert torch.equal(preprocess_image(build(), pixels[None]).pixel_values, pixels[None])
    assert preprocess_image(build().double(), pixels).pixel_values.dtype == torch.float64


def test_the_displayed_image_is_the_original():
    rgb = preprocess_image(build(), COLOURS).to_rgb()
    assert rgb.shape == (8, 8, 3)
    np.testing.assert_allclose(rgb, COLOURS / 255, atol=1e-6)
    grey = preprocess_image(build(1), GREY).to_rgb()
    np.testing.assert_allclose(grey, np.repeat(GREY[..., None], 3, axis=-1) / 255, atol=1e-6)
    pale = np.full((8, 8, 3), 200, np.uint8)
    np.testing.assert_allclose(preprocess_image(build(), pale).to_rgb(), pale / 255, atol=1e-6)
    assert np.isfinite(preprocess_image(build(1), GREY * 0).to_rgb()).all()


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (GREY[0], ValueError, r"\(height, width\) or \(height, width, 3\), not \(8,\)"),
        (np.zeros((8, 8, 2)), ValueError, r"not \(8, 8, 2\)"),
        (np.zeros((0, 8)), ValueError, "integers from 0 to 255"),
        (GREY / 1.0, ValueError, "floats from 0 to 1"),
        (GREY.astype(np.int64) * 9, ValueError, "integers from 0 to 255"),
        (torch.randn(2, 3, 8, 8), ValueError, "one image at a time, not 2"),
        (torch.randn(1, 8, 8), ValueError, "3 channels"),
        (torch.randn(3, 8, 9), ValueError, "no multiple of the patch size"),
        (torch.zeros(3, 8, 8, dtype=torch.long), TypeError, "floating-point"),
        ([[0, 1]], TypeError, "a file, an array or a tensor, not list"),
        ("nowhere.png", FileNotFoundError, "nowhere.png"),
    ],
)
def test_invalid_images_raise_errors(image, error, message):
    with pytest.raises(error, match=message):
        preprocess_image(build(), image)


def test_models_of_two_channels_take_only_tensors():
    with pytest.raises(ValueError, match="for 2 channels give a tensor"):
        preprocess_image(build(2), COLOURS)
    assert preprocess_image(build(2), torch.randn(2, 8, 8)).grid == (2, 2)


def test_a_file_without_an_image_raises_an_error(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(OSError, match=r"a\.png"):
        preprocess_image(build(), tmp_path / "a.png")


def _png(width, height):
    """The header of a large image, without its pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height"),
    [(13_000, 13_000), (50_000_001, 1), (1, 50_000_001), (60_000, 60_000), (2**31 - 1,) * 2],
)
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch, width, height):
    path = tmp_path / "large.png"
    path.write_bytes(_png(width, height))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    with pytest.raises(ValueError, match=r"large\.png cannot be read as an image: .*pixels"):
        preprocess_image(build(), path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tiff", "webp"])
def test_damaged_files_are_named(tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    assert preprocess_image(build(), path).grid == (2, 2)
    for length in (len(whole) // 2, len(whole) // 4, 60, 30):
        path.write_bytes(whole[:length])
        with pytest.raises((ValueError, OSError), match=rf"photo\.{suffix}"):
            preprocess_image(build(), path)


def test_a_model_of_texts_takes_no_images():
    with pytest.raises(TypeError, match="a GPTModel takes no images: give it a text"):
        preprocess_image(GPTModel(5, 4, 1, 1), GREY)


def test_files_of_sixteen_bits_and_of_transparent_images(tmp_path):
    model = ViTModel(8, 4, 16, 1, 2, num_channels=1)
    grey = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "eight.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    expected = preprocess_image(model, tmp_path / "eight.png").pixel_values
    sixteen = preprocess_image(model, tmp_path / "sixteen.png").pixel_values
    torch.testing.assert_close(sixteen, expected, atol=1e-6, rtol=0)
    black = np.zeros((8, 8), np.uint8)  # black with the shape in the alpha channel
    Image.merge("LA", [Image.fromarray(black), Image.fromarray(255 - grey)]).save(tmp_path / "ink.png")
    ink = preprocess_image(model, tmp_path / "ink.png")
    torch.testing.assert_close(ink.pixel_values, expected, atol=2 / 255 / 0.5, rtol=0)
    assert ink.notes == ("transparent areas were filled with white", "converted from LA to L")
    Image.fromarray(grey.astype(np.int32) * 70_000).save(tmp_path / "more.tiff")
    with pytest.raises(ValueError, match="floats from 0 to 1"):
        preprocess_image(model, tmp_path / "more.tiff")
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "real.tiff")
    with pytest.raises(ValueError, match="range of an image of floating-point values is not known"):
        preprocess_image(model, tmp_path / "real.tiff")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_rotated_by_its_exif_orientation(orientation, tmp_path):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(COLOURS).save(tmp_path / "photo.png", exif=exif)
    preprocessed = preprocess_image(build(), tmp_path / "photo.png")
    turns = {
        **{1: COLOURS, 2: COLOURS[:, ::-1], 3: COLOURS[::-1, ::-1], 4: COLOURS[::-1]},
        **{5: COLOURS.swapaxes(0, 1), 6: np.rot90(COLOURS, -1), 8: np.rot90(COLOURS)},
        7: COLOURS[::-1, ::-1].swapaxes(0, 1),
    }
    expected = preprocess_image(build(), np.ascontiguousarray(turns[orientation])).pixel_values
    assert torch.equal(preprocessed.pixel_values, expected)
    assert preprocessed.notes == (("rotated by its EXIF orientation",) if orientation > 1 else ())


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
def test_an_image_of_another_mode_is_converted_with_a_note(mode, channels, notes, tmp_path):
    image = Image.fromarray(GREY.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(COLOURS)
    image = image if image.mode == mode else image.convert(mode)
    model = build(channels)
    preprocessed = preprocess_image(model, image)
    assert preprocessed.notes == notes
    image.save(tmp_path / "image.tiff")
    from_file = preprocess_image(model, tmp_path / "image.tiff")
    assert from_file.notes == notes
    assert torch.equal(from_file.pixel_values, preprocessed.pixel_values)


def test_pixel_values_outside_the_range_of_images_are_scaled_for_display():
    rgb = preprocess_image(build(), torch.linspace(-9, 30, 192).view(3, 8, 8)).to_rgb()
    assert (rgb.min(), rgb.max()) == (0, 1)
    model = build(pixel_mean=[0.5, 0.4, 0.3], pixel_std=[0.2, 0.3, 0.4])
    np.testing.assert_allclose(preprocess_image(model, COLOURS).to_rgb(), COLOURS / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_only_transparent_images_have_a_note_on_transparency(mode, tmp_path):
    opaque = Image.fromarray(COLOURS).convert(mode)
    opaque.save(tmp_path / "opaque.png")
    assert preprocess_image(build(), tmp_path / "opaque.png").notes == (f"converted from {mode} to RGB",)
    if mode == "P":
        opaque.save(tmp_path / "clear.png", transparency=opaque.getpixel((0, 0)))
    else:
        opaque.putalpha(100)
        opaque.save(tmp_path / "clear.png")
    notes = preprocess_image(build(), tmp_path / "clear.png").notes
    assert notes == ("transparent areas were filled with white", f"converted from {mode} to RGB")


def test_the_first_frame_of_an_animation_is_used(tmp_path):
    frames = [Image.fromarray(COLOURS), Image.fromarray(COLOURS[::-1].copy())]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    notes = preprocess_image(build(), tmp_path / "moving.gif").notes
    assert notes[0] == "first frame of 2"
