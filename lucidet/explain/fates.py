"""From facts to the fate of a ground-truth box: one rule, at the run's settings or at others.

The page's script follows the same rule (`fateOf`), on the same facts.

A box is followed from the end to the beginning, and lost where the furthest came that fitted it (an
IoU of at least `match_iou`, detections of other ground-truth boxes aside):

1. `detected`: COCO's matching gave it a detection.
2. `beyond_limit`: a candidate of its class stayed in the final NMS, after the last that is allowed.
3. `suppressed`: a candidate of its class passed the threshold, and a better one suppressed it.
4. `lost_filter`: a candidate of its class passed the threshold, but is too small.
5. Dense detectors, `lost_topk`: a location scored enough, but others of its level more.
6. `other_class`, `background`, `below_threshold`: rows (proposals, locations) predicted its box,
   but scored too little for its class. By the best of them: background scored highest; another
   class did, and passed the threshold; or neither.
7. Two-stage, `lost_topk`: such rows are there, but beyond the top-k of proposals.
8. Two-stage, `badly_regressed`: a proposal fitted it, the box after it did not.
9. Two-stage, the RPN's `lost_topk`, `lost_nms`, `lost_filter`, `lost_clipping`.
10. `badly_regressed`: anchors could have covered it, but none of their boxes fitted it.
11. `no_anchor`: none could: the detector's assigner gives it no anchor; where it assigns by IoU:
    the highest IoU is below `assign_iou`, so that its anchors are background.

Facts::

    {"positives": 3, "best_anchor_iou": 0.71 | null,         # null: no anchors
     "rows": [[rank, score, top_label, top_score, iou, row, said], ...],  # best of its class first
     "proposal": {"rank": lowest, "iou": best, "box": ...} | null,   # two-stage
     "before": {"fate": ..., "by": ..., ...} | null,          # two-stage: step 9
     "best_iou": 0.41, "best_stage": "..."}                   # for badly_regressed
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lucidet.explain.record import ObjectRecord, Settings

__all__ = ["Fate", "Outcome", "fate_of"]


@dataclass(frozen=True)
class Fate:
    """A fate and what it was due to.

    Attributes:
        kind: key of `FATES`.
        candidate: index of the candidate that came furthest, or None.
        row: the row of the facts that decided, or None.
        by: what took its place, see :class:`ObjectRecord`.
    """

    kind: str
    candidate: int | None = None
    row: list[Any] | None = None
    by: dict[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of the candidates at some settings, and how the detections were matched.

    Attributes:
        final: candidate of each detection.
        beyond: candidates that stayed in the final NMS, after the last that is allowed.
        suppressed: candidate -> candidate that suppressed it; of each missed ground-truth box the
            best candidate that fits it.
        too_small: candidates that the size filter dropped.
        detection: of each ground-truth box, -1: none.
        taken: rows and labels of the detections that were matched: ``{(row, label)}``.
        fits: of each ground-truth box the candidates of its class that fit it, best first.
    """

    final: list[int]
    beyond: list[int]
    suppressed: dict[int, int]
    too_small: list[int]
    detection: list[int]
    taken: set[tuple[int, int]]
    fits: list[list[int]]


def fate_of(
    found: ObjectRecord,
    outcome: Outcome,
    settings: Settings,
    own_labels: list[int],
    *,
    two_stage: bool,
    num_classes: int,
) -> Fate:
    """Return the fate of a ground-truth box by the rule of this module.

    Args:
        found: with its facts.
        outcome: at `settings`.
        settings: of the run, or others.
        own_labels: classes of the model that stand for the box's.
        two_stage: proposals come before the classes.
        num_classes: K of the model.
    """
    if found.crowd:
        return Fate("ignored")
    if outcome.detection[found.index] >= 0:
        return Fate("detected", candidate=outcome.final[outcome.detection[found.index]])
    lost = _among_candidates(found, outcome)
    if lost is not None:
        return lost
    facts = found.facts
    rows = [
        row
        for row in facts["rows"]
        if not any((row[5], label) in outcome.taken for label in own_labels)
    ]
    allowed = [row for row in rows if row[0] < settings.topk]
    if not two_stage:
        crowded_out = [r for r in rows if r[0] >= settings.topk and r[1] > settings.score_thresh]
        if crowded_out:
            return Fate("lost_topk", row=crowded_out[0])
        allowed = rows
    if allowed:
        return Fate(_classified(allowed[0], settings, num_classes, own_labels), row=allowed[0])
    if rows:
        return Fate("lost_topk", row=rows[0])
    proposal = facts.get("proposal")
    if proposal is not None:
        return Fate("badly_regressed" if proposal["rank"] < settings.topk else "lost_topk")
    if facts.get("before") is not None:
        return Fate(facts["before"]["fate"], by=facts["before"].get("by"))
    return Fate("badly_regressed" if _covered(facts, settings) else "no_anchor")


def _among_candidates(found: ObjectRecord, outcome: Outcome) -> Fate | None:
    """Return the fate among those that passed the threshold, steps 2 to 4."""
    fits = outcome.fits[found.index]
    for candidate in fits:
        if candidate in outcome.beyond:
            return Fate("beyond_limit", candidate=candidate)
    for candidate in fits:
        if candidate in outcome.suppressed:
            winner = outcome.suppressed[candidate]
            detection = outcome.final.index(winner) if winner in outcome.final else None
            by = {"detection": detection, "candidate": winner}
            return Fate("suppressed", candidate=candidate, by=by)
    for candidate in fits:
        if candidate in outcome.too_small:
            return Fate("lost_filter", candidate=candidate)
    return None


def _classified(row: list[Any], settings: Settings, num_classes: int, own_labels: list[int]) -> str:
    """Return what the best row took a ground-truth box for, step 6."""
    top_label, top_score = row[2], row[3]
    if top_label >= num_classes:
        return "background"
    if top_label not in own_labels and top_score > settings.score_thresh:
        return "other_class"
    return "below_threshold"


def _covered(facts: dict[str, Any], settings: Settings) -> bool:
    if settings.assign_iou is None or facts["best_anchor_iou"] is None:
        return bool(facts["positives"])
    return bool(facts["best_anchor_iou"] >= settings.assign_iou)
