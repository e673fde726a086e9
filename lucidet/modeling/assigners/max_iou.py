"""Assignment by overlap, for all images at once and in bounded memory.

After Ren et al. 2015 (arXiv 1506.01497), section 3.1.2. The result is that of
:class:`lucidet.modeling.matcher.Matcher` on the matrix of all IoUs.
"""

# N images, M ground-truth boxes of an image, R anchors (or proposals) in all

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lucidet.layers.fast.highest_iou import highest_iou
from lucidet.modeling.assigners.assignment import Assignment, BatchAssigner
from lucidet.modeling.matcher import Matcher, check_thresholds
from lucidet.structures import (
    Boxes,
    PaddedBoxes,
    RotatedBoxes,
    pairwise_iou,
    pairwise_iou_rotated,
)

__all__ = ["MaxIoUAssigner", "assign", "assign_batch", "pairs_at_once"]

Anchors = Sequence[Boxes] | PaddedBoxes

CPU_PAIRS = 500_000
GPU_PAIRS = 1 << 25


def pairs_at_once(device: torch.device) -> int:
    """Return how many box-anchor pairs are looked at together.

    On a CPU 2 MB in float32, which stay in the cache; elsewhere 128 MB: 8 images of 12 boxes and
    268 000 anchors need less, so that the number of operators does not depend on them.
    """
    return CPU_PAIRS if device.type == "cpu" else GPU_PAIRS


class MaxIoUAssigner(BatchAssigner):
    """Labels each anchor by its highest IoU with a ground-truth box; see :class:`Matcher`.

    `quality` is the highest IoU with any box; `matched_idxs` the first box that has it. A
    degenerate anchor or box overlaps nothing. Rotated boxes work too, if all are.

    >>> assigner = MaxIoUAssigner([0.5], [0, 1])
    >>> anchors = Boxes(torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 4], [50, 50, 60, 60]]))
    >>> assigner([anchors], Boxes(torch.tensor([[0.0, 0, 10, 10]]))).labels.tolist()
    [1, 0, 0]
    """

    def __init__(
        self,
        thresholds: Sequence[float],
        labels: Sequence[int],
        allow_low_quality_matches: bool = False,
    ) -> None:
        """
        Args:
            thresholds: IoUs that separate the labels, positive and ascending.
            labels: one more than thresholds, each 1 (matched), 0 (background) or -1 (ignored).
            allow_low_quality_matches: each box's best anchors (that overlap it) are matched too.

        Raises:
            ValueError: thresholds or labels break these rules.
        """
        check_thresholds(thresholds, labels)
        self.thresholds = list(thresholds)
        self.labels = list(labels)
        self.allow_low_quality_matches = allow_low_quality_matches

    def batch(self, anchors_per_level: Anchors, gt_boxes: PaddedBoxes) -> Assignment:
        """See :meth:`BatchAssigner.batch`; anchors may also be R (padded) boxes of each image."""
        return _assign_by_iou(self, anchors_per_level, gt_boxes)


@torch.no_grad()
def _assign_by_iou(
    rules: MaxIoUAssigner | Matcher, anchors: Anchors, gt_boxes: PaddedBoxes
) -> Assignment:
    """Return the assignment (N, R) that thresholds, labels and low-quality matches ask for."""
    if isinstance(anchors, PaddedBoxes):
        boxes, levels = anchors.tensor, [anchors.tensor.shape[1]]
    else:
        boxes = torch.cat([level.tensor for level in anchors])
        levels = [len(level.tensor) for level in anchors]
    shape = (len(gt_boxes.tensor), sum(levels))
    # what pads them must overlap nothing, also where the caller has moved its edges
    targets = gt_boxes.tensor.where(gt_boxes.valid[..., None], 0.0)
    if 0 in (*shape, targets.shape[1]):
        return Assignment.without_objects(shape, boxes.device, rules.labels[0])
    low_quality = rules.allow_low_quality_matches
    quality, matched, is_best = highest_iou(targets, boxes, levels, low_quality)
    finite = [threshold for threshold in rules.thresholds if math.isfinite(threshold)]
    labels = torch.full_like(quality, rules.labels[0], dtype=torch.int8)
    for threshold, label in zip(finite, rules.labels[1:], strict=True):
        labels.masked_fill_(quality >= threshold, label)
    if is_best is not None:
        labels.masked_fill_(is_best, 1)
    return Assignment(matched, labels, quality.float())


