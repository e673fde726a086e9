"""Feature pyramids: Lin et al. 2017 (FPN, arXiv 1612.03144), section 3; levels p6 and p7 after Lin
et al. 2017 (RetinaNet, arXiv 1708.02002), section 4."""

# N images, D channels of the pyramid

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from lucidet.config import CfgNode
from lucidet.layers import Conv2d, ShapeSpec, get_norm
from lucidet.modeling.backbone.backbone import Backbone, channels_of
from lucidet.modeling.backbone.build import BACKBONE_REGISTRY
from lucidet.modeling.backbone.resnet import build_resnet_backbone

__all__ = [
    "FPN",
    "LastLevelMaxPool",
    "LastLevelP6P7",
    "build_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone",
]


class TopBlock(Protocol):
    """A module that makes `num_levels` more levels from the map called `in_feature`."""

    num_levels: int
    in_feature: str

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Return the levels, finest first."""
        ...


class FPN(Backbone):
    """Gives every level of a bottom-up net the meaning of the coarsest one.

    Each map passes a 1x1 convolution ("lateral"), is joined with the next coarser level, enlarged
    twofold, and passes a 3x3 convolution ("output"). The level at stride 2**l is called "pl".

    Attributes:
        bottom_up: the net below.
        in_features: names of its maps, finest first.
        top_block: what makes further levels, or None.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        norm: str = "",
        top_block: TopBlock | None = None,
        fuse_type: str = "sum",
        square_pad: int = 0,
        levels: Sequence[int] = (),
    ) -> None:
        """
        Args:
            bottom_up: gives the maps.
            in_features: names of consecutive maps, each of twice the stride of the one before.
            out_channels: D.
            norm: for `get_norm`; "" means none, and convolutions with a bias.
            top_block: makes `num_levels` more levels from the map called `in_feature`, which is a
                level of the pyramid or a map of `bottom_up`.
            fuse_type: "sum", or "avg" of the lateral map and what comes from above.
            square_pad: see `padding_constraints`.
            levels: number of each map's level, rising by one; default: log2 of its stride. Where it
                is given, neighbours may have equal strides.

        Raises:
            ValueError: unknown maps, strides that don't double, another `fuse_type`, `levels` that
                don't rise by one.
        """
        super().__init__()
        if fuse_type not in ("sum", "avg"):
            raise ValueError(f"MODEL.FPN.FUSE_TYPE must be 'sum' or 'avg', got {fuse_type!r}")
        shapes = bottom_up.output_shape()
        strides = _strides(shapes, in_features)
        levels = _levels(strides, in_features, levels)
        self.bottom_up = bottom_up
        self.in_features = tuple(in_features)
        self.top_block = top_block
        self._fuse_type = fuse_type
        self._square_pad = square_pad
        self._levels = tuple(levels)
        for name, level in zip(in_features, levels, strict=True):
            lateral = _conv(channels_of(shapes[name]), out_channels, 1, norm)
            self.add_module(f"fpn_lateral{level}", lateral)
            self.add_module(f"fpn_output{level}", _conv(out_channels, out_channels, 3, norm))

        self._size_divisibility = strides[-1]
        for _ in range(top_block.num_levels if top_block is not None else 0):
            levels.append(levels[-1] + 1)
            strides.append(2 * strides[-1])
        self._out_features = [f"p{level}" for level in levels]
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)
        self._out_feature_strides = dict(zip(self._out_features, strides, strict=True))

    @property
    def lateral_convs(self) -> list[nn.Module]:
        """The 1x1 convolutions in the order of use, coarsest first."""
        return [self.get_submodule(f"fpn_lateral{level}") for level in reversed(self._levels)]

    @property
    def output_convs(self) -> list[nn.Module]:
        """The 3x3 convolutions in the order of use, coarsest first."""
        return [self.get_submodule(f"fpn_output{level}") for level in reversed(self._levels)]

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride: then each level is exactly half of the one before."""
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """`square_size`: side of the square to pad to; 0: none."""
        return {"square_size": self._square_pad}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the levels, finest first, of images (N, C, H, W): "p2" -> (N, D, H / 4, W / 4)."""
        maps = self.bottom_up(x)
        pyramid: list[Tensor] = []  # finest first
        joined: Tensor | None = None
        for name, number in zip(reversed(self.in_features), reversed(self._levels), strict=True):
            fine = getattr(self, f"fpn_lateral{number}")(maps[name])
            if joined is not None:
                fine = fine + F.interpolate(joined, size=fine.shape[-2:], mode="nearest")
                if self._fuse_type == "avg":
                    fine = fine / 2
            joined = fine
            pyramid.insert(0, getattr(self, f"fpn_output{number}")(joined))
        if self.top_block is not None:
            source = self.top_block.in_feature
            if source in maps:
                top = maps[source]
            else:
                top = pyramid[self._out_features.index(source)]
            pyramid.extend(self.top_block(top))
        return dict(zip(self._out_features, pyramid, strict=True))


