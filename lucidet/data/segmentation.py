"""Segmentations of annotations, understood or refused: polygons, run lengths (RLE), pixels.

Nothing here knows a file: errors say what is wrong, the caller adds file, image and annotation.
"""

# (H, W) the image

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import hotcoco.mask as coco_mask
import numpy as np

from lucidet.data.fields import as_number, shown
from lucidet.structures.rasterize import polygon_area, polygons_to_bitmask

__all__ = [
    "are_plain_polygons",
    "as_polygons",
    "as_rle",
    "bitmask_to_rle",
    "has_segmentation",
    "json_segmentation",
    "rle_to_bitmask",
    "segmentation_area",
    "segmentation_to_bitmask",
]

#: numbers of a polygon: 3 corners
SHORTEST = 6


def has_segmentation(annotation: dict[str, Any]) -> bool:
    """Return whether an annotation has a segmentation at all: not absent, null or empty."""
    value = annotation.get("segmentation")
    return value is not None and not (isinstance(value, (list, tuple, dict)) and len(value) == 0)


def as_polygons(segmentation: Sequence[Any]) -> list[np.ndarray]:
    """Return the polygons of a segmentation as (2 P,) float64 arrays (x0, y0, x1, y1, ...).

    Polygons of an odd number of values or of less than 3 corners are left out, as detectron2 does;
    one polygon that is not in a list counts as one.

    Raises:
        ValueError: a value is not a finite number.

    >>> [p.tolist() for p in as_polygons([[0, 0, 4, 0, 4, 3], [1, 1, 2, 2]])]
    [[0.0, 0.0, 4.0, 0.0, 4.0, 3.0]]
    """
    if len(segmentation) and as_number(segmentation[0]) is not None:
        segmentation = [segmentation]
    polygons = [_as_polygon(part, number) for number, part in enumerate(segmentation)]
    return [part for part in polygons if len(part) >= SHORTEST and len(part) % 2 == 0]


def _as_polygon(part: Any, number: int) -> np.ndarray:
    try:
        values = np.asarray(part, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.zeros((0, 0, 0))
    if values.ndim == 2 and values.shape[1] == 2:  # ((x, y), ...)
        values = values.reshape(-1)
    if values.ndim != 1:
        raise ValueError(
            f"polygon {number} must be a list of numbers x0, y0, x1, y1, ..., got {shown(part)}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"polygon {number} has a value that is not finite: {shown(part)}")
    return values


def rle_to_bitmask(rle: dict[str, Any], height: int, width: int) -> np.ndarray:
    """Return the pixels of a compressed or uncompressed RLE as (H, W) bool.

    Args:
        rle: ``{"size": [height, width], "counts": text, bytes or a list of whole numbers}``.
        height, width: of the image.

    Raises:
        ValueError: it is no RLE, its size is not the image's, or its counts do not fill the size.

    >>> rle_to_bitmask({"size": [2, 2], "counts": [1, 2, 1]}, 2, 2).astype(int).tolist()
    [[0, 1], [1, 0]]
    """
    if not {"size", "counts"} <= rle.keys():
        raise ValueError(f"an RLE has 'size' and 'counts', this one {sorted(map(str, rle))}")
    # first the size: the library takes memory for it
    size = _whole_numbers(rle["size"])
    if size != [height, width]:
        raise ValueError(
            f"the RLE's size (height, width) is {shown(rle['size'])}, expected the image's "
            f"[{height}, {width}]"
        )
    counts = rle["counts"]
    if not isinstance(counts, (str, bytes)):
        runs = _whole_numbers(counts)
        if runs is None or min(runs, default=0) < 0:
            raise ValueError(
                "the RLE's counts must be text or a list of whole numbers >= 0, got "
                f"{shown(counts)}"
            )
        if sum(runs) != height * width:
            raise ValueError(
                f"the RLE's counts add up to {sum(runs)} pixels, expected {height} x {width} = "
                f"{height * width}"
            )
        counts = runs
    if height * width == 0:
        return np.zeros((height, width), dtype=bool)
    checked = {"size": size, "counts": counts}
    try:
        mask = coco_mask.decode(checked)
        # merging keeps the end of the counts, encoding fills it
        complete = counts and coco_mask.merge([checked, checked]) == coco_mask.encode(mask)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"the RLE's counts can't be read: {error}") from None
    if not complete:
        raise ValueError(
            f"the RLE's counts end before the last of the {height} x {width} = {height * width} "
            "pixels: they are cut off"
        )
    return mask.astype(bool)


def _whole_numbers(values: Any) -> list[int] | None:
    if hasattr(values, "tolist"):  # numpy, torch
        values = values.tolist()
    if not isinstance(values, (list, tuple)):
        return None
    if all(type(value) is int for value in values):
        return [*values]
    numbers = [as_number(value) for value in values]
    if any(n is None or not abs(n) < 2**63 or n != int(n) for n in numbers):
        return None
    return [int(n) for n in numbers if n is not None]


def bitmask_to_rle(mask: np.ndarray) -> dict[str, Any]:
    """Return (H, W) pixels as compressed RLE with counts as text, for JSON.

    >>> bitmask_to_rle(np.eye(2, dtype=bool))
    {'size': [2, 2], 'counts': '0120'}
    """
    if mask.size == 0:
        return {"size": [*mask.shape], "counts": ""}
    rle = coco_mask.encode(np.asarray(mask, dtype=np.uint8))
    return {"size": [*mask.shape], "counts": rle["counts"].decode("ascii")}


def json_segmentation(segmentation: Any, height: int, width: int) -> Any:
    """Return a segmentation as JSON has it: lists of numbers, or RLE with counts as text or list.

    Args:
        segmentation: a list of polygons, an RLE, or (H, W) pixels.
        height, width: of the image.

    Raises:
        ValueError: none of these, or it does not fit the image.
    """
    if isinstance(segmentation, (list, tuple)):
        return [part.tolist() for part in as_polygons(segmentation)]
    if isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), str):
        return segmentation
    return bitmask_to_rle(segmentation_to_bitmask(segmentation, height, width))


