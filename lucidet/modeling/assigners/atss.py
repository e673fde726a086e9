"""Adaptive training sample selection, and the plainer rules it is compared with.

After Zhang et al. 2020 (arXiv 1912.02424): section 3.2 and algorithm 1 for ATSS.
"""

# N images, M ground-truth boxes of an image, T of all images, R anchors in all, R_l of a level,
# k candidates of a box

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lucidet.modeling.assigners.assignment import Assignment, BatchAssigner
from lucidet.modeling.assigners.max_iou import MaxIoUAssigner, pairs_at_once
from lucidet.structures import Boxes, PaddedBoxes, pairwise_iou
from lucidet.utils.probe import probe_images

__all__ = ["ATSSAssigner", "CenteredMaxIoUAssigner", "TopKAssigner", "grow"]

#: pixels that an anchor's center must at least lie inside its ground-truth box
INSIDE = 0.01


class _CenterAssigner(BatchAssigner):
    """What the rules below share: which centers count as inside, and the legacy convention."""

    def __init__(self, legacy_plus_one: bool = False) -> None:
        """`legacy_plus_one`: a box's width is x2 - x1 + 1 where boxes are compared by IoU."""
        self.margin = 0.5 if legacy_plus_one else 0.0

    def _inside(self, anchors: Tensor, boxes: Tensor) -> Tensor:
        """Return whether anchors' centers lie inside boxes; (.., 4) each -> (..,) bool."""
        return edge_distances(box_centers(anchors), boxes).amin(dim=-1) > INSIDE


