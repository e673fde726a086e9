"""What became of every anchor in the region proposal network of one image."""

# R anchors in all, n of them decoded (the top-k of each level), P proposals

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lucidet.explain.anchors import AnchorGrid
from lucidet.explain.candidates import event_of
from lucidet.explain.frames import overlaps
from lucidet.inspection.event import Event, whole
from lucidet.inspection.trace import Trace
from lucidet.layers import batched_nms
from lucidet.modeling.proposal_generator.rpn import RPN
from lucidet.structures import Boxes, clip_padded

__all__ = ["ProposalStage", "nearest_rows"]

#: pixels, and units of a score: boxes and scores that differ less are the same
_ROUNDING = 0.05

#: how far an anchor came, in the order of the stages
TOPK, SCORE, CLIPPED, SMALL, NMS, BEYOND, KEPT = range(7)
FATE_OF = {
    TOPK: "lost_topk",
    SCORE: "lost_filter",
    CLIPPED: "lost_clipping",
    SMALL: "lost_filter",
    NMS: "lost_nms",
    BEYOND: "lost_topk",
}


class ProposalStage:
    """Every anchor's box, its logit, and how far it came.

    Attributes:
        boxes: (R, 4) decoded, not clipped; pixels of the resized image.
        clipped: (R, 4).
        logits: (R,).
        reached: (R,) one of TOPK .. KEPT, at which it was lost, or KEPT.
        anchor_of: (P,) the anchor of each proposal.
        proposals: (P, 4), highest logit first; `proposal_logits` (P,).
    """

    def __init__(self, rpn: RPN, trace: Trace, grid: AnchorGrid, image: int = 0) -> None:
        self.grid, self.rpn = grid, rpn
        size = tuple(trace["input.batch"]["image_sizes"][image])
        head = event_of(trace, "rpn.head", image)
        logits = [whole(level)[image : image + 1].float() for level in head["logits"]]
        deltas = [whole(level)[image : image + 1].float() for level in head["deltas"]]
        decoded = rpn._decode_proposals([Boxes(level) for level in grid.levels], deltas)
        self.boxes = torch.cat(decoded, dim=1)[0]
        self.logits = torch.cat(logits, dim=1)[0]
        finite = self.boxes.isfinite().all(dim=1) & self.logits.isfinite()
        self.clipped = clip_padded(self.boxes.where(finite[:, None], 0.0)[None], [size])[0]
        self.reached = torch.full((len(self.logits),), TOPK)
        self.picked = self._picked(logits, rpn.pre_nms_topk[False])
        self._follow(finite, rpn, trace, image)

    def _picked(self, logits: list[Tensor], count: int) -> Tensor:
        """Return the anchors (n,) in the order in which the RPN decodes them."""
        found = []
        for start, level in zip(self.grid.start, logits, strict=False):
            index = level.topk(min(count, level.shape[1]), dim=1)[1][0]
            found.append(index + start)
        return torch.cat(found)

    def _follow(self, finite: Tensor, rpn: RPN, trace: Trace, image: int) -> None:
        picked = self.picked
        boxes, logits, levels = self.clipped[picked], self.logits[picked], self.grid.level[picked]
        passed = finite[picked]
        if rpn.score_thresh > 0:
            passed = passed & (logits.sigmoid() >= rpn.score_thresh)
        sides = boxes[:, 2:] - boxes[:, :2]
        large = (sides > rpn.min_box_size).all(dim=1)
        lost = torch.full_like(picked, NMS)
        lost[~large] = SMALL
        lost[(sides <= 0).any(dim=1)] = CLIPPED
        lost[~passed] = SCORE
        valid = (passed & large).nonzero()[:, 0]
        ranked = logits.sigmoid() if rpn.rank_probabilities else logits
        order = valid[
            batched_nms(boxes[valid], ranked[valid], levels[valid], rpn.nms_thresh)
        ]  # best first
        kept = order[: rpn.post_nms_topk[False]]
        lost[order] = BEYOND
        lost[kept] = KEPT
        self.reached[picked] = lost
        self.survivors = picked[order]  # of NMS, best first
        self.anchor_of = picked[kept]
        self.proposals, self.proposal_logits = boxes[kept], logits[kept]
        self._align(event_of(trace, "rpn.proposals", image))

    def _align(self, event: Event) -> None:
        """Take the proposals that the detector used, where ties and rounding chose others.

        Raises:
            ValueError: they are not among the decoded boxes.
        """
        boxes, logits = whole(event["boxes"]).float(), whole(event["logits"]).float()
        if boxes.shape == self.proposals.shape and torch.allclose(boxes, self.proposals):
            return
        place = nearest_rows(boxes, logits, self.clipped[self.picked], self.logits[self.picked])
        if place is None:
            raise ValueError(
                "the proposals that follow from the RPN's scores are not those that the detector "
                "used: a subclass replaces predict_proposals; it can't be explained"
            )
        self.reached[self.anchor_of] = NMS
        self.anchor_of = self.picked[place]
        self.reached[self.anchor_of] = KEPT
        self.proposals, self.proposal_logits = boxes, logits

    def suppressor(self, anchor: int) -> dict[str, Any] | None:
        """Return the box that suppressed an anchor's: its anchor, box, logit, and their IoU."""
        level = self.grid.level[anchor]
        others = self.survivors[self.grid.level[self.survivors] == level]
        others = others[self.logits[others] >= self.logits[anchor]]
        if not len(others):
            return None
        iou = overlaps(self.clipped[anchor][None], self.clipped[others])[0]
        above = (iou > self.rpn.nms_thresh).nonzero()[:, 0]
        first = int(above[0]) if len(above) else int(iou.argmax())
        winner = int(others[first])
        return {
            "anchor": winner,
            "box": _rounded(self.clipped[winner]),
            "score": round(float(self.logits[winner].sigmoid()), 4),
            "iou": round(float(iou[first]), 4),
        }

    def lost_before(self, truth: Tensor, iou: float) -> dict[str, Any] | None:
        """Return where the boxes on a ground-truth box were lost, None where none was on it.

        Of all decoded boxes with at least `iou` the one counts that came furthest, of several the
        one with the highest logit.

        Args:
            truth: (4,) pixels of the resized image.
            iou: the least, clipped or not.
        """
        clipped = overlaps(self.clipped, truth[None])[:, 0]
        plain = overlaps(self.boxes.nan_to_num(0.0, 0.0, 0.0), truth[None])[:, 0]
        on_it = (torch.maximum(clipped, plain) >= iou) & (self.reached < KEPT)
        reached = self.reached.clone()
        reached[(clipped < iou) & (self.reached > CLIPPED)] = CLIPPED
        # what was kept, but overlaps too little once it is clipped
        on_it |= (plain >= iou) & (clipped < iou) & (self.reached == KEPT)
        anchors = on_it.nonzero()[:, 0]
        if not len(anchors):
            return None
        furthest = anchors[reached[anchors] == reached[anchors].max()]
        best = int(furthest[self.logits[furthest].argmax()])
        stage = int(reached[best])
        level = int(self.grid.level[best])
        own = self.logits[self.grid.start[level] : self.grid.start[level + 1]]
        return {
            "fate": FATE_OF[stage],
            "stage": ("topk", "score", "clipping", "size", "nms", "beyond")[stage],
            "anchor": best,
            "level": level,
            "box": _rounded(self.clipped[best] if stage != CLIPPED else self.boxes[best]),
            "iou": round(float(plain[best] if stage == CLIPPED else clipped[best]), 4),
            "score": round(float(self.logits[best].sigmoid()), 4),
            "rank": int((own > self.logits[best]).sum()),
            "by": self.suppressor(best) if stage == NMS else None,
            "boxes_on_it": len(anchors),
        }


def nearest_rows(
    boxes: Tensor, scores: Tensor, others: Tensor, other_scores: Tensor
) -> Tensor | None:
    """Return for each box the row of `others` that is the same but for rounding; None: one is not.

    Args:
        boxes: (n, 4); `scores` (n,).
        others: (m, 4); `other_scores` (m,).
    """
    if not len(boxes):
        return torch.zeros(0, dtype=torch.int64)
    if not len(others):
        return None
    found = []
    for box, score in zip(boxes, scores, strict=True):
        gap = (others - box).abs().amax(dim=1) + (other_scores - score).abs()
        found.append(gap.min(dim=0))
    gaps, rows = (torch.stack(column) for column in zip(*found, strict=True))
    return rows if bool((gaps < _ROUNDING).all()) else None


def _rounded(box: Tensor) -> list[float]:
    return [round(float(v), 2) for v in box]
