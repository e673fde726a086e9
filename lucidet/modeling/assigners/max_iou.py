"""Assignment by overlap, in bounded memory.

After Ren et al. 2015 (arXiv 1506.01497), section 3.1.2. The result is that of
:class:`lucidet.modeling.matcher.Matcher` on the matrix of all IoUs, which is never built: 300
objects on 242 000 anchors would take 290 MB, several times over.
"""

# M objects, R anchors in all, C anchors of a chunk, m objects near a chunk

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lucidet.modeling.assigners.assignment import Assignment
from lucidet.modeling.matcher import Matcher, check_thresholds, labels_of_quality
from lucidet.structures import (
    Boxes,
    PaddedBoxes,
    RotatedBoxes,
    pairwise_iou,
    pairwise_iou_rotated,
)

__all__ = ["MaxIoUAssigner", "assign", "assign_batch"]

#: Most anchors of a chunk on the CPU. Anchors that follow each other lie close together, so that
#: most objects are far from a chunk and cost nothing there; smaller chunks have more overhead.
CPU_CHUNK = 2048
#: Most IoUs of a chunk anywhere: enough to fill a GPU, 16 MB in float32.
CHUNK_PAIRS = 4_000_000


class MaxIoUAssigner:
    """Labels each anchor by its highest IoU with an object; see :class:`Matcher` for the rules.

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
            labels: one more than thresholds, each 1 (object), 0 (background) or -1 (ignored).
            allow_low_quality_matches: each object's best anchors (that overlap it) become objects
                too.

        Raises:
            ValueError: thresholds or labels break these rules.
        """
        check_thresholds(thresholds, labels)
        self.thresholds = list(thresholds)
        self.labels = list(labels)
        self.allow_low_quality_matches = allow_low_quality_matches

    @torch.no_grad()
    def __call__(self, anchors_per_level: Sequence[Boxes], gt_boxes: Boxes) -> Assignment:
        """Return the assignment of one image's anchors.

        A degenerate anchor or object overlaps nothing.

        Args:
            anchors_per_level: R boxes in all, XYXY; rotated boxes work too, if all are.
            gt_boxes: M objects in the same frame.

        Returns:
            `quality` is the highest IoU with any object; `matched_idxs` the first object that has
            it.
        """
        anchors = torch.cat([level.tensor for level in anchors_per_level])
        num_objects = len(gt_boxes)
        if num_objects == 0 or len(anchors) == 0:
            return Assignment.without_objects(len(anchors), anchors.device, self.labels[0])
        chunks = list(_chunks([len(level) for level in anchors_per_level], num_objects, anchors))
        objects = gt_boxes.tensor
        near = _objects_near(chunks, anchors, gt_boxes)

        quality = anchors.new_zeros(len(anchors))
        matched = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
        best = anchors.new_zeros(len(chunks), num_objects)  # of each object in each chunk
        for i, (chunk, index) in enumerate(zip(chunks, near, strict=True)):
            if index is not None and len(index) == 0:
                continue
            iou = _iou(objects if index is None else objects[index], anchors[chunk])  # (m, C)
            quality[chunk], row = iou.max(dim=0)
            matched[chunk] = row if index is None else index[row]
            if self.allow_low_quality_matches:
                best[i, slice(None) if index is None else index] = iou.amax(dim=1)

        labels = labels_of_quality(quality, self.thresholds, self.labels)
        if self.allow_low_quality_matches:
            self._rescue(labels, best, chunks, objects, anchors)
        # anchors without overlap have met no object or only some: the first, as for all others
        return Assignment(matched.where(quality > 0, 0), labels, quality.float())

    @staticmethod
    def _rescue(
        labels: Tensor, best: Tensor, chunks: list[slice], objects: Tensor, anchors: Tensor
    ) -> None:
        """Set `labels` (R,) to 1 in place for each object's best anchors, if they overlap it."""
        highest = best.amax(dim=0)  # (M,)
        holds = (best == highest) & (highest > 0)  # (chunks, M): the best anchor is in the chunk
        on_cpu = labels.device.type == "cpu"
        for chunk, rows in zip(chunks, holds, strict=True):
            if on_cpu:  # on a device, looking at `rows` costs more than the IoUs
                index = rows.nonzero().squeeze(1)
                if len(index) == 0:
                    continue
            else:
                index = torch.arange(len(objects), device=labels.device)
            iou = _iou(objects[index], anchors[chunk])
            rescued = (iou == highest[index, None]) & rows[index, None]
            labels[chunk].masked_fill_(rescued.any(dim=0), 1)