def are_plain_polygons(polygons: Sequence[Any]) -> bool:
    """Return whether polygons are lists of finite numbers, 3 corners or more, as COCO's are."""
    for part in polygons:
        if type(part) is not list or len(part) < SHORTEST or len(part) % 2:
            return False
        if set(map(type, part)) - {float, int} or not math.isfinite(sum(part)):
            return False
    return len(polygons) > 0


def as_rle(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Return a segmentation of any kind as compressed RLE with counts as text.

    Raises:
        ValueError: it is none, or it does not fit the image.
    """
    if isinstance(segmentation, (list, tuple)):
        polygons: Any = segmentation
        if not are_plain_polygons(segmentation):
            polygons = [part.tolist() for part in as_polygons(segmentation)]
        if polygons:
            rles = [coco_mask.fr_poly(part, height, width) for part in polygons]
            counts = coco_mask.merge(rles)["counts"].decode("ascii")
            return {"size": [height, width], "counts": counts}
    elif isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), (str, bytes)):
        rle_to_bitmask(segmentation, height, width)  # only looked at: other runs may mean the same
        counts = segmentation["counts"]
        text = counts.decode("ascii") if isinstance(counts, bytes) else counts
        return {"size": [height, width], "counts": text}
    return bitmask_to_rle(segmentation_to_bitmask(segmentation, height, width))


def segmentation_to_bitmask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Return the pixels of a segmentation of any kind as (H, W) bool.

    Args:
        segmentation: a list of polygons, an RLE, or (H, W) pixels.
        height, width: of the image.

    Raises:
        ValueError: none of these, or it does not fit the image.
    """
    if isinstance(segmentation, np.ndarray) and segmentation.ndim == 2:
        if segmentation.shape != (height, width):
            raise ValueError(
                f"the mask is {segmentation.shape[0]} x {segmentation.shape[1]} (height x width), "
                f"expected the image's {height} x {width}"
            )
        return segmentation.astype(bool)
    if isinstance(segmentation, dict):
        return rle_to_bitmask(segmentation, height, width)
    if isinstance(segmentation, (list, tuple)):
        return polygons_to_bitmask(as_polygons(segmentation), height, width)
    raise ValueError(
        "a segmentation is a list of polygons [[x0, y0, x1, y1, ...]], an RLE "
        f"{{'size', 'counts'}} or an array (height, width), got {shown(segmentation)}"
    )


def segmentation_area(segmentation: Any, height: int, width: int) -> float:
    """Return the area in square pixels: polygons' by the shoelace formula, else the pixels."""
    if isinstance(segmentation, (list, tuple)):
        return sum(polygon_area(p[0::2], p[1::2]) for p in as_polygons(segmentation))
    return float(segmentation_to_bitmask(segmentation, height, width).sum())
