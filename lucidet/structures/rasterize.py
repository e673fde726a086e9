"""Polygons to pixels, with the COCO library's rule of which pixels a polygon covers.

`hotcoco.mask` does the work: bit for bit what pycocotools does, and faster (see
docs/decisions/009-masks.md).
"""

# M objects, S side of a mask

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hotcoco.mask as coco_mask
import numpy as np
import torch
from torch import Tensor

__all__ = [
    "as_polygons",
    "polygon_area",
    "polygons_to_bitmask",
    "rasterize_polygons_in_boxes",
    "rasterize_polygons_within_box",
]

#: a box side in pixels below which a polygon is not enlarged further, as in detectron2
SMALLEST_SIDE = 0.1


def polygon_area(x: np.ndarray, y: np.ndarray) -> float:
    """Return the area in square pixels of a polygon given by its corners' coordinates.

    The formula is the shoelace formula; a polygon that crosses itself counts the turns apart.

    >>> polygon_area(np.array([0, 4, 4, 0]), np.array([0, 0, 3, 3]))
    12.0
    """
    return float(0.5 * np.abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


def polygons_to_bitmask(
    polygons: Sequence[np.ndarray | Sequence[float]], height: int, width: int
) -> np.ndarray:
    """Return the pixels that the polygons of one object cover.

    Args:
        polygons: each (x0, y0, x1, y1, ...) in pixels of the mask; their union is the object.
        height, width: of the mask, in pixels.

    Returns:
        (height, width) bool. Without polygons nothing is covered.

    >>> polygons_to_bitmask([[1, 0, 3, 0, 3, 2, 1, 2]], 2, 4).astype(int).tolist()
    [[0, 1, 1, 0], [0, 1, 1, 0]]
    """
    if len(polygons) == 0:
        return np.zeros((height, width), dtype=bool)
    return coco_mask.decode(_rle(polygons, height, width)).astype(bool)


def rasterize_polygons_within_box(
    polygons: Sequence[np.ndarray], box: np.ndarray | Tensor, mask_size: int
) -> Tensor:
    """Return the part of one object inside `box` as (mask_size, mask_size) bool.

    Args:
        polygons: each (x0, y0, x1, y1, ...) in pixels of the image.
        box: (4,) XYXY, pixels of the image.
        mask_size: S, the side of the mask.
    """
    boxes = np.asarray(box, dtype=np.float32).reshape(1, 4)
    return torch.from_numpy(rasterize_polygons_in_boxes([polygons], boxes, mask_size)[0])


def rasterize_polygons_in_boxes(
    polygons: Sequence[Sequence[np.ndarray]], boxes: np.ndarray, mask_size: int
) -> np.ndarray:
    """Return the part of each object inside its box, stretched to a square.

    The corners move into the box's frame, where the COCO library fills the polygon: what
    Detectron and detectron2 do, which is sharper than to fill it first and shrink the pixels.

    Args:
        polygons: M objects, each a list of polygons (x0, y0, x1, y1, ...) in pixels of the image.
        boxes: (M, 4) float32 XYXY, pixels of the image.
        mask_size: S, the side of the masks.

    Returns:
        (M, S, S) bool.
    """
    parts = [len(of_object) for of_object in polygons]
    flat = [np.asarray(part, dtype=np.float64).reshape(-1, 2) for p in polygons for part in p]
    if not flat:
        return np.zeros((len(polygons), mask_size, mask_size), dtype=bool)
    lengths = [len(part) for part in flat]
    owner = np.repeat(np.repeat(np.arange(len(polygons)), parts), lengths)
    ratio = mask_size / np.maximum(boxes[:, 2:] - boxes[:, :2], SMALLEST_SIDE).astype(np.float64)
    corners = (np.concatenate(flat) - boxes[owner, :2]) * ratio[owner]
    # Python's lists are what the library reads soonest
    ends = np.cumsum(lengths)
    pieces = iter(
        [corners[end - n : end].ravel().tolist() for n, end in zip(lengths, ends, strict=True)]
    )
    rles = [_rle([next(pieces) for _ in range(n)], mask_size, mask_size) for n in parts]
    return np.ascontiguousarray(coco_mask.decode(rles).transpose(2, 0, 1)).astype(bool)


def as_polygons(polygons: Any, index: int) -> list[np.ndarray]:
    """Return one object's polygons as (2 P,) float64 arrays, after a check of their form.

    Args:
        polygons: a list of lists, arrays or tensors (x0, y0, x1, y1, ...).
        index: the object's number, for the message.

    Raises:
        ValueError: not a list, or a polygon of an odd number of values or of less than 3 corners.
    """
    if not isinstance(polygons, (list, tuple)):
        raise ValueError(
            f"PolygonMasks: object {index} must be a list of polygons, got "
            f"{type(polygons).__name__}; one polygon is [[x0, y0, x1, y1, x2, y2]]"
        )
    return [_as_polygon(polygon, index) for polygon in polygons]


def _as_polygon(polygon: Any, index: int) -> np.ndarray:
    if isinstance(polygon, np.ndarray) and polygon.dtype == np.float64:
        corners = polygon
    else:
        values = polygon.detach().cpu().numpy() if isinstance(polygon, Tensor) else polygon
        corners = np.asarray(values, dtype=np.float64)
    if corners.ndim != 1 or len(corners) % 2 or len(corners) < 6:
        raise ValueError(
            f"PolygonMasks: a polygon of object {index} has shape {corners.shape}; expected "
            "(x0, y0, x1, y1, x2, y2, ...), an even number of values, at least 6"
        )
    return corners


def _rle(polygons: Sequence[Any], height: int, width: int) -> dict[str, Any]:
    """Return the union of polygons in COCO's run lengths; no polygons cover nothing."""
    if len(polygons) == 0:
        return {"size": [height, width], "counts": [height * width]}
    return coco_mask.merge([coco_mask.fr_poly(part, height, width) for part in polygons])
