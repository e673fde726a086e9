"""Files to pixels: decoding, EXIF orientation, colour order.

Decoding: torchvision's JPEG decoder for ordinary JPEG files (1.2 to 1.5 times as fast as PIL, and
the same numbers, as both are libjpeg-turbo), PIL for everything else.
"""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torchvision.io import ImageReadMode, decode_jpeg

YUV_FORMAT = "YUV-BT.601"
# ITU-R BT.601, values in 0..1; U and V are centred on 0
_RGB_TO_YUV = np.array(
    [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]]
)
_YUV_TO_RGB = np.array([[1.0, 0.0, 1.13983], [1.0, -0.39465, -0.58060], [1.0, 2.03211, 0.0]])
_EXIF_ORIENTATION = 0x0112
_JPEG_MAGIC = b"\xff\xd8\xff"


def read_image(file_name: str | os.PathLike[str], format: str | None = None) -> np.ndarray:
    """Read an image file, turned as its EXIF orientation says.

    Args:
        file_name: path of the file.
        format: ``"RGB"``, ``"BGR"``, ``"L"``, ``"YUV-BT.601"`` or another mode of PIL; None keeps
            what the file has.

    Returns:
        (H, W, 3) uint8 in 0..255; (H, W, 1) for ``"L"``; float in 0..1 for YUV.
        Maybe a view with negative strides: copy it before handing it to torch.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it is a folder, or may not be read.
        ValueError: the file is no image, or a broken one.
    """
    path = os.fspath(file_name)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"image file {path} does not exist; check the data set's image folder "
            "(image_root, or LUCIDET_DATASETS for the built-in data sets)"
        ) from None
    except OSError as error:  # a folder, no rights
        raise OSError(
            f"image file {path} can't be read ({error.strerror}): put the image there and make it "
            "readable, or remove it from the annotations"
        ) from error
    if not data:
        raise ValueError(f"image file {path} is empty (0 bytes): fetch it again")
    try:
        with Image.open(io.BytesIO(data)) as image:
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
            array = _decode(data, image, format)
    except (OSError, RuntimeError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "no known image format" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(
            f"image file {path} ({len(data)} bytes) can't be decoded: {reason}. "
            "Fetch it again, or remove it from the annotations"
        ) from error
    return _turn_upright(array, orientation)


def _decode(data: bytes, image: Image.Image, format: str | None) -> np.ndarray:
    # CMYK, and whatever is not RGB or grey, is converted by PIL, whose result is the reference
    if data.startswith(_JPEG_MAGIC) and format in ("RGB", "BGR") and image.mode in ("RGB", "L"):
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        rgb = decode_jpeg(encoded, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()
        return rgb[:, :, ::-1] if format == "BGR" else rgb
    return convert_PIL_to_numpy(image, format)


def _turn_upright(array: np.ndarray, orientation: Any) -> np.ndarray:
    """Undo an EXIF orientation 2..8 (mirrored, turned); other values leave the array as it is."""
    if orientation in (2, 3, 4, 5, 6, 7, 8):
        if orientation in (5, 6, 7, 8):
            array = np.swapaxes(array, 0, 1)  # rows of the file are columns of the picture
        if orientation in (2, 3, 6, 7):
            array = array[:, ::-1]
        if orientation in (3, 4, 7, 8):
            array = array[::-1]
    return array


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> np.ndarray:
    """Return a PIL image as an array in a colour order; see :func:`read_image`."""
    if format is not None:
        mode = "RGB" if format in ("BGR", YUV_FORMAT) else format
        if image.mode != mode:
            image = image.convert(mode)
    array = np.asarray(image)
    if format == "L":
        return array[:, :, None]
    if format == "BGR":
        return array[:, :, ::-1]
    if format == YUV_FORMAT:
        return (array / 255.0) @ _RGB_TO_YUV.T
    return array


def convert_image_to_rgb(image: np.ndarray | torch.Tensor, format: str | None) -> np.ndarray:
    """Return an image in colour order `format` as RGB: (H, W, 3) uint8 in 0..255.

    Args:
        image: (H, W, 3), or (H, W, 1) / (H, W) for ``"L"``.
        format: as in :func:`read_image`.
    """
    array = image.cpu().numpy() if isinstance(image, torch.Tensor) else image
    if format == "BGR":
        array = array[:, :, ::-1]
    elif format == YUV_FORMAT:
        array = np.clip(array @ _YUV_TO_RGB.T, 0.0, 1.0) * 255.0
    elif format == "L":
        grey = array[..., 0] if array.ndim == 3 else array
        array = np.repeat(grey[:, :, None], 3, axis=2)
    elif format not in (None, "RGB"):
        array = np.asarray(Image.fromarray(array.astype(np.uint8), mode=format).convert("RGB"))
    return array.astype(np.uint8)
