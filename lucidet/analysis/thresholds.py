"""The score threshold of each class at which its F1 is highest."""

# D detections, G ground-truth boxes, K classes

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lucidet.analysis.matching import Matches
from lucidet.evaluation.coco_ap import CocoTruth

__all__ = ["Threshold", "best_thresholds"]


@dataclass(frozen=True)
class Threshold:
    """Where the F1 of a class is highest at IoU 0.5.

    Attributes:
        score: detections of at least this score are kept; NaN where no detection is right.
        f1, precision, recall: 0..1, with that threshold; NaN where they are undefined.
    """

    score: float
    f1: float
    precision: float
    recall: float


def best_thresholds(truth: CocoTruth, rows: np.ndarray, matches: Matches) -> list[Threshold]:
    """Return K thresholds, one a class of `truth`.

    Args:
        truth: the annotations.
        rows: (D, 7) as for `CocoTruth.curves`.
        matches: of `rows`, by class.
    """
    count = len(truth.categories)
    order = np.lexsort((-rows[:, 5], rows[:, 6]))  # stable
    order = order[~matches.ignored[order]]
    objects = np.bincount(truth.category[~truth.crowd], minlength=count)
    parts = np.split(order, np.searchsorted(rows[order, 6], np.arange(1, count)))
    return [
        _best(rows[own, 5], matches.box[own] >= 0, int(total))
        for own, total in zip(parts, objects, strict=False)
    ]


def _best(scores: np.ndarray, right: np.ndarray, objects: int) -> Threshold:
    if not right.any():
        nothing = float("nan")
        return Threshold(nothing, 0.0 if objects else nothing, nothing, 0.0 if objects else nothing)
    found = np.cumsum(right)
    kept = np.arange(1, len(scores) + 1)
    f1 = 2 * found / (kept + objects)
    # a threshold cannot part detections of equal score
    f1[:-1][scores[:-1] == scores[1:]] = -1
    best = int(f1.argmax())
    precision, recall = found[best] / kept[best], found[best] / objects
    return Threshold(float(scores[best]), float(f1[best]), float(precision), float(recall))
