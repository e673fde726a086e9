"""Adaptive training sample selection, and the plainer rules it is compared with.

After Zhang et al. 2020 (arXiv 1912.02424): section 3.2 and algorithm 1 for ATSS.
"""

# M objects, R anchors in all, R_l of a level, k candidates of an object

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lucidet.modeling.assigners.assignment import Assignment
from lucidet.modeling.assigners.geometry import (
    box_centers,
    edge_distances,
    grow,
    matched_iou,
    win_by_quality,
)
from lucidet.modeling.assigners.max_iou import MaxIoUAssigner
from lucidet.structures import Boxes, pairwise_iou
from lucidet.utils.probe import probe

__all__ = ["ATSSAssigner", "CenteredMaxIoUAssigner", "TopKAssigner"]

#: pixels that an anchor's centre must at least lie inside its object
INSIDE = 0.01
#: object-anchor pairs looked at together: 2 MB in float32, which stays in the cache
CHUNK_PAIRS = 500_000


class _CenterAssigner:
    """What the rules below share: which centres count as inside, and the legacy convention."""

    def __init__(self, legacy_plus_one: bool = False) -> None:
        """`legacy_plus_one`: a box's width is x2 - x1 + 1 where boxes are compared by IoU."""
        self.margin = 0.5 if legacy_plus_one else 0.0

    def _inside(self, anchors: Tensor, objects: Tensor) -> Tensor:
        """Return whether anchors' centres lie inside objects; (.., 4) each -> (..,) bool."""
        return edge_distances(box_centers(anchors), objects).amin(dim=-1) > INSIDE


