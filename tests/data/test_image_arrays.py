"""Images in memory: what a predictor makes of each dtype and shape."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lucidet.data.image_arrays import image_in_format

BGR = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        BGR,
        BGR.astype(np.float32),
        BGR.astype(np.float64),
        BGR.astype(np.int64),
        BGR.astype(np.uint16) * 257,
    ],
    ids=lambda image: str(image.dtype),
)
def test_every_dtype_means_the_same(image):
    np.testing.assert_array_equal(image_in_format(image, "BGR"), BGR)
    np.testing.assert_array_equal(image_in_format(image, "RGB"), BGR[:, :, ::-1])
    grey = np.asarray(Image.fromarray(BGR[:, :, ::-1].copy()).convert("L"))[:, :, None]
    np.testing.assert_array_equal(image_in_format(image, "L"), grey)
    assert image_in_format(image, "YUV-BT.601").max() <= 1


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1)])
def test_grey_for_a_model_of_one_channel(shape):
    image = BGR[..., 0].reshape(shape)
    np.testing.assert_array_equal(image_in_format(image, "L"), BGR[..., :1])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (BGR / 255.0, r"float64 has values .* to 0.9.*, expected 0..255: is it scaled to 0..1"),
        (BGR - 100.0, "has values -.* to .*, expected 0..255"),
        (np.full((4, 4, 3), np.nan), "values nan to nan"),
        (BGR.astype(np.int32) * 257, "int32 has values .* to 6.*, expected"),
        (BGR[..., 0], r"shape \(H, W, 3\), got ndarray of shape \(6, 8\); could the file be read"),
        (np.zeros((4, 4, 4), np.uint8), r"of shape \(4, 4, 4\)"),
        (None, "got NoneType of shape None"),
        ("photo.jpg", "got str"),
    ],
)
def test_what_has_no_meaning_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        image_in_format(image, "BGR")


def test_black_and_empty_images():
    assert image_in_format(np.zeros((4, 4, 3)), "BGR").max() == 0
    assert image_in_format(np.zeros((4, 4, 3), bool), "BGR").dtype == np.uint8
    assert image_in_format(np.zeros((0, 4, 3)), "BGR").shape == (0, 4, 3)
