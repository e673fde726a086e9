"""From pixels to polygons: the outlines of a mask along the edges of its pixels."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

__all__ = ["mask_to_polygons", "outlines"]

Point = tuple[int, int]


def outlines(mask: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the outer outlines of a mask, and those of its holes.

    The corners are corners of pixels: the square of pixel (row 0, column 0) is (0, 0) to (1, 1).
    Pixels that only touch at a corner belong to different outlines.

    Args:
        mask: (H, W), nonzero inside.

    Returns:
        two lists of (P, 2) float64 corners x, y.

    >>> [outer.tolist() for outer in outlines(np.ones((1, 2)))[0]]
    [[[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]]]
    """
    outer: list[np.ndarray] = []
    holes: list[np.ndarray] = []
    for loop in _loops(_edges(np.asarray(mask, dtype=bool))):
        corners = np.array(_corners_of(loop), dtype=np.float64)
        x, y = corners.T
        # the inside lies on the right of the edges: holes run the other way round
        turned = np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))
        (outer if turned > 0 else holes).append(corners)
    return outer, holes


def mask_to_polygons(mask: np.ndarray) -> list[list[float]]:
    """Return polygons that cover exactly the pixels of a mask, as COCO has them.

    COCO's polygons have no holes: a mask with one is cut through its hole into two.

    Args:
        mask: (H, W), nonzero inside.

    Returns:
        lists [x0, y0, x1, y1, ...]; `polygons_to_bitmask` of them is the mask again.
    """
    mask = np.asarray(mask, dtype=bool)
    outer, holes = outlines(mask)
    if not holes:
        return [corners.ravel().tolist() for corners in outer]
    x = holes[0][:, 0]
    middle = int((x.min() + x.max() + 1) // 2)
    left, right = mask.copy(), mask.copy()
    left[:, middle:] = False
    right[:, :middle] = False
    return mask_to_polygons(left) + mask_to_polygons(right)


def _edges(mask: np.ndarray) -> dict[Point, list[Point]]:
    """Return the edges between inside and outside: start -> ends, the inside on their right."""
    padded = np.pad(mask, 1).astype(np.int8)
    across = padded[1:, 1:-1] - padded[:-1, 1:-1]  # (H + 1, W): > 0 where the inside is below
    along = padded[1:-1, 1:] - padded[1:-1, :-1]  # (H, W + 1): > 0 where the inside is right
    edges: dict[Point, list[Point]] = defaultdict(list)
    for rows_columns, step in (
        (np.argwhere(across > 0), ((0, 0), (1, 0))),
        (np.argwhere(across < 0), ((1, 0), (0, 0))),
        (np.argwhere(along > 0), ((0, 1), (0, 0))),
        (np.argwhere(along < 0), ((0, 0), (0, 1))),
    ):
        (from_x, from_y), (to_x, to_y) = step
        for y, x in rows_columns.tolist():
            edges[x + from_x, y + from_y].append((x + to_x, y + to_y))
    return edges


def _loops(edges: dict[Point, list[Point]]) -> list[list[Point]]:
    """Return closed walks over all edges, each edge once; takes the edges out of the dict."""
    loops = []
    while edges:
        start = next(iter(edges))
        loop, before, point = [start], start, _take(edges, start, start)
        while point != start:
            loop.append(point)
            before, point = point, _take(edges, point, before)
        loops.append(loop)
    return loops


def _take(edges: dict[Point, list[Point]], point: Point, before: Point) -> Point:
    """Take out an edge that starts at a point; of two, the one that turns right."""
    ends = edges[point]
    chosen = 0
    if len(ends) == 2:
        dx, dy = point[0] - before[0], point[1] - before[1]
        turns = [dx * (y - point[1]) - dy * (x - point[0]) for x, y in ends]
        chosen = int(turns[1] > turns[0])
    end = ends.pop(chosen)
    if not ends:
        del edges[point]
    return end


def _corners_of(loop: list[Point]) -> list[Point]:
    """Return the points of a loop at which it turns."""
    kept = []
    for k, point in enumerate(loop):
        before, after = loop[k - 1], loop[(k + 1) % len(loop)]
        if (before[0] == point[0]) != (after[0] == point[0]):
            kept.append(point)
    return kept
