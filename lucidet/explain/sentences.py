"""Fates and verdicts as sentences with their numbers."""

from __future__ import annotations

from lucidet.explain.fates import Fate
from lucidet.explain.kinds import FATES, VERDICTS
from lucidet.explain.record import DetectionRecord, Explanation, ObjectRecord

__all__ = ["fate_text", "verdict_text"]


def fate_text(found: ObjectRecord, fate: Fate, record: Explanation) -> str:
    """Return the fate of a ground-truth box in one line."""
    candidates, settings = record.candidates, record.settings
    title = FATES[fate.kind]
    if fate.kind == "detected" and found.detection is not None:
        own = record.detections[found.detection]
        return f"{title}: {own.score:.2f}, IoU {own.iou:.2f}"
    if fate.kind == "suppressed" and fate.candidate is not None and fate.by is not None:
        detection, winner = fate.by["detection"], fate.by["candidate"]
        by = f"detection {detection}" if detection is not None else "a candidate"
        return (
            f"{title} by {by} ({candidates.score[winner]:.2f} against "
            f"{candidates.score[fate.candidate]:.2f})"
        )
    if fate.kind == "beyond_limit" and fate.candidate is not None:
        return f"{title}: {candidates.score[fate.candidate]:.2f}, limit {settings.detections}"
    if fate.kind in ("background", "other_class", "below_threshold") and fate.row is not None:
        return _class_text(found, fate, record)
    if fate.kind == "lost_topk" and fate.row is not None:
        return f"{title}: rank {int(fate.row[0]) + 1}, limit {settings.topk}"
    before = found.facts.get("before")
    if fate.kind == "badly_regressed" and found.by is not None:
        detection = found.by["detection"]
        other = record.detections[detection].object
        return f"{title}: what fits it, detection {detection}, is matched with box {other}"
    if fate.kind == "badly_regressed":
        proposal = found.facts.get("proposal")
        before_text = f"proposal IoU {proposal['iou']:.2f}, " if proposal else ""
        return f"{title}: {before_text}best box IoU {found.facts['best_iou']:.2f}"
    if fate.kind == "lost_nms" and fate.by is not None:
        return f"{title}: by a box of objectness {fate.by['score']:.2f}, IoU {fate.by['iou']:.2f}"
    if before is not None and fate.kind == before["fate"]:
        level = record.level_name(before["level"])
        where = {
            "topk": f"rank {before['rank'] + 1} on {level}",
            "beyond": f"behind the best {settings.topk} of the image",
        }.get(before["stage"], level)
        return f"{title}: objectness {before['score']:.2f}, IoU {before['iou']:.2f}, {where}"
    best = found.facts.get("best_anchor_iou")
    if fate.kind == "no_anchor" and best is not None and settings.assign_iou is not None:
        return f"{title}: best IoU {best:.2f}"
    return title


def _class_text(found: ObjectRecord, fate: Fate, record: Explanation) -> str:
    assert fate.row is not None
    top_label, top_score, said = fate.row[2], fate.row[3], fate.row[6]
    text = f"{found.name} {said:.2f}"
    settings = record.settings
    threshold = settings.score_thresh if settings.class_thresh is None else settings.class_thresh
    if fate.kind == "other_class":
        other = record.own_class_name(top_label)
        return f"{FATES[fate.kind]}: {other} {top_score:.2f}, {text}"
    if fate.kind == "background" and record.two_stage:
        return f"{FATES[fate.kind]}: background {top_score:.2f}, {text}"
    return f"{FATES[fate.kind]}: {text}, threshold {threshold:g}"


def verdict_text(detection: DetectionRecord, record: Explanation) -> str:
    """Return the verdict on a detection in one line."""
    title = VERDICTS[detection.verdict]
    if detection.object is None:
        return title
    partner = record.objects[detection.object]
    named = f"box {partner.index} ({partner.name}), IoU {detection.iou:.2f}"
    if detection.verdict == "background":
        return f"background: nearest is {named}"
    if detection.verdict == "duplicate":
        return f"duplicate on {named}"
    return f"{title}: {named}"
