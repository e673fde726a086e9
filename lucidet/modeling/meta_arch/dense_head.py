"""The heads of dense detectors: two towers of convolutions, shared by all levels."""

# N images, L levels, A anchors a cell, K classes

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lucidet.config import CfgNode, configurable
from lucidet.layers import (
    CycleBatchNormList,
    ModulatedDeformConv,
    ShapeSpec,
    conv2d_together,
    get_norm,
)
from lucidet.modeling.anchor_generator import build_anchor_generator

__all__ = ["CenternessHead", "DeformableConv", "RetinaNetHead"]


class DeformableConv(nn.Module):
    """A 3x3 deformable convolution (v2) that predicts its own offsets and masks.

    Both start at zero offset and a mask of one half, from weights of zero.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.offset = nn.Conv2d(in_channels, 3 * 9, 3, padding=1)  # x, y and mask of 9 samples
        self.conv = ModulatedDeformConv(in_channels, out_channels, 3, padding=1, bias=True)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H, W)."""
        predicted = self.offset(x)
        return self.conv(x, predicted[:, :18], predicted[:, 18:].sigmoid())


class RetinaNetHead(nn.Module):
    """Classification and box towers (Lin et al. 2017, arXiv 1708.02002, section 4).

    State dict: `cls_subnet`, `bbox_subnet`, `cls_score`, `bbox_pred`.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: Sequence[ShapeSpec],
        num_classes: int,
        num_anchors: int,
        conv_dims: Sequence[int],
        norm: str = "",
        prior_prob: float = 0.01,
        deformable_last: bool = False,
    ) -> None:
        """
        Args:
            input_shape: of each level; all have the same number of channels.
            num_classes: K.
            num_anchors: A, the same on all levels.
            conv_dims: channels of each 3x3 convolution of a tower.
            norm: after each of them, as in :func:`lucidet.layers.get_norm`; batch norms keep
                statistics for every level.
            prior_prob: what a fresh head says of every class: most anchors are background, and
                0.5 each would swamp the first losses.
            deformable_last: the last convolution of each tower is deformable.
        """
        super().__init__()
        channels = {shape.channels for shape in input_shape}
        if len(channels) != 1:
            raise ValueError(f"all levels of a dense head need equal channels, got {channels}")
        self.num_levels = len(input_shape)
        self.norm = norm
        build = partial(self._tower, channels.pop() or 0, list(conv_dims), deformable_last)
        self.cls_subnet = build()
        self.bbox_subnet = build()
        width = conv_dims[-1] if conv_dims else input_shape[0].channels or 0
        self.cls_score = nn.Conv2d(width, num_anchors * num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(width, num_anchors * 4, 3, padding=1)
        self._initialize(prior_prob)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        """Return the arguments of ``__init__`` for RetinaNet."""
        retinanet = cfg.MODEL.RETINANET
        num_anchors: Any = build_anchor_generator(cfg, input_shape).num_cell_anchors
        if len(set(num_anchors)) != 1:
            raise ValueError(
                "RetinaNet's head serves all levels, so that MODEL.ANCHOR_GENERATOR must give "
                f"every cell the same number of anchors on each; got {num_anchors}"
            )
        return {
            "input_shape": input_shape,
            "num_classes": retinanet.NUM_CLASSES,
            "num_anchors": num_anchors[0],
            "conv_dims": [input_shape[0].channels] * retinanet.NUM_CONVS,
            "norm": retinanet.NORM,
            "prior_prob": retinanet.PRIOR_PROB,
        }

    def _tower(self, channels: int, conv_dims: list[int], deformable_last: bool) -> nn.Sequential:
        layers: list[nn.Module] = []
        for i, width in enumerate(conv_dims):
            if deformable_last and i == len(conv_dims) - 1:
                layers.append(DeformableConv(channels, width))
            else:
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
            if self.norm in ("BN", "SyncBN"):
                # levels differ in statistics, so that each has its own; weights are shared
                norm_of = {"BN": nn.BatchNorm2d, "SyncBN": nn.SyncBatchNorm}[self.norm]
                layers.append(
                    CycleBatchNormList(self.num_levels, bn_class=norm_of, num_features=width)
                )
            elif norm := get_norm(self.norm, width):
                layers.append(norm)
            layers.append(nn.ReLU())
            channels = width
        return nn.Sequential(*layers)

    def _initialize(self, prior_prob: float) -> None:
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Conv2d) and not name.endswith(".offset"):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, ModulatedDeformConv):
                nn.init.normal_(layer.weight, std=0.01)
        assert self.cls_score.bias is not None
        nn.init.constant_(self.cls_score.bias, -math.log((1 - prior_prob) / prior_prob))

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], ...]:
        """Return per level the logits (N, A * K, H, W) and the deltas (N, A * 4, H, W)."""
        if len(features) != self.num_levels:
            raise ValueError(
                f"this head was built for {self.num_levels} levels, got {len(features)}"
            )
        logits = [self.cls_score(self.cls_subnet(level)) for level in features]
        deltas = [self.bbox_pred(self.bbox_subnet(level)) for level in features]
        return logits, deltas


class CenternessHead(RetinaNetHead):
    """Towers with centerness beside the boxes, and a learnt scale for each level's boxes.

    Tian et al. 2019 (FCOS, arXiv 1904.01355), sections 3.2 and 3.3; Zhang et al. 2020 (ATSS).
    State dict: that of :class:`RetinaNetHead`, `ctrness`, and `scales` (L,).
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[ShapeSpec],
        num_anchors: int = 1,
        positive_deltas: bool = False,
        learn_scales: bool = True,
        **tower: object,
    ) -> None:
        """
        Args:
            input_shape: of each level.
            num_anchors: A.
            positive_deltas: deltas are distances: what is below zero becomes zero.
            learn_scales: multiply each level's deltas by a factor that starts at 1.
            tower: further arguments of :class:`RetinaNetHead`.
        """
        super().__init__(input_shape=input_shape, num_anchors=num_anchors, **tower)  # type: ignore[arg-type]
        self.ctrness = nn.Conv2d(self.bbox_pred.in_channels, num_anchors, 3, padding=1)
        nn.init.normal_(self.ctrness.weight, std=0.01)
        nn.init.zeros_(self.ctrness.bias)  # type: ignore[arg-type]
        self.positive_deltas = positive_deltas
        self.scales = nn.Parameter(torch.ones(self.num_levels)) if learn_scales else None

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], ...]:
        """Return per level logits (N, A * K, H, W), deltas (N, A * 4, H, W) and centerness (N, A,
        H, W), also logits."""
        if len(features) != self.num_levels:
            raise ValueError(
                f"this head was built for {self.num_levels} levels, got {len(features)}"
            )
        logits = [self.cls_score(self.cls_subnet(level)) for level in features]
        boxes = [
            conv2d_together(self.bbox_subnet(level), self.bbox_pred, self.ctrness)
            for level in features
        ]
        deltas = [level[0] for level in boxes]
        if self.scales is not None:
            deltas = [level * scale for level, scale in zip(deltas, self.scales, strict=True)]
        if self.positive_deltas:
            deltas = [level.relu() for level in deltas]
        return logits, deltas, [level[1] for level in boxes]
