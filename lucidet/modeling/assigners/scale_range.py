"""Assignment by position and scale: each level has ground-truth boxes of its own range of sizes.

After Tian et al. 2019 (FCOS, arXiv 1904.01355), sections 3.1 and 3.2, with their later center
sampling; SSC ("spatial and scale constraint") in Zhang et al. 2020 (arXiv 1912.02424), section 3.1.
"""

# N images, M ground-truth boxes of an image, R anchors in all, C anchors of a piece

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lucidet.modeling.assigners.assignment import Assignment, BatchAssigner
from lucidet.modeling.assigners.max_iou import pairs_at_once
from lucidet.structures import Boxes, PaddedBoxes

__all__ = ["ScaleRangeAssigner"]

#: pixels that a location must at least lie inside its ground-truth box
INSIDE = 0.01


class ScaleRangeAssigner(BatchAssigner):
    """A location is matched to the smallest box that it lies in and that is of its level's scale.

    A ground-truth box is of a level's scale at a location if the largest of the location's
    distances to the box's four edges lies in the level's range. `quality` is 1 for positives: there
    is no better or worse here.

    >>> assigner = ScaleRangeAssigner([(-1, 64), (64, math.inf)])
    >>> cell = Boxes(torch.tensor([[46.0, 46, 54, 54]]))
    >>> assigner([cell, cell], Boxes(torch.tensor([[30.0, 30, 70, 70]]))).labels.tolist()
    [1, 0]
    """

    def __init__(
        self,
        ranges: Sequence[tuple[float, float]],
        strides: Sequence[float] | None = None,
        center_radius: float | None = None,
        open_ranges: bool = False,
    ) -> None:
        """
        Args:
            ranges: per level, smallest and largest distance, pixels, both included unless
                `open_ranges`.
            strides: per level, pixels; needed for `center_radius`.
            center_radius: strides; a location must be nearer than this to the box's center in x and
                in y; None: anywhere in the box.
            open_ranges: the bounds belong to no level, and a location may lie as near to the
                box's edge as it likes: detectron2's and torchvision's FCOS. Else as in SSC. A
                box at the image's border often has a distance of exactly 64 pixels.

        Raises:
            ValueError: a range that is empty, or strides that do not fit the ranges.
        """
        for low, high in ranges:
            if not low < high:
                raise ValueError(f"a level's range needs low < high, got ({low}, {high})")
        if center_radius is not None and (strides is None or len(strides) != len(ranges)):
            raise ValueError(
                f"center_radius {center_radius} is in strides: give one stride for each of the "
                f"{len(ranges)} levels, got {strides}"
            )
        self.ranges = [(float(low), float(high)) for low, high in ranges]
        self.open_ranges = open_ranges
        self.radii = [math.inf] * len(self.ranges)
        if center_radius is not None and strides is not None:
            self.radii = [center_radius * stride for stride in strides]

    @torch.no_grad()
    def batch(self, anchors_per_level: Sequence[Boxes], gt_boxes: PaddedBoxes) -> Assignment:
        """See :meth:`BatchAssigner.batch`; the anchors' centers are the locations.

        Raises:
            ValueError: another number of levels than ranges.
        """
        if len(anchors_per_level) != len(self.ranges):
            raise ValueError(
                f"there are {len(anchors_per_level)} levels of anchors, but {len(self.ranges)} "
                "ranges of scale; give one range a level"
            )
        boxes, valid = gt_boxes.tensor, gt_boxes.valid
        count = sum(len(level) for level in anchors_per_level)
        if valid.numel() == 0 or count == 0:
            return Assignment.without_objects((len(gt_boxes), count), boxes.device)
        areas = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1).where(valid, math.inf)  # (N, M)
        lengths = [len(level) for level in anchors_per_level]
        bounds = self._bounds(lengths, boxes.device)  # (3, R)
        centers = torch.cat([level.get_centers() for level in anchors_per_level])
        size = max(1, pairs_at_once(boxes.device) // valid.numel())
        smallest, matched = [], []
        for points, limits in zip(centers.split(size), bounds.split(size, dim=1), strict=True):
            fits = self._fits(points, boxes, limits)  # (N, M, C)
            area, row = torch.where(fits, areas[..., None], math.inf).min(dim=1)
            smallest.append(area)
            matched.append(row)
        positive = torch.cat(smallest, dim=1).isfinite()  # (N, R)
        return Assignment(torch.cat(matched, dim=1), positive.to(torch.int8), positive.float())

    def _bounds(self, lengths: list[int], device: torch.device) -> Tensor:
        """Return each location's smallest and largest distance and its radius: (3, R), pixels."""
        low, high = zip(*self.ranges, strict=True)
        of_level = torch.tensor([low, high, self.radii])  # on the host
        each = of_level.repeat_interleave(torch.tensor(lengths), dim=1)
        return each.to(device, non_blocking=True)

    def _fits(self, points: Tensor, boxes: Tensor, limits: Tensor) -> Tensor:
        """Return (N, M, C) bool: location (C, 2) lies in box (N, M, 4), which is of its scale."""
        x, y = points.T
        low, high, radius = limits  # (C,)
        left, top = x - boxes[..., None, 0], y - boxes[..., None, 1]  # (N, M, C)
        right, bottom = boxes[..., None, 2] - x, boxes[..., None, 3] - y
        nearest = torch.minimum(torch.minimum(left, right), torch.minimum(top, bottom))
        farthest = torch.maximum(torch.maximum(left, right), torch.maximum(top, bottom))
        if self.open_ranges:
            fits = (nearest > 0) & (farthest > low) & (farthest < high)
        else:
            fits = (nearest > INSIDE) & (farthest >= low) & (farthest <= high)
        if min(self.radii) == math.inf:
            return fits
        # left - right is twice the offset from the center
        offset = torch.maximum((left - right).abs_(), (top - bottom).abs_())
        return fits & (offset < 2 * radius)
