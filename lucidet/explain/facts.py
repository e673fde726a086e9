"""What the fate of a ground-truth box follows from; `lucidet.explain.fates` says how."""

# M ground-truth boxes

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lucidet.explain.anchors import Coverage
from lucidet.explain.frames import overlaps
from lucidet.explain.matching import GroundTruth
from lucidet.explain.recompute import own_labels
from lucidet.explain.record import Explanation
from lucidet.explain.view import View

__all__ = ["add_facts"]


def add_facts(
    view: View, record: Explanation, truth: GroundTruth, few: Sequence[int] | None
) -> dict[int, Coverage]:
    """Set `facts` of the ground-truth boxes, and return how the anchors fit them.

    Args:
        view: of the image.
        record: with its objects.
        truth: M annotations.
        few: boxes whose facts are needed; for these the anchors are looked at only where the fate
            depends on them. None: everything of all boxes.
    """
    boxes = torch.from_numpy(truth.boxes).float()  # (M, 4)
    resized = view.frame.to_resized(boxes)
    chosen = range(len(truth)) if few is None else few
    for i in chosen:
        record.objects[i].facts = _facts(view, record, boxes[i], resized[i], int(truth.labels[i]))
    asked = [i for i in chosen if few is None or _asks_anchors(view, record.objects[i].facts)]
    if not asked or view.grid is None:
        return {}
    covers = dict(zip(asked, view.coverage(resized[asked]), strict=True))
    for i, cover in covers.items():
        record.objects[i].facts |= {
            "positives": cover.positives,
            "best_anchor_iou": round(cover.best_iou, 4),
            "best_anchor": cover.best,
        }
    return covers


def _asks_anchors(view: View, facts: dict[str, Any]) -> bool:
    """Return whether the last steps of the rule can be reached."""
    if not view.two_stage:
        return True
    return not facts["rows"] and facts["proposal"] is None and facts["before"] is None


def _facts(
    view: View, record: Explanation, box: Tensor, resized: Tensor, label: int
) -> dict[str, Any]:
    iou = view.settings.match_iou
    own = own_labels(label, record.class_map)
    of_model = own[0] if own and own[0] < record.num_classes else None
    rows = view.pool.rows_on(box, of_model, view.frame, iou)
    proposal = _proposal(view, resized, iou)
    before = None
    if view.rpn is not None and proposal is None and not rows:
        before = view.rpn.lost_before(resized, iou)
    return {
        "positives": 0,
        "best_anchor_iou": None,
        "best_anchor": None,
        "rows": [row.as_list() for row in rows],
        "proposal": proposal,
        "before": before,
        "best_iou": _best_iou(view, box, of_model),
    }


def _proposal(view: View, truth: Tensor, iou: float) -> dict[str, Any] | None:
    """Return the proposals that fit: the lowest rank, the best IoU, and its row."""
    if view.proposals is None or not len(view.proposals):
        return None
    fit = view.proposal_overlaps(truth)
    fitting = (fit >= iou).nonzero()[:, 0]
    if not len(fitting):
        return None
    best = int(fit.argmax())
    return {"rank": int(fitting[0]), "iou": round(float(fit[best]), 4), "row": best}


def _best_iou(view: View, truth: Tensor, label: int | None) -> float:
    """Return the highest IoU of any predicted box with a ground-truth box."""
    boxes = view.pool.of_class(label or 0)
    if not len(boxes):
        return 0.0
    return round(float(overlaps(view.frame.to_file(boxes), truth[None]).max()), 4)
