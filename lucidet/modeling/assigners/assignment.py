"""What every assigner returns."""

# M objects, R anchors (or proposals) in all

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lucidet.structures import Boxes

__all__ = ["Assigner", "Assignment"]


@dataclass
class Assignment:
    """Which object each anchor has to find; class-agnostic.

    Attributes:
        matched_idxs: (R,) int64 in 0..M-1; valid only where `labels` is 1.
        labels: (R,) int8: 1 finds an object, 0 is background, -1 takes no part in the losses.
        quality: (R,) float32, how well the anchor fits its object (IoU where nothing else is
            said); 0 without objects.
    """

    matched_idxs: Tensor
    labels: Tensor
    quality: Tensor

    @classmethod
    def without_objects(
        cls, num_anchors: int, device: torch.device | str | None = None, label: int = 0
    ) -> Assignment:
        """Return the assignment of an image that has no object: all anchors get `label`.

        >>> Assignment.without_objects(2).labels.tolist()
        [0, 0]
        """
        return cls(
            matched_idxs=torch.zeros(num_anchors, dtype=torch.int64, device=device),
            labels=torch.full((num_anchors,), label, dtype=torch.int8, device=device),
            quality=torch.zeros(num_anchors, device=device),
        )


class Assigner(Protocol):
    """Called with the anchors of each level and one image's objects."""

    def __call__(self, anchors_per_level: list[Boxes], gt_boxes: Boxes) -> Assignment:
        """Return the assignment of all anchors, level after level."""
        ...
