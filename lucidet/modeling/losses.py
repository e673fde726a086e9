"""What the losses of the detectors have in common; each detector adds its own up."""

# N images, R anchors in all, R_l of level l, K classes, P positives

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lucidet.layers.fast.focal_loss_sum import focal_level_sum
from lucidet.modeling.assigners.geometry import box_centers, edge_distances
from lucidet.structures import Boxes
from lucidet.utils.probe import probe

__all__ = [
    "Positives",
    "centerness_of",
    "focal_loss_sum",
    "gather_positives",
    "scores_with_centerness",
    "weighted",
]


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


def weighted(
    terms: Mapping[str, tuple[Tensor, Tensor | float, float]],
) -> dict[str, Tensor]:
    """Return the losses: each term's sum x weight / normalizer, and show all four.

    Args:
        terms: name -> (sum over anchors or proposals, normalizer, weight).
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


def centerness_of(anchors: Tensor, objects: Tensor) -> Tensor:
    """Return how central each anchor's centre lies in its object, (P,) in 0..1.

    Tian et al. 2019 (FCOS, arXiv 1904.01355), equation 3; 0 for a centre on the edge or outside.

    >>> centerness_of(torch.tensor([[4.0, 4, 6, 6]]), torch.tensor([[0.0, 0, 10, 10]])).item()
    1.0
    """
    left, top, right, bottom = edge_distances(box_centers(anchors), objects).unbind(dim=1)
    across = torch.minimum(left, right) / torch.maximum(left, right).clamp(min=1e-6)
    down = torch.minimum(top, bottom) / torch.maximum(top, bottom).clamp(min=1e-6)
    return (across.clamp(min=0) * down.clamp(min=0)).sqrt()


def scores_with_centerness(logits: Tensor, centerness: Tensor) -> Tensor:
    """Return the geometric mean of class score and centerness, (R_l, K) in 0..1.

    Args:
        logits: (R_l, K).
        centerness: (R_l,) logits.
    """
    return (logits.sigmoid() * centerness.sigmoid()[:, None]).sqrt()
