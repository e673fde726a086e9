"""What the losses of dense detectors have in common; each detector adds its own up."""

# N images, R anchors in all, K classes, P positives

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lucidet.modeling.meta_arch.focal_sum import focal_level_sum
from lucidet.structures import Boxes
from lucidet.utils.probe import probe

__all__ = ["Positives", "combine", "focal_loss_sum", "gather_positives"]


@dataclass
class Positives:
    """The anchors of a batch that have an object to find.

    Attributes:
        image: (P,) int64, the image of each.
        row: (P,) int64, its anchor in 0..R-1.
        classes: (P,) int64 in 0..K-1.
        anchors: (P, 4) XYXY.
        objects: (P, 4) XYXY.
    """

    image: Tensor
    row: Tensor
    classes: Tensor
    anchors: Tensor
    objects: Tensor

    def __len__(self) -> int:
        return len(self.row)

    def pick(self, per_level: Sequence[Tensor]) -> Tensor:
        """Return the rows (P, ..) of predictions (N, R_l, ..) per level, in float32."""
        return torch.cat(list(per_level), dim=1)[self.image, self.row].float()


def gather_positives(
    anchors: Sequence[Boxes], labels: Tensor, gt_boxes: Sequence[Tensor], num_classes: int
) -> Positives:
    """Return the positives of a batch.

    Args:
        anchors: per level, R in all.
        labels: (N, R), a class in 0..K-1 for positives.
        gt_boxes: per image (R, 4).
        num_classes: K.
    """
    image, row = ((labels >= 0) & (labels < num_classes)).nonzero(as_tuple=True)
    boxes = torch.cat([level.tensor for level in anchors])
    return Positives(
        image, row, labels[image, row], boxes[row], torch.stack(list(gt_boxes))[image, row]
    )


def focal_loss_sum(
    logits: Sequence[Tensor], labels: Tensor, positives: Positives, alpha: float, gamma: float
) -> Tensor:
    """Return the focal loss summed over all anchors that take part, and all classes.

    Nearly every entry of (N, R, K) is a negative, so no target of that size is built: all count as
    negatives first, then the positives' own entries are put right.

    Args:
        logits: per level (N, R_l, K).
        labels: (N, R); -1 takes no part.
        positives: those of the same batch.
        alpha: weight of positives, 1 - alpha of negatives; negative: both weigh 1.
        gamma: exponent that plays down what is already right.
    """
    weights = (alpha, 1 - alpha) if alpha >= 0 else (1.0, 1.0)
    takes_part = labels >= 0
    start, total = 0, logits[0].new_zeros((), dtype=torch.float32)
    for level in logits:
        end = start + level.shape[1]
        at = (positives.image, positives.row - start, positives.classes)
        total = total + focal_level_sum(level, takes_part[:, start:end], at, weights, gamma)
        start = end
    return total


def combine(terms: dict[str, tuple[Tensor, Tensor, float]]) -> dict[str, Tensor]:
    """Return the losses: each term's sum x weight / normaliser, and show all four.

    Args:
        terms: name -> (sum over anchors, normaliser, weight).
    """
    losses = {}
    for name, (total, normalizer, weight) in terms.items():
        losses[name] = total * weight / normalizer
        probe(
            "loss.term",
            name=name,
            sum=total,
            normalizer=normalizer,
            weight=weight,
            value=losses[name],
        )
    return losses