def _iou(objects: Tensor, anchors: Tensor) -> Tensor:
    """Return the IoUs (M, R) of axis-parallel (.., 4) or rotated (.., 5) boxes."""
    if objects.shape[1] == 5:
        return pairwise_iou_rotated(RotatedBoxes(objects), RotatedBoxes(anchors))
    return pairwise_iou(Boxes(objects), Boxes(anchors))


def _chunks(level_lengths: list[int], num_objects: int, anchors: Tensor) -> Iterator[slice]:
    """Cut the anchors into runs that stay within a level."""
    size = max(1, CHUNK_PAIRS // num_objects)
    if anchors.device.type == "cpu":
        size = min(size, CPU_CHUNK)
    start = 0
    for length in level_lengths:
        for first in range(start, start + length, size):
            yield slice(first, min(first + size, start + length))
        start += length


def _objects_near(
    chunks: list[slice], anchors: Tensor, gt_boxes: Boxes
) -> list[Tensor] | list[None]:
    """Return for each chunk the objects that its anchors' common bounding box meets.

    None stands for all: for rotated boxes, and on a device, where the host would have to wait.
    """
    if anchors.device.type != "cpu" or isinstance(gt_boxes, RotatedBoxes):
        return [None] * len(chunks)
    lower = torch.stack([anchors[chunk, :2].amin(dim=0) for chunk in chunks])[:, None]  # (c, 1, 2)
    upper = torch.stack([anchors[chunk, 2:].amax(dim=0) for chunk in chunks])[:, None]
    objects = gt_boxes.tensor
    meets = ((objects[:, :2] < upper) & (objects[:, 2:] > lower)).all(dim=2)  # (c, M)
    return [rows.nonzero().squeeze(1) for rows in meets]


def assign(
    matcher: Matcher | object, anchors_per_level: Sequence[Boxes], gt_boxes: Boxes
) -> Assignment:
    """Assign with an assigner, or with a Matcher as if it saw the matrix of all IoUs.

    A plain `Matcher` is carried out in bounded memory. A subclass may look at the matrix as it
    likes, so it gets it.

    Args:
        matcher: an assigner, ``(anchors_per_level, gt_boxes) -> Assignment``, or a `Matcher`.
        anchors_per_level: R boxes in all.
        gt_boxes: M objects in the same frame.
    """
    if type(matcher) is Matcher:
        thresholds = [t for t in matcher.thresholds if math.isfinite(t)]
        assigner = MaxIoUAssigner(thresholds, matcher.labels, matcher.allow_low_quality_matches)
        return assigner(anchors_per_level, gt_boxes)
    if isinstance(matcher, Matcher):
        iou = _iou(gt_boxes.tensor, torch.cat([level.tensor for level in anchors_per_level]))
        matched, labels = matcher(iou)
        quality = iou.amax(dim=0) if len(iou) else iou.new_zeros(iou.shape[1])
        return Assignment(matched, labels, quality)
    return matcher(anchors_per_level, gt_boxes)  # type: ignore[operator]


def assign_batch(
    matcher: Matcher | object, anchors: Sequence[Boxes] | PaddedBoxes, gt_boxes: PaddedBoxes
) -> Assignment:
    """Assign the ground-truth boxes of all images at once.

    Args:
        matcher: as in :func:`assign`.
        anchors: per level, R boxes in all, the same for all images; or R (padded) boxes of each.
        gt_boxes: (N, M, 4) in the same frame.

    Returns:
        An assignment with a leading dimension: (N, R) each. Padded anchors have the label -1.
    """
    own = [
        assign(
            matcher,
            [anchors.image(i)] if isinstance(anchors, PaddedBoxes) else anchors,
            gt_boxes.image(i),
        )
        for i in range(len(gt_boxes))
    ]
    result = Assignment(
        *(
            torch.nn.utils.rnn.pad_sequence([getattr(a, name) for a in own], batch_first=True)
            for name in ("matched_idxs", "labels", "quality")
        )
    )
    if isinstance(anchors, PaddedBoxes):
        result.labels.masked_fill_(~anchors.valid[:, : result.labels.shape[1]], -1)
    return result
