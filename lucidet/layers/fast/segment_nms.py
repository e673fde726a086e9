"""Greedy NMS of many groups of boxes in two kernel launches, however many images and groups.

torchvision's operator takes one group at a time, and its GPU form walks all boxes in one thread.
Here every pair of boxes of a group is compared at once, and each group has a walker of its own.
On one H100, 8 images x 5 levels x 2000 boxes took 0.8 ms instead of 8 x 4.3 ms.

The kernels need Triton, which torch's CUDA wheels bring along. The plain form beside them is
torchvision's operator, one segment after the other.
"""

# n boxes of all segments

from __future__ import annotations

import importlib.util

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

__all__ = ["AVAILABLE", "MOST_BOXES", "plain_segment_nms", "segment_nms"]

#: Whether the kernels can be compiled here.
AVAILABLE = importlib.util.find_spec("triton") is not None
#: Most boxes whose pairs are all compared; above, their n^2 / 8 bytes cost more than they save.
MOST_BOXES = 1 << 15


@torch.library.custom_op("lucidet::segment_nms", mutates_args=())
def segment_nms(boxes: Tensor, ends: Tensor, longest: int, iou_threshold: float) -> Tensor:
    """Return which boxes greedy NMS keeps, (n,) bool; the CPU does not wait for the GPU.

    Args:
        boxes: (n, 4) float32 XYXY; the boxes of a segment follow each other, highest score first.
        ends: (n,) int32, for each box the index after the last one of its segment; 0: no box
            here, never kept.
        longest: no segment has more boxes. Memory is n x longest / 8 bytes.
        iou_threshold: in [0, 1]; a box is dropped where its IoU with a kept one is greater.
    """
    if not boxes.is_cuda or len(boxes) == 0:
        return plain_segment_nms(boxes, ends, longest, iou_threshold)
    # like torchvision's kernel, which compares with the threshold in float32
    rounded = float(np.float32(iou_threshold))
    return _launch(boxes.contiguous(), ends.contiguous(), longest, rounded)


def _launch(boxes: Tensor, ends: Tensor, longest: int, iou_threshold: float) -> Tensor:
    from lucidet.layers.fast.segment_nms_kernels import launch  # Triton takes time to import

    return launch(boxes, ends, longest, iou_threshold)


@segment_nms.register_fake
def _(boxes: Tensor, ends: Tensor, longest: int, iou_threshold: float) -> Tensor:
    return boxes.new_empty(len(boxes), dtype=torch.bool)


def plain_segment_nms(boxes: Tensor, ends: Tensor, longest: int, iou_threshold: float) -> Tensor:
    """Return the same as :func:`segment_nms`: torchvision's operator on each segment."""
    keep = torch.zeros_like(ends, dtype=torch.bool)
    start, stops = 0, ends.tolist()
    while start < len(stops):
        if stops[start] == 0:
            start += 1
            continue
        segment = boxes[start : stops[start]]
        falling = -segment.new_ones(len(segment)).cumsum(dim=0)
        keep[start + nms(segment, falling, iou_threshold)] = True
        start = stops[start]
    return keep
