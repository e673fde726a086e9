"""Building blocks of convolutional networks."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from lucidet.layers.batch_norm import FrozenBatchNorm2d, get_norm
from lucidet.layers.wrappers import Conv2d


class CNNBlockBase(nn.Module):
    """A block of a backbone: knows its channels and stride, and can be frozen.

    Attributes:
        in_channels, out_channels: of its input and its output.
        stride: by which it divides height and width.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        """Note the block's shape; the subclass adds the layers."""
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def freeze(self) -> CNNBlockBase:
        """Stop training: no gradient for any parameter, batch norms become FrozenBatchNorm2d.

        Returns:
            the block itself.
        """
        for parameter in self.parameters():
            parameter.requires_grad = False
        FrozenBatchNorm2d.convert_frozen_batchnorm(self)
        return self


class DepthwiseSeparableConv2d(nn.Module):
    """A kxk convolution of each channel alone, then a 1x1 convolution across them.

    After Howard et al. 2017 (MobileNets), section 3.1. State dict: ``depthwise``, ``pointwise``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        padding: int = 1,
        dilation: int = 1,
        *,
        norm1: str | Callable[[int], nn.Module] | None = None,
        activation1: Callable[[Tensor], Tensor] | None = None,
        norm2: str | Callable[[int], nn.Module] | None = None,
        activation2: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Build both convolutions.

        Args:
            in_channels, out_channels, kernel_size, padding, dilation: as `torch.nn.Conv2d`.
            norm1, activation1: after the depthwise convolution; ``norm1`` as for `get_norm`.
            norm2, activation2: after the pointwise one. A convolution with a norm has no bias.
        """
        super().__init__()
        self.depthwise = Conv2d(
            in_channels,
            in_channels,
            kernel_size=kernel_size,
            padding=padding,
            dilation=dilation,
            groups=in_channels,
            bias=not norm1,
            norm=get_norm(norm1, in_channels),
            activation=activation1,
        )
        self.pointwise = Conv2d(
            in_channels,
            out_channels,
            kernel_size=1,
            bias=not norm2,
            norm=get_norm(norm2, out_channels),
            activation=activation2,
        )
        for conv in (self.depthwise, self.pointwise):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H', W')."""
        return self.pointwise(self.depthwise(x))
