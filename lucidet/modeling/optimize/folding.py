"""A norm with fixed statistics is a scale and a shift: the convolution before it does both."""

# C channels of the convolution's output

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lucidet.layers import FrozenBatchNorm2d

__all__ = ["fold_norm", "is_fixed"]


def is_fixed(norm: nn.Module | None) -> bool:
    """Return whether `norm` is absent, or at test the same scale and shift for every input.

    >>> is_fixed(nn.BatchNorm2d(8).eval()), is_fixed(nn.GroupNorm(4, 8).eval())
    (True, False)
    """
    if norm is None or isinstance(norm, FrozenBatchNorm2d):
        return True
    kinds = (nn.BatchNorm2d, nn.SyncBatchNorm)
    return isinstance(norm, kinds) and not norm.training and norm.running_mean is not None


@torch.no_grad()
def fold_norm(weight: Tensor, bias: Tensor | None, norm: Any) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the convolution that does what convolution and norm did.

    In float64, so that the only rounding is that of the result.

    Args:
        weight: (C, C_in / groups, k, k), not changed.
        bias: (C,), or None for zeros.
        norm: a layer, or None, for which `is_fixed` holds.
    """
    shift = torch.zeros(len(weight), device=weight.device) if bias is None else bias
    if norm is None:
        return weight.detach(), shift.detach().to(weight.dtype)
    mean, var = norm.running_mean.double(), norm.running_var.double()
    scale = (var + norm.eps).rsqrt()
    offset = -mean * scale
    if norm.weight is not None:
        scale, offset = scale * norm.weight.double(), offset * norm.weight.double()
    if norm.bias is not None:
        offset = offset + norm.bias.double()
    folded = weight.double() * scale.view(-1, 1, 1, 1)
    return folded.to(weight.dtype), (shift.double() * scale + offset).to(weight.dtype)
