"""Box heads: from a proposal's pooled features to one vector."""

# R proposals, C channels, h x w bins of the pooler

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from lucidet.config import CfgNode, configurable
from lucidet.layers import Conv2d, ShapeSpec, get_norm
from lucidet.utils.registry import Registry

ROI_BOX_HEAD_REGISTRY = Registry("ROI_BOX_HEAD")
ROI_BOX_HEAD_REGISTRY.__doc__ = """Box heads: pooled features (R, C, h, w) -> one vector each.

Each is called as ``cls(cfg, input_shape: ShapeSpec)`` and has an `output_shape`.
"""


@ROI_BOX_HEAD_REGISTRY.register()
class FastRCNNConvFCHead(nn.Sequential):
    """3x3 convolutions, then fully connected layers, a ReLU after each.

    Two fully connected layers are FPN's head (Lin et al. 2017, arXiv 1612.03144, section 4.2);
    four convolutions and one such layer are that of Wu & He 2018 (arXiv 1803.08494).
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        conv_dims: Sequence[int],
        fc_dims: Sequence[int],
        conv_norm: str = "",
    ) -> None:
        """
        Args:
            input_shape: the pooler's channels, height and width.
            conv_dims: output channels of each convolution.
            fc_dims: output width of each fully connected layer.
            conv_norm: normalisation after each convolution; see :func:`lucidet.layers.get_norm`.

        Raises:
            ValueError: no layer at all.
        """
        super().__init__()
        if len(conv_dims) + len(fc_dims) == 0:
            raise ValueError(
                "a box head without layers: set MODEL.ROI_BOX_HEAD.NUM_FC or NUM_CONV above 0"
            )
        height, width = input_shape.height, input_shape.width
        channels = input_shape.channels or 0
        for i, dim in enumerate(conv_dims, start=1):
            conv = Conv2d(
                channels,
                dim,
                kernel_size=3,
                padding=1,
                bias=not conv_norm,
                norm=get_norm(conv_norm, dim),
                activation=nn.ReLU(),
            )
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
            self.add_module(f"conv{i}", conv)
            channels = dim
        self._output_shape = ShapeSpec(channels=channels, height=height, width=width)
        features = channels * (height or 1) * (width or 1)
        if fc_dims:
            self.add_module("flatten", nn.Flatten())
        for i, dim in enumerate(fc_dims, start=1):
            fc = nn.Linear(features, dim)
            nn.init.kaiming_uniform_(fc.weight, a=1)
            nn.init.zeros_(fc.bias)
            self.add_module(f"fc{i}", fc)
            self.add_module(f"fc_relu{i}", nn.ReLU())
            features = dim
            self._output_shape = ShapeSpec(channels=dim)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Return the arguments of ``__init__``."""
        head = cfg.MODEL.ROI_BOX_HEAD
        return {
            "input_shape": input_shape,
            "conv_dims": [head.CONV_DIM] * head.NUM_CONV,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
            "conv_norm": head.NORM,
        }

    def forward(self, x: Tensor) -> Tensor:
        """Return (R, D), or (R, C, h, w) without fully connected layers, for x (R, C, h, w)."""
        for layer in self:
            x = layer(x)
        return x

    @property
    def output_shape(self) -> ShapeSpec:
        """Channels (and height, width where there are any) of what ``forward`` returns."""
        return self._output_shape


def build_box_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build ``cfg.MODEL.ROI_BOX_HEAD.NAME`` for pooled features of `input_shape`."""
    return ROI_BOX_HEAD_REGISTRY.get(cfg.MODEL.ROI_BOX_HEAD.NAME)(cfg, input_shape)
