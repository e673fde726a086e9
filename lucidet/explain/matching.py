"""Detections matched with ground-truth boxes as the AP does it: by hotcoco, COCO's protocol."""

# M ground-truth boxes, D detections, K classes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["GroundTruth", "Match", "hotcoco_judge", "match_detections"]

#: detections of an image and class that the evaluation looks at (COCO's)
LIMIT = 100
#: square pixels, COCO's
SMALL, LARGE = 32.0**2, 96.0**2


@dataclass(frozen=True)
class GroundTruth:
    """The annotations of one image.

    Attributes:
        xywh: (M, 4) float64 x, y, width, height, pixels of the file: what hotcoco compares.
        labels: (M,) int64 classes of the dataset, 0..K-1.
        area: (M,) float64 square pixels, by which sizes are told apart.
        crowd: (M,) bool; crowd regions are ignored.
    """

    xywh: np.ndarray
    labels: np.ndarray
    area: np.ndarray
    crowd: np.ndarray

    @classmethod
    def of(cls, boxes: Any, labels: Any, area: Any = None, crowd: Any = None) -> GroundTruth:
        """Return the annotations; `area` is the boxes' by default, `crowd` is False.

        >>> len(GroundTruth.of([[0, 0, 10, 10]], [2]))
        1
        """
        corners = np.asarray(boxes, np.float64).reshape(-1, 4)
        xywh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        return cls(
            xywh,
            np.asarray(labels, np.int64).reshape(-1),
            xywh[:, 2:].prod(axis=1) if area is None else np.asarray(area, np.float64),
            np.zeros(len(xywh), bool) if crowd is None else np.asarray(crowd, bool),
        )

    @property
    def boxes(self) -> np.ndarray:
        """(M, 4) XYXY, pixels of the file."""
        return np.concatenate([self.xywh[:, :2], self.xywh[:, :2] + self.xywh[:, 2:]], axis=1)

    def __len__(self) -> int:
        """M."""
        return len(self.xywh)

    def size(self, index: int) -> str:
        """Return "small", "medium" or "large", as COCO has it."""
        area = self.area[index]
        return "small" if area < SMALL else "medium" if area < LARGE else "large"


@dataclass(frozen=True)
class Match:
    """Which detection was matched with which ground-truth box.

    Attributes:
        detection: (M,) index of the detection of each box, -1: none; crowd regions have none.
        object: (D,) index of the box of each detection, -1: none.
        ignored: (D,) bool: on a crowd region, or beyond the evaluation's limit of an image.
    """

    detection: np.ndarray
    object: np.ndarray
    ignored: np.ndarray


def hotcoco_judge(
    num_images: int, num_classes: int, truth: Sequence[np.ndarray], rows: np.ndarray, iou: float
) -> Any:
    """Return hotcoco's COCOeval after matching at one IoU, for boxes of all sizes.

    Args:
        num_images, num_classes: ids are positions.
        truth: columns image (M,), class (M,), boxes (M, 4) XYWH, area (M,), crowd (M,).
        rows: (D, 7) image, x, y, width, height, score, class.
        iou: from which a detection counts.
    """
    import hotcoco

    images = [{"id": i, "width": 0, "height": 0, "file_name": ""} for i in range(num_images)]
    classes = [{"id": k, "name": str(k)} for k in range(num_classes)]
    image, label, boxes, area, crowd = truth
    found = hotcoco.COCO.from_arrays(images, classes, image, label, boxes, area=area, iscrowd=crowd)
    judge = hotcoco.COCOeval(found, found.load_res(np.asarray(rows, np.float64)), "bbox")
    judge.params.iou_thrs = [iou]
    judge.params.area_rng = [[0.0, 1e10]]
    judge.params.area_rng_lbl = ["all"]
    judge.params.max_dets = [LIMIT]
    judge.evaluate()
    return judge


def match_detections(
    truth: GroundTruth, boxes: Any, scores: Any, labels: Any, iou: float = 0.5
) -> Match:
    """Match one image's detections.

    Args:
        truth: the image's annotations.
        boxes: (D, 4) XYXY, pixels of the file.
        scores: (D,).
        labels: (D,) classes of the dataset.
        iou: from which a detection counts.

    >>> truth = GroundTruth.of([[0, 0, 10, 10]], [0])
    >>> match_detections(truth, [[0, 0, 10, 9], [0, 0, 10, 10]], [0.9, 0.8], [0, 0]).object
    array([ 0, -1])
    """
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    labels = np.asarray(labels, np.int64).reshape(-1)
    count = len(corners)
    result = Match(
        np.full(len(truth), -1), np.full(count, -1), np.ones(count, bool) if count else _none()
    )
    if not count:
        return result
    rows = np.zeros((count, 7))
    rows[:, 1:3], rows[:, 3:5] = corners[:, :2], corners[:, 2:] - corners[:, :2]
    rows[:, 5], rows[:, 6] = np.asarray(scores, np.float64), labels
    images = np.zeros(len(truth), np.int64)
    columns = (images, truth.labels, truth.xywh, truth.area, truth.crowd)
    most = int(max(labels.max(initial=0), truth.labels.max(initial=0))) + 1
    judge = hotcoco_judge(1, most, columns, rows, iou)
    for entry in judge.eval_imgs:
        if entry is None:
            continue
        # ids count from 1, in the order of the rows
        detections = np.asarray(entry["dtIds"], np.int64) - 1
        matched = np.asarray(entry["dtMatches"], np.int64).reshape(1, -1)[0] - 1
        ignored = np.asarray(entry["dtIgnore"], bool).reshape(1, -1)[0]
        result.ignored[detections] = ignored
        taken = (matched >= 0) & ~ignored
        result.object[detections[taken]] = matched[taken]
        result.detection[matched[taken]] = detections[taken]
    return result


def _none() -> np.ndarray:
    return np.zeros(0, bool)
