"""How well anchors fit the boxes of a dataset, and by which factor they would fit better."""

# M ground-truth boxes, A anchor shapes

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["anchor_shapes", "best_factor", "share_covered", "shape_iou"]

#: a box is covered where an anchor centred on it has at least this IoU
COVERED = 0.5
#: boxes that are looked at, evenly spread over the dataset
_MOST_BOXES = 20_000
_FACTORS = 2.0 ** np.arange(-3, 2.01, 0.25)


def anchor_shapes(
    sizes: Sequence[Sequence[float]], ratios: Sequence[Sequence[float]]
) -> np.ndarray:
    """Return (A, 2) width and height of the anchors of all levels, pixels.

    Args:
        sizes: square roots of the areas, a list for each level.
        ratios: height / width, a list for each level or one list for all.

    >>> anchor_shapes([[32], [64]], [[1.0]]).tolist()
    [[32.0, 32.0], [64.0, 64.0]]
    """
    per_level = list(ratios) if len(ratios) == len(sizes) else [ratios[0]] * len(sizes)
    shapes = [
        (size / ratio**0.5, size * ratio**0.5)
        for level, its_ratios in zip(sizes, per_level, strict=True)
        for size in level
        for ratio in its_ratios
    ]
    return np.asarray(shapes, float)


def shape_iou(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Return (M,) the IoU of each box with its best anchor, both with the same center.

    Args:
        boxes: (M, 2) width and height, pixels of the resized image.
        anchors: (A, 2) width and height, pixels.

    >>> shape_iou(np.array([[32.0, 64.0]]), np.array([[32.0, 32.0], [64.0, 64.0]])).tolist()
    [0.5]
    """
    if not len(boxes):
        return np.zeros(0)
    overlap = np.minimum(boxes[:, None], anchors[None]).prod(axis=2)  # (M, A)
    union = boxes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - overlap
    return (overlap / np.maximum(union, 1e-9)).max(axis=1)


def share_covered(boxes: np.ndarray, anchors: np.ndarray) -> float:
    """Return the share, 0..1, of boxes that an anchor of the same center covers (IoU 0.5)."""
    ious = shape_iou(_spread(boxes), anchors)
    return float((ious >= COVERED).mean()) if len(ious) else 1.0


def best_factor(boxes: np.ndarray, anchors: np.ndarray) -> float:
    """Return the factor on all sizes with the highest mean IoU of boxes and anchors.

    Boxes count by the square root of their number in each octave, so that a rare size is not
    outvoted by a common one.
    """
    boxes = _spread(boxes)
    if not len(boxes):
        return 1.0
    octave = np.log2(np.maximum(boxes.prod(axis=1), 1.0)).astype(int) // 2
    _, which, counts = np.unique(octave, return_inverse=True, return_counts=True)
    weights = (1.0 / np.sqrt(counts))[which]
    scores = [np.average(shape_iou(boxes, anchors * f), weights=weights) for f in _FACTORS]
    best = max(scores)
    # the nearest to 1 of those that are as good
    good = [f for f, score in zip(_FACTORS, scores, strict=True) if score >= best - 0.005]
    return float(min(good, key=lambda f: abs(np.log(f))))


def _spread(boxes: np.ndarray) -> np.ndarray:
    step = max(1, len(boxes) // _MOST_BOXES)
    return boxes[::step]
