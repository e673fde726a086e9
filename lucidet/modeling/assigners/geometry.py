"""What the assigners by center and by scale share: distances, and matching by quality."""

# N images, M ground-truth boxes of an image, T of all images, R anchors in all,
# k candidates of a box

from __future__ import annotations

import torch
from torch import Tensor

from lucidet.modeling.assigners.assignment import Assignment

__all__ = [
    "box_centers",
    "edge_distances",
    "grow",
    "matched_iou",
    "win_by_quality",
]


def box_centers(boxes: Tensor) -> Tensor:
    """Return the centers (.., 2) of XYXY boxes (.., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def edge_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Return the distances (.., 4) of points (.., 2) to the left, top, right, bottom edges.

    >>> edge_distances(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 0.0, 10.0, 10.0])).tolist()
    [3.0, 4.0, 7.0, 6.0]
    """
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


def grow(boxes: Tensor, margin: float) -> Tensor:
    """Move every edge of XYXY boxes (.., 4) outwards by `margin` pixels; negative: inwards.

    Half a pixel turns a legacy box, of width x2 - x1 + 1, into the plain one of equal width.
    """
    if margin == 0:
        return boxes
    return torch.cat([boxes[..., :2] - margin, boxes[..., 2:] + margin], dim=-1)


def matched_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU of XYXY boxes pair by pair, with broadcasting: (..,); 0 for empty unions."""
    upper = torch.minimum(boxes[..., 2:], others[..., 2:])
    lower = torch.maximum(boxes[..., :2], others[..., :2])
    intersection = (upper - lower).clamp_(min=0).prod(dim=-1)
    area, other = ((b[..., 2:] - b[..., :2]).prod(dim=-1) for b in (boxes, others))
    union = area + other - intersection
    return torch.where(union > 0, intersection / union, 0.0)


def win_by_quality(
    candidates: Tensor,
    quality: Tensor,
    positive: Tensor,
    places: Tensor,
    shape: tuple[int, int, int],
) -> Assignment:
    """Match each anchor to the ground-truth box that it is a positive of with the highest quality.

    Anchors that are no positives are background. Of boxes with equal quality the first is taken.

    Args:
        candidates: (T, k) indices of anchors, 0..R-1.
        quality: (T, k) >= 0, of each box with each of its candidates.
        positive: (T, k) bool, whether the candidate is a positive of the box.
        places: (T,) int64, each box's image * M + row.
        shape: N, M, R; the assignment is (N, R).
    """
    num_images, num_boxes, num_anchors = shape
    flat = ((places // num_boxes * num_anchors)[:, None] + candidates).flatten()  # into (N, R)
    bids = torch.where(positive, quality, -1.0).flatten()
    best = bids.new_full((num_images * num_anchors,), -1.0).scatter_reduce_(0, flat, bids, "amax")
    wins = (bids >= 0) & (bids == best[flat])
    row = (places % num_boxes)[:, None].expand(candidates.shape).flatten()
    matched = torch.full_like(best, num_boxes, dtype=torch.int64)
    matched.scatter_reduce_(0, flat, torch.where(wins, row, num_boxes), "amin")
    matched, taken = matched.view(num_images, -1), matched.view(num_images, -1) < num_boxes
    quality = best.view(num_images, -1).clamp(min=0)
    return Assignment(torch.where(taken, matched, 0), taken.to(torch.int8), quality)
