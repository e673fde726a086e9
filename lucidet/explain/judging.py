"""Detections with their verdicts, and the fates of ground-truth boxes, put into a record."""

from __future__ import annotations

from lucidet.explain.fates import Fate, Outcome
from lucidet.explain.matching import GroundTruth, Match
from lucidet.explain.origins import verdicts
from lucidet.explain.recompute import Kept, detections_at, fates_from, outcome_at
from lucidet.explain.record import DetectionRecord, Explanation
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


def add_fates(record: Explanation, outcome: Outcome, match: Match) -> list[Fate]:
    """Set the fate of each ground-truth box, which has its facts, and return them."""
    fates = fates_from(record, record.settings, outcome)
    for found, fate in zip(record.objects, fates, strict=True):
        partner = int(match.detection[found.index])
        found.fate, found.by = fate.kind, fate.by
        found.detection = partner if partner >= 0 else None
        found.text = fate_text(found, fate, record)
    return fates
