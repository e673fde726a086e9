"""Blocks of residual networks.

He et al. 2015 (ResNet, arXiv 1512.03385), figure 5; groups after Xie et al. 2016 (ResNeXt,
arXiv 1611.05431); deformable convolution after Dai et al. 2017 (arXiv 1703.06211) and, with
modulation, Zhu et al. 2018 (arXiv 1811.11168).
"""

# N images, C channels, S stride of a block

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lucidet.layers import CNNBlockBase, Conv2d, DeformConv, ModulatedDeformConv, get_norm

__all__ = ["BasicBlock", "BasicStem", "BottleneckBlock", "DeformBottleneckBlock"]

#: a name that `get_norm` knows, or what makes a norm from a number of channels
Norm = str | Callable[[int], nn.Module | None]


def _conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    norm: Norm,
    *,
    conv: Callable[..., Any] = Conv2d,
    dilation: int = 1,
    **options: Any,
) -> Any:
    """Return a convolution that keeps the size (at stride 1), and its norm; no bias."""
    layer = conv(
        in_channels,
        out_channels,
        kernel_size=kernel_size,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        bias=False,
        norm=get_norm(norm, out_channels),
        **options,
    )
    # keeps the gradient's variance through the ReLU that follows (He et al. 2015, arXiv 1502.01852)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: Norm) -> nn.Module | None:
    """Return what brings a block's input to the shape of its output; None where it is that."""
    if in_channels == out_channels and stride == 1:
        return None
    return _conv(in_channels, out_channels, 1, norm, stride=stride)


class BasicStem(CNNBlockBase):
    """7x7 convolution and max-pooling: stride 4."""

    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm: Norm = "BN") -> None:
        """
        Args:
            in_channels: of the image.
            out_channels: of the result.
            norm: for `get_norm`.
        """
        super().__init__(in_channels, out_channels, 4)
        self.conv1 = _conv(in_channels, out_channels, 7, norm, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H / 4, W / 4)."""
        return F.max_pool2d(F.relu_(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class BasicBlock(CNNBlockBase):
    """Two 3x3 convolutions and a shortcut, as in ResNet-18 and -34."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, norm: Norm = "BN"
    ) -> None:
        """
        Args:
            in_channels: of the input.
            out_channels: of the result.
            stride: of the first convolution.
            norm: for `get_norm`.
        """
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)
        self.conv1 = _conv(in_channels, out_channels, 3, norm, stride=stride)
        self.conv2 = _conv(out_channels, out_channels, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H / S, W / S)."""
        residual = self.conv2(F.relu_(self.conv1(x)))
        residual += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(residual)


class BottleneckBlock(CNNBlockBase):
    """1x1, 3x3 and 1x1 convolution and a shortcut, as in ResNet-50 and deeper."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: Norm = "BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
    ) -> None:
        """
        Args:
            in_channels: of the input.
            out_channels: of the result.
            bottleneck_channels: of the 3x3 convolution.
            stride: of the block.
            num_groups: of the 3x3 convolution.
            norm: for `get_norm`.
            stride_in_1x1: the first 1x1 convolution strides, as in MSRA's and Caffe2's weights;
                else the 3x3 one, as in PyTorch's.
            dilation: of the 3x3 convolution.
        """
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = _shortcut(in_channels, out_channels, stride, norm)
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = _conv(in_channels, bottleneck_channels, 1, norm, stride=first)
        self.conv2 = _conv(
            bottleneck_channels,
            bottleneck_channels,
            3,
            norm,
            stride=second,
            groups=num_groups,
            dilation=dilation,
        )
        self.conv3 = _conv(bottleneck_channels, out_channels, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H / S, W / S)."""
        residual = F.relu_(self.conv1(x))
        residual = self.conv3(F.relu_(self.conv2(residual)))
        residual += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(residual)


class DeformBottleneckBlock(BottleneckBlock):
    """A bottleneck whose 3x3 convolution samples where another convolution tells it to.

    That convolution starts at zero: no offsets, and half of each sample when modulated.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: Norm = "BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
        deform_modulated: bool = False,
        deform_num_groups: int = 1,
    ) -> None:
        """
        Args:
            in_channels, out_channels, bottleneck_channels, stride, num_groups, norm,
                stride_in_1x1, dilation: see :class:`BottleneckBlock`.
            deform_modulated: each sample has a weight in 0..1 too (version 2).
            deform_num_groups: groups of channels that have offsets of their own.
        """
        super().__init__(
            in_channels,
            out_channels,
            bottleneck_channels=bottleneck_channels,
            stride=stride,
            num_groups=num_groups,
            norm=norm,
            stride_in_1x1=stride_in_1x1,
            dilation=dilation,
        )
        self.deform_modulated = deform_modulated
        geometry: dict[str, Any] = {
            "stride": 1 if stride_in_1x1 else stride,
            "dilation": dilation,
        }
        numbers = 3 if deform_modulated else 2  # y and x, and the sample's weight
        self.conv2_offset = Conv2d(
            bottleneck_channels,
            9 * numbers * deform_num_groups,
            kernel_size=3,
            padding=dilation,
            **geometry,
        )
        for parameter in self.conv2_offset.parameters():
            nn.init.zeros_(parameter)
        self.conv2 = _conv(
            bottleneck_channels,
            bottleneck_channels,
            3,
            norm,
            conv=ModulatedDeformConv if deform_modulated else DeformConv,
            groups=num_groups,
            deformable_groups=deform_num_groups,
            **geometry,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H / S, W / S)."""
        residual = F.relu_(self.conv1(x))
        offset = self.conv2_offset(residual)
        if self.deform_modulated:
            samples = offset.shape[1] // 3
            weights = offset[:, 2 * samples :].sigmoid()
            residual = self.conv2(residual, offset[:, : 2 * samples], weights)
        else:
            residual = self.conv2(residual, offset)
        residual = self.conv3(F.relu_(residual))
        residual += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(residual)
