"""For each anchor the ground-truth box that it overlaps most, without the matrix of all IoUs.

300 boxes on 242 000 anchors would take 290 MB for each image, several times over.
"""

# N images, M boxes of an image, R anchors of an image, C anchors of a piece, m boxes near a piece

from __future__ import annotations

import torch
from torch import Tensor

from lucidet.layers.rotated_boxes import pairwise_iou_rotated

__all__ = ["highest_iou", "highest_iou_plain"]

#: most IoUs of a piece: 8 images of 12 boxes on 268 000 anchors are one piece, 128 MB in float32
PIECE_PAIRS = 1 << 25
#: up to here the plain form is the faster one on a CPU, too
SMALL_PAIRS = 1 << 16
#: Anchors of a piece on a CPU. Anchors that follow each other lie close together, so that most
#: boxes are far from a piece and cost nothing there; smaller pieces have more overhead.
CPU_PIECE = 2048

Result = tuple[Tensor, Tensor, Tensor | None]


def highest_iou(boxes: Tensor, anchors: Tensor, levels: list[int], find_best: bool) -> Result:
    """Return each anchor's highest IoU, and which anchors are the best of some box.

    Args:
        boxes: (N, M, 4) XYXY pixels, M > 0; boxes without area overlap nothing. Rotated boxes
            (N, M, 5) work too, if the anchors are rotated.
        anchors: (R, 4), the same for all images, or (N, R, 4); R > 0.
        levels: numbers of anchors, R in all, of runs that lie close together.
        find_best: the third result is asked for.

    Returns:
        quality: (N, R) highest IoU with any box; 0 where nothing overlaps.
        matched: (N, R) int64 in 0..M-1, the first box of that IoU.
        is_best: (N, R) bool: the anchor overlaps some box, and no other anchor does so more; all
            that tie. None where it is not asked for.
    """
    pairs = boxes.shape[0] * boxes.shape[1] * anchors.shape[-2]
    rotated = boxes.shape[-1] != 4
    if boxes.device.type != "cpu" or rotated or pairs <= SMALL_PAIRS:
        return highest_iou_plain(boxes, anchors, find_best)
    each = anchors.expand(len(boxes), *anchors.shape[-2:])
    found = [_by_near_boxes(*pair, levels, find_best) for pair in zip(boxes, each, strict=True)]
    quality, matched, is_best = zip(*found, strict=True)
    return (
        torch.stack(quality),
        torch.stack(matched),
        torch.stack(is_best) if find_best else None,  # type: ignore[arg-type]
    )


def highest_iou_plain(boxes: Tensor, anchors: Tensor, find_best: bool) -> Result:
    """Return the same from the IoUs of all pairs, in as few pieces as memory allows."""
    size = max(1, PIECE_PAIRS // (boxes.shape[0] * boxes.shape[1]))
    pieces = anchors.split(size, dim=-2)
    quality, matched, best = [], [], []
    for piece in pieces:
        iou = _iou(boxes, piece)  # (N, M, C)
        highest, row = iou.max(dim=1)
        quality.append(highest)
        matched.append(row)
        best.append(iou.amax(dim=2) if find_best else None)
    is_best = None
    if find_best:
        of_box = torch.stack(best).amax(dim=0)[..., None]  # type: ignore[arg-type]  # (N, M, 1)
        of_box = of_box.where(of_box > 0, 2.0)  # no anchor is the best of a box without overlap
        ties = []
        for piece in pieces:
            if len(pieces) > 1:  # one piece is still there
                iou = _iou(boxes, piece)
            ties.append((iou == of_box).any(dim=1))
        is_best = torch.cat(ties, dim=1)
    return torch.cat(quality, dim=1), torch.cat(matched, dim=1), is_best


def _iou(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return the IoUs (.., M, R) of boxes (.., M, 4) and anchors (.., R, 4); 0 without overlap."""
    if boxes.shape[-1] == 5:
        each = anchors.expand(len(boxes), *anchors.shape[-2:])
        return torch.stack([pairwise_iou_rotated(*pair) for pair in zip(boxes, each, strict=True)])
    x1, y1, x2, y2 = boxes[..., None, :].unbind(-1)  # (.., M, 1)
    u1, v1, u2, v2 = anchors[..., None, :, :].unbind(-1)  # (.., 1, R)
    shared = (torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp_(min=0)
    shared *= (torch.minimum(y2, v2) - torch.maximum(y1, v1)).clamp_(min=0)
    union = ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1)).sub_(shared)
    return shared.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))


def _by_near_boxes(boxes: Tensor, anchors: Tensor, levels: list[int], find_best: bool) -> Result:
    """Return the results (R,) of one image; only boxes near a piece's anchors are compared."""
    pieces = _pieces(levels)
    near = _boxes_near(boxes, anchors, pieces)
    quality = anchors.new_zeros(len(anchors))
    matched = torch.zeros(len(anchors), dtype=torch.int64)
    best = anchors.new_zeros(len(pieces), len(boxes))  # of each box in each piece
    for i, (piece, index) in enumerate(zip(pieces, near, strict=True)):
        if len(index) > 0:
            iou = _iou(boxes[index], anchors[piece])  # (m, C)
            quality[piece], row = iou.max(dim=0)
            matched[piece] = index[row]
            if find_best:
                best[i, index] = iou.amax(dim=1)
    # anchors without overlap have met no box or only some: the first, as for all others
    matched = matched.where(quality > 0, 0)
    return quality, matched, _best_anchors(boxes, anchors, pieces, best) if find_best else None


def _best_anchors(boxes: Tensor, anchors: Tensor, pieces: list[slice], best: Tensor) -> Tensor:
    """Return which anchors (R,) reach the highest IoU of a box, if they overlap it."""
    highest = best.amax(dim=0)  # (M,)
    holds = (best == highest) & (highest > 0)  # (pieces, M): the best anchor is in the piece
    result = torch.zeros(len(anchors), dtype=torch.bool)
    for piece, rows in zip(pieces, holds, strict=True):
        index = rows.nonzero().squeeze(1)
        if len(index) > 0:
            iou = _iou(boxes[index], anchors[piece])
            result[piece] = (iou == highest[index, None]).any(dim=0)
    return result


def _pieces(levels: list[int]) -> list[slice]:
    """Cut the anchors into runs that stay within a level."""
    pieces, start = [], 0
    for length in levels:
        for first in range(start, start + length, CPU_PIECE):
            pieces.append(slice(first, min(first + CPU_PIECE, start + length)))
        start += length
    return pieces


def _boxes_near(boxes: Tensor, anchors: Tensor, pieces: list[slice]) -> list[Tensor]:
    """Return for each piece the boxes that its anchors' common bounding box meets."""
    lower = torch.stack([anchors[piece, :2].amin(dim=0) for piece in pieces])[:, None]  # (c, 1, 2)
    upper = torch.stack([anchors[piece, 2:].amax(dim=0) for piece in pieces])[:, None]
    meets = ((boxes[:, :2] < upper) & (boxes[:, 2:] > lower)).all(dim=2)  # (c, M)
    return [rows.nonzero().squeeze(1) for rows in meets]
