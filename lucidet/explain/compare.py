"""Detections of the same images from two weights, configs or versions, matched with one another."""

# A, B detections of the first and the second side

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lucidet.explain.frames import overlaps
from lucidet.explain.matching import GroundTruth, match_detections

__all__ = [
    "CHANGES",
    "Detections",
    "ImageChange",
    "Row",
    "change_of",
    "compare_image",
    "counts",
    "counts_by_threshold",
]

#: what became of a detection, from the first side to the second
CHANGES = ("gained", "lost", "moved", "rescored", "unchanged")

#: IoU from which two detections of a class are the same one
MATCH_IOU = 0.5
#: IoU below which a matched detection has moved
MOVED_IOU = 0.9
#: difference of scores from which a matched detection is rescored
RESCORED = 0.1


@dataclass(frozen=True)
class Detections:
    """What one side found in an image.

    Attributes:
        boxes: (D, 4) XYXY, pixels of the file.
        scores: (D,) 0..1.
        names: D names of classes.
    """

    boxes: np.ndarray
    scores: np.ndarray
    names: list[str]


@dataclass(frozen=True)
class Row:
    """A detection on either or both sides.

    Attributes:
        name: of the class.
        first, second: box XYXY, pixels of the file, and score; None: that side does not have it.
        iou: of the two boxes; 0 where one is missing.
        right: whether each side's detection is a true positive at IoU 0.5; None: not known.
    """

    name: str
    first: tuple[list[float], float] | None
    second: tuple[list[float], float] | None
    iou: float = 0.0
    right: tuple[bool | None, bool | None] = (None, None)


@dataclass
class ImageChange:
    """One image on both sides.

    Attributes:
        file_name, image_id: of the record.
        size: (width, height) of the file.
        truth: ground-truth boxes: box and class name.
        rows: of all detections.
    """

    file_name: str
    image_id: Any
    size: tuple[int, int]
    truth: list[tuple[list[float], str]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    @property
    def known(self) -> bool:
        """Whether true positives are known."""
        return any(right is not None for row in self.rows for right in row.right)


def change_of(row: Row, threshold: float) -> str | None:
    """Return which of `CHANGES` a detection underwent; None: neither side has it.

    Args:
        row: on both sides.
        threshold: detections with a lower score do not count.

    >>> change_of(Row("cat", ([0, 0, 9, 9], 0.9), ([0, 0, 9, 9], 0.4), 1.0), 0.5)
    'lost'
    """
    before = row.first is not None and row.first[1] >= threshold
    after = row.second is not None and row.second[1] >= threshold
    if not before and not after:
        return None
    if not before or not after:
        return "lost" if before else "gained"
    assert row.first is not None
    assert row.second is not None
    if row.iou < MOVED_IOU:
        return "moved"
    return "rescored" if abs(row.first[1] - row.second[1]) >= RESCORED else "unchanged"


def counts(images: Sequence[ImageChange], threshold: float) -> dict[str, int]:
    """Return how many detections of the images underwent each of `CHANGES`."""
    found = Counter(change_of(row, threshold) for image in images for row in image.rows)
    return {change: found[change] for change in CHANGES}


def counts_by_threshold(images: Sequence[ImageChange]) -> dict[str, list[list[int]]]:
    """Return for each of `CHANGES` counts at the thresholds 0.00, 0.01 ... 1.00: all, and right.

    >>> image = ImageChange("", 0, (1, 1), rows=[Row("cat", ([0, 0, 9, 9], 0.02), None)])
    >>> counts_by_threshold([image])["lost"][0][:5]
    [1, 1, 1, 0, 0]
    """
    steps = {change: np.zeros((2, 102), np.int64) for change in CHANGES}
    for row in (row for image in images for row in image.rows):
        ends = sorted(int(side[1] * 100 + 1e-6) + 1 for side in (row.first, row.second) if side)
        start = 0
        for end in dict.fromkeys(ends):  # a change holds from one score to the next
            change = change_of(row, start / 100)
            assert change is not None
            right = bool(row.right[0 if change == "lost" else 1])
            for kind in (0, 1) if right else (0,):
                steps[change][kind, start] += 1
                steps[change][kind, end] -= 1
            start = end
    return {change: found[:, :101].cumsum(axis=1).tolist() for change, found in steps.items()}


def compare_image(
    first: Detections,
    second: Detections,
    *,
    file_name: str = "",
    image_id: Any = None,
    size: tuple[int, int] = (1, 1),
    truth: GroundTruth | None = None,
    classes: Sequence[str] = (),
) -> ImageChange:
    """Match the detections of two sides: the highest IoU first, within a class.

    Args:
        first, second: of the same image.
        file_name, image_id, size: of the image.
        truth: its annotations; None: there are none, and nobody knows what is right.
        classes: names of the annotations' classes.
    """
    pairs = _pairs(first, second)
    right = [_true_positives(side, truth, classes) for side in (first, second)]
    rows = []
    for i, j, iou in pairs:
        rows.append(
            Row(
                first.names[i] if i >= 0 else second.names[j],
                _entry(first, i),
                _entry(second, j),
                round(iou, 4),
                (right[0][i] if i >= 0 else None, right[1][j] if j >= 0 else None),
            )
        )
    rows.sort(key=lambda row: -max(side[1] for side in (row.first, row.second) if side))
    shown = []
    if truth is not None:
        shown = [
            ([float(v) for v in box], classes[k] if k < len(classes) else f"class {k}")
            for box, k in zip(truth.boxes, truth.labels.tolist(), strict=True)
        ]
    return ImageChange(file_name, image_id, size, shown, rows)


def _entry(side: Detections, index: int) -> tuple[list[float], float] | None:
    if index < 0:
        return None
    box = [round(float(v), 2) for v in side.boxes[index]]
    return box, round(float(side.scores[index]), 4)


def _pairs(first: Detections, second: Detections) -> list[tuple[int, int, float]]:
    """Return (i, j, IoU) of matched detections, (i, -1, 0) and (-1, j, 0) of the others."""
    a, b = (torch.as_tensor(side.boxes).float().reshape(-1, 4) for side in (first, second))
    iou = overlaps(a, b).numpy() if len(a) and len(b) else np.zeros((len(a), len(b)))
    same = np.array(first.names)[:, None] == np.array(second.names)[None] if iou.size else iou > 0
    i_of, j_of = np.nonzero((iou >= MATCH_IOU) & same)
    pairs: list[tuple[int, int, float]] = []
    free_a, free_b = np.ones(len(a), bool), np.ones(len(b), bool)
    for place in np.argsort(-iou[i_of, j_of], kind="stable"):
        i, j = int(i_of[place]), int(j_of[place])
        if free_a[i] and free_b[j]:
            free_a[i] = free_b[j] = False
            pairs.append((i, j, float(iou[i, j])))
    pairs += [(int(i), -1, 0.0) for i in np.flatnonzero(free_a)]
    return pairs + [(-1, int(j), 0.0) for j in np.flatnonzero(free_b)]


def _true_positives(
    side: Detections, truth: GroundTruth | None, classes: Sequence[str]
) -> list[bool | None]:
    if truth is None:
        return [None] * len(side.names)
    order = np.argsort(-np.asarray(side.scores, np.float64), kind="stable")
    known = {name: k for k, name in enumerate(classes)}
    for name in side.names:
        known.setdefault(name, len(known))
    labels = [known[side.names[d]] for d in order]
    match = match_detections(truth, side.boxes[order], side.scores[order], labels)
    right = np.zeros(len(order), bool)
    right[order] = match.object >= 0
    return [bool(r) for r in right]
