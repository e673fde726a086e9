"""Ground truth from the records of a dataset, as the evaluation of the same dataset has it."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucidet.explain.matching import GroundTruth
from lucidet.structures import BoxMode

__all__ = ["truth_of_record"]


def truth_of_record(record: dict[str, Any]) -> GroundTruth:
    """Return the annotations of a dataset's record; none where it has no `annotations`.

    Boxes of a COCO JSON are taken as they are; others are rounded to thousandths of a pixel, as
    they are for the evaluation. Boxes that are `difficult` (VOC) are ignored like crowd regions.

    Raises:
        ValueError: a rotated box.

    >>> record = {"annotations": [{"bbox": [0, 0, 9, 9], "bbox_mode": 0, "category_id": 1}]}
    >>> truth_of_record(record).xywh.tolist()
    [[0.0, 0.0, 9.0, 9.0]]
    """
    boxes, labels, areas, crowd = [], [], [], []
    for entry in record.get("annotations") or []:
        box = [float(v) for v in entry["bbox"]]
        if len(box) != 4:
            raise ValueError(
                f"image {record.get('image_id')} ({record.get('file_name')}): explain knows no "
                f"rotated boxes, got {box}"
            )
        mode = BoxMode(entry.get("bbox_mode", BoxMode.XYXY_ABS))
        if mode != BoxMode.XYWH_ABS:
            box = [round(float(v), 3) for v in BoxMode.convert(box, mode, BoxMode.XYWH_ABS)]
        boxes.append(box)
        labels.append(int(entry["category_id"]))
        areas.append(float(entry.get("area") or box[2] * box[3]))
        crowd.append(bool(entry.get("iscrowd", 0) or entry.get("difficult", 0)))
    return GroundTruth(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(areas, np.float64),
        np.array(crowd, bool),
    )
