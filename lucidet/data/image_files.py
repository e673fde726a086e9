"""Open images of strangers: regular files, no programs, and their size before any pixel."""

from __future__ import annotations

import struct
from functools import cache
from typing import BinaryIO

from PIL import Image

__all__ = ["open_image"]

#: Pillow starts another program for these, or leaves them to one
_WITH_PROGRAMS = ("EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FPX", "MIC", "SPIDER")
_WEBP_HEAD = 30  # bytes


@cache
def _formats(known: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in known if name not in _WITH_PROGRAMS)


def open_image(file: BinaryIO) -> Image.Image:
    """Return an image whose head is read and whose pixels are not.

    Args:
        file: at its beginning; it stays open until the image is closed.

    Raises:
        Image.DecompressionBombError: more than twice `PIL.Image.MAX_IMAGE_PIXELS` pixels.
        UnidentifiedImageError: no image, or of a format that other programs would have to read.
    """
    head = file.read(_WEBP_HEAD)
    file.seek(0)
    size = _webp_size(head)
    if size is not None:  # Pillow reserves memory for its pixels when it opens one
        Image._decompression_bomb_check(size)
    Image.init()
    return Image.open(file, formats=_formats(tuple(Image.ID)))


def _webp_size(head: bytes) -> tuple[int, int] | None:
    """Return (width, height) in the head of a WebP file; None for other files."""
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < _WEBP_HEAD:
        return None
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF
