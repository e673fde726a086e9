"""The sum of the focal loss over all anchors and classes, with its gradient in the same pass.

Lin et al. 2017 (arXiv 1708.02002), equation 5. As a chain of tensor operations the loss of
N x R x K logits writes and keeps half a dozen arrays of that size, and its gradient more. Value and
gradient need the same two functions of a logit, so both are computed in one pass, and one array of
that size is kept: the gradient. Nearly every entry is a negative, so no target of that size is
built: all count as negatives first, then the positives' own entries are corrected.
"""

# N images, R_l anchors of level l, R of all levels, K classes, P positives of all levels

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["focal_loss_sum", "focal_loss_sum_plain"]

#: logits of a piece: on a CPU four arrays of it fit into the cache; on a GPU, where they take 2 GB,
#: the logits of 8 images of RetinaNet's 200 000 anchors are one piece
_CPU_PIECE = 1 << 15
#: up to here the plain form needs less time on a CPU
_SMALL = 1 << 17
_GPU_PIECE = 1 << 27

Columns = tuple[Tensor, Tensor, Tensor]


def focal_loss_sum(
    logits: Sequence[Tensor],
    weights: Tensor,
    positives: Columns,
    alpha: float,
    gamma: float,
) -> Tensor:
    """Return the weighted sum of the focal loss, in float32.

    Args:
        logits: per level (N, R_l, K).
        weights: (N, R) float32 weight of each anchor; 0: ignored.
        positives: (P,) each: image, row in 0..R-1, class.
        alpha: weight of positives, 1 - alpha of negatives; negative: both weigh 1.
        gamma: exponent that reduces the loss of well classified entries.
    """
    small = weights.device.type == "cpu" and sum(x.numel() for x in logits) <= _SMALL
    if small or torch.compiler.is_compiling():  # a compiler joins the operations itself
        return focal_loss_sum_plain(logits, weights, positives, alpha, gamma)
    sides = (alpha, 1 - alpha) if alpha >= 0 else (1.0, 1.0)
    return _FocalSum.apply(weights, *positives, *sides, gamma, *logits)


def focal_loss_sum_plain(
    logits: Sequence[Tensor],
    weights: Tensor,
    positives: Columns,
    alpha: float,
    gamma: float,
) -> Tensor:
    """Return the same as a chain of tensor operations."""
    image, row, _ = positives
    sides = (alpha, 1 - alpha) if alpha >= 0 else (1.0, 1.0)
    every = torch.cat(list(logits), dim=1).float()  # (N, R, K)
    total = (_cost(every, gamma) * weights[..., None]).sum()
    x = every[positives]
    change = sides[0] * _cost(-x, gamma) - sides[1] * _cost(x, gamma)
    return sides[1] * total + (change * weights[image, row]).sum()


def _cost(x: Tensor, gamma: float) -> Tensor:
    """Return p^gamma softplus(x), a negative's loss at logit x; a positive's is that at -x."""
    return x.sigmoid() ** gamma * F.softplus(x)


def _value_and_slope(
    x: Tensor, weights: Tensor, gamma: float, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the weighted cost of logits x, and its derivative, which is written to `out`."""
    p, cost = x.sigmoid(), F.softplus(x)
    power = p * p if gamma == 2 else p**gamma
    power *= weights
    value = power * cost
    # p^g (g (1 - p) softplus(x) + p)
    inner = cost.addcmul_(cost, p, value=-1).mul_(gamma).add_(p)
    return value, torch.mul(inner, power, out=out)


class _FocalSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        weights: Tensor,
        image: Tensor,
        row: Tensor,
        classes: Tensor,
        weight_positive: float,
        weight_negative: float,
        gamma: float,
        *logits: Tensor,
    ) -> Tensor:
        shape = (*weights.shape, logits[0].shape[2])  # (N, R, K)
        if weights.device.type == "cpu":
            slopes = torch.empty(shape)
            x = _of_positives(logits, image, row, classes)
            pieces = _pieces(logits, slopes, weights)
        else:
            slopes = torch.cat(logits, dim=1).float()
            x = slopes[image, row, classes]
            step = max(_GPU_PIECE // max(shape[2], 1), 1)
            flat = slopes.view(-1, shape[2]).split(step)
            pieces = zip(flat, flat, weights.view(-1, 1).split(step), strict=True)  # type: ignore[assignment]
        total = torch.zeros((), device=weights.device)
        for own, out, weight in pieces:
            value, _ = _value_and_slope(own.float(), weight * weight_negative, gamma, out)
            total += value.sum()
        weight = weights[image, row]
        as_negative, slope_negative = _value_and_slope(x, weight * weight_negative, gamma)
        as_positive, slope_positive = _value_and_slope(-x, weight * weight_positive, gamma)
        total += (as_positive - as_negative).sum()
        # a positive's loss is a negative's at -x
        change = slope_positive.add_(slope_negative).neg_()
        slopes.index_put_((image, row, classes), change, accumulate=True)
        ctx.save_for_backward(slopes)
        ctx.dtype, ctx.sizes = logits[0].dtype, [level.shape[1] for level in logits]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (slopes,) = ctx.saved_tensors
        grads = torch.mul(slopes, grad, out=torch.empty_like(slopes, dtype=ctx.dtype))
        return *[None] * 7, *grads.split(ctx.sizes, dim=1)


def _pieces(
    logits: Sequence[Tensor], slopes: Tensor, weights: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield rows of logits (r, K), where their slopes go (r, K), and their weights (r, 1)."""
    step = max(_CPU_PIECE // max(slopes.shape[2], 1), 1)
    for image in range(len(slopes)):
        start = 0
        for level in logits:
            for own in level[image].split(step):
                rows = slice(start, start + len(own))
                yield own, slopes[image, rows], weights[image, rows, None]
                start += len(own)


def _of_positives(logits: Sequence[Tensor], image: Tensor, row: Tensor, classes: Tensor) -> Tensor:
    """Return the logits (P,) of positives, in float32."""
    x, start = row.new_zeros(row.shape, dtype=torch.float32), 0
    for level in logits:
        own = ((row >= start) & (row < start + level.shape[1])).nonzero().squeeze(1)
        x[own] = level[image[own], row[own] - start, classes[own]].float()
        start += level.shape[1]
    return x
