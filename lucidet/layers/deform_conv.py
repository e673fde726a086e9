"""Deformable convolutions, on torchvision's operator."""

# N images, G deformable groups, k x k kernel

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torchvision.ops import deform_conv2d


class _DeformConvBase(nn.Module):
    """What both versions share: the parameters, their shapes and what follows the convolution."""

    bias: Tensor | None
    _bias_by_default = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool | None = None,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Build the layer.

        Args:
            in_channels ... groups: as `torch.nn.Conv2d`.
            bias: None takes the class's default.
            deformable_groups: G, parts of the input channels that have offsets of their own.
            norm: module applied to the convolution's output.
            activation: callable applied last.

        Raises:
            ValueError: the channels can't be divided into the groups.
        """
        super().__init__()
        bias = self._bias_by_default if bias is None else bias
        for name, channels, parts in (
            ("in_channels / groups", in_channels, groups),
            ("out_channels / groups", out_channels, groups),
            ("in_channels / deformable_groups", in_channels, deformable_groups),
        ):
            if channels % parts:
                raise ValueError(f"{name} must be whole, got {channels} / {parts}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(stride)
        self.padding = _pair(padding)
        self.dilation = _pair(dilation)
        self.groups = groups
        self.deformable_groups = deformable_groups
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, *self.kernel_size)
        )
        if bias:
            self.bias = nn.Parameter(torch.zeros(out_channels))
        else:
            self.bias = None
        self.norm = norm
        self.activation = activation
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        raise NotImplementedError

    def _convolve(self, x: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
        cells = self.kernel_size[0] * self.kernel_size[1]
        for name, tensor, each in (("offset", offset, 2 * cells), ("mask", mask, cells)):
            if tensor is not None and tensor.shape[1] != self.deformable_groups * each:
                raise ValueError(
                    f"{name} must have {self.deformable_groups} x {each} channels (deformable "
                    f"groups x values a kernel), got shape {tuple(tensor.shape)}"
                )
        if x.shape[0] == 0:
            # the operator refuses an empty batch; offsets have the output's height and width
            x = x.new_zeros(0, self.out_channels, *offset.shape[-2:]) + x.sum() * 0
        else:
            # float32 under autocast: offsets in float16 would move whole pixels on a large map
            with torch.autocast(x.device.type, enabled=False):
                wide = torch.float64 if x.dtype == torch.float64 else torch.float32
                y = deform_conv2d(
                    x.to(wide),
                    offset.to(wide),
                    self.weight.to(wide),
                    None if self.bias is None else self.bias.to(wide),
                    self.stride,
                    self.padding,
                    self.dilation,
                    None if mask is None else mask.to(wide),
                )
            x = y.to(x.dtype)
        if self.norm is not None:
            x = self.norm(x)
        if self.activation is not None:
            x = self.activation(x)
        return x

    def extra_repr(self) -> str:
        """Return what is printed between the brackets."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"groups={self.groups}, deformable_groups={self.deformable_groups}, "
            f"bias={self.bias is not None}"
        )


class DeformConv(_DeformConvBase):
    """Deformable convolution (Dai et al. 2017, section 2.1); has no bias.

    State dict: ``weight`` and ``norm.*``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build the layer; arguments as the base's, ``bias`` must stay False.

        Raises:
            ValueError: ``bias=True``.
        """
        super().__init__(*args, **kwargs)
        if self.bias is not None:
            raise ValueError("DeformConv has no bias; ModulatedDeformConv has one")

    def reset_parameters(self) -> None:
        """Draw weights after He et al. 2015 (uniform, fan in, ReLU)."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """Convolve at displaced positions.

        Args:
            x: (N, C_in, H, W); N may be 0.
            offset: (N, G * k * k * 2, H', W') in cells of ``x``, (dy, dx) for each kernel cell.

        Returns:
            (N, C_out, H', W').
        """
        return self._convolve(x, offset, None)


class ModulatedDeformConv(_DeformConvBase):
    """Deformable convolution with a weight for each position (Zhu et al. 2019, section 3.2).

    State dict: ``weight``, ``bias`` and ``norm.*``.
    """

    _bias_by_default = True

    def reset_parameters(self) -> None:
        """Draw weights uniformly within 1 / sqrt(fan in); the bias starts at 0."""
        bound = 1 / math.sqrt(self.in_channels * math.prod(self.kernel_size))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Convolve at displaced positions, each weighed.

        Args:
            x: (N, C_in, H, W); N may be 0.
            offset: (N, G * k * k * 2, H', W') in cells of ``x``, (dy, dx) for each kernel cell.
            mask: (N, G * k * k, H', W') weight in [0, 1] of each kernel cell.

        Returns:
            (N, C_out, H', W').
        """
        return self._convolve(x, offset, mask)


def deform_conv(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
) -> Tensor:
    """Return the functional form of `DeformConv`; groups follow from the shapes."""
    return deform_conv2d(x, offset, weight, None, stride, padding, dilation)


def modulated_deform_conv(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
) -> Tensor:
    """Return the functional form of `ModulatedDeformConv`; groups follow from the shapes."""
    return deform_conv2d(x, offset, weight, bias, stride, padding, dilation, mask)
