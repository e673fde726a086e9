"""What a picture of boxes needs besides lines: corners, what labels say and where they stand."""

# R boxes

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

#: (x1, y1, x2, y2) of a label's plate, in pixels of the picture
Plate = tuple[float, float, float, float]


def metadata_value(metadata: Any, key: str) -> Any:
    """Return a value of a Metadata, a dict or a namespace; None where it is not set."""
    if metadata is None:
        return None
    getter = getattr(metadata, "get", None)
    return getter(key, None) if callable(getter) else getattr(metadata, key, None)


def to_array(boxes: Any) -> np.ndarray:
    """Return (R, 4) or (R, 5) float64 of Boxes, RotatedBoxes, a tensor or an array."""
    boxes = getattr(boxes, "tensor", boxes)
    if hasattr(boxes, "detach"):
        boxes = boxes.detach().cpu().numpy()
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] not in (4, 5):
        raise ValueError(f"boxes must have shape (R, 4) or, rotated, (R, 5), got {array.shape}")
    return array


def corners(rotated_box: Sequence[float]) -> np.ndarray:
    """Return (4, 2) corners of (x, y, w, h, degrees counter-clockwise), first the top left."""
    x, y, w, h, angle = rotated_box
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    offsets = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
    return offsets @ np.array([[cos, -sin], [sin, cos]]) + (x, y)  # y points down


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def text_labels(
    classes: Sequence[int] | None,
    scores: Any,
    class_names: Sequence[str] | None,
    is_crowd: Sequence[int] | None = None,
) -> list[str] | None:
    """Return "name 87%" for each instance, with what of it is known; None where nothing is.

    >>> text_labels([0, 5], [0.87, 0.5], ["cat"])
    ['cat 87%', '5 50%']
    """
    names = class_names or []
    labels: list[str] | None = None
    if classes is not None:
        labels = [names[c] if 0 <= c < len(names) else str(c) for c in classes]
    if scores is not None:
        percent = [f"{float(score) * 100:.0f}%" for score in scores]
        labels = (
            percent
            if labels is None
            else [f"{name} {share}" for name, share in zip(labels, percent, strict=True)]
        )
    if labels is not None and is_crowd is not None:
        labels = [
            f"{label}|crowd" if crowd else label
            for label, crowd in zip(labels, is_crowd, strict=True)
        ]
    return labels


def free_place(
    box: np.ndarray,
    size: tuple[float, float],
    picture: tuple[float, float],
    taken: Sequence[Plate],
) -> Plate:
    """Return a place at the box's top left: above, inside or below it, where no label stands yet.

    Args:
        box: (x1, y1, x2, y2).
        size: width and height of the label.
        picture: width and height.
        taken: plates of the labels that stand already.
    """
    x1, y1, _, y2 = box
    width, height = size
    x = min(max(x1, 0.0), max(picture[0] - width, 0.0))
    best, least = None, math.inf
    for y in (y1 - height, y1, y1 + height, y2, y2 - height):
        if y < 0 or y + height > picture[1]:
            continue
        plate = (x, y, x + width, y + height)
        covered = sum(overlap(plate, other) for other in taken)
        if covered < least:
            best, least = plate, covered
        if covered == 0:
            break
    if best is None:  # taller than the picture, or its box lies outside
        y = min(max(y1, 0.0), max(picture[1] - height, 0.0))
        best = (x, y, x + width, y + height)
    return best
