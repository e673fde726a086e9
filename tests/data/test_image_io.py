from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from lucidet.data.detection_utils import convert_image_to_rgb, convert_PIL_to_numpy, read_image
from tests.data.conftest import save_image


def reference(path) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 are invalid values
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    path = tmp_path / f"x.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    save_image(path, 20, 30, exif=exif)
    np.testing.assert_array_equal(read_image(path, "RGB"), reference(path))
    np.testing.assert_array_equal(read_image(path, "BGR"), reference(path)[:, :, ::-1])


def test_real_jpegs_decode_as_with_pil(datasets_dir):
    paths = sorted((datasets_dir / "coco" / "val2017").glob("*.jpg"))[:10]
    for path in paths:
        difference = np.abs(read_image(path, "RGB").astype(int) - reference(path))
        assert difference.max() <= 1, path  # 0 where both bring the same libjpeg-turbo


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_that_are_not_rgb(tmp_path, mode):
    path = tmp_path / "x.jpg"
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(image).convert(mode).save(path)
    np.testing.assert_array_equal(read_image(path, "RGB"), reference(path))


def test_grey_palette_and_transparency(tmp_path):
    path = tmp_path / "x.png"
    save_image(path, 8, 9)
    assert read_image(path, "L").shape == (8, 9, 1)
    assert read_image(path).shape == (8, 9, 3)
    Image.open(path).convert("P").save(path)
    assert read_image(path, "BGR").shape == (8, 9, 3)
    Image.new("RGBA", (9, 8)).save(path)
    assert read_image(path, "RGB").shape == (8, 9, 3)


def test_yuv_there_and_back(tmp_path):
    path = tmp_path / "x.png"
    pixels = save_image(path, 8, 9)
    yuv = read_image(path, "YUV-BT.601")
    np.testing.assert_allclose(yuv[..., 0], pixels @ [0.299, 0.587, 0.114] / 255, atol=1e-6)
    back = convert_image_to_rgb(yuv, "YUV-BT.601")
    assert np.abs(back.astype(int) - pixels).max() <= 1


@pytest.mark.parametrize("format", ["RGB", "BGR", "L"])
def test_convert_image_to_rgb(format):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    array = convert_PIL_to_numpy(Image.fromarray(pixels), format)
    expected = np.repeat(array, 3, axis=2) if format == "L" else pixels
    np.testing.assert_array_equal(convert_image_to_rgb(array, format), expected)
    np.testing.assert_array_equal(
        convert_image_to_rgb(torch.tensor(array.copy()), format), expected
    )


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.jpg does not exist.*LUCIDET_DATASETS"):
        read_image(tmp_path / "nowhere.jpg", "BGR")
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(OSError, match=r"folder.jpg can't be read .*: put the image there"):
        read_image(tmp_path / "folder.jpg", "BGR")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"no picture at all", "no known image format"),
        ("cut", "x.jpg .*can't be decoded.*Fetch it again"),
        ("head", "x.jpg .*can't be decoded"),
    ],
)
@pytest.mark.parametrize("format", ["BGR", "L", None])
def test_broken_file_is_named(tmp_path, data, message, format):
    path = tmp_path / "x.jpg"
    if isinstance(data, str):
        save_image(path, 64, 64)
        whole = path.read_bytes()
        data = whole[: len(whole) // 2] if data == "cut" else whole[:30]
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_image(path, format)
