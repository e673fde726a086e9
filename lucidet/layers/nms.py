"""Non-maximum suppression, in one group or in many at once."""

# N boxes

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import boxes as box_ops
from torchvision.ops import nms

from lucidet.layers.rotated_boxes import pairwise_iou_rotated

__all__ = ["batched_nms", "batched_nms_rotated", "nms", "nms_padded", "nms_rotated"]

# Up to here one call over boxes that are shifted apart by group is the quicker way on a CPU
# (torchvision's own bound); beyond it, one call for each group: the cost of a call is quadratic.
_MAX_SHIFTED_ON_CPU = 1000


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Suppress boxes that overlap a better box of the same group.

    Args:
        boxes: (N, 4) XYXY pixels; any float type, compared in float32.
        scores: (N,) higher is better.
        idxs: (N,) group of each box, such as its class or level; groups never meet.
        iou_threshold: in [0, 1]; a box is dropped where its IoU with a kept one is greater.

    Returns:
        (K,) int64 indices of the kept boxes, best first.
    """
    if boxes.shape[-1] != 4:
        raise ValueError(f"batched_nms takes boxes of shape (N, 4), got {tuple(boxes.shape)}")
    # float16 has no room for a class offset: 80 classes x 1333 pixels > 65504
    boxes, scores = boxes.float(), scores.float()
    if (
        boxes.device.type != "cpu"
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or boxes.shape[0] <= _MAX_SHIFTED_ON_CPU
    ):
        return box_ops.batched_nms(boxes, scores, idxs, iou_threshold)
    return _nms_by_group(boxes, scores, idxs, iou_threshold)


def _nms_by_group(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Return the same as one masked call for each group, with one sort instead of the masks."""
    order = idxs.argsort(stable=True)
    sizes = torch.unique_consecutive(idxs[order], return_counts=True)[1].tolist()
    boxes, group_scores = boxes[order], scores[order]
    kept = []
    start = 0
    for size in sizes:
        group = slice(start, start + size)
        kept.append(nms(boxes[group], group_scores[group], iou_threshold) + start)
        start += size
    keep = order[torch.cat(kept)].sort().values  # of equal scores the first box comes first
    return keep[scores[keep].argsort(descending=True, stable=True)]


def nms_padded(
    boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float, limit: int
) -> tuple[Tensor, Tensor]:
    """Suppress boxes in every image of a batch: :func:`batched_nms` once for all images.

    Args:
        boxes: (N, K, 4) XYXY pixels.
        scores: (N, K) higher is better.
        groups: (N, K) or (K,) int64 >= 0; only boxes of the same image and group meet.
        valid: (N, K) bool; other places hold no box.
        iou_threshold: in [0, 1]; a box is dropped where its IoU with a kept one is greater.
        limit: at most this many boxes of an image are kept.

    Returns:
        keep: (N, min(limit, K)) int64 indices into K, best first, of equal scores the first box
            first; places from `count` on are 0.
        count: (N,) int64, boxes kept of each image.
    """
    num_images, num_boxes = scores.shape
    image = torch.arange(num_images, device=boxes.device)[:, None]
    groups = groups.expand(num_images, num_boxes)
    rows = valid.flatten().nonzero().squeeze(1)
    unique = (image * (groups.max() + 1 if groups.numel() else 1) + groups).flatten()[rows]
    kept = batched_nms(boxes.flatten(0, 1)[rows], scores.flatten()[rows], unique, iou_threshold)
    alive = torch.zeros_like(valid.flatten()).index_fill(0, rows[kept], True).view_as(valid)
    count = alive.sum(dim=1).clamp(max=limit)
    ranked = scores.masked_fill(~alive, -torch.inf).argsort(dim=1, descending=True, stable=True)
    keep = ranked[:, :limit]
    return keep.where(torch.arange(keep.shape[1], device=keep.device) < count[:, None], 0), count


def nms_rotated(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Suppress rotated boxes that overlap a better one.

    Args:
        boxes: (N, 5) (x, y, w, h, degrees), pixels.
        scores: (N,) higher is better.
        iou_threshold: in [0, 1]; a box is dropped where its IoU with a kept one is greater.

    Returns:
        (K,) int64 indices of the kept boxes, best first.
    """
    waiting = scores.argsort(descending=True, stable=True)
    kept = []
    while len(waiting) > 0:
        best, waiting = waiting[:1], waiting[1:]
        kept.append(best)
        waiting = waiting[pairwise_iou_rotated(boxes[best], boxes[waiting])[0] <= iou_threshold]
    return torch.cat(kept) if kept else waiting


def batched_nms_rotated(
    boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float
) -> Tensor:
    """Suppress rotated boxes that overlap a better box of the same group.

    Args:
        boxes: (N, 5) (x, y, w, h, degrees), pixels.
        scores, idxs, iou_threshold: as `batched_nms`.

    Returns:
        (K,) int64 indices of the kept boxes, best first.
    """
    if boxes.shape[-1] != 5:
        raise ValueError(
            f"batched_nms_rotated takes boxes of shape (N, 5), got {tuple(boxes.shape)}"
        )
    kept = [torch.empty(0, dtype=torch.int64, device=boxes.device)]
    for group in idxs.unique():
        members = (idxs == group).nonzero().flatten()
        kept.append(members[nms_rotated(boxes[members], scores[members], iou_threshold)])
    keep = torch.cat(kept)
    return keep[scores[keep].argsort(descending=True, stable=True)]
