"""What the assigners by centre and by scale share: distances, and who wins a contested anchor."""

# M objects, R anchors in all, k candidates of an object

from __future__ import annotations

import torch
from torch import Tensor

from lucidet.modeling.assigners.assignment import Assignment

__all__ = ["box_centers", "edge_distances", "grow", "matched_iou", "win_by_quality"]


def box_centers(boxes: Tensor) -> Tensor:
    """Return the centres (.., 2) of XYXY boxes (.., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def edge_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Return the distances (.., 4) of points (.., 2) to the left, top, right, bottom edges.

    A distance is negative where the point lies beyond that edge.

    >>> edge_distances(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 0.0, 10.0, 10.0])).tolist()
    [3.0, 4.0, 7.0, 6.0]
    """
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


def grow(boxes: Tensor, margin: float) -> Tensor:
    """Move every edge of XYXY boxes (.., 4) outwards by `margin` pixels; negative: inwards.

    Half a pixel turns a box of the legacy convention, whose width is x2 - x1 + 1, into the plain
    box of the same width and centre.

    >>> grow(torch.tensor([2.0, 2.0, 4.0, 4.0]), 0.5).tolist()
    [1.5, 1.5, 4.5, 4.5]
    """
    if margin == 0:
        return boxes
    return torch.cat([boxes[..., :2] - margin, boxes[..., 2:] + margin], dim=-1)


def matched_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU of XYXY boxes pair by pair, with broadcasting: (..,); 0 for empty unions."""
    overlap = torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(
        boxes[..., :2], others[..., :2]
    )
    intersection = overlap.clamp_(min=0).prod(dim=-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1) + (others[..., 2:] - others[..., :2]).prod(
        -1
    )
    union = areas - intersection
    return torch.where(union > 0, intersection / union, 0.0)


def win_by_quality(
    candidates: Tensor, quality: Tensor, positive: Tensor, num_anchors: int
) -> Assignment:
    """Give each anchor to the object that wants it with the highest quality.

    Args:
        candidates: (M, k) indices of anchors.
        quality: (M, k) >= 0, of each object with each of its candidates.
        positive: (M, k) bool, whether the object wants that candidate.
        num_anchors: R.

    Returns:
        Anchors nobody wants are background, of quality 0. Of objects that want one with equal
        quality the first gets it.
    """
    num_objects = len(candidates)
    flat, bids = candidates.flatten(), torch.where(positive, quality, -1.0).flatten()
    best = bids.new_full((num_anchors,), -1.0).scatter_reduce_(0, flat, bids, "amax")
    wins = (bids >= 0) & (bids == best[flat])
    rows = torch.arange(num_objects, device=flat.device).repeat_interleave(candidates.shape[1])
    matched = torch.full((num_anchors,), num_objects, dtype=torch.int64, device=flat.device)
    matched.scatter_reduce_(0, flat, torch.where(wins, rows, num_objects), "amin")
    taken = matched < num_objects
    return Assignment(
        matched_idxs=torch.where(taken, matched, 0),
        labels=taken.to(torch.int8),
        quality=best.clamp(min=0),
    )