class ATSSAssigner(_CenterAssigner):
    """Each object sets its own IoU threshold from the anchors that are near its centre.

    Of every level the `topk` anchors nearest to the object's centre are candidates. A candidate
    finds the object if its IoU is at least the mean plus the standard deviation of all
    candidates' IoUs, and its centre lies inside the object. An anchor that several objects want
    goes to the one of highest IoU.

    Differs from the paper's algorithm where that is undefined: an image without objects is all
    background, and the deviation of a single candidate is 0.
    """

    def __init__(
        self, topk: int = 9, anchors_per_cell: int = 1, legacy_plus_one: bool = False
    ) -> None:
        """
        Args:
            topk: cells of a level that are candidates.
            anchors_per_cell: A; a level has topk * A candidates.
            legacy_plus_one: IoUs count a width as x2 - x1 + 1; anchors are plain all the same.
        """
        super().__init__(legacy_plus_one)
        if topk < 1:
            raise ValueError(f"topk must be at least 1 candidate a level, got {topk}")
        self.topk = topk * anchors_per_cell

    @torch.no_grad()
    def __call__(self, anchors_per_level: Sequence[Boxes], gt_boxes: Boxes) -> Assignment:
        """Return the assignment of one image's anchors (XYXY); `quality` is the IoU of winners."""
        anchors = torch.cat([level.tensor for level in anchors_per_level])
        objects = gt_boxes.tensor
        if len(objects) == 0 or len(anchors) == 0:
            return Assignment.without_objects(len(anchors), anchors.device)
        candidates = self._nearest(anchors_per_level, objects)  # (M, k)
        boxes = anchors[candidates]  # (M, k, 4)
        iou = matched_iou(grow(objects, self.margin)[:, None], boxes)
        deviation = iou.std(dim=1) if iou.shape[1] > 1 else iou.new_zeros(len(iou))
        thresholds = iou.mean(dim=1) + deviation  # (M,)
        positive = (iou >= thresholds[:, None]) & self._inside(boxes, objects[:, None])
        probe(
            "assign.atss", candidates=candidates, ious=iou, thresholds=thresholds, positive=positive
        )
        return win_by_quality(candidates, iou, positive, len(anchors))

    def _nearest(self, anchors_per_level: Sequence[Boxes], objects: Tensor) -> Tensor:
        """Return (M, k) indices of the nearest anchors, level after level."""
        centers = box_centers(objects)
        found, start = [], 0
        for level in anchors_per_level:
            count = len(level)
            k = min(self.topk, count)
            if k > 0:
                points = box_centers(level.tensor)
                rows = max(1, CHUNK_PAIRS // count)
                nearest = [
                    _distances(chunk, points).topk(k, dim=1, largest=False).indices
                    for chunk in centers.split(rows)
                ]
                found.append(torch.cat(nearest) + start)
            start += count
        return torch.cat(found, dim=1)


class TopKAssigner(_CenterAssigner):
    """Each object takes the `topk` anchors of highest IoU, those nearer to its centre first.

    The distance to the centre, divided by a thousand times the image's largest, is taken off the
    IoU. A centre must lie inside the object.
    """

    def __init__(self, topk: int = 9, legacy_plus_one: bool = False) -> None:
        """
        Args:
            topk: anchors of an object, over all levels.
            legacy_plus_one: IoUs count a width as x2 - x1 + 1; anchors are plain all the same.
        """
        super().__init__(legacy_plus_one)
        if topk < 1:
            raise ValueError(f"topk must be at least 1 anchor an object, got {topk}")
        self.topk = topk

    @torch.no_grad()
    def __call__(self, anchors_per_level: Sequence[Boxes], gt_boxes: Boxes) -> Assignment:
        """Return the assignment of one image's anchors (XYXY); `quality` is the IoU of winners."""
        anchors = torch.cat([level.tensor for level in anchors_per_level])
        objects = gt_boxes.tensor
        if len(objects) == 0 or len(anchors) == 0:
            return Assignment.without_objects(len(anchors), anchors.device)
        k = min(self.topk, len(anchors))
        points, centers = box_centers(anchors), box_centers(objects)
        # the same value for every pair; no centre at all is apart from another: any value does
        scale = _largest_distance(anchors_per_level, centers).clamp(min=1e-6) * 1000
        grown = grow(objects, self.margin)
        rows = max(1, CHUNK_PAIRS // len(anchors))
        candidates, ious = [], []
        for chunk, chunk_centers in zip(grown.split(rows), centers.split(rows), strict=True):
            iou = pairwise_iou(Boxes(chunk), Boxes(anchors))  # (m, R)
            best = (iou - _distances(chunk_centers, points) / scale).topk(k, dim=1).indices
            candidates.append(best)
            ious.append(iou.gather(1, best))
        index, quality = torch.cat(candidates), torch.cat(ious)
        inside = self._inside(anchors[index], objects[:, None])
        return win_by_quality(index, quality, inside, len(anchors))


class CenteredMaxIoUAssigner(_CenterAssigner):
    """Labels by highest IoU, for heads with centerness.

    A positive whose centre lies outside its object has no centerness: it is ignored.
    """

    def __init__(
        self,
        thresholds: Sequence[float],
        labels: Sequence[int],
        allow_low_quality_matches: bool = True,
        legacy_plus_one: bool = False,
    ) -> None:
        """See :class:`MaxIoUAssigner`; `legacy_plus_one` as in :class:`ATSSAssigner`."""
        super().__init__(legacy_plus_one)
        self.by_iou = MaxIoUAssigner(thresholds, labels, allow_low_quality_matches)

    @torch.no_grad()
    def __call__(self, anchors_per_level: Sequence[Boxes], gt_boxes: Boxes) -> Assignment:
        """Return the assignment of one image's anchors (XYXY); `quality` is the highest IoU."""
        result = self.by_iou(anchors_per_level, Boxes(grow(gt_boxes.tensor, self.margin)))
        if len(gt_boxes) == 0:
            return result
        anchors = torch.cat([level.tensor for level in anchors_per_level])
        outside = ~self._inside(anchors, gt_boxes.tensor[result.matched_idxs])
        result.labels.masked_fill_((result.labels == 1) & outside, -1)
        return result


def _distances(centers: Tensor, points: Tensor) -> Tensor:
    """Return the distances (m, R) between centres (m, 2) and points (R, 2)."""
    dx = centers[:, None, 0] - points[:, 0]
    dy = centers[:, None, 1] - points[:, 1]
    return dx.square_().add_(dy.square_()).sqrt_()


def _largest_distance(anchors_per_level: Sequence[Boxes], centers: Tensor) -> Tensor:
    """Return the largest distance of any centre (M, 2) to an anchor's.

    A level's anchors form a rectangle, so that the farthest one is at a corner.
    """
    corners = []
    for level in anchors_per_level:
        if len(level) > 0:
            low, high = box_centers(level.tensor).aminmax(dim=0)
            corners += [low, high, torch.stack([low[0], high[1]]), torch.stack([high[0], low[1]])]
    return _distances(centers, torch.stack(corners)).max()
