"""Images in memory, as callers of a predictor have them: any dtype, brought to a model's format."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from lucidet.data.deep_pixels import float_to_8_bit
from lucidet.data.image_io import convert_PIL_to_numpy

__all__ = ["image_in_format"]


def image_in_format(image: Any, format: str) -> np.ndarray:
    """Return an image in memory as a model of `format` takes it.

    Args:
        image: (H, W, 3) BGR, as ``cv2.imread`` returns it; for ``"L"`` also (H, W, 1) or (H, W).
            uint8; uint16 is scaled from 0..65535; whole numbers and floats must lie in 0..255.
        format: of the model, as in :func:`lucidet.data.detection_utils.read_image`.

    Returns:
        (H, W, C): uint8 in 0..255, or float32 where the image has floats; floats in 0..1 for YUV.

    Raises:
        ValueError: another shape, or values whose meaning is not known.

    >>> image_in_format(np.full((2, 2, 3), [1, 2, 3], np.uint8), "RGB")[0, 0].tolist()
    [3, 2, 1]
    >>> image_in_format(np.full((4, 5), 65535, np.uint16), "L").shape
    (4, 5, 1)
    """
    grey = format == "L" and isinstance(image, np.ndarray) and image.shape[2:] in ((), (1,))
    if not isinstance(image, np.ndarray) or not (grey or (image.ndim == 3 and image.shape[2] == 3)):
        wanted = "(H, W, 3), (H, W, 1) or (H, W)" if format == "L" else "(H, W, 3)"
        raise ValueError(
            f"expected an image as an array of shape {wanted}, got {type(image).__name__} "
            f"of shape {getattr(image, 'shape', None)}; could the file be read?"
        )
    values = _in_range(image)
    if grey:
        return values if values.ndim == 3 else values[:, :, None]
    if format == "BGR":
        return values
    rgb = values[:, :, ::-1]
    if format == "RGB":
        return rgb
    whole = np.ascontiguousarray(rgb if rgb.dtype == np.uint8 else np.rint(rgb).astype(np.uint8))
    return convert_PIL_to_numpy(Image.fromarray(whole), format)


def _in_range(image: np.ndarray) -> np.ndarray:
    """Return the values as uint8 or float32 in 0..255."""
    if image.dtype == np.uint8 or not image.size:
        return image
    if image.dtype == np.bool_:
        return image.astype(np.uint8) * 255
    if image.dtype == np.uint16:
        return float_to_8_bit(image / 65535.0)
    low, high = image.min(), image.max()
    if not (low >= 0 and high <= 255):  # NaN compares as False
        raise ValueError(
            f"an image of {image.dtype} has values {low:g} to {high:g}, expected 0..255"
        )
    if np.issubdtype(image.dtype, np.floating):
        if 0 < high <= 1:
            raise ValueError(
                f"an image of {image.dtype} has values {low:g} to {high:g}, expected 0..255: is it "
                "scaled to 0..1? Multiply it by 255"
            )
        return image.astype(np.float32)
    return image.astype(np.uint8)
