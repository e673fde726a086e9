"""Non-maximum suppression, in one group or in many at once."""

# N boxes, or N images of K boxes

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import boxes as box_ops
from torchvision.ops import nms

from lucidet.layers.fast.segment_nms import AVAILABLE, MOST_BOXES, segment_nms
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
    boxes, scores, num_boxes = boxes.float(), scores.float(), len(boxes)
    in_a_graph = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if _prefers_segments(boxes) and 0 < num_boxes <= MOST_BOXES and not in_a_graph:
        everything = torch.ones_like(scores, dtype=torch.bool)[None]
        keep, count = nms_padded(
            boxes[None], scores[None], idxs[None], everything, iou_threshold, num_boxes
        )
        return keep[0, : int(count)]
    if boxes.device.type != "cpu" or in_a_graph or num_boxes <= _MAX_SHIFTED_ON_CPU:
        return box_ops.batched_nms(boxes, scores, idxs, iou_threshold)
    return _nms_by_group(boxes, scores, idxs, iou_threshold)


def _prefers_segments(boxes: Tensor) -> bool:
    return boxes.device.type == "cuda" and AVAILABLE


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
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    valid: Tensor,
    iou_threshold: float,
    limit: int,
    longest: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Suppress boxes in every image of a batch: what :func:`batched_nms` keeps of each image.

    On a GPU it is done once for all images, and the CPU does not wait.

    Args:
        boxes: (N, K, 4) XYXY pixels; any float type, compared in float32.
        scores: (N, K) higher is better.
        groups: (N, K) or (K,) int64 >= 0; only boxes of the same image and group meet.
        valid: (N, K) bool; other places hold no box.
        iou_threshold: in [0, 1]; a box is dropped where its IoU with a kept one is greater.
        limit: at most this many boxes of an image are kept.
        longest: no group of an image has more boxes; saves memory on a GPU. Default: K.

    Returns:
        keep: (N, min(limit, K)) int64 indices into K, best first, of equal scores the first box
            first; places from `count` on are 0.
        count: (N,) int64, boxes kept of each image.
    """
    num_images, num_boxes = scores.shape
    limit, longest = min(limit, num_boxes), num_boxes if longest is None else longest
    groups = groups.expand(num_images, num_boxes)
    if _prefers_segments(boxes) and num_boxes > 0:
        return _nms_by_segment(boxes, scores, groups, valid, iou_threshold, limit, longest)
    kept = []
    for image in range(num_images):
        rows = valid[image].nonzero().squeeze(1)
        own = boxes[image, rows], scores[image, rows], groups[image, rows]
        kept.append(rows[batched_nms(*own, iou_threshold)[:limit]])
    keep = torch.stack([F.pad(rows, (0, limit - len(rows))) for rows in kept])
    return keep, torch.tensor([len(rows) for rows in kept], device=boxes.device)


def _nms_by_segment(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    valid: Tensor,
    iou_threshold: float,
    limit: int,
    longest: int,
) -> tuple[Tensor, Tensor]:
    """Do :func:`nms_padded` by :func:`lucidet.layers.fast.segment_nms.segment_nms`."""
    num_images, num_boxes = scores.shape
    # by image, group and falling score; places without a box come last
    best_first = scores.argsort(dim=1, descending=True, stable=True)
    group = groups.long().masked_fill(~valid, torch.iinfo(torch.int64).max).gather(1, best_first)
    group, by_group = group.sort(dim=1, stable=True)
    order = best_first.gather(1, by_group)  # (N, K)
    image = torch.arange(num_images, device=boxes.device)[:, None]
    ends = torch.searchsorted(group, group, right=True) + image * num_boxes
    ends = ends.where(valid.gather(1, order), 0).int()
    ordered = boxes.float().gather(1, order[..., None].expand(-1, -1, 4))
    kept = segment_nms(ordered.flatten(0, 1), ends.flatten(), longest, iou_threshold)

    alive = torch.zeros_like(valid).scatter(1, order, kept.view_as(valid)).gather(1, best_first)
    rank = alive.cumsum(dim=1)  # 1 is the best of the kept
    place = (rank - 1).where(alive & (rank <= limit), limit)  # all others share a last place
    keep = order.new_zeros((num_images, limit + 1)).scatter(1, place, best_first)
    return keep[:, :limit], rank[:, -1].clamp(max=limit)


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
