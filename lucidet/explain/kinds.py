"""The fates of a ground-truth box and the verdicts on a detection: names, titles, colors' keys."""

from __future__ import annotations

__all__ = ["FATES", "IGNORED", "LOST", "VERDICTS"]

#: fate -> title; every ground-truth box has exactly one, in the order of the stages
FATES: dict[str, str] = {
    "detected": "detected",
    "no_anchor": "no anchor or location could cover it",
    "lost_topk": "lost at top-k",
    "lost_clipping": "lost by clipping",
    "lost_filter": "lost at the size or score filter",
    "lost_nms": "lost at NMS of the proposals",
    "badly_regressed": "proposed, but badly regressed",
    "background": "classified as background",
    "other_class": "classified as another class",
    "below_threshold": "below the score threshold",
    "suppressed": "suppressed in the final NMS",
    "beyond_limit": "beyond the limit of detections",
    "ignored": "ignored: a crowd region",
}

IGNORED = "ignored"

#: the fates of a missed box
LOST = tuple(fate for fate in FATES if fate not in ("detected", IGNORED))

#: verdict -> title; every detection has exactly one
VERDICTS: dict[str, str] = {
    "true_positive": "true positive",
    "duplicate": "duplicate: the ground-truth box has a better detection",
    "wrong_class": "wrong class",
    "poor_localization": "poor localization",
    "background": "background: no ground-truth box there",
    "ignored": "ignored: on a crowd region, or beyond the evaluation's limit",
}
