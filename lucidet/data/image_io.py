"""Files to pixels: decoding, EXIF orientation, colour order.

Pillow decodes every format: docs/decisions/005-decoding.md says why. Pixels that are not 8 bits are
scaled where their range is known (`lucidet.data.deep_pixels`), and refused by name elsewhere.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from lucidet._regular_file import IrregularFileError, open_regular, read_regular
from lucidet.data.deep_pixels import PixelRangeError, as_8_bit
from lucidet.data.image_files import open_image
from lucidet.data.text_files import find_file

YUV_FORMAT = "YUV-BT.601"
# ITU-R BT.601, values in 0..1; U and V are centred on 0
_RGB_TO_YUV = np.array(
    [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]]
)
_YUV_TO_RGB = np.array([[1.0, 0.0, 1.13983], [1.0, -0.39465, -0.58060], [1.0, 2.03211, 0.0]])
_EXIF_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_SIDEWAYS = (5, 6, 7, 8)
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# what a PNG's pixels need beside the critical chunks, which begin with a capital letter
_PNG_COLOUR_CHUNKS = (b"tRNS", b"gAMA", b"sBIT")


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
        ValueError: the file is no image, a broken one, too large for Pillow's limit, or its pixels
            have no known range.
    """
    path = os.fspath(file_name)
    data = _read_bytes(path)
    try:
        return _decode(data, format)
    except PixelRangeError as error:
        raise ValueError(f"image file {path}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many types for broken files
        raise ValueError(
            f"image file {path} ({len(data)} bytes) can't be decoded: {_reason(error)}"
        ) from error


def _read_bytes(path: str) -> bytes:
    try:
        try:
            data = read_regular(path, "image")
        except FileNotFoundError:
            data = read_regular(find_file("", path), "image")  # `file://`, %20, backslashes
    except FileNotFoundError:
        windows = (
            "; it is written with backslashes, as on Windows: write it relative to the image folder"
            if "\\" in path
            else ""
        )
        raise FileNotFoundError(
            f"image file {path} does not exist{windows}; check the data set's image folder "
            "(image_root, or LUCIDET_DATASETS for the built-in data sets)"
        ) from None
    except IrregularFileError as error:  # a pipe, a device, more than a gigabyte
        raise ValueError(f"image file {error}") from error
    except OSError as error:  # a folder, no rights
        raise OSError(
            f"image file {path} can't be read ({error.strerror}): put the image there and make it "
            "readable, or remove it from the annotations"
        ) from error
    if not data:
        raise ValueError(f"image file {path} is empty (0 bytes): fetch it again")
    return data


def _reason(error: Exception) -> str:
    """Return what is wrong with an image file, and what to do about it."""
    if isinstance(error, Image.DecompressionBombError):
        return (
            f"{error} It is too large for Pillow's limit: set PIL.Image.MAX_IMAGE_PIXELS to a "
            "higher number, or None, where images are read; or cut the image into tiles"
        )
    again = "Fetch it again, or remove it from the annotations"
    if isinstance(error, UnidentifiedImageError):
        return f"no known image format. {again}"
    if "truncated" in str(error):
        again += "; PIL.ImageFile.LOAD_TRUNCATED_IMAGES = True takes the part that is there"
    return f"{error or type(error).__name__}. {again}"


def _decode(data: bytes, format: str | None) -> np.ndarray:
    try:
        return _decode_whole(data, format)
    except (PixelRangeError, Image.DecompressionBombError, UnidentifiedImageError):
        raise
    except Exception:
        # a damaged or huge profile or text beside the pixels does not make them unreadable
        if not data.startswith(_PNG_MAGIC):
            raise
        return _decode_whole(_pixels_only(data), format)


def _decode_whole(data: bytes, format: str | None) -> np.ndarray:
    with open_image(io.BytesIO(data)) as image:
        image.load()
        # asked for after loading: what a decoder has turned itself no longer has the tag
        orientation = _orientation(image)
        return _turn_upright(convert_PIL_to_numpy(image, format), orientation)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # damaged EXIF says nothing; Pillow raises many types
        return 1


def _pixels_only(data: bytes) -> bytes:
    """Return a PNG without the chunks that no pixel depends on: profiles, texts, EXIF."""

    def chunks() -> Iterator[bytes]:
        at = len(_PNG_MAGIC)
        while at + 12 <= len(data):
            (length,) = struct.unpack(">I", data[at : at + 4])
            kind = data[at + 4 : at + 8]
            if not kind[0] & 0x20 or kind in _PNG_COLOUR_CHUNKS:
                yield data[at : at + 12 + length]
            at += 12 + length

    return _PNG_MAGIC + b"".join(chunks())


def image_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return (width, height) of an upright image, from the file's head; None if unreadable."""
    try:
        with open_regular(path, "image") as file, open_image(file) as image:
            width, height = image.size
            if image.format == "TIFF":  # some versions of Pillow have turned the size already
                tags = image.tag_v2  # type: ignore[attr-defined]
                width, height = tags[_TIFF_WIDTH], tags[_TIFF_HEIGHT]
            return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)
    except Exception:  # Pillow raises many types; reading the image will name file and cause
        return None


def image_orientation(path: str | os.PathLike[str]) -> int:
    """Return the EXIF orientation that `read_image` undoes, 2..8; 1 for an upright image."""
    try:
        with open_regular(path, "image") as file, open_image(file) as image:
            found = _orientation(image)
            return found if found in range(2, 9) else 1
    except Exception:  # as in image_size
        return 1


def _turn_upright(array: np.ndarray, orientation: Any) -> np.ndarray:
    """Undo an EXIF orientation 2..8 (mirrored, turned); other values leave the array as it is."""
    if orientation in (2, 3, 4, 5, 6, 7, 8):
        if orientation in _SIDEWAYS:
            array = np.swapaxes(array, 0, 1)  # rows of the file are columns of the picture
        if orientation in (2, 3, 6, 7):
            array = array[:, ::-1]
        if orientation in (3, 4, 7, 8):
            array = array[::-1]
    return array


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> np.ndarray:
    """Return a PIL image as an array in a colour order; see :func:`read_image`.

    Raises:
        ValueError: its pixels have no known range, or its colours no way to `format`.
    """
    if format is not None:
        mode = "RGB" if format in ("BGR", YUV_FORMAT) else format
        image = as_8_bit(image, mode)
        if image.mode != mode:
            try:
                image = image.convert(mode)
            except ValueError as error:
                raise PixelRangeError(
                    f"colours of mode {image.mode} can't become {mode} ({error}); save the image "
                    "as RGB"
                ) from error
    array = np.asarray(image)
    if format == "L":
        # writable: one channel needs no rearranging, so that torch.from_numpy would share it
        return array[:, :, None].copy()
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
