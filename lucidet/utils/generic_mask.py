"""A mask of any kind for drawing: polygons, run lengths or pixels."""

# (H, W) the image

from __future__ import annotations

from functools import cached_property
from typing import Any

import hotcoco.mask as coco_mask
import numpy as np
from PIL import Image

from lucidet.structures.outlines import outlines
from lucidet.structures.rasterize import as_polygons, polygons_to_bitmask

__all__ = ["GenericMask"]


class GenericMask:
    """One mask, as polygons and as pixels; each is made of the other when it is asked for.

    Args:
        mask_or_polygons: a list of polygons [x0, y0, x1, y1, ...], an RLE (counts compressed or a
            list), or (H, W) pixels, nonzero inside.
        height, width: of the image.

    Raises:
        ValueError: none of these, or pixels of another size.

    >>> mask = GenericMask([[1, 0, 3, 0, 3, 2, 1, 2]], 2, 4)
    >>> mask.area(), mask.bbox().tolist(), mask.has_holes
    (4, [1.0, 0.0, 3.0, 2.0], False)
    """

    def __init__(self, mask_or_polygons: Any, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._given_polygons: list[np.ndarray] | None = None
        self._given_mask: np.ndarray | None = None
        given = mask_or_polygons
        if hasattr(given, "detach"):
            given = given.detach().cpu().numpy()
        if isinstance(given, dict):
            if list(given.get("size", ())) != [height, width]:
                raise ValueError(
                    f"the RLE's size (height, width) is {given.get('size')}, expected the "
                    f"image's [{height}, {width}]"
                )
            if isinstance(given.get("counts"), (list, tuple)):
                given = coco_mask.frPyObjects(
                    {**given, "counts": [*given["counts"]]}, height, width
                )
            self._given_mask = coco_mask.decode(given)
        elif isinstance(given, (list, tuple)):
            # what has no area is not drawn
            parts = [part for part in given if not hasattr(part, "__len__") or len(part) >= 6]
            self._given_polygons = as_polygons(parts, 0)
        elif isinstance(given, np.ndarray) and given.shape == (height, width):
            self._given_mask = (given > 0).astype(np.uint8)
        else:
            raise ValueError(
                f"a mask is a list of polygons, an RLE or an array ({height}, {width}), got "
                f"{type(given).__name__} {getattr(given, 'shape', '')}"
            )

    @cached_property
    def mask(self) -> np.ndarray:
        """(H, W) uint8, 1 inside."""
        if self._given_mask is not None:
            return self._given_mask
        return polygons_to_bitmask(self._given_polygons or [], self.height, self.width).astype(
            np.uint8
        )

    @cached_property
    def _outlines(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        return outlines(self.mask)

    @property
    def polygons(self) -> list[np.ndarray]:
        """Outlines as (2 P,) float64 arrays, those of holes among them."""
        if self._given_polygons is not None:
            return self._given_polygons
        outer, holes = self._outlines
        return [corners.ravel() for corners in (*outer, *holes)]

    @property
    def has_holes(self) -> bool:
        """Whether the mask has a hole; polygons as they are given have none."""
        return self._given_polygons is None and len(self._outlines[1]) > 0

    def area(self) -> int:
        """Return the number of pixels."""
        return int(self.mask.sum())

    def bbox(self) -> np.ndarray:
        """Return (x1, y1, x2, y2) around the pixels; zeros where there are none."""
        columns, rows = np.flatnonzero(self.mask.any(0)), np.flatnonzero(self.mask.any(1))
        if not len(rows):
            return np.zeros(4)
        return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)

    def at(self, height: int, width: int) -> np.ndarray:
        """Return the mask as (height, width) bool of a larger picture; polygons stay sharp."""
        if (height, width) == (self.height, self.width):
            return self.mask.astype(bool)
        if self._given_polygons is not None:
            scale = np.array([width / self.width, height / self.height])
            scaled = [(p.reshape(-1, 2) * scale).ravel() for p in self._given_polygons]
            return polygons_to_bitmask(scaled, height, width)
        picture = Image.fromarray(self.mask * 255)
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)) > 127
