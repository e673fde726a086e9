"""What the losses of the detectors have in common; each detector adds its own up."""

# N images, R anchors in all, R_l of level l, K classes, P positives of all images

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from lucidet.structures import Boxes
from lucidet.utils.probe import probe

__all__ = [
    "Positives",
    "centerness_of",
    "gather_positives",
    "mean_over_ranks",
    "scores_with_centerness",
    "weighted",
    "world_size",
]


@dataclass
class Positives:
    """The anchors of a batch that are matched to a ground-truth box.

    Attributes:
        at: image, row in 0..R-1 and class in 0..K-1 of each, (P,) int64: its place in (N, R, K).
        anchors: (P, 4) XYXY.
        targets: (P, 4) XYXY, the ground-truth boxes.
    """

    at: tuple[Tensor, Tensor, Tensor]
    anchors: Tensor
    targets: Tensor

    def pick(self, per_level: Sequence[Tensor]) -> Tensor:
        """Return the rows (P, ..) of predictions (N, R_l, ..) per level, in float32."""
        return torch.cat(list(per_level), dim=1)[self.at[:2]].float()


def gather_positives(
    anchors: Sequence[Boxes], labels: Tensor, gt_boxes: Sequence[Tensor], num_classes: int
) -> Positives:
    """Return the positives of a batch; a GPU is waited for once, for their number.

    Args:
        anchors: per level, R in all.
        labels: (N, R), a class in 0..K-1 for positives.
        gt_boxes: per image (R, 4).
        num_classes: K.
    """
    image, row = ((labels >= 0) & (labels < num_classes)).nonzero(as_tuple=True)
    boxes = torch.cat([level.tensor for level in anchors])
    targets = torch.stack(list(gt_boxes))[image, row]
    return Positives((image, row, labels[image, row]), boxes[row], targets)


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_ranks(value: Tensor, at_least: float) -> Tensor:
    """Return the mean of a scalar over all processes, whose sum counts as `at_least` or more.

    As gradients are averaged over them too, the run's sums are divided by the run's sum of `value`.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return value.clamp(min=at_least)
    total = value.detach().clone()
    dist.all_reduce(total)
    return total.clamp(min=at_least) / world_size()


def weighted(
    terms: Mapping[str, tuple[Tensor, Tensor | float, float]],
) -> dict[str, Tensor]:
    """Return the losses, name -> sum x weight / normalizer, and show all four of each.

    Terms are name -> (sum over anchors or proposals, normalizer, weight).
    """
    losses = {}
    for name, (total, normalizer, weight) in terms.items():
        value = losses[name] = total * weight / normalizer
        probe("loss.term", name=name, sum=total, normalizer=normalizer, weight=weight, value=value)
    return losses


def centerness_of(anchors: Tensor, targets: Tensor) -> Tensor:
    """Return how central each anchor's center lies in its ground-truth box, (P,) in 0..1.

    Tian et al. 2019 (FCOS, arXiv 1904.01355), equation 3; 0 for a center on the edge or outside.
    Anchors and ground-truth boxes are (P, 4) XYXY.

    >>> centerness_of(torch.tensor([[4.0, 4, 6, 6]]), torch.tensor([[0.0, 0, 10, 10]])).item()
    1.0
    """
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    before, after = centers - targets[:, :2], targets[:, 2:] - centers  # (P, 2): x, y
    ratio = torch.minimum(before, after) / torch.maximum(before, after).clamp(min=1e-6)
    return ratio.clamp(min=0).prod(dim=1).sqrt()


def scores_with_centerness(logits: Tensor, centerness: Tensor) -> Tensor:
    """Return the geometric mean of class score and centerness, (.., R_l, K) in 0..1.

    Args:
        logits: (.., R_l, K).
        centerness: (.., R_l) logits.
    """
    return (logits.sigmoid() * centerness.sigmoid()[..., None]).sqrt()
