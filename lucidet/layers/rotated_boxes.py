"""Intersection over union of rotated boxes, by polygon geometry in plain torch.

A rotated box is (centre x, centre y, width, height, angle): angle in degrees, counter-clockwise as
seen on the screen, where y points down.
"""

# N, M boxes of the two sets, P pairs

from __future__ import annotations

import math

import torch
from torch import Tensor

# pairs whose polygons are cut at once; one takes about 3 kB
_PAIRS_AT_ONCE = 1 << 15


def pairwise_iou_rotated(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Return the IoU of each of N boxes with each of M.

    Args:
        boxes1, boxes2: (N, 5) and (M, 5) as (x, y, w, h, degrees), pixels.

    Returns:
        (N, M) in [0, 1], in the type of ``boxes1``; 0 where a box has no area. No gradient.

    >>> square = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
    >>> pairwise_iou_rotated(square, torch.tensor([[0.0, 0.0, 2.0, 2.0, 90.0]]))
    tensor([[1.]])
    """
    for boxes in (boxes1, boxes2):
        if boxes.dim() != 2 or boxes.shape[1] != 5:
            raise ValueError(f"rotated boxes have shape (N, 5), got {tuple(boxes.shape)}")
    # float64: a corner that lies on the other's side must be found there
    wide1, wide2 = boxes1.detach().double(), boxes2.detach().double()
    areas1, areas2 = wide1[:, 2] * wide1[:, 3], wide2[:, 2] * wide2[:, 3]
    # only boxes whose enclosing circles meet can overlap
    radius1, radius2 = (b[:, 2:4].norm(dim=1) / 2 for b in (wide1, wide2))
    near = torch.cdist(wide1[:, :2], wide2[:, :2]) < radius1[:, None] + radius2
    near &= (areas1 > 0)[:, None] & (areas2 > 0)
    first, second = near.nonzero(as_tuple=True)
    iou = wide1.new_zeros(len(wide1), len(wide2))
    for i, j in zip(first.split(_PAIRS_AT_ONCE), second.split(_PAIRS_AT_ONCE), strict=True):
        inter = _overlap_of_pairs(wide1[i], wide2[j])
        iou[i, j] = (inter / (areas1[i] + areas2[j] - inter)).clamp(0, 1)
    return iou.to(boxes1.dtype)


def _overlap_of_pairs(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Return (P,) areas of the intersections of (P, 5) with (P, 5).

    The intersection is convex, and its corners are among 24 points: corners of one box inside the
    other, and crossings of their sides. In order of their angle around an inner point they give
    the area; points that count twice add nothing.
    """
    # around the first centre, so that far-away boxes lose no digits
    origin = boxes1[:, None, :2]
    corners1, corners2 = corners(boxes1) - origin, corners(boxes2) - origin
    tolerance = 1e-9 * (boxes1[:, 2:4].amax(dim=1) + boxes2[:, 2:4].amax(dim=1))
    crossings, cross = _side_crossings(corners1, corners2)
    points = torch.cat([corners1, corners2, crossings], dim=1)  # (P, 24, 2)
    valid = torch.cat(
        [
            _inside(corners1 + origin, boxes2, tolerance),
            _inside(corners2 + origin, boxes1, tolerance),
            cross,
        ],
        dim=1,
    )
    number = valid.sum(dim=1)
    centre = (points * valid[..., None]).sum(dim=1) / number.clamp(min=1)[:, None]
    spokes = points - centre[:, None]
    angle = torch.atan2(spokes[..., 1], spokes[..., 0]).masked_fill(~valid, math.inf)
    order = angle.argsort(dim=1)
    spokes = spokes.gather(1, order[..., None].expand_as(spokes))
    # the slots behind the last corner repeat the first one: the polygon closes, and adds no area
    valid = valid.gather(1, order)
    spokes = torch.where(valid[..., None], spokes, spokes[:, :1])
    following = spokes.roll(-1, dims=1)
    area = _cross(spokes, following).sum(dim=1).abs() / 2
    return torch.where(number > 2, area, 0.0)


def corners(boxes: Tensor) -> Tensor:
    """Return the (P, 4, 2) corners (x, y) of (P, 5) rotated boxes, in order around each."""
    angle = boxes[:, 4] * (math.pi / 180)
    along = torch.stack([angle.cos(), -angle.sin()], dim=1) * boxes[:, 2:3] / 2
    across = torch.stack([angle.sin(), angle.cos()], dim=1) * boxes[:, 3:4] / 2
    centre = boxes[:, :2]
    return torch.stack(
        [
            centre - along - across,
            centre + along - across,
            centre + along + across,
            centre - along + across,
        ],
        dim=1,
    )


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _inside(points: Tensor, boxes: Tensor, tolerance: Tensor) -> Tensor:
    """Return (P, 4) bool: point (p, k) lies in or on box p."""
    offset = points - boxes[:, None, :2]
    angle = boxes[:, 4] * (math.pi / 180)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    along = (offset[..., 0] * cos - offset[..., 1] * sin).abs()
    across = (offset[..., 0] * sin + offset[..., 1] * cos).abs()
    slack = tolerance[:, None]
    return (along <= boxes[:, 2:3] / 2 + slack) & (across <= boxes[:, 3:4] / 2 + slack)


def _side_crossings(corners1: Tensor, corners2: Tensor) -> tuple[Tensor, Tensor]:
    """Return (P, 16, 2) crossings of the sides of two boxes, and (P, 16) whether each exists."""
    side1 = (corners1.roll(-1, dims=1) - corners1)[:, :, None]  # (P, 4, 1, 2)
    side2 = (corners2.roll(-1, dims=1) - corners2)[:, None]  # (P, 1, 4, 2)
    apart = corners2[:, None] - corners1[:, :, None]  # (P, 4, 4, 2)
    turn = _cross(side1, side2)
    # parallel sides have no crossing of their own: the corners inside stand for it
    lengths = side1.norm(dim=-1) * side2.norm(dim=-1)
    parallel = turn.abs() <= 1e-12 * lengths
    turn = torch.where(parallel, 1.0, turn)
    at1, at2 = _cross(apart, side2) / turn, _cross(apart, side1) / turn
    exists = ~parallel & (at1 >= 0) & (at1 <= 1) & (at2 >= 0) & (at2 <= 1)
    points = corners1[:, :, None] + at1[..., None] * side1
    points = torch.where(exists[..., None], points, 0.0)
    return points.flatten(1, 2), exists.flatten(1)
