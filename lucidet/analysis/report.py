"""Everything that the analysis of an evaluation says, as plain data: ``analysis.json``."""

# D detections, G ground-truth boxes, K classes

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from lucidet.analysis.cells import confusion_cells, false_positives, worst_misses
from lucidet.analysis.groups import ap_of_groups, ap_of_sizes, by_count, by_overlap
from lucidet.analysis.judged import Judged
from lucidet.analysis.matching import LIMIT
from lucidet.analysis.tide import tide

__all__ = ["FORMAT", "analysis"]

#: raised when the meaning of a field changes
FORMAT = 1
#: misses and false positives in the galleries
GALLERY = 24


def analysis(judged: Judged) -> dict[str, Any]:
    """Return the analysis as plain data; numbers that are undefined are NaN.

    APs, AP50 and ``delta_AP`` are in percent; scores, precision, recall, F1 and calibration
    errors are 0..1; boxes are XYXY pixels of the image file.
    """
    truth, threshold = judged.truth, judged.threshold
    real = ~truth.crowd
    with ThreadPoolExecutor(1) as pool:  # hotcoco computes without Python's lock
        errors = pool.submit(tide, truth, judged.rows, judged.matches, judged.judge)
        crowding = {"count": by_count(truth), "overlap": by_overlap(truth)}
        cells = confusion_cells(judged)
        groups = ap_of_groups(judged, crowding)
        classes = _classes(judged)
    return {
        "format": FORMAT,
        "dataset": judged.name,
        "images": len(truth.image_ids),
        "ground_truth_boxes": int(real.sum()),
        "crowd_boxes": int(truth.crowd.sum()),
        "detections": len(judged.curves.rows) if judged.curves.rows is not None else 0,
        "detections_counted": len(judged.rows),
        "detections_in_crowds": int(judged.matches.ignored.sum()),
        "metrics": judged.curves.twelve(),
        "f1": _f_scores(judged),
        "threshold": threshold,
        "classes": classes,
        "precision_recall": _precision_recall(judged),
        "confusion": {
            "threshold": threshold,
            "names": [*judged.classes, "background"],
            "matrix": judged.confusion.tolist(),
            "cells": cells,
        },
        "size": ap_of_sizes(judged),
        "crowding": groups,
        "calibration": _calibration(judged),
        "tide": errors.result(),
        "worst_misses": worst_misses(judged, GALLERY),
        "false_positives": false_positives(judged, GALLERY),
        "notes": _notes(judged),
    }


def _classes(judged: Judged) -> list[dict[str, Any]]:
    truth, curves = judged.truth, judged.curves
    count = len(judged.classes)
    boxes = np.bincount(truth.category[~truth.crowd], minlength=count)
    detections = np.bincount(judged.rows[:, 6].astype(np.int64), minlength=count)
    return [
        {
            "id": category["id"],
            "name": name,
            "boxes": int(boxes[k]),
            "detections": int(detections[k]),
            "AP": curves.ap(category=k),
            "AP50": curves.ap(iou=0.5, category=k),
            "AP75": curves.ap(iou=0.75, category=k),
            "APs": curves.ap("small", category=k),
            "APm": curves.ap("medium", category=k),
            "APl": curves.ap("large", category=k),
            "threshold": best.score,
            "F1": best.f1,
            "precision": best.precision,
            "recall": best.recall,
        }
        for k, (name, category, best) in enumerate(
            zip(judged.classes, truth.categories, judged.thresholds, strict=True)
        )
    ]


def _precision_recall(judged: Judged) -> dict[str, Any]:
    """Return the precision at IoU 0.5 at each of 101 recalls; None for a class without boxes."""
    precision = judged.curves.precision[0, :, :, 0, -1]  # (101, K)
    known = np.atleast_1d((precision > -1).all(axis=0))
    rounded = np.round(precision, 5)
    return {
        "recall": np.round(np.linspace(0.0, 1.0, len(precision)), 2).tolist(),
        "classes": [
            rounded[:, k].tolist() if known[k] else None for k in range(len(judged.classes))
        ],
        "mean": rounded[:, known].mean(axis=1).tolist() if known.any() else None,
    }


def _f_scores(judged: Judged) -> dict[str, float]:
    """Return the highest F1 of the classes, averaged over them, as hotcoco computes it."""
    return {name: value for name, value in judged.curves.judge.f_scores().items() if value >= 0}


def _calibration(judged: Judged) -> dict[str, Any]:
    found = judged.judge.calibration(n_bins=10, iou_threshold=0.5)
    kept = ("bin_lower", "bin_upper", "avg_confidence", "avg_accuracy", "count")
    return {
        "expected_error": found["ece"],
        "largest_error": found["mce"],
        "bins": [{key: row[key] for key in kept} for row in found["bins"]],
        "classes": dict(found["per_category"]),
    }


def _notes(judged: Judged) -> list[str]:
    """Return what a reader must know to compare the numbers with those of other tools."""
    notes = [
        f"APs follow COCO's protocol: of each image the best {LIMIT} detections of each class. "
        f"TIDE, confusions, thresholds, calibration and galleries look at the best {LIMIT} of an "
        "image in all, and match at IoU 0.5.",
        "A crowd box is never missed and never matched. A detection that lies in a crowd box of "
        "its class, with half of its own area or more, is neither right nor wrong; TIDE, as "
        "tidecv defines it, still counts its error type and may correct its class or position.",
    ]
    total = 0 if judged.curves.rows is None else len(judged.curves.rows)
    if total > len(judged.rows):
        notes.append(
            f"{total - len(judged.rows):,} detections are beyond the best {LIMIT} of their image."
        )
    boxes = np.bincount(judged.truth.category[~judged.truth.crowd], minlength=len(judged.classes))
    detected = np.unique(judged.rows[:, 6].astype(np.int64))
    empty = [judged.classes[k] for k in detected.tolist() if not boxes[k]]
    if empty:
        notes.append(
            f"Without a ground-truth box, but detected: {', '.join(empty[:10])}. Such classes are "
            "left out of every mean, as in COCO's AP; tidecv counts them with an AP of 0."
        )
    return notes
