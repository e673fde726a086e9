"""Small files of huge pictures, and what is no file at all, are refused before decoding."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lucidet.data.image_files import open_image
from lucidet.data.image_io import image_size, read_image

SIDE = 30_000  # pixels: 900 million, 5 times Pillow's limit


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0"))


def _patched(kind: str, at: bytes, size: bytes) -> bytes:
    """Return a small image in whose head another size is written."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(file, kind)
    content = bytearray(file.getvalue())
    place = content.index(at)
    content[place : place + len(size)] = size
    return bytes(content)


def _webp(kind: bytes, size: bytes) -> bytes:
    body = b"WEBP" + kind + struct.pack("<I", len(size)) + size + bytes(64)
    return b"RIFF" + struct.pack("<I", len(body)) + body


BOMBS = {
    "png": _png(SIDE, SIDE),
    "jpg": _patched("JPEG", b"\x00\x10\x00\x10\x03", struct.pack(">HH", SIDE, SIDE)),
    "bmp": _patched("BMP", struct.pack("<ii", 16, 16), struct.pack("<ii", SIDE, SIDE)),
    "gif": _patched("GIF", struct.pack("<HH", 16, 16), struct.pack("<HH", SIDE, SIDE)),
    "ppm": f"P6 {SIDE} {SIDE} 255\n".encode(),
    "tif": _patched("TIFF", b"\x00\x01\x04\x00",
                    b"\x00\x01\x04\x00\x01\x00\x00\x00" + struct.pack("<I", 1 << 30)),
    "webp": _webp(b"VP8X", b"\x10\0\0\0" + (SIDE - 1).to_bytes(3, "little") * 2),
    "lossless.webp": _webp(b"VP8L", b"\x2f" + struct.pack("<I", 0x0FFFFFFF)),
    "lossy.webp": _webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 0x3FFF, 0x3FFF)),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BOMBS))
def test_bombs_are_refused_by_their_heads(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{name}"
    path.write_bytes(BOMBS[name])
    with pytest.raises(ValueError, match=rf"a\.{name}.*(MAX_IMAGE_PIXELS|can't be decoded)"):
        read_image(path)
    assert image_size(path) is None or "tif" in name
    with pytest.raises((Image.DecompressionBombError, OSError)), path.open("rb") as file:
        open_image(file).load()


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "JPEG", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("lossless", [True, False])
def test_usual_images_pass(kind: str, lossless: bool, tmp_path: Path) -> None:
    more = {"lossless": lossless} if kind == "WEBP" else {}
    Image.fromarray(np.zeros((7, 9, 3), np.uint8)).save(tmp_path / "a", kind, **more)
    assert read_image(tmp_path / "a", "RGB").shape == (7, 9, 3)
    assert image_size(tmp_path / "a") == (9, 7)


def test_no_other_program_is_started(tmp_path: Path) -> None:
    """Pillow gives PostScript to Ghostscript."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match="no known image format"):
        read_image(path)
    assert image_size(path) is None


def test_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    for path, what in ((tmp_path / "a.png", "a pipe"), ("/dev/zero", "a device")):
        with pytest.raises(ValueError, match=f"image file .* is {what}"):
            read_image(path)
        assert image_size(path) is None
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="has 1099511627776 bytes; at most"):
        read_image(tmp_path / "large.png")