def assign_batch(matcher: Matcher | object, anchors: Anchors, gt_boxes: PaddedBoxes) -> Assignment:
    """Assign the ground-truth boxes of all images at once.

    A custom assigner, or a subclass of `Matcher`, is called image by image, as it knows nothing of
    batches.

    Args:
        matcher: an assigner, ``(anchors_per_level, gt_boxes) -> Assignment``, or a `Matcher`.
        anchors: per level, R boxes in all, the same for all images; or R (padded) boxes of each.
        gt_boxes: (N, M, 4) in the same frame.

    Returns:
        An assignment with a leading dimension: (N, R) each. Padded anchors have the label -1.
    """
    if type(matcher) is Matcher:
        result = _assign_by_iou(matcher, anchors, gt_boxes)
    elif (
        isinstance(matcher, BatchAssigner)
        and type(matcher).__call__ is BatchAssigner.__call__  # no subclass asks for each image
        and (isinstance(matcher, MaxIoUAssigner) or not isinstance(anchors, PaddedBoxes))
    ):
        result = matcher.batch(anchors, gt_boxes)  # type: ignore[arg-type]
    else:
        result = _image_by_image(matcher, anchors, gt_boxes)
    if isinstance(anchors, PaddedBoxes):
        result.labels.masked_fill_(~anchors.valid, -1)
    return result


def _image_by_image(assigner: object, anchors: Anchors, gt_boxes: PaddedBoxes) -> Assignment:
    """Return the assignment (N, R) of an assigner that takes one image."""
    results = []
    for image in range(len(gt_boxes)):
        own = [anchors.image(image)] if isinstance(anchors, PaddedBoxes) else list(anchors)
        results.append(assign(assigner, own, gt_boxes.image(image)))
    rows = anchors.tensor.shape[1] if isinstance(anchors, PaddedBoxes) else 0

    def together(name: str) -> Tensor:
        values = [getattr(result, name) for result in results]
        return torch.stack([F.pad(value, (0, max(rows - len(value), 0))) for value in values])

    return Assignment(together("matched_idxs"), together("labels"), together("quality"))


def assign(
    matcher: Matcher | object, anchors_per_level: Sequence[Boxes], gt_boxes: Boxes
) -> Assignment:
    """Assign one image's ground-truth boxes with an assigner, or with a `Matcher`.

    A plain `Matcher` gives what it would on the matrix of all IoUs, which is not built. A subclass
    may look at the matrix in its own way, so it gets it.

    Args:
        matcher: as in :func:`assign_batch`.
        anchors_per_level: R boxes in all.
        gt_boxes: M boxes in the same frame.
    """
    if type(matcher) is Matcher:
        padded = PaddedBoxes.from_boxes([gt_boxes])
        return _assign_by_iou(matcher, anchors_per_level, padded).image(0)
    if isinstance(matcher, Matcher):
        iou = _matrix(gt_boxes, torch.cat([level.tensor for level in anchors_per_level]))
        matched, labels = matcher(iou)
        quality = iou.amax(dim=0) if len(iou) else iou.new_zeros(iou.shape[1])
        return Assignment(matched, labels, quality)
    return matcher(anchors_per_level, gt_boxes)  # type: ignore[operator]


def _matrix(gt_boxes: Boxes, anchors: Tensor) -> Tensor:
    """Return the IoUs (M, R) of axis-parallel or rotated boxes."""
    if isinstance(gt_boxes, RotatedBoxes):
        return pairwise_iou_rotated(gt_boxes, RotatedBoxes(anchors))
    return pairwise_iou(gt_boxes, Boxes(anchors))
