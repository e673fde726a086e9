"""What a trace says of the ground-truth boxes: the record's annotations, and the anchors' IoUs."""

# M ground-truth boxes, L levels

from __future__ import annotations

import torch
from torch import Tensor

from lucidet.inspection.event import whole
from lucidet.inspection.trace import Trace
from lucidet.structures import Boxes, BoxMode, pairwise_iou

__all__ = ["annotated", "class_name", "level_ious"]


def annotated(trace: Trace) -> tuple[Tensor, list[int]]:
    """Return boxes and classes of the record's objects, in pixels of the original image."""
    boxes, classes = [], []
    if "input.read" in trace:
        record = trace["input.read"]["record"]
        for entry in record.get("annotations") or []:
            if not entry.get("iscrowd", 0):
                mode = int(entry.get("bbox_mode", 0))
                given = entry["bbox"]
                box = whole(given).tolist() if not isinstance(given, list) else given
                boxes.append(BoxMode.convert(list(box), BoxMode(mode), BoxMode.XYXY_ABS))
                classes.append(int(entry.get("category_id", -1)))
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), classes


def class_name(trace: Trace, index: int) -> str:
    """Return the name of a class of the dataset, or its number."""
    classes = trace.context.get("classes") or []
    return classes[index] if 0 <= index < len(classes) else f"class {index}"


def level_ious(gt_boxes: Tensor, levels: list[Tensor]) -> Tensor:
    """Return the highest IoU (M, L) of each object with an anchor of each level."""
    best = torch.zeros(len(gt_boxes), len(levels))
    for column, anchors in enumerate(levels):
        for start in range(0, len(anchors), 20000):
            chunk = Boxes(anchors[start : start + 20000, :4])
            iou = pairwise_iou(Boxes(gt_boxes), chunk).nan_to_num()
            if iou.numel():
                best[:, column] = torch.maximum(best[:, column], iou.amax(dim=1))
    return best
