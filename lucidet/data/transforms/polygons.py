"""Polygons that reach over an image's border are cut there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

__all__ = ["clip_polygons"]


def clip_polygons(
    polygons: Sequence[np.ndarray], x0: float, y0: float, x1: float, y1: float
) -> list[np.ndarray]:
    """Return the parts of polygons inside a window.

    A polygon inside the window is returned as it is; one that crosses the border may fall into
    several parts, or none. Holes, which only self-crossing polygons have, are filled.

    Args:
        polygons: each (P, 2) corners x, y.
        x0, y0, x1, y1: the window, in the same frame.
    """
    return [part for polygon in polygons for part in _clip(polygon, x0, y0, x1, y1)]


def _clip(polygon: np.ndarray, x0: float, y0: float, x1: float, y1: float) -> list[np.ndarray]:
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    if low[0] >= x0 and low[1] >= y0 and high[0] <= x1 and high[1] <= y1:
        return [polygon]
    if low[0] >= x1 or low[1] >= y1 or high[0] <= x0 or high[1] <= y0:
        return []
    shape = shapely.Polygon(polygon)
    if not shape.is_valid:  # crosses itself
        shape = shapely.make_valid(shape)
    inside = shapely.get_parts(shapely.clip_by_rect(shape, x0, y0, x1, y1))
    # collections in collections, where an invalid polygon was points and lines too
    parts = shapely.get_parts(inside)
    areas = [part for part in parts if part.geom_type == "Polygon" and part.area > 0]
    return [shapely.get_coordinates(part.exterior)[:-1] for part in areas]
