"""Image files as people have them: depth, orientation, damaged profiles, Pillow's switches."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps, PngImagePlugin

from lucidet.data import deep_pixels
from lucidet.data.detection_utils import read_image
from lucidet.data.image_io import image_size
from tests.data.conftest import save_image

RAMP = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(8, 0)
AS_8_BIT = np.round(RAMP / 257).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif", "jp2", "pgm"])
@pytest.mark.parametrize("format", ["BGR", "RGB", "L"])
def test_16_bit_grey_is_scaled(tmp_path, suffix, format):
    path = tmp_path / f"x.{suffix}"
    if suffix == "pgm":
        path.write_bytes(b"P5 64 8 65535\n" + RAMP.astype(">u2").tobytes())
    else:
        Image.fromarray(RAMP).save(path)
    got = read_image(path, format)
    assert got.dtype == np.uint8
    assert np.abs(got[:, :, 0].astype(int) - AS_8_BIT).max() <= 1


def test_16_bit_yuv(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "x.png")
    grey = read_image(tmp_path / "x.png", "YUV-BT.601")[..., 0] * 255
    assert np.abs(grey - AS_8_BIT).max() <= 1


def test_tiff_of_12_bits_and_with_white_as_zero(tmp_path):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65
    bits = "".join(f"{v:012b}" for v in values.ravel())
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    (tmp_path / "x.tif").write_bytes(_tiff(data, 8, 8, {258: 12, 262: 1}))
    expected = np.round(values / 4095 * 255)
    assert np.abs(read_image(tmp_path / "x.tif", "L")[..., 0] - expected).max() <= 1
    (tmp_path / "y.tif").write_bytes(_tiff(RAMP.tobytes(), 64, 8, {258: 16, 262: 0}))
    assert np.abs(255 - read_image(tmp_path / "y.tif", "L")[..., 0] - AS_8_BIT).max() <= 1


def _tiff(data: bytes, width: int, height: int, tags: dict[int, int]) -> bytes:
    """Return a little-endian TIFF of one strip."""
    count = 8 + len(tags)
    start = 8 + 2 + 12 * count + 4
    entries = {256: width, 257: height, 259: 1, 273: start, 277: 1, 278: height, 279: len(data)}
    entries |= {266: 1} | tags
    listed = b"".join(struct.pack("<HHII", k, 4, 1, v) for k, v in sorted(entries.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + bytes(4) + data


def test_floats_in_0_to_1_are_scaled(tmp_path):
    Image.fromarray((RAMP / 65535).astype(np.float32)).save(tmp_path / "x.tif")
    assert np.abs(read_image(tmp_path / "x.tif", "L")[..., 0].astype(int) - AS_8_BIT).max() <= 1


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (RAMP.astype(np.int32), "32-bit or signed pixels with values 0 to 65535"),
        (RAMP.astype(np.int32) - 40000, "32-bit or signed pixels with values -40000 to 25535"),
        (np.zeros((8, 8), np.int32), "32-bit or signed"),
        (RAMP.astype(np.float32), "float pixels with values 0 to 65535"),
        (np.full((8, 8), -0.5, np.float32), "float pixels with values -0.5"),
        (np.full((8, 8), np.nan, np.float32), "float pixels with values nan"),
    ],
)
def test_a_range_that_is_not_known_is_refused(tmp_path, pixels, message):
    Image.fromarray(pixels).save(tmp_path / "x.tif")
    for format in ("BGR", "L"):
        with pytest.raises(ValueError, match=rf"x\.tif: {message}.*8 bits"):
            read_image(tmp_path / "x.tif", format)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), pixels)


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_tiffs_are_refused(tmp_path, bits):
    data = np.arange(-32, 32).astype(f"<i{bits // 8}").tobytes()
    (tmp_path / "x.tif").write_bytes(_tiff(data, 8, 8, {258: bits, 262: 1, 339: 2}))
    with pytest.raises(ValueError, match=r"x\.tif: .*signed"):
        read_image(tmp_path / "x.tif", "BGR")


def test_colours_without_a_way_to_a_format_are_refused(tmp_path):
    Image.new("LAB", (8, 8)).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=r"x\.tif: colours of mode LAB can't become L"):
        read_image(tmp_path / "x.tif", "L")


def test_12_bits_in_16_are_said_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(deep_pixels, "_said_dark", False)
    Image.fromarray(RAMP // 16).save(tmp_path / "x.png")
    for _ in range(2):
        assert read_image(tmp_path / "x.png", "L").max() == 16
    assert caplog.text.count("values up to 4095 of 65535 and is nearly black") == 1


@pytest.mark.parametrize("suffix", ["tif", "png", "webp", "jpg", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(tmp_path, suffix, orientation):
    path = tmp_path / f"x.{suffix}"
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    more = {"webp": {"lossless": True}, "tif": {}}.get(suffix, {"quality": 95})
    Image.fromarray(pixels).save(path, exif=exif, **more)
    with Image.open(path) as image:
        right = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    got = read_image(path, "RGB")
    assert got.shape == right.shape
    assert np.abs(got.astype(int) - right).max() <= 3
    assert image_size(path) == (right.shape[1], right.shape[0])


@pytest.mark.parametrize("orientation", [3, 6])
def test_orientation_of_a_compressed_tiff(tmp_path, orientation):
    pixels = save_image(
        tmp_path / "x.tif", 16, 24, compression="tiff_lzw", tiffinfo={0x0112: orientation}
    )
    expected = pixels[::-1, ::-1] if orientation == 3 else np.rot90(pixels, -1)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif", "RGB"), expected)


def _text(value: str) -> dict:
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", value)
    return {"pnginfo": info}


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("png", _text("\nexif\n 10\nzz not hex")),
        ("png", _text("\nexif\n 99999\n45")),
        ("png", {"exif": b"\x13\x37" * 20}),
        ("png", {"exif": b"II*\0\xff\xff\xff\xff"}),
        ("png", {"icc_profile": b"nonsense"}),
        ("webp", {"exif": b"Exif\0\0" + b"\x13\x37" * 9}),
        ("webp", {"icc_profile": b"nonsense", "xmp": b"<x"}),
        ("jpg", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"}),
        ("jpg", {"exif": b"Exif\0\0"}),
    ],
)
def test_damaged_profiles_do_not_matter(tmp_path, suffix, options):
    path = tmp_path / f"x.{suffix}"
    save_image(path, 40, 60, **options)
    assert read_image(path, "BGR").shape == (40, 60, 3)
    assert image_size(path) == (60, 40)


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"eXIf"])
def test_chunks_that_pillow_cannot_read_are_passed_over(tmp_path, kind):
    pixels = save_image(tmp_path / "x.png", 40, 60)
    data = (tmp_path / "x.png").read_bytes()
    # a text or profile that unpacks to more than Pillow allows
    body = b"name\0\0" + zlib.compress(bytes(PngImagePlugin.MAX_TEXT_CHUNK * 2))
    chunk = struct.pack(">I", len(body)) + kind + body
    chunk += struct.pack(">I", zlib.crc32(kind + body))
    (tmp_path / "x.png").write_bytes(data[:33] + chunk + data[33:])
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", "RGB"), pixels)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif"])
def test_truncated_images_are_read_where_pillow_is_told_to(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"x.{suffix}"
    save_image(path, 64, 64)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ValueError, match=rf"x\.{suffix} .*can't be decoded.*Fetch it again"):
        read_image(path, "BGR")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    if suffix != "tif":  # Pillow itself reads no half TIFF
        assert read_image(path, "BGR").shape == (64, 64, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_pillows_limit_of_size_is_named(tmp_path, suffix, monkeypatch):
    save_image(tmp_path / f"x.{suffix}", 40, 60)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"too large for Pillow's limit: set PIL.Image.MAX_IMAGE"):
        read_image(tmp_path / f"x.{suffix}", "BGR")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(tmp_path / f"x.{suffix}", "BGR").shape == (40, 60, 3)
