"""Convolutions that also add another tensor and apply the ReLU, while a value is in a register.

oneDNN can do that on a CPU, and torch has its functions, but offers them to its compiler only
(`torch.ops.mkldnn._convolution_pointwise`). They are private, so each is tried once against the
plain operators; where it is absent or gives other numbers, those are used, and `why_not_fused()`
says why. Weights are kept in oneDNN's own layout: else they would be reordered at every call.
"""

# N images, C channels

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FusedConv", "why_not_fused"]

_TOLERANCE = 1e-4


class FusedConv(nn.Module):
    """A convolution, then optionally + `other`, then optionally a ReLU; for inference only."""

    def __init__(self, conv: nn.Conv2d, weight: Tensor, bias: Tensor, relu: bool = False) -> None:
        """
        Args:
            conv: gives stride, padding, dilation and groups.
            weight: as of `conv`; copied into the layout that suits the device.
            bias: (C_out,).
            relu: apply a ReLU last.
        """
        super().__init__()
        self.relu = relu
        self.geometry: tuple[Any, ...] = (conv.stride, conv.padding, conv.dilation, conv.groups)
        if weight.device.type in ("cpu", "cuda"):
            weight = weight.contiguous(memory_format=torch.channels_last)
        self._fused = _can_fuse(weight, self.geometry) and not why_not_fused()
        # plain attributes: not parameters, as nothing trains them, and no state dict holds them
        self._weight = _packed(weight, self.geometry) if self._fused else weight
        self._bias = bias

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H', W'); `other` has the shape of the result.

        `other` may be overwritten.
        """
        stride, padding, dilation, groups = self.geometry
        if not self._fused or x.numel() == 0:
            out = F.conv2d(x, self._plain_weight(), self._bias, *self.geometry)
            out = out if other is None else out.add_(other)
            return F.relu_(out) if self.relu else out
        x = x.contiguous(memory_format=torch.channels_last)
        settings = (list(padding), list(stride), list(dilation), groups)
        if other is None:
            kind = "relu" if self.relu else "none"
            return _one(x, self._weight, self._bias, *settings, kind, [], "")
        other = other.contiguous(memory_format=torch.channels_last)
        last = "relu" if self.relu else None
        return _two(other, x, self._weight, self._bias, *settings, "add", 1.0, last, [], None)

    def cast(self, dtype: torch.dtype) -> None:
        """Keep weight and bias in another type, that autocast would cast them to in every call."""
        self._weight, self._fused = self._plain_weight().to(dtype), False
        self._bias = self._bias.to(dtype)

    def _plain_weight(self) -> Tensor:
        return self._weight.to_dense() if self._weight.is_mkldnn else self._weight


def _one(*args: Any) -> Tensor:
    return torch.ops.mkldnn._convolution_pointwise(*args)


def _two(*args: Any) -> Tensor:
    # writes into its first argument
    return torch.ops.mkldnn._convolution_pointwise_.binary(*args)


def _can_fuse(weight: Tensor, geometry: tuple[Any, ...]) -> bool:
    padding = geometry[1]
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and padding != "same"


def _packed(weight: Tensor, geometry: tuple[Any, ...]) -> Tensor:
    stride, padding, dilation, groups = geometry
    return torch._C._nn.mkldnn_reorder_conv2d_weight(  # type: ignore[attr-defined]
        weight.to_mkldnn(), list(padding), list(stride), list(dilation), groups
    )


@functools.cache
def why_not_fused() -> str:
    """Return why the plain operators are used on this CPU; "" where the fused ones are."""
    if not torch.backends.mkldnn.is_available():
        return "torch was built without oneDNN"
    conv = nn.Conv2d(8, 16, 3, padding=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        x, other = (torch.randn(1, c, 6, 7, generator=generator) for c in (8, 16))
        weight, bias = conv.weight.detach(), conv.bias.detach()  # type: ignore[union-attr]
        geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
        settings = ([1, 1], [1, 1], [1, 1], 1)
        try:
            packed = _packed(weight, geometry)
            x = x.contiguous(memory_format=torch.channels_last)
            alone = _one(x, packed, bias, *settings, "relu", [], "")
            start = other.contiguous(memory_format=torch.channels_last).clone()
            both = _two(start, x, packed, bias, *settings, "add", 1.0, "relu", [], None)
        except (AttributeError, RuntimeError, TypeError) as error:
            return f"this torch ({torch.__version__}) has other fused convolutions: {error}"
        plain = F.conv2d(x, weight, bias, padding=1)
        for got, expected in ((alone, plain.relu()), (both, (plain + other).relu())):
            if not torch.allclose(got, expected, atol=_TOLERANCE):
                return f"the fused convolutions of this torch ({torch.__version__}) are not exact"
    return ""
