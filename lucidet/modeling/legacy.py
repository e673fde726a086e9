"""The legacy "+1" convention of maskrcnn-benchmark and the ATSS authors' weights.

There a box from column x1 to column x2 is x2 - x1 + 1 wide. The same box grown by half a pixel on
every side has that width, and the same center, in the plain convention. So ground-truth boxes and
detections stay legacy boxes; where widths count, in IoU and in the box code, they are grown.
Anchors are plain from the start.
"""

# P pairs

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lucidet.modeling.assigners import Assigner, Assignment, BatchAssigner, assign_batch
from lucidet.modeling.assigners.atss import grow
from lucidet.modeling.box_regression import Box2BoxTransform
from lucidet.modeling.matcher import Matcher
from lucidet.structures import Boxes, PaddedBoxes

__all__ = ["HALF_PIXEL", "GrownObjects", "LegacyBox2BoxTransform"]

HALF_PIXEL = 0.5


class LegacyBox2BoxTransform(Box2BoxTransform):
    """The box code between plain anchors and legacy ground-truth boxes."""

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Return (P, 4) deltas from plain anchors to legacy boxes; a side of 0 is 1 pixel."""
        return super().get_deltas(src_boxes, grow(target_boxes, HALF_PIXEL))

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Return the legacy boxes (P, k * 4) that deltas make of plain anchors (P, 4)."""
        plain = super().apply_deltas(deltas, boxes)
        return grow(plain.unflatten(1, (-1, 4)), -HALF_PIXEL).flatten(1)


class GrownObjects(BatchAssigner):
    """An assigner by IoU that counts the legacy widths of ground-truth boxes."""

    def __init__(self, assigner: Matcher | Assigner) -> None:
        """`assigner`: a Matcher, or an assigner; it gets the grown boxes."""
        self.assigner = assigner

    def batch(self, anchors_per_level: Sequence[Boxes], gt_boxes: PaddedBoxes) -> Assignment:
        """Return the assignment (N, R) of plain anchors to legacy boxes."""
        grown = grow(gt_boxes.tensor, HALF_PIXEL)
        padded = PaddedBoxes(grown, gt_boxes.valid, gt_boxes.counts)
        return assign_batch(self.assigner, anchors_per_level, padded)
