"""Masks of annotations: moved with their image, and turned into fields of Instances."""

# M annotations, (H, W) the image

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lucidet.data import transforms as T
from lucidet.data.fields import shown
from lucidet.data.segmentation import (
    as_polygons,
    has_segmentation,
    rle_to_bitmask,
    segmentation_to_bitmask,
)
from lucidet.structures import BitMasks, PolygonMasks

__all__ = ["MASK_FORMATS", "annotations_to_masks", "check_mask_format", "transform_segmentation"]

#: of INPUT.MASK_FORMAT
MASK_FORMATS = ("polygon", "bitmask")

#: pixels of an RLE of which no image is known: its size is what the file says
MOST_PIXELS = 2**28


def check_mask_format(mask_format: str) -> None:
    """Raise a ValueError that names the config key where a mask format is not known."""
    if mask_format not in MASK_FORMATS:
        raise ValueError(f"INPUT.MASK_FORMAT must be one of {MASK_FORMATS}, got {mask_format!r}")


def transform_segmentation(
    segmentation: Any,
    transforms: T.Transform,
    image_size: tuple[int, int],
    source_size: tuple[int, int] | None = None,
) -> list[np.ndarray] | np.ndarray:
    """Move one annotation's mask as its image was changed.

    Args:
        segmentation: a list of polygons, an RLE, or (H, W) pixels, on the image before.
        transforms: what was done to the image.
        image_size: (height, width) afterwards.
        source_size: (height, width) before; None: an RLE's own size is taken.

    Returns:
        polygons for polygons, each (2 P,) float64; else the (height, width) pixels.

    Raises:
        ValueError: no segmentation, or one that does not fit the image.
    """
    if isinstance(segmentation, (list, tuple)):
        polygons = [part.reshape(-1, 2) for part in as_polygons(segmentation)]
        return [part.reshape(-1) for part in transforms.apply_polygons(polygons)]
    if isinstance(segmentation, dict):
        height, width = source_size or _own_size(segmentation)
        mask = rle_to_bitmask(segmentation, height, width)
    else:
        height, width = source_size or np.shape(segmentation)
        mask = segmentation_to_bitmask(segmentation, height, width)
    moved = transforms.apply_segmentation(mask.astype(np.uint8))
    if moved.shape[:2] != tuple(image_size):
        raise ValueError(
            f"the mask is {moved.shape[0]} x {moved.shape[1]} (height x width) after the "
            f"transforms, its image {image_size[0]} x {image_size[1]}: the mask was made for an "
            "image of another size"
        )
    return moved


def _own_size(rle: dict[str, Any]) -> tuple[int, int]:
    size = rle.get("size")
    values = np.asarray(size).tolist() if isinstance(size, (list, tuple, np.ndarray)) else []
    if len(values) != 2 or not all(type(v) is int and v >= 0 for v in values):
        raise ValueError(f"the RLE's size must be [height, width], got {shown(size)}")
    height, width = values
    if height * width > MOST_PIXELS:
        raise ValueError(f"the RLE's size {size} has more than {MOST_PIXELS} pixels")
    return height, width


def annotations_to_masks(
    annos: Sequence[dict[str, Any]], image_size: tuple[int, int], mask_format: str = "polygon"
) -> PolygonMasks | BitMasks:
    """Return the masks of annotations.

    Args:
        annos: with ``segmentation`` on the image they lie on.
        image_size: (height, width) of that image.
        mask_format: "polygon" or "bitmask", as INPUT.MASK_FORMAT.

    Raises:
        ValueError: the format is not known; an annotation has no segmentation, or one of another
            kind than polygons where those are asked for; names the annotation.
    """
    check_mask_format(mask_format)
    convert = _polygons if mask_format == "polygon" else segmentation_to_bitmask
    found: list[Any] = []
    for number, annotation in enumerate(annos):
        name = annotation.get("id", f"number {number}")
        if annotation.get("segmentation") is None:
            raise ValueError(
                f"annotation {name} has no segmentation, others of its image have one: a mask is "
                "needed for each"
            )
        try:
            found.append(convert(annotation["segmentation"], *image_size))
        except ValueError as error:
            raise ValueError(f"annotation {name}: {error}") from None
    if mask_format == "polygon":
        return PolygonMasks(found)
    stacked = np.stack(found) if found else np.zeros((0, *image_size), dtype=bool)
    return BitMasks(torch.from_numpy(stacked))


def _polygons(segmentation: Any, height: int, width: int) -> list[np.ndarray]:
    if not isinstance(segmentation, (list, tuple)):
        kind = "an RLE" if isinstance(segmentation, dict) else "an array of pixels"
        raise ValueError(
            f"its segmentation is {kind}, INPUT.MASK_FORMAT 'polygon' takes polygons; set "
            "INPUT.MASK_FORMAT 'bitmask', which takes both"
        )
    return as_polygons(segmentation)


def any_segmentation(annos: Sequence[dict[str, Any]]) -> bool:
    """Return whether one of the annotations has a mask, be it one that augmentation emptied."""
    return any(has_segmentation(a) or isinstance(a.get("segmentation"), list) for a in annos)
