"""Two evaluations on the same dataset: what became better and worse, and which boxes."""

# G ground-truth boxes, D detections

from __future__ import annotations

from typing import Any

import numpy as np

from lucidet.analysis.judged import Judged

__all__ = ["BOOTSTRAP", "FORMAT", "comparison"]

#: raised when the meaning of a field changes
FORMAT = 1
#: random samples of the images, for the intervals
BOOTSTRAP = 200
#: boxes of each list
EXAMPLES = 48


def comparison(
    a: Judged, b: Judged, names: tuple[str, str], bootstrap: int = BOOTSTRAP
) -> dict[str, Any]:
    """Return the comparison as plain data; numbers that are undefined are NaN.

    A ground-truth box is won where only B finds it, and lost where only A does: with IoU 0.5 and a
    score of at least the run's own threshold, the mean over the classes of the best F1's.

    Args:
        a: results of the first run, the baseline.
        b: of the second, on the same dataset.
        names: of the runs.
        bootstrap: random samples of the images behind each interval; 0: no intervals.

    Raises:
        ValueError: the datasets are not the same.
    """
    import hotcoco

    _require_same(a, b)
    found = hotcoco.compare(a.curves.judge, b.curves.judge, n_bootstrap=bootstrap, seed=42)
    won = np.flatnonzero(a.missed & ~b.missed & ~a.truth.crowd)
    lost = np.flatnonzero(b.missed & ~a.missed & ~a.truth.crowd)
    return {
        "format": FORMAT,
        "dataset": a.name,
        "images": len(a.truth.image_ids),
        "names": list(names),
        "thresholds": [a.threshold, b.threshold],
        "bootstrap": bootstrap,
        "metrics": _metrics(found),
        "classes": _classes(a, b, won, lost),
        "won": {"count": len(won), "examples": _examples(a, b, won)},
        "lost": {"count": len(lost), "examples": _examples(a, b, lost)},
        "wrong": [_wrong(a), _wrong(b)],
    }


def _require_same(a: Judged, b: Judged) -> None:
    same = a.truth is b.truth or (
        a.truth.image_ids == b.truth.image_ids
        and a.classes == b.classes
        and np.array_equal(a.truth.boxes, b.truth.boxes)
    )
    if not same:
        raise ValueError(
            f"{a.name} and {b.name} are not the same dataset: {len(a.truth.image_ids)} and "
            f"{len(b.truth.image_ids)} images, {len(a.truth.boxes)} and {len(b.truth.boxes)} "
            "boxes; evaluate both on one dataset, with --data SPEC"
        )


def _metrics(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return COCO's numbers in percent, with the interval that holds 95 % of the samples."""
    intervals = found["ci"] or {}
    rows = []
    for name in found["metric_keys"]:
        interval = intervals.get(name)
        first, second = (_percent(found[key][name]) for key in ("metrics_a", "metrics_b"))
        rows.append(
            {
                "name": name,
                "a": first,
                "b": second,
                "difference": second - first,
                "low": 100.0 * interval["lower"] if interval else float("nan"),
                "high": 100.0 * interval["upper"] if interval else float("nan"),
                "share_better": interval["prob_positive"] if interval else float("nan"),
            }
        )
    return rows


def _classes(a: Judged, b: Judged, won: np.ndarray, lost: np.ndarray) -> list[dict[str, Any]]:
    count = len(a.classes)
    category = a.truth.category
    boxes, gained, gone = (
        np.bincount(category[chosen], minlength=count) for chosen in (~a.truth.crowd, won, lost)
    )
    return [
        {
            "name": name,
            "boxes": int(boxes[k]),
            "a": a.curves.ap(category=k),
            "b": b.curves.ap(category=k),
            "difference": b.curves.ap(category=k) - a.curves.ap(category=k),
            "won": int(gained[k]),
            "lost": int(gone[k]),
        }
        for k, name in enumerate(a.classes)
    ]


def _examples(a: Judged, b: Judged, boxes: np.ndarray) -> list[dict[str, Any]]:
    """Return boxes, the largest first, with the score of the detection that each run has there."""
    order = boxes[np.argsort(-a.truth.area[boxes], kind="stable")][:EXAMPLES]
    examples = []
    for box in order.tolist():
        position = int(a.truth.image[box])
        mine = a.objects[box]
        examples.append(
            {
                "image_id": a.truth.image_ids[position],
                "file_name": a.files[position],
                "ground_truth": {
                    "index": box,
                    "id": a.truth.dataset["annotations"][box].get("id"),
                    "class": a.classes[int(mine[4])],
                    "box": np.round(mine[:4], 2).tolist(),
                },
                "detection": None,
                "scores": [_score(a, box), _score(b, box)],
            }
        )
    return examples


def _score(judged: Judged, box: int) -> float | None:
    """Return the score of the detection that matches a box, whatever the threshold is."""
    detection = judged.matches.detection[box]
    return round(float(judged.rows[detection, 5]), 5) if detection >= 0 else None


def _wrong(judged: Judged) -> int:
    return int((judged.confident & (judged.matches.box < 0)).sum())


def _percent(value: float) -> float:
    return 100.0 * value if value >= 0 else float("nan")
