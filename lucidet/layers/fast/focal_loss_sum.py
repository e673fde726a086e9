"""The sum of the focal loss over all anchors and classes, with its gradient in the same pass.

Lin et al. 2017 (arXiv 1708.02002), equation 5. As a chain of tensor operations the loss of
N x R x K logits writes and keeps half a dozen arrays of that size, and its gradient more. Value and
gradient need the same two functions of a logit, so both are computed piece by piece while the
piece is in the cache, and one array of that size is kept: the gradient.
"""

# N images, R_l anchors of one level, K classes, P positives of all levels

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["focal_level_sum"]

#: logits of a piece: on a CPU four arrays of it fit into the cache, on a GPU it fills the device
_CPU_PIECE = 1 << 15
_GPU_PIECE = 1 << 24


def focal_level_sum(
    logits: Tensor,
    takes_part: Tensor,
    positives: tuple[Tensor, Tensor, Tensor],
    weights: tuple[float, float],
    gamma: float,
) -> Tensor:
    """Return the focal loss of one level, summed, in float32.

    Args:
        logits: (N, R_l, K).
        takes_part: (N, R_l) bool.
        positives: (P,) each: image, row in this level, class. Rows outside 0..R_l-1 belong to
            another level. Nobody has to count those here, which would make a GPU's host wait.
        weights: of positives and of negatives.
        gamma: exponent that plays down what is already right.
    """
    if torch.compiler.is_compiling():  # the compiler joins the operations itself
        return _plain(logits, takes_part, positives, weights, gamma)
    return _FocalSum.apply(logits, takes_part, *positives, *weights, gamma)


def _plain(
    logits: Tensor,
    takes_part: Tensor,
    positives: tuple[Tensor, Tensor, Tensor],
    weights: tuple[float, float],
    gamma: float,
) -> Tensor:
    image, row, classes = positives
    inside = (row >= 0) & (row < logits.shape[1])
    wide = logits.float()
    total = (wide.sigmoid() ** gamma * F.softplus(wide) * takes_part[..., None]).sum()
    x = wide[image, row.clamp(0, logits.shape[1] - 1), classes]
    as_negatives = x.sigmoid() ** gamma * F.softplus(x)
    as_positives = (-x).sigmoid() ** gamma * F.softplus(-x)
    change = weights[0] * as_positives - weights[1] * as_negatives
    return weights[1] * total + (change * inside).sum()


def _value_and_slope(x: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Return p^gamma softplus(x), a negative's loss at logit x, and its derivative."""
    p, cost = x.sigmoid(), F.softplus(x)
    power = p * p if gamma == 2 else p**gamma
    value = power * cost
    # p^g (g (1 - p) softplus(x) + p)
    slope = (1 - p).mul_(cost).mul_(gamma).add_(p).mul_(power)
    return value, slope


class _FocalSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        takes_part: Tensor,
        image: Tensor,
        row: Tensor,
        classes: Tensor,
        weight_positive: float,
        weight_negative: float,
        gamma: float,
    ) -> Tensor:
        num_rows, num_classes = logits.shape[1:]
        flat = logits.reshape(-1, num_classes)
        part = takes_part.reshape(-1, 1).float()
        slopes = torch.empty(flat.shape, device=flat.device)
        total = torch.zeros((), device=flat.device)
        piece = _CPU_PIECE if flat.device.type == "cpu" else _GPU_PIECE
        step = max(piece // max(num_classes, 1), 1)
        for start in range(0, len(flat), step):
            rows = slice(start, start + step)
            value, slope = _value_and_slope(flat[rows].float(), gamma)
            total += (value.sum(dim=1) * part[rows, 0]).sum()
            torch.mul(slope, part[rows] * weight_negative, out=slopes[rows])
        total *= weight_negative
        if num_rows > 0:
            inside = (row >= 0) & (row < num_rows)
            at = (image * num_rows + row.clamp(0, num_rows - 1), classes)
            x = flat[at].float()
            as_negative, slope_negative = _value_and_slope(x, gamma)
            as_positive, slope_positive = _value_and_slope(-x, gamma)
            total += (
                inside * (weight_positive * as_positive - weight_negative * as_negative)
            ).sum()
            # a positive's loss is a negative's at -x; added, since rows of other levels are there
            change = inside * -(weight_positive * slope_positive + weight_negative * slope_negative)
            slopes.index_put_(at, change, accumulate=True)
        ctx.save_for_backward(slopes.view(logits.shape))
        ctx.dtype = logits.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (slopes,) = ctx.saved_tensors
        return (slopes * grad).to(ctx.dtype), *[None] * 7
