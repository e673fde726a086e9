"""A detection's way back to its anchor, and what it turned out to be."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lucidet.explain.frames import overlaps
from lucidet.explain.matching import GroundTruth, Match
from lucidet.explain.record import DetectionRecord, Explanation, Stage
from lucidet.explain.view import View

__all__ = ["origin_of", "verdicts"]

#: below it a detection overlaps nothing (TIDE's, Bolya et al. 2020, arXiv 2008.08115)
BACKGROUND_IOU = 0.1


def verdicts(
    truth: GroundTruth, boxes: Tensor, labels: Tensor, match: Match, iou: float
) -> list[tuple[str, int | None, float]]:
    """Return for each detection its verdict, the ground-truth box it is about, and their IoU.

    After TIDE (Bolya et al. 2020, arXiv 2008.08115), with COCO's matching: matched; else ignored;
    else the highest IoU with a box of its class, or of any, decides. A detection that overlaps a
    box of another class by less than `iou` is `background`.

    Args:
        truth: M annotations.
        boxes: (D, 4) pixels of the file.
        labels: (D,) classes of the dataset.
        match: of these detections.
        iou: from which a detection counts.
    """
    real = ~truth.crowd
    fit = overlaps(boxes, torch.from_numpy(truth.boxes).float()).numpy()  # (D, M)
    fit = np.where(real, fit, -1.0)
    found: list[tuple[str, int | None, float]] = []
    for d, label in enumerate(labels.tolist()):
        partner = int(match.object[d])
        if partner >= 0:
            found.append(("true_positive", partner, float(fit[d, partner])))
            continue
        same = np.where(truth.labels == label, fit[d], -1.0)
        best_same = int(same.argmax()) if len(same) else -1
        best = int(fit[d].argmax()) if len(same) else -1
        if match.ignored[d]:
            found.append(("ignored", best if best >= 0 and fit[d, best] >= iou else None, 0.0))
        elif best_same >= 0 and same[best_same] >= iou:
            found.append(("duplicate", best_same, float(same[best_same])))
        elif best >= 0 and fit[d, best] >= iou:
            found.append(("wrong_class", best, float(fit[d, best])))
        elif best_same >= 0 and same[best_same] >= BACKGROUND_IOU:
            found.append(("poor_localization", best_same, float(same[best_same])))
        elif best >= 0 and fit[d, best] >= BACKGROUND_IOU:
            found.append(("background", best, float(fit[d, best])))
        else:
            found.append(("background", None, 0.0))
    return found


def origin_of(detection: DetectionRecord, view: View, record: Explanation) -> list[Stage]:
    """Return the stages from a detection back to its anchor."""
    assert detection.candidate is not None
    candidates, index = record.candidates, detection.candidate
    row = candidates.row[index]
    label = candidates.label[index]
    top, top_score = candidates.top_label[index], candidates.top_score[index]
    text = f"{record.own_class_name(label)} {candidates.score[index]:.2f}"
    if top != label:
        text += f"; {record.own_class_name(top)} scores {top_score:.2f}"
    box = candidates.box[index]
    text += _moved(box, _source(row, view))
    drawn = [_boxed(box, "detection", f"{candidates.score[index]:.2f}")]
    stages = [Stage("classes", "Score and box", text + ".", False, drawn)]
    if view.two_stage:
        stages += _proposal_stages(row, box, view)
    else:
        stages.append(
            Stage("topk", "Top-k of the level", f"Rank {candidates.rank[index] + 1} of its level.")
        )
    anchor = view.anchor_of(row)
    if anchor is not None and view.grid is not None:
        place = view.grid.place(anchor)
        word = "Anchor" if record.settings.assign_iou is not None else "Location"
        text = (
            f"{record.level_name(place['level'])}, column {place['column']}, row {place['row']}, "
            f"shape {place['shape']}"
        )
        drawn = [_boxed(place["box"], "anchor", word.lower())]
        stages.append(Stage("anchors", word, text + ".", False, drawn, place))
    return stages


def _source(row: int, view: View) -> Tensor | None:
    """Return the box that the last regression moved: a ROI, or the anchor."""
    if view.two_stage:
        return view.roi_boxes[-1][row]
    return None if view.grid is None else view.grid.boxes[row]


def _moved(box: list[float], source: Tensor | None) -> str:
    """Return how a box was moved, in words."""
    if source is None:
        return ""
    x1, y1, x2, y2 = source.tolist()
    right, down = (box[0] + box[2] - x1 - x2) / 2, (box[1] + box[3] - y1 - y2) / 2
    wider = (box[2] - box[0]) / max(x2 - x1, 1e-6)
    higher = (box[3] - box[1]) / max(y2 - y1, 1e-6)
    return (
        f"; moved by {right:+.1f}, {down:+.1f} pixels, {wider:.2f} times as wide and "
        f"{higher:.2f} times as high as before"
    )


def _proposal_stages(row: int, box: list[float], view: View) -> list[Stage]:
    assert view.proposals is not None
    stages = []
    for stage in reversed(range(len(view.roi_boxes))):
        own = view.roi_boxes[stage][row]
        iou = float(overlaps(torch.tensor([box]), own[None]))
        name = view.roi_names[int(view.roi_levels[stage][row])]
        title = "ROI" if len(view.roi_boxes) == 1 else f"ROI of stage {stage + 1}"
        text = f"Pooled from {name}; the final box overlaps it by {iou:.2f}"
        drawn = [_boxed([round(float(v), 2) for v in own], "proposal", name)]
        numbers: dict[str, Any] = {"level": name, "iou": round(iou, 4)}
        stages.append(Stage("roi", title, text + ".", False, drawn, numbers))
    text = f"Rank {row + 1} of {len(view.proposals)}"
    if view.rpn is not None:
        text += f", objectness {float(view.rpn.proposal_logits[row].sigmoid()):.2f}"
    drawn = [_boxed([round(float(v), 2) for v in view.proposals[row]], "proposal", "proposal")]
    stages.append(Stage("proposals", "Proposal", text + ".", False, drawn, {"rank": row + 1}))
    return stages


def _boxed(box: list[float], role: str, label: str) -> dict[str, Any]:
    return {"box": box, "role": role, "label": label}
