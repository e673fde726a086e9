"""Assignment by position and scale: each level looks for objects of its own range of sizes.

After Tian et al. 2019 (FCOS, arXiv 1904.01355), sections 3.1 and 3.2, with their later centre
sampling; SSC ("spatial and scale constraint") in Zhang et al. 2020 (arXiv 1912.02424), section 3.1.
"""

# M objects, R anchors in all, C anchors of a chunk

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lucidet.modeling.assigners.assignment import Assignment
from lucidet.modeling.assigners.geometry import box_centers
from lucidet.structures import Boxes

__all__ = ["ScaleRangeAssigner"]

#: pixels that a location must at least lie inside its object
INSIDE = 0.01
#: object-anchor pairs looked at together: 2 MB in float32, which stays in the cache
CHUNK_PAIRS = 500_000


class ScaleRangeAssigner:
    """A location finds the smallest object that it lies in and that is of its level's scale.

    An object is of a level's scale at a location if the largest of the location's distances to the
    object's four edges lies in the level's range.

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
            center_radius: strides; a location must be nearer than this to the object's centre in x
                and in y; None: anywhere in the object.
            open_ranges: the bounds belong to no level, and a location may lie as near to the
                object's edge as it likes: detectron2's and torchvision's FCOS. Else as in SSC. An
                object at the image's border often has a distance of exactly 64 pixels.

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
    def __call__(self, anchors_per_level: Sequence[Boxes], gt_boxes: Boxes) -> Assignment:
        """Return the assignment of one image's anchors, whose centres are the locations.

        `quality` is 1 for positives: there is no better or worse here.

        Raises:
            ValueError: another number of levels than ranges.
        """
        if len(anchors_per_level) != len(self.ranges):
            raise ValueError(
                f"there are {len(anchors_per_level)} levels of anchors, but {len(self.ranges)} "
                "ranges of scale; give one range a level"
            )
        count = sum(len(level) for level in anchors_per_level)
        objects = gt_boxes.tensor
        if len(objects) == 0 or count == 0:
            return Assignment.without_objects(count, objects.device)
        matched, found = [], []
        for level, scale, radius in zip(anchors_per_level, self.ranges, self.radii, strict=True):
            for points in box_centers(level.tensor).split(max(1, CHUNK_PAIRS // len(objects))):
                area, row = _smallest_object(points, objects, scale, radius, self.open_ranges)
                matched.append(row)
                found.append(area.isfinite())
        labels = torch.cat(found)
        return Assignment(torch.cat(matched), labels.to(torch.int8), labels.float())


def _smallest_object(
    points: Tensor,
    objects: Tensor,
    scale: tuple[float, float],
    radius: float,
    open_ranges: bool,
) -> tuple[Tensor, Tensor]:
    """Return the area (C,) and row (C,) of each location's object; infinite where there is none."""
    x, y = points.T
    left, top = x - objects[:, None, 0], y - objects[:, None, 1]  # (M, C)
    right, bottom = objects[:, None, 2] - x, objects[:, None, 3] - y
    nearest = torch.minimum(torch.minimum(left, right), torch.minimum(top, bottom))
    farthest = torch.maximum(torch.maximum(left, right), torch.maximum(top, bottom))
    if open_ranges:
        fits = (nearest > 0) & (farthest > scale[0]) & (farthest < scale[1])
    else:
        fits = (nearest > INSIDE) & (farthest >= scale[0]) & (farthest <= scale[1])
    if radius < math.inf:
        # left - right is twice the offset from the centre
        fits &= ((left - right).abs() < 2 * radius) & ((top - bottom).abs() < 2 * radius)
    area = (objects[:, 2:] - objects[:, :2]).prod(dim=1)
    return torch.where(fits, area[:, None], math.inf).min(dim=0)
