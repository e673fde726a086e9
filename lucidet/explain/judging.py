"""Detections with their verdicts, and the fates of ground-truth boxes, put into a record."""

from __future__ import annotations

from typing import Any

import torch

from lucidet.explain.fates import Fate, Outcome
from lucidet.explain.frames import overlaps
from lucidet.explain.matching import GroundTruth, Match
from lucidet.explain.origins import verdicts
from lucidet.explain.recompute import Kept, detections_at, fates_from, outcome_at
from lucidet.explain.record import DetectionRecord, Explanation, ObjectRecord
from lucidet.explain.sentences import fate_text, verdict_text

__all__ = ["add_detections", "add_fates"]


def add_detections(
    record: Explanation, truth: GroundTruth, kept: Kept | None = None
) -> tuple[Outcome, Match]:
    """Add the detections of the record's settings, matched and judged.

    Args:
        record: with candidates and objects.
        truth: of the image.
        kept: the detections, where they are known already.

    Returns:
        What became of the candidates, and the matching.
    """
    kept = kept or detections_at(record, record.settings)
    outcome, match = outcome_at(record, record.settings, kept, truth)
    found = verdicts(truth, kept.boxes, kept.labels, match, record.settings.match_iou)
    boxes, scores, labels = kept.boxes.tolist(), kept.scores.tolist(), kept.labels.tolist()
    for d, (verdict, partner, iou) in enumerate(found):
        detection = DetectionRecord(
            index=d,
            box=[round(v, 3) for v in boxes[d]],
            score=round(scores[d], 6),
            label=labels[d],
            name=record.class_name(labels[d]),
            verdict=verdict,
            object=partner,
            iou=round(iou, 4),
            candidate=kept.candidate[d],
        )
        detection.text = verdict_text(detection, record)
        record.detections.append(detection)
    return outcome, match


def _matched_elsewhere(found: ObjectRecord, record: Explanation) -> dict[str, Any] | None:
    """Return the detection that fits a ground-truth box, but was matched with another one."""
    others = [d for d in record.detections if d.verdict == "true_positive"]
    others = [d for d in others if d.label == found.label]
    if not others:
        return None
    iou = overlaps(torch.tensor([found.box]), torch.tensor([d.box for d in others]))[0]
    best = int(iou.argmax())
    if iou[best] < record.settings.match_iou:
        return None
    return {"detection": others[best].index, "candidate": others[best].candidate}


def add_fates(record: Explanation, outcome: Outcome, match: Match) -> list[Fate]:
    """Set the fate of each ground-truth box, which has its facts, and return them."""
    fates = fates_from(record, record.settings, outcome)
    for found, fate in zip(record.objects, fates, strict=True):
        partner = int(match.detection[found.index])
        found.fate, found.by = fate.kind, fate.by
        if fate.kind == "badly_regressed":
            found.by = _matched_elsewhere(found, record)
        found.detection = partner if partner >= 0 else None
        found.text = fate_text(found, fate, record)
    return fates
