"""How many objects a set of class-agnostic proposals covers (average recall)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

AREA_RANGES = {"": (0.0, 1e10), "s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}
IOU_THRESHOLDS = np.arange(0.5, 0.95 + 1e-5, 0.05)


def average_recall(
    proposals: Sequence[np.ndarray],
    objects: Sequence[np.ndarray],
    areas: Sequence[np.ndarray],
    limit: int,
    size: str = "",
) -> float:
    """Return the recall of objects, averaged over IoU 0.5 ... 0.95, in percent.

    After Hosang et al. 2015, "What makes for effective detection proposals?": classes and scores
    play no part, each object is paired with one proposal, best overlaps first.

    Args:
        proposals: per image (P, 4) XYXY, highest objectness first.
        objects: per image (M, 4) XYXY, without crowds.
        areas: per image (M,), what the size of an object is judged by.
        limit: proposals an image may use.
        size: ``""`` all, ``s``, ``m`` or ``l`` as COCO defines them.

    Returns:
        NaN where there is no object of that size.
    """
    low, high = AREA_RANGES[size]
    covered = []
    for boxes, truth, area in zip(proposals, objects, areas, strict=True):
        wanted = truth[(area >= low) & (area <= high)]
        covered.append(_paired_overlaps(_iou(wanted, boxes[:limit])))
    overlaps = np.concatenate(covered) if covered else np.zeros(0)
    if not overlaps.size:
        return float("nan")
    return 100.0 * float((overlaps[:, None] >= IOU_THRESHOLDS).mean())


def _paired_overlaps(iou: np.ndarray) -> np.ndarray:
    """Pair rows with columns greedily by IoU; return each row's IoU, 0 where it got no partner."""
    best = np.zeros(len(iou))
    rows, columns = np.nonzero(iou >= IOU_THRESHOLDS[0])  # less than 0.5 counts nowhere
    taken_rows: set[int] = set()
    taken_columns: set[int] = set()
    for at in np.argsort(-iou[rows, columns], kind="stable"):
        row, column = int(rows[at]), int(columns[at])
        if row not in taken_rows and column not in taken_columns:
            best[row] = iou[row, column]
            taken_rows.add(row)
            taken_columns.add(column)
    return best


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (len(a), len(b)) overlaps of XYXY boxes."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (bottom_right - top_left).clip(min=0).prod(axis=2)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(axis=1) for box in (a, b))
    return shared / np.maximum(area_a[:, None] + area_b - shared, 1e-9)
