"""Losses of dense classification and of boxes.

Every function is defined for no rows and for boxes without area, and its gradient is finite there.
Half-precision inputs are computed in float32, because 1e-7 is 0 in float16.
"""

# N boxes or rows

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

REDUCTIONS = ("none", "mean", "sum")


def _reduce(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        # the mean of nothing is NaN; 0 with a path for the gradient is meant
        return loss.mean() if loss.numel() > 0 else loss.sum() * 0.0
    raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")


def _wide(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in tensors)


def smooth_l1_loss(input: Tensor, target: Tensor, beta: float, reduction: str = "none") -> Tensor:
    """Return the loss that is quadratic below ``beta`` and linear above (Girshick 2015, eq. 3).

    0.5 x^2 / beta where |x| < beta, else |x| - 0.5 beta; for beta = 0 plain L1, whose gradient at
    x = 0 is 0.

    Args:
        input, target: any shape, the same for both.
        beta: >= 0, in the unit of ``input``.
        reduction: "none", "mean" or "sum".

    >>> smooth_l1_loss(torch.tensor([0.5, 3.0]), torch.zeros(2), beta=1.0).tolist()
    [0.125, 2.5]
    """
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta must be >= 0, got {beta}")
    # below 1e-5 the quadratic part is narrower than float32 resolves, and 1 / beta overflows
    beta = 0.0 if beta < 1e-5 else beta
    input, target = _wide(input, target)
    loss = F.smooth_l1_loss(input, target, reduction="none", beta=beta)
    return _reduce(loss, reduction)


def sigmoid_focal_loss(
    inputs: Tensor,
    targets: Tensor,
    alpha: float = -1,
    gamma: float = 2,
    reduction: str = "none",
) -> Tensor:
    """Return the focal loss of independent binary classifications (Lin et al. 2017, eq. 5).

    Args:
        inputs: logits, any shape.
        targets: the same shape, 0 or 1 (or between).
        alpha: weight in [0, 1] of the positives, 1 - alpha of the negatives; < 0: no weights.
        gamma: >= 0, how strongly well classified entries are played down.
        reduction: "none", "mean" or "sum".
    """
    inputs, targets = _wide(inputs, targets.to(inputs.dtype))
    entropy = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    p = inputs.sigmoid()
    missing = p + targets - 2 * p * targets  # 1 - (the probability of what is true)
    loss = entropy * missing**gamma
    if alpha >= 0:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    return _reduce(loss, reduction)


# the name under which detectron2 offers a scripted version of the same numbers
sigmoid_focal_loss_jit = sigmoid_focal_loss


def sigmoid_focal_loss_star(
    inputs: Tensor,
    targets: Tensor,
    alpha: float = -1,
    gamma: float = 1,
    reduction: str = "none",
) -> Tensor:
    """Return the variant FL* of the focal loss (Lin et al. 2017, appendix A).

    -log(sigmoid(gamma * x_t)) / gamma, where x_t is the logit, negated for negatives.

    Args:
        inputs: logits, any shape.
        targets: the same shape, 0 or 1.
        alpha: weight of the positives as in `sigmoid_focal_loss`; < 0: no weights.
        gamma: > 0, steepness.
        reduction: "none", "mean" or "sum".
    """
    if gamma <= 0:
        raise ValueError(f"sigmoid_focal_loss_star: gamma must be > 0, got {gamma}")
    inputs, targets = _wide(inputs, targets.to(inputs.dtype))
    loss = -F.logsigmoid(gamma * inputs * (2 * targets - 1)) / gamma
    if alpha >= 0:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    return _reduce(loss, reduction)


def _iou_parts(boxes1: Tensor, boxes2: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return (...) IoU, (...) union and (..., 2) sides of the smallest box around both."""
    low = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    high = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    inter = (high - low).clamp(min=0).prod(dim=-1)
    area1, area2 = ((b[..., 2:] - b[..., :2]).prod(dim=-1) for b in (boxes1, boxes2))
    union = area1 + area2 - inter
    around = torch.maximum(boxes1[..., 2:], boxes2[..., 2:]) - torch.minimum(
        boxes1[..., :2], boxes2[..., :2]
    )
    return inter / (union + eps), union, around


def giou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Return 1 - generalised IoU, in [0, 2] (Rezatofighi et al. 2019, algorithm 1).

    Args:
        boxes1, boxes2: (N, 4) or (4,) XYXY, box i against box i; x1 <= x2 and y1 <= y2.
        reduction: "none", "mean" or "sum".
        eps: added to each divisor, square pixels.

    >>> giou_loss(torch.tensor([[0., 0, 2, 2]]), torch.tensor([[2., 0, 4, 2]])).tolist()
    [1.0]
    """
    boxes1, boxes2 = _wide(boxes1, boxes2)
    iou, union, around = _iou_parts(boxes1, boxes2, eps)
    hull = around[..., 0] * around[..., 1]
    return _reduce(1 - iou + (hull - union) / (hull + eps), reduction)


def _distance_penalty(boxes1: Tensor, boxes2: Tensor, around: Tensor, eps: float) -> Tensor:
    """Return the squared distance of the centres over the squared diagonal around both."""
    apart = (boxes1[..., :2] + boxes1[..., 2:] - boxes2[..., :2] - boxes2[..., 2:]) / 2
    return (apart * apart).sum(dim=-1) / ((around * around).sum(dim=-1) + eps)


def diou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Return 1 - IoU + the distance of the centres (Zheng et al. 2020, eq. 6 and 7).

    Args:
        boxes1, boxes2: (N, 4) or (4,) XYXY, box i against box i; x1 <= x2 and y1 <= y2.
        reduction: "none", "mean" or "sum".
        eps: added to each divisor, square pixels.
    """
    boxes1, boxes2 = _wide(boxes1, boxes2)
    iou, _, around = _iou_parts(boxes1, boxes2, eps)
    return _reduce(1 - iou + _distance_penalty(boxes1, boxes2, around, eps), reduction)


def ciou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Return the DIoU loss + the difference in aspect ratio (Zheng et al. 2020, eq. 8 to 11).

    Args:
        boxes1: (N, 4) or (4,) XYXY predictions; x1 <= x2 and y1 <= y2.
        boxes2: (N, 4) or (4,) XYXY ground-truth boxes.
        reduction: "none", "mean" or "sum".
        eps: added to each divisor, square pixels.
    """
    boxes1, boxes2 = _wide(boxes1, boxes2)
    iou, _, around = _iou_parts(boxes1, boxes2, eps)
    skew = (4 / math.pi**2) * (_diagonal_angle(boxes2, eps) - _diagonal_angle(boxes1, eps)) ** 2
    with torch.no_grad():  # the trade-off of eq. 11 is a weight, not a target
        trade_off = skew / (1 - iou + skew + eps)
    loss = 1 - iou + _distance_penalty(boxes1, boxes2, around, eps) + trade_off * skew
    return _reduce(loss, reduction)


def _diagonal_angle(boxes: Tensor, eps: float) -> Tensor:
    """Return arctan(w / h); the clamp gives a box without width or height gradient 0, not NaN."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=eps)
    return torch.atan2(sides[..., 0], sides[..., 1])