class ATSSAssigner(_CenterAssigner):
    """Each ground-truth box sets its own IoU threshold from the anchors near its center.

    Of every level the `topk` anchors nearest to the box's center are candidates. A candidate is
    matched to the box if its IoU is at least the mean plus the standard deviation of all
    candidates' IoUs, and its center lies inside the box. An anchor that several boxes claim is
    matched to the one of highest IoU. `quality` is the IoU of matched anchors.

    Differs from the paper's algorithm where that is undefined: an image without boxes is all
    background, and the standard deviation of a single candidate is 0.
    """

    def __init__(
        self, topk: int = 9, anchors_per_cell: int = 1, legacy_plus_one: bool = False
    ) -> None:
        """
        Args:
            topk: locations of a level that are candidates.
            anchors_per_cell: A; a level has topk * A candidates.
            legacy_plus_one: IoUs count a width as x2 - x1 + 1; anchors are plain all the same.
        """
        super().__init__(legacy_plus_one)
        if topk < 1:
            raise ValueError(f"topk must be at least 1 candidate a level, got {topk}")
        self.topk = topk * anchors_per_cell

    @torch.no_grad()
    def batch(self, anchors_per_level: Sequence[Boxes], gt_boxes: PaddedBoxes) -> Assignment:
        """See :meth:`BatchAssigner.batch`."""
        anchors = torch.cat([level.tensor for level in anchors_per_level])
        boxes, places = gt_boxes.flat()  # (T, 4), (T,)
        if len(boxes) == 0 or len(anchors) == 0:
            return Assignment.without_objects((len(gt_boxes), len(anchors)), anchors.device)
        candidates = self._nearest(anchors_per_level, boxes)  # (T, k)
        near = anchors[candidates]  # (T, k, 4)
        iou = matched_iou(grow(boxes, self.margin)[:, None], near)
        deviation = iou.std(dim=1) if iou.shape[1] > 1 else iou.new_zeros(len(iou))
        thresholds = iou.mean(dim=1) + deviation  # (T,)
        positive = (iou >= thresholds[:, None]) & self._inside(near, boxes[:, None])

        def of_image(image: int) -> dict[str, Any] | None:
            own = (places // gt_boxes.tensor.shape[1] == image).nonzero().squeeze(1)
            return (
                None
                if len(own) == 0
                else {
                    "candidates": candidates[own],
                    "ious": iou[own],
                    "thresholds": thresholds[own],
                    "positive": positive[own],
                }
            )

        shape = (*gt_boxes.valid.shape, len(anchors))
        probe_images("assign.atss", shape[0], of_image)
        return win_by_quality(candidates, iou, positive, places, shape)

    def _nearest(self, anchors_per_level: Sequence[Boxes], boxes: Tensor) -> Tensor:
        """Return (T, k) indices of the nearest anchors, level after level."""
        centers = box_centers(boxes)
        found, start = [], 0
        for level in anchors_per_level:
            count = len(level)
            k = min(self.topk, count)
            if k > 0:
                points = box_centers(level.tensor)
                rows = max(1, pairs_at_once(boxes.device) // count)
                nearest = [
                    _distances(piece, points).topk(k, dim=1, largest=False).indices
                    for piece in centers.split(rows)
                ]
                found.append(torch.cat(nearest) + start)
            start += count
        return torch.cat(found, dim=1)


class TopKAssigner(_CenterAssigner):
    """Each ground-truth box is matched to the `topk` anchors of highest IoU, nearer ones first.

    The distance to the center, divided by a thousand times the image's largest, is taken off the
    IoU. A center must lie inside the box. `quality` is the IoU of matched anchors.
    """

    def __init__(self, topk: int = 9, legacy_plus_one: bool = False) -> None:
        """
        Args:
            topk: anchors of a box, over all levels.
            legacy_plus_one: IoUs count a width as x2 - x1 + 1; anchors are plain all the same.
        """
        super().__init__(legacy_plus_one)
        if topk < 1:
            raise ValueError(f"topk must be at least 1 anchor an object, got {topk}")
        self.topk = topk

    @torch.no_grad()
    def batch(self, anchors_per_level: Sequence[Boxes], gt_boxes: PaddedBoxes) -> Assignment:
        """See :meth:`BatchAssigner.batch`."""
        anchors = torch.cat([level.tensor for level in anchors_per_level])
        boxes, places = gt_boxes.flat()  # (T, 4), (T,)
        if len(boxes) == 0 or len(anchors) == 0:
            return Assignment.without_objects((len(gt_boxes), len(anchors)), anchors.device)
        k = min(self.topk, len(anchors))
        points, centers = box_centers(anchors), box_centers(boxes)
        image = torch.div(places, gt_boxes.tensor.shape[1], rounding_mode="floor")
        farthest = _largest_distances(anchors_per_level, centers, image, len(gt_boxes))  # (N,)
        # no center at all is apart from another: any value does
        scale = (farthest.clamp(min=1e-6) * 1000)[image, None]  # (T, 1)
        rows = max(1, pairs_at_once(boxes.device) // len(anchors))
        candidates, ious = [], []
        for grown, middle, unit in zip(
            grow(boxes, self.margin).split(rows),
            centers.split(rows),
            scale.split(rows),
            strict=True,
        ):
            iou = pairwise_iou(Boxes(grown), Boxes(anchors))  # (t, R)
            best = (iou - _distances(middle, points) / unit).topk(k, dim=1).indices
            candidates.append(best)
            ious.append(iou.gather(1, best))
        index, quality = torch.cat(candidates), torch.cat(ious)
        inside = self._inside(anchors[index], boxes[:, None])
        shape = (*gt_boxes.valid.shape, len(anchors))
        return win_by_quality(index, quality, inside, places, shape)


class CenteredMaxIoUAssigner(_CenterAssigner):
    """Labels by highest IoU, for heads with centerness.

    A positive whose center lies outside its ground-truth box has no centerness: it is ignored.
    `quality` is the highest IoU.
    """

    def __init__(
        self,
        thresholds: Sequence[float],
        labels: Sequence[int],
        allow_low_quality_matches: bool = True,
        legacy_plus_one: bool = False,
    ) -> None:
        """
        Args:
            thresholds: IoUs that separate the labels, positive and ascending.
            labels: one more than thresholds, each 1 (matched), 0 (background) or -1 (ignored).
            allow_low_quality_matches: each box's best anchors (that overlap it) are matched too.
            legacy_plus_one: IoUs count a width as x2 - x1 + 1; anchors are plain all the same.
        """
        super().__init__(legacy_plus_one)
        self.by_iou = MaxIoUAssigner(thresholds, labels, allow_low_quality_matches)

    @torch.no_grad()
    def batch(self, anchors_per_level: Sequence[Boxes], gt_boxes: PaddedBoxes) -> Assignment:
        """See :meth:`BatchAssigner.batch`."""
        grown = PaddedBoxes(grow(gt_boxes.tensor, self.margin), gt_boxes.valid, gt_boxes.counts)
        result = self.by_iou.batch(anchors_per_level, grown)
        if gt_boxes.tensor.shape[1] == 0:
            return result
        anchors = torch.cat([level.tensor for level in anchors_per_level])
        index = result.matched_idxs[..., None].expand(-1, -1, 4)
        outside = ~self._inside(anchors, gt_boxes.tensor.gather(1, index))  # (N, R)
        result.labels.masked_fill_((result.labels == 1) & outside, -1)
        return result


def _distances(centers: Tensor, points: Tensor) -> Tensor:
    """Return the distances (m, R) between centers (m, 2) and points (R, 2)."""
    dx = centers[:, None, 0] - points[:, 0]
    dy = centers[:, None, 1] - points[:, 1]
    return dx.square_().add_(dy.square_()).sqrt_()


def _largest_distances(
    anchors_per_level: Sequence[Boxes], centers: Tensor, image: Tensor, num_images: int
) -> Tensor:
    """Return each image's largest distance (N,) of a box's center (T, 2) to an anchor's.

    A level's anchors form a rectangle, so that the farthest one is at a corner.
    """
    corners = []
    for level in anchors_per_level:
        if len(level) > 0:
            low, high = box_centers(level.tensor).aminmax(dim=0)
            corners += [low, high, torch.stack([low[0], high[1]]), torch.stack([high[0], low[1]])]
    of_box = _distances(centers, torch.stack(corners)).amax(dim=1)
    return of_box.new_zeros(num_images).scatter_reduce_(0, image, of_box, "amax")


def box_centers(boxes: Tensor) -> Tensor:
    """Return the centers (.., 2) of XYXY boxes (.., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def edge_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Return the distances (.., 4) of points (.., 2) to the left, top, right, bottom edges.

    >>> edge_distances(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 0.0, 10.0, 10.0])).tolist()
    [3.0, 4.0, 7.0, 6.0]
    """
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


def grow(boxes: Tensor, margin: float) -> Tensor:
    """Move every edge of XYXY boxes (.., 4) outwards by `margin` pixels; negative: inwards.

    Half a pixel turns a legacy box, of width x2 - x1 + 1, into the plain one of equal width.
    """
    if margin == 0:
        return boxes
    return torch.cat([boxes[..., :2] - margin, boxes[..., 2:] + margin], dim=-1)


def matched_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU of XYXY boxes pair by pair, with broadcasting: (..,); 0 for empty unions."""
    upper = torch.minimum(boxes[..., 2:], others[..., 2:])
    lower = torch.maximum(boxes[..., :2], others[..., :2])
    intersection = (upper - lower).clamp_(min=0).prod(dim=-1)
    area, other = ((b[..., 2:] - b[..., :2]).prod(dim=-1) for b in (boxes, others))
    union = area + other - intersection
    return torch.where(union > 0, intersection / union, 0.0)


def win_by_quality(
    candidates: Tensor,
    quality: Tensor,
    positive: Tensor,
    places: Tensor,
    shape: tuple[int, int, int],
) -> Assignment:
    """Match each anchor to the ground-truth box that it is a positive of with the highest quality.

    Anchors that are no positives are background. Of boxes with equal quality the first is taken.

    Args:
        candidates: (T, k) indices of anchors, 0..R-1.
        quality: (T, k) >= 0, of each box with each of its candidates.
        positive: (T, k) bool, whether the candidate is a positive of the box.
        places: (T,) int64, each box's image * M + row.
        shape: N, M, R; the assignment is (N, R).
    """
    num_images, num_boxes, num_anchors = shape
    flat = ((places // num_boxes * num_anchors)[:, None] + candidates).flatten()  # into (N, R)
    bids = torch.where(positive, quality, -1.0).flatten()
    best = bids.new_full((num_images * num_anchors,), -1.0).scatter_reduce_(0, flat, bids, "amax")
    wins = (bids >= 0) & (bids == best[flat])
    row = (places % num_boxes)[:, None].expand(candidates.shape).flatten()
    matched = torch.full_like(best, num_boxes, dtype=torch.int64)
    matched.scatter_reduce_(0, flat, torch.where(wins, row, num_boxes), "amin")
    matched, taken = matched.view(num_images, -1), matched.view(num_images, -1) < num_boxes
    quality = best.view(num_images, -1).clamp(min=0)
    return Assignment(torch.where(taken, matched, 0), taken.to(torch.int8), quality)
