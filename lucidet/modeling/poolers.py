"""Pooling of regions of interest from one or several feature maps to a fixed size.

The choice of the pyramid level is equation 1 of Lin et al. 2017 (FPN, arXiv 1612.03144).
"""

# N images, L levels, R boxes of all images, S output size

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import RoIPool

from lucidet.layers import ROIAlign
from lucidet.layers.fast.roi_align import fast_roi_align_levels, prefers_embedding_bag
from lucidet.structures import Boxes
from lucidet.utils.probe import probe

#: pixels; a box there has no part in any image
_FAR_OUTSIDE = -1e6

__all__ = ["ROIPooler", "assign_boxes_to_levels", "convert_boxes_to_pooler_format"]


def assign_boxes_to_levels(
    box_lists: Sequence[Boxes],
    min_level: int,
    max_level: int,
    canonical_box_size: int,
    canonical_level: int,
) -> Tensor:
    """Return the level (R,), int64 from 0 for `min_level`, of each image's boxes in order.

    A box of side (root of the area) `canonical_box_size` belongs to `canonical_level`, one of twice
    that side to the next; boxes too small or too large go to the nearest level, degenerate ones
    to the finest.

    Args:
        box_lists: per image, boxes in pixels.
        min_level: level of the finest map; level l has stride 2**l.
        max_level: level of the coarsest map.
        canonical_box_size: pixels.
        canonical_level: a level, not an index.

    >>> boxes = Boxes(torch.tensor([[0.0, 0, 100, 100], [0, 0, 224, 224], [0, 0, 900, 900]]))
    >>> assign_boxes_to_levels([boxes], 2, 5, 224, 4).tolist()
    [0, 2, 3]
    """
    side = type(box_lists[0])(torch.cat([own.tensor for own in box_lists])).area().clamp(0).sqrt()
    # the small number keeps a box of exactly the canonical side on its level, and log2 finite
    level = torch.floor(canonical_level + torch.log2(side / canonical_box_size + 1e-8))
    return level.clamp(min=min_level, max=max_level).long() - min_level


def convert_boxes_to_pooler_format(box_lists: Sequence[Boxes]) -> Tensor:
    """Return the boxes of all images (R, 5): index of the image, then XYXY.

    Rotated boxes give (R, 6): index of the image, then the five numbers.
    """
    boxes = torch.cat([own.tensor for own in box_lists])
    lengths = torch.tensor([len(own) for own in box_lists])
    image = torch.arange(len(box_lists), dtype=boxes.dtype).repeat_interleave(lengths)
    return torch.cat([image.to(boxes.device, non_blocking=True)[:, None], boxes], dim=1)


