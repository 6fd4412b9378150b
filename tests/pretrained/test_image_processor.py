"""Pixel normalization in checkpoints."""

from __future__ import annotations

import json

import pytest

from glassformer import from_pretrained, save_pretrained
from glassformer.models import ViTModel

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def test_mean_and_standard_deviation_round_trip(tmp_path):
    model = ViTModel(32, 16, 24, 1, 4, labels=3, pixel_mean=MEAN, pixel_std=STD)
    save_pretrained(model, tmp_path, format="huggingface")
    again = from_pretrained(tmp_path)
    assert (again.pixel_mean, again.pixel_std) == (MEAN, STD)
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert written["size"] == {"height": 32, "width": 32}


@pytest.mark.parametrize(
    ("values", "mean", "std"),
    [
        ({"image_mean": MEAN, "image_std": STD}, MEAN, STD),
        ({"size": 32, "resample": 2, "do_resize": True, "do_center_crop": False}, [0.5] * 3, [0.5] * 3),
        ({"do_normalize": False}, [0.0] * 3, [1.0] * 3),
        ({}, [0.5] * 3, [0.5] * 3),
        (None, [0.5] * 3, [0.5] * 3),
    ],
)
def test_pixel_normalization_is_read_from_the_folder(tmp_path, values, mean, std):
    save_pretrained(ViTModel(32, 16, 24, 1, 4, labels=3), tmp_path, format="huggingface")
    file = tmp_path / "preprocessor_config.json"
    file.unlink()
    if values is not None:
        file.write_text(json.dumps(values))
    model = from_pretrained(tmp_path)
    assert (model.pixel_mean, model.pixel_std) == (mean, std)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rescale_factor": 1 / 127.5}, "rescale_factor = 0.0078.* is not implemented, only 1 / 255"),
        ({"do_rescale": False}, "rescale_factor = 1.0 is not implemented"),
        ({"rescale_factor": "x"}, "rescale_factor must be a number, got 'x'"),
        ({"size": 16}, "size = 16 is not implemented, only 32 or {'height': 32, 'width': 32}"),
        ({"size": {"height": 32, "width": 16}}, "size = {'height': 32, 'width': 16} is not implemented"),
        ({"size": {"shortest_edge": 32}}, "size = {'shortest_edge': 32} is not implemented"),
        ({"do_center_crop": True}, "do_center_crop = True is not implemented, only False"),
        ({"do_resize": False}, "do_resize = False is not implemented, only True"),
        ({"resample": 0}, "resample = 0 is not implemented, only 2"),
        ({"image_std": [0.5, 0.5, float("nan")]}, "image_std must be a number or a list of numbers"),
        ({"image_mean": True}, "image_mean must be a number or a list of numbers, got True"),
        ({"image_mean": "gray"}, "image_mean must be a number or a list of numbers, got 'gray'"),
        ({"image_mean": [0.5, 0.5]}, "pixel_mean must be one number, or one for each of 3 channels"),
    ],
)
def test_preprocessing_that_is_not_implemented_is_an_error(tmp_path, values, message):
    save_pretrained(ViTModel(32, 16, 24, 1, 4, labels=3), tmp_path, format="huggingface")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        from_pretrained(tmp_path)
