"""Pixels that are not 8 bits: 16-bit, 32-bit, signed and float images, scaled or refused by name.

Pillow's ``convert`` clips them: a 16-bit image becomes white.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["PixelRangeError", "as_8_bit", "float_to_8_bit"]

logger = logging.getLogger(__name__)

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF tags
_SIGNED, _WHITE_IS_ZERO = 2, 0
#: formats whose whole numbers Pillow gives in 0..65535, whatever its mode is called
_SIXTEEN_BIT_FORMATS = ("PNG", "PPM")
_DEEP_MODES = ("I", "F")
_HOW = "Convert the image to 8 bits with the range that its values are meant in"

_said_dark = False


class PixelRangeError(ValueError):
    """An image's pixels cannot be brought to 0..255 without guessing."""


def as_8_bit(image: Image.Image, mode: str) -> Image.Image:
    """Return an image whose pixels have 8 bits, for conversion to `mode`.

    - 16-bit grey: 0..65535 becomes 0..255 (a TIFF of 12 bits: 0..4095).
    - float in 0..1 becomes 0..255.
    - 32-bit and signed whole numbers, and other floats: refused.

    Args:
        image: loaded; returned as it is where it has 8 bits.
        mode: of PIL, that the image is wanted in; deep modes are left to PIL.

    Raises:
        PixelRangeError: the range of the values is not known.

    >>> ramp = Image.fromarray(np.array([[0, 32768, 65535]], np.uint16))
    >>> np.asarray(as_8_bit(ramp, "L")).tolist()
    [[0, 128, 255]]
    """
    tags: Any = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    tags = {} if tags is None else tags
    if mode in _DEEP_MODES or mode.startswith("I;"):
        return image
    if image.mode in ("L", "LA") and _SIGNED in _numbers(tags.get(_SAMPLE_FORMAT)):
        raise PixelRangeError(f"signed 8-bit pixels, whose range is not known. {_HOW}")
    if image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in _SIXTEEN_BIT_FORMATS
    ):
        bits = max(_numbers(tags.get(_BITS)), default=16)
        return _scaled(np.asarray(image), bits, tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)
    if image.mode == "I":
        values = np.asarray(image)
        raise PixelRangeError(
            f"32-bit or signed pixels with values {values.min()} to {values.max()}, whose range is "
            f"not known. {_HOW}"
        )
    if image.mode == "F":
        return Image.fromarray(float_to_8_bit(np.asarray(image)))
    return image


def float_to_8_bit(values: np.ndarray) -> np.ndarray:
    """Return floats in 0..1 as uint8 in 0..255.

    Raises:
        PixelRangeError: a value is outside 0..1, or not finite.

    >>> float_to_8_bit(np.array([0.0, 0.5, 1.0])).tolist()
    [0, 128, 255]
    """
    if values.size and not (values.min() >= 0 and values.max() <= 1):  # NaN compares as False
        raise PixelRangeError(
            f"float pixels with values {values.min():g} to {values.max():g}: only 0..1 has a known "
            f"meaning. {_HOW}"
        )
    return np.floor(values.astype(np.float64) * 255 + 0.5).astype(np.uint8)


def _numbers(tag: Any) -> tuple[int, ...]:
    """Return the numbers of a TIFF tag, which is one or several, or absent."""
    if tag is None:
        return ()
    return tuple(tag) if isinstance(tag, (tuple, list)) else (tag,)


def _scaled(values: np.ndarray, bits: int, inverted: bool) -> Image.Image:
    """Return whole numbers of this many bits as 8-bit grey."""
    peak = (1 << min(bits, 16)) - 1
    whole = values.astype(np.int64).clip(0, peak)
    _warn_of_dark(int(whole.max()) if whole.size else peak, peak)
    if inverted:
        whole = peak - whole
    return Image.fromarray(((whole * 255 + peak // 2) // peak).astype(np.uint8))


def _warn_of_dark(highest: int, peak: int) -> None:
    """Say once that 16-bit pixels use a small part of their range: as 12 bits in 16 do."""
    global _said_dark
    if highest and highest <= peak // 16 and not _said_dark:
        _said_dark = True
        logger.warning(
            "a 16-bit image has values up to %d of %d and is nearly black: 12 bits stored in 16? "
            "16-bit pixels are scaled by their full range; multiply such images beforehand",
            highest,
            peak,
        )
