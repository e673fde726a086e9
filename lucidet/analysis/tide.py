"""TIDE's error types, computed by hotcoco on data prepared so that tidecv gives the same numbers.

After Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object Detection Errors".
Three things are prepared, because hotcoco's and tidecv's definitions differ there:

- Of each image the 100 detections of the highest score count; hotcoco takes 100 of each class.
- Crowd boxes are no ground truth that could be missed or matched. A detection inside one of its
  class is ignored by the AP, but tidecv still gives it an error type, and a correction of its
  class or position may make it right.
- The points of recall are 0.01 i (`RECALL`), not COCO's ``linspace``.
"""

# D detections, G ground-truth boxes, O detections of one image that match no box

from __future__ import annotations

from typing import Any

import numpy as np

from lucidet.analysis.matching import IOU, Matches, judge_at_half
from lucidet.evaluation.coco_ap import CocoTruth

__all__ = ["BACKGROUND_IOU", "ERROR_TYPES", "tide"]

#: error type -> what it means, in TIDE's order
ERROR_TYPES = {
    "Cls": "right place, wrong class",
    "Loc": "right class, IoU between 0.1 and 0.5",
    "Both": "wrong class, and not in the right place",
    "Dupe": "right class and place, but another detection has the box",
    "Bkg": "IoU at most 0.1 with every ground-truth box",
    "Miss": "ground-truth box that no detection comes near",
}
#: IoU up to which a detection shows background
BACKGROUND_IOU = 0.1


def tide(truth: CocoTruth, rows: np.ndarray, matches: Matches, judge: Any = None) -> dict[str, Any]:
    """Return ``AP50``, ``delta_AP``, ``counts`` and the special errors of the detections.

    Args:
        truth: the annotations.
        rows: (D, 7) as for `CocoTruth.curves`, at most 100 an image.
        matches: of `rows`, by class.
        judge: the COCOeval of these matches, where there is one; it saves matching again.

    Returns:
        ``AP50`` in percent; ``delta_AP``: error type -> by how much AP50 rises when errors of this
        type alone are corrected; ``counts``: error type -> how many; ``special``: the same rises
        for ``FP`` (no false positive) and ``FN`` (nothing missed).
    """
    if judge is not None and not truth.crowd.any():
        return _in_percent(judge.tide_errors(IOU, BACKGROUND_IOU))
    # below every score: ignored detections have a type then, and change no AP
    lowered = rows.copy()
    lowered[matches.ignored, 5] = rows[:, 5].min(initial=0.0) - 1.0
    found = _errors(truth, lowered)
    base, delta = found["ap_base"], found["delta_ap"]
    for kind, (raised, removed) in _corrections(truth, rows, matches).items():
        if raised.any() or removed.any():
            changed = lowered.copy()
            changed[raised, 5] = rows[raised, 5]
            corrected = _errors(truth, changed[~removed])
            delta[kind] = max(corrected["ap_base"] + corrected["delta_ap"][kind] - base, 0.0)
    return _in_percent(found)


def _in_percent(found: dict[str, Any]) -> dict[str, Any]:
    delta, counts = found["delta_ap"], found["counts"]
    return {
        "AP50": 100.0 * found["ap_base"],
        "delta_AP": {kind: 100.0 * delta[kind] for kind in ERROR_TYPES},
        "counts": {kind: int(counts[kind]) for kind in ERROR_TYPES},
        "special": {kind: 100.0 * delta[kind] for kind in ("FP", "FN")},
    }


def _errors(truth: CocoTruth, rows: np.ndarray) -> dict[str, Any]:
    judge = judge_at_half(truth, rows, crowds=False)
    found: dict[str, Any] = judge.tide_errors(IOU, BACKGROUND_IOU)
    return found


def _corrections(
    truth: CocoTruth, rows: np.ndarray, matches: Matches
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return what corrections do to ignored detections, and because of them.

    tidecv corrects one detection of each missed box, that of the highest score: it becomes right,
    the others go. Where an ignored detection is that one, the AP afterwards has it.

    Returns:
        Error type -> two (D,) masks: ignored detections that are corrected, and detections that go
        because an ignored one of the other type has their box.
    """
    kinds = ("Cls", "Loc")
    result = {kind: (np.zeros(len(rows), bool), np.zeros(len(rows), bool)) for kind in kinds}
    wrong = np.flatnonzero(matches.box < 0)
    wrong = wrong[np.isin(rows[wrong, 0], rows[matches.ignored, 0])]
    wrong = wrong[np.lexsort((-rows[wrong, 5], rows[wrong, 0]))]
    if not len(wrong):
        return result
    images, starts = np.unique(rows[wrong, 0], return_index=True)
    for image, own in zip(images, np.split(wrong, starts[1:]), strict=True):
        kind, target = _kinds(truth, rows, own, int(image))
        open_box = (kind >= 0) & (matches.detection[target] < 0)
        boxes, best = np.unique(target[open_box], return_index=True)
        for box, first in zip(boxes, np.flatnonzero(open_box)[best], strict=True):
            if matches.ignored[own[first]]:
                result[kinds[kind[first]]][0][own[first]] = True
                other = 1 - kind[first]
                result[kinds[other]][1][own[(target == box) & (kind == other)]] = True
    return result


def _kinds(
    truth: CocoTruth, rows: np.ndarray, own: np.ndarray, image: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return (O,) 0 for Cls, 1 for Loc, -1 for others, and (O,) ground-truth boxes they are near.

    Args:
        own: (O,) rows of this image that match no box.
    """
    from hotcoco import mask

    kind, target = np.full(len(own), -1), np.zeros(len(own), np.int64)
    mine = np.flatnonzero((truth.image == image) & ~truth.crowd)
    if not len(mine):
        return kind, target
    iou = np.asarray(
        mask.iou(rows[own, 1:5].tolist(), truth.boxes[mine].tolist(), [False] * len(mine))
    ).reshape(len(own), len(mine))
    same = rows[own, 6][:, None] == truth.category[mine]
    for number, values in enumerate((iou * ~same, iou * same)):
        highest = values.max(axis=1)
        low, high = (IOU, np.inf) if number == 0 else (BACKGROUND_IOU, IOU)
        chosen = (highest >= low) & (highest <= high)  # Loc comes first in TIDE
        kind[chosen], target[chosen] = number, mine[values.argmax(axis=1)[chosen]]
    return kind, target