class LastLevelMaxPool(nn.Module):
    """One more level for the RPN: every second cell of p5 (Lin et al. 2017, FPN, footnote 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.num_levels = 1
        self.in_feature = "p5"

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return [p6]."""
        return [F.max_pool2d(x, kernel_size=1, stride=2)]


class LastLevelP6P7(nn.Module):
    """Two more levels for dense detectors: 3x3 convolutions of stride 2, a ReLU between them."""

    def __init__(self, in_channels: int, out_channels: int, in_feature: str = "res5") -> None:
        """
        Args:
            in_channels: of `in_feature`.
            out_channels: D.
            in_feature: "res5" (RetinaNet), or "p5" (FCOS and ATSS; slightly better there).
        """
        super().__init__()
        self.num_levels = 2
        self.in_feature = in_feature
        self.p6 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1)
        self.p7 = nn.Conv2d(out_channels, out_channels, kernel_size=3, stride=2, padding=1)
        for conv in (self.p6, self.p7):
            _init_linear(conv)

    def forward(self, c5: Tensor) -> list[Tensor]:
        """Return [p6, p7]."""
        p6 = self.p6(c5)
        return [p6, self.p7(F.relu(p6))]


def _strides(shapes: dict[str, ShapeSpec], in_features: Sequence[str]) -> list[int]:
    """Return the strides of `in_features`, which the net below must have."""
    unknown = [name for name in in_features if name not in shapes]
    if unknown or not in_features:
        raise ValueError(
            f"MODEL.FPN.IN_FEATURES {list(in_features)} must be some of the bottom-up net's maps "
            f"{list(shapes)}; with a ResNet, MODEL.RESNETS.OUT_FEATURES names these"
        )
    return [shapes[name].stride or 0 for name in in_features]


def _assert_strides_are_log2_contiguous(strides: Sequence[int]) -> None:
    """Raise ValueError unless each stride is twice the one before; users' pyramids call it."""
    if any(b != 2 * a for a, b in itertools.pairwise(strides)):
        raise ValueError(f"strides {list(strides)}: each must be twice the one before")


def _levels(strides: list[int], in_features: Sequence[str], given: Sequence[int]) -> list[int]:
    """Return the `given` levels, else log2 of the strides, which must double each time."""
    if given:
        if len(given) != len(strides) or any(b != a + 1 for a, b in itertools.pairwise(given)):
            raise ValueError(
                f"MODEL.FPN.LEVELS {list(given)} must be one number for each of "
                f"MODEL.FPN.IN_FEATURES {list(in_features)}, rising by one"
            )
        return list(given)
    levels = [stride.bit_length() - 1 for stride in strides]
    if any(stride != 2 ** (levels[0] + i) for i, stride in enumerate(strides)):
        raise ValueError(
            f"MODEL.FPN.IN_FEATURES {list(in_features)} have strides {strides}; each must be a "
            "power of 2 and twice the one before"
        )
    return levels


def _conv(in_channels: int, out_channels: int, kernel_size: int, norm: str) -> Conv2d:
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size=kernel_size,
        padding=kernel_size // 2,
        bias=norm == "",
        norm=get_norm(norm, out_channels),
    )
    _init_linear(conv)
    return conv


def _init_linear(conv: nn.Conv2d) -> None:
    """Keep the variance through a convolution that no ReLU follows; no bias."""
    bound = math.sqrt(3.0 / conv.weight[0].numel())
    nn.init.uniform_(conv.weight, -bound, bound)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def build_fpn(cfg: CfgNode, bottom_up: Backbone, top_block: TopBlock | None) -> FPN:
    """Build a pyramid on `bottom_up` from ``MODEL.FPN``."""
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
        levels=cfg.MODEL.FPN.LEVELS,
    )


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build a ResNet with a pyramid, and p6 by max-pooling: Faster R-CNN's."""
    return build_fpn(cfg, build_resnet_backbone(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_retinanet_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build a ResNet with a pyramid, and p6 and p7 by convolutions: the dense detectors'."""
    bottom_up = build_resnet_backbone(cfg, input_shape)
    return build_fpn(cfg, bottom_up, p6p7_block(cfg, bottom_up))


def p6p7_block(cfg: CfgNode, bottom_up: Backbone) -> LastLevelP6P7:
    """Return p6 and p7 on ``MODEL.FPN.TOP_BLOCK_IN_FEATURE``: a map of `bottom_up`, or "p5"."""
    source = cfg.MODEL.FPN.TOP_BLOCK_IN_FEATURE
    channels = cfg.MODEL.FPN.OUT_CHANNELS
    shapes = bottom_up.output_shape()
    in_channels = channels_of(shapes[source]) if source in shapes else channels
    return LastLevelP6P7(in_channels, channels, source)
