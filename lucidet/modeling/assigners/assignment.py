"""What every assigner returns, and what the assigners of this package have in common."""

# N images, M ground-truth boxes, R anchors (or proposals) in all

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lucidet.structures import Boxes, PaddedBoxes

__all__ = ["Assigner", "Assignment", "BatchAssigner"]


@dataclass
class Assignment:
    """Which ground-truth box each anchor is matched to; class-agnostic.

    Of a whole batch each tensor has a leading dimension: (N, R).

    Attributes:
        matched_idxs: (R,) int64 in 0..M-1; valid only where `labels` is 1.
        labels: (R,) int8: 1 matched to a box, 0 background, -1 ignored in the losses.
        quality: (R,) float32, how well the anchor fits its box (IoU where nothing else is
            said); 0 without boxes.
    """

    matched_idxs: Tensor
    labels: Tensor
    quality: Tensor

    @classmethod
    def without_objects(
        cls,
        num_anchors: int | tuple[int, ...],
        device: torch.device | str | None = None,
        label: int = 0,
    ) -> Assignment:
        """Return the assignment of images that have no box: all anchors get `label`.

        Args:
            num_anchors: R, or the shape (N, R).
            device: of the tensors.
            label: of all anchors.

        >>> Assignment.without_objects(2).labels.tolist()
        [0, 0]
        """
        return cls(
            matched_idxs=torch.zeros(num_anchors, dtype=torch.int64, device=device),
            labels=torch.full(_shape(num_anchors), label, dtype=torch.int8, device=device),
            quality=torch.zeros(num_anchors, device=device),
        )

    def image(self, index: int) -> Assignment:
        """Return one image's part of a batch's assignment, as views."""
        return Assignment(self.matched_idxs[index], self.labels[index], self.quality[index])


def _shape(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else size


class Assigner(Protocol):
    """Called with the anchors of each level and one image's ground-truth boxes."""

    def __call__(self, anchors_per_level: list[Boxes], gt_boxes: Boxes) -> Assignment:
        """Return the assignment of all anchors, level after level."""
        ...


class BatchAssigner:
    """An :class:`Assigner` that assigns the boxes of all images at once."""

    def __call__(self, anchors_per_level: Sequence[Boxes], gt_boxes: Boxes) -> Assignment:
        """Return the assignment of one image's anchors: each tensor (R,)."""
        return self.batch(anchors_per_level, PaddedBoxes.from_boxes([gt_boxes])).image(0)

    def batch(self, anchors_per_level: Sequence[Boxes], gt_boxes: PaddedBoxes) -> Assignment:
        """Return the assignment of all images' anchors, (N, R) each.

        Args:
            anchors_per_level: R boxes in all, the same for all images.
            gt_boxes: (N, M, 4) in the same frame.
        """
        raise NotImplementedError
