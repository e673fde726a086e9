"""Which detection matches which ground-truth box at IoU 0.5, as hotcoco matches them."""

# D detections, G ground-truth boxes

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lucidet.evaluation.coco_ap import CocoTruth

__all__ = ["IOU", "LIMIT", "RECALL", "Matches", "best_of_each_image", "judge_at_half", "match"]

#: IoU from which on a detection matches a ground-truth box
IOU = 0.5
#: detections of an image that count, those of the highest scores
LIMIT = 100
#: points of recall of tidecv's AP; COCO's ``linspace`` differs in the last bit
RECALL = [i / 100 for i in range(101)]


@dataclass(frozen=True)
class Matches:
    """What each detection and each ground-truth box is matched to, whatever the scores are.

    Detections are matched from the highest score down, so that those below a threshold change
    nothing of those above it.

    Attributes:
        box: (D,) index of the ground-truth box, -1: none.
        detection: (G,) index of the detection, -1: none.
        ignored: (D,) lies in a crowd box of its class: neither right nor wrong.
    """

    box: np.ndarray
    detection: np.ndarray
    ignored: np.ndarray

    def found(self, scores: np.ndarray, threshold: float) -> np.ndarray:
        """Return (G,) whether a detection of at least `threshold` matches the box."""
        if not len(scores):
            return np.zeros(len(self.detection), bool)
        return (self.detection >= 0) & (scores[self.detection] >= threshold)


def best_of_each_image(rows: np.ndarray, limit: int = LIMIT) -> np.ndarray:
    """Return the detections (D, 7) that are among the `limit` of the highest score of an image.

    COCO's AP takes this many of each class; tools that look at an image take this many in all.
    The order of the rows stays.

    >>> rows = np.zeros((3, 7)); rows[:, 5] = 0.2, 0.9, 0.5
    >>> best_of_each_image(rows, 2)[:, 5].tolist()
    [0.9, 0.5]
    """
    if np.unique(rows[:, 0], return_counts=True)[1].max(initial=0) <= limit:
        return rows
    order = np.lexsort((-rows[:, 5], rows[:, 0]))  # stable: of equal scores the first
    images = rows[order, 0]
    starts = np.flatnonzero(np.r_[True, images[1:] != images[:-1]]) if len(rows) else order
    sizes = np.diff(np.r_[starts, len(rows)])
    rank = np.arange(len(rows)) - np.repeat(starts, sizes)
    return rows[np.sort(order[rank < limit])]


def judge_at_half(
    truth: CocoTruth,
    rows: np.ndarray,
    *,
    crowds: bool = True,
    by_class: bool = True,
) -> Any:
    """Return hotcoco's COCOeval that has matched at IoU 0.5 only.

    Args:
        truth: the annotations.
        rows: (D, 7) as for `CocoTruth.curves`, at most `LIMIT` an image.
        crowds: with crowd boxes; else they do not exist.
        by_class: a detection matches boxes of its class only.
    """
    import hotcoco

    kept = slice(None) if crowds else ~truth.crowd
    # of boxes, the sizes of images do not matter
    blank = {"width": 0, "height": 0, "file_name": ""}
    ground_truth = hotcoco.COCO.from_arrays(
        [{"id": i, **blank} for i in range(len(truth.image_ids))],
        truth.category_records,
        truth.image[kept],
        truth.category[kept],
        truth.boxes[kept],
        area=truth.area[kept],
        iscrowd=truth.crowd[kept],
    )
    judge = hotcoco.COCOeval(ground_truth, ground_truth.load_res(rows), "bbox")
    judge.params.iou_thrs = [IOU]
    judge.params.area_rng, judge.params.area_rng_lbl = [[0.0, 1e10]], ["all"]
    judge.params.max_dets = [LIMIT]
    judge.params.use_cats = by_class
    judge.params.rec_thrs = RECALL
    judge.evaluate()
    return judge


def match(truth: CocoTruth, rows: np.ndarray, judge: Any, crowds: bool = True) -> Matches:
    """Return the matches of a `judge` that `judge_at_half` has returned for the same arguments."""
    found = judge.image_diagnostics(IOU, 1.0)
    annotations = np.arange(len(truth.boxes)) if crowds else np.flatnonzero(~truth.crowd)
    box = np.full(len(rows), -1, np.int64)
    detection = np.full(len(truth.boxes), -1, np.int64)
    ignored = np.ones(len(rows), bool)
    # ids count from 1, in the order of the rows and of the annotations
    status: dict[int, str] = found["dt_status"]
    ignored[np.fromiter(status, np.int64, len(status)) - 1] = False
    pairs: dict[int, int] = found["dt_match"]
    matched = np.fromiter(pairs, np.int64, len(pairs)) - 1
    target = annotations[np.fromiter(pairs.values(), np.int64, len(pairs)) - 1]
    right = ~ignored[matched] & ~truth.crowd[target]
    box[matched[right]] = target[right]
    detection[target[right]] = matched[right]
    return Matches(box, detection, ignored)