class ROIPooler(nn.Module):
    """Pools every box from the feature map that suits its size.

    Attributes:
        level_poolers: one a feature map.
        min_level: log2 of the finest map's stride.
        max_level: log2 of the coarsest map's stride.
    """

    def __init__(
        self,
        output_size: int | Sequence[int],
        scales: Sequence[float],
        sampling_ratio: int,
        pooler_type: str,
        canonical_box_size: int = 224,
        canonical_level: int = 4,
    ) -> None:
        """
        Args:
            output_size: S, or (height, width).
            scales: of each map, 1 / stride, finest first; strides are consecutive powers of 2.
            sampling_ratio: samples a bin and axis in ROIAlign; 0: as many as pixels fit in.
            pooler_type: "ROIAlignV2" (pixel centres lie at half), "ROIAlign" (the older form,
                without that half-pixel shift) or "ROIPool".
            canonical_box_size: side in pixels of a box that belongs to `canonical_level`.
            canonical_level: 4 is stride 16.

        Raises:
            ValueError: scales aren't consecutive powers of 2, unknown type, size not positive.
        """
        super().__init__()
        size: Any = (output_size,) * 2 if isinstance(output_size, int) else tuple(output_size)
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"pooler output_size must be a positive size, got {output_size}")
        levels = [-math.log2(scale) for scale in scales]
        if not levels or any(
            level != levels[0] + i or level != int(level) for i, level in enumerate(levels)
        ):
            raise ValueError(
                f"pooler scales must be 1 / consecutive powers of 2, finest first, got "
                f"{list(scales)}; check IN_FEATURES of the ROI heads"
            )
        if canonical_box_size <= 0:
            raise ValueError(f"canonical_box_size must be positive, got {canonical_box_size}")
        self.output_size = size
        self.min_level, self.max_level = int(levels[0]), int(levels[-1])
        self.canonical_box_size = canonical_box_size
        self.canonical_level = canonical_level
        self.level_poolers = nn.ModuleList(
            _level_pooler(pooler_type, size, scale, sampling_ratio) for scale in scales
        )

    def forward(self, x: list[Tensor], box_lists: list[Boxes]) -> Tensor:
        """Return (R, C, S, S): the features of each image's boxes in order.

        Args:
            x: per level (N, C, H_l, W_l).
            box_lists: per image, boxes in pixels of the padded batch; may be empty.
        """
        if len(x) != len(self.level_poolers) or len(box_lists) != len(x[0]):
            raise ValueError(
                f"the pooler was built for {len(self.level_poolers)} feature maps, got {len(x)}; "
                f"{len(x[0])} images in the features, but {len(box_lists)} box lists"
            )
        if len(box_lists) == 0:
            return x[0].new_zeros((0, x[0].shape[1], *self.output_size))
        rois = convert_boxes_to_pooler_format(box_lists)
        side, level = self.canonical_box_size, self.canonical_level
        levels = assign_boxes_to_levels(box_lists, self.min_level, self.max_level, side, level)
        probe("roi.levels", boxes=rois, levels=levels)
        if len(x) == 1:
            return self.level_poolers[0](x[0], rois)
        if prefers_embedding_bag(x[0]) and all(_is_plain(p) for p in self.level_poolers):
            scales = [pooler.spatial_scale for pooler in self.level_poolers]
            first: Any = self.level_poolers[0]
            options = first.output_size, scales, first.sampling_ratio, first.aligned
            return fast_roi_align_levels(x, rois, levels, *options)  # type: ignore[arg-type]
        if rois.device.type != "cpu":
            return self._pool_without_wait(x, rois, levels)
        return self._pool_each_level(x, rois, levels)

    def _pool_each_level(self, x: list[Tensor], rois: Tensor, levels: Tensor) -> Tensor:
        """Pool level by level, as every box is on one of them; then put the rows back in order."""
        numbers = torch.stack([(levels == level).sum() for level in range(len(x))]).tolist()
        order = levels.argsort(stable=True)
        pooled = [
            pooler(level, rois[index])
            for pooler, level, index in zip(
                self.level_poolers, x, order.split(numbers), strict=True
            )
        ]
        return torch.cat(pooled)[order.argsort()]

    def _pool_without_wait(self, x: list[Tensor], rois: Tensor, levels: Tensor) -> Tensor:
        """Return the sum of all levels' features, to which each box adds on its own level only.

        On the other levels a box is moved far outside of the map, where features are 0 and nearly
        free. So the CPU need not know how many boxes a level has.
        """
        pooled: Tensor | None = None
        for index, (pooler, level) in enumerate(zip(self.level_poolers, x, strict=True)):
            own = rois[:, 1:].where((levels == index)[:, None], _FAR_OUTSIDE)
            part = pooler(level, torch.cat([rois[:, :1], own], dim=1))
            pooled = part if pooled is None else pooled + part
        return pooled  # type: ignore[return-value]


def _is_plain(pooler: nn.Module) -> bool:
    """Return whether a level's pooler is ROIAlign in whatever form is the fastest."""
    hooks = pooler._forward_hooks or pooler._forward_pre_hooks
    return type(pooler) is ROIAlign and pooler.impl != "torchvision" and not hooks


def _level_pooler(
    pooler_type: str, size: tuple[int, int], scale: float, sampling_ratio: int
) -> nn.Module:
    if pooler_type in ("ROIAlign", "ROIAlignV2"):
        return ROIAlign(size, scale, sampling_ratio, aligned=pooler_type == "ROIAlignV2")
    if pooler_type == "ROIPool":
        return RoIPool(size, scale)
    raise ValueError(
        f"unknown POOLER_TYPE {pooler_type!r}; it is one of ROIAlignV2, ROIAlign, ROIPool"
    )
