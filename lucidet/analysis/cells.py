"""Examples behind the numbers: cells of the confusion matrix, misses, false positives."""

# D detections, G ground-truth boxes

from __future__ import annotations

from typing import Any

import numpy as np

from lucidet.analysis.judged import Judged

__all__ = ["confusion_cells", "false_positives", "worst_misses"]

#: examples of a cell that are listed; its count is of all
EXAMPLES = 24


def confusion_cells(judged: Judged) -> list[dict[str, Any]]:
    """Return the cells of the confusion matrix that are not 0, with their examples.

    Returns:
        ``row`` and ``column`` (classes as positions; the last is background), ``count``, and up to
        `EXAMPLES` ``examples`` (:func:`_example`): those of the highest score, missed boxes from
        the largest down.
    """
    background = len(judged.classes)
    detection, box = judged.pairs.T
    row = np.where(box < 0, background, judged.truth.category[box] if len(judged.objects) else 0)
    column = np.full(len(detection), background)
    column[detection >= 0] = judged.rows[detection[detection >= 0], 6]
    weight = np.zeros(len(detection))
    weight[detection >= 0] = judged.rows[detection[detection >= 0], 5]
    weight[detection < 0] = judged.truth.area[box[detection < 0]]
    order = np.lexsort((-weight, column, row))
    keys = row[order] * (background + 1) + column[order]
    found, starts = np.unique(keys, return_index=True)
    cells = []
    for key, own in zip(found.tolist(), np.split(order, starts[1:]), strict=False):
        examples = [_example(judged, *judged.pairs[i].tolist()) for i in own[:EXAMPLES]]
        place = {"row": key // (background + 1), "column": key % (background + 1)}
        cells.append({**place, "count": len(own), "examples": examples})
    return cells


def worst_misses(judged: Judged, count: int) -> list[dict[str, Any]]:
    """Return missed ground-truth boxes, the largest in their image first: the easiest to see."""
    missed = np.flatnonzero(judged.missed)
    images, place = np.unique(judged.truth.image[missed], return_inverse=True)
    sizes = [judged.truth.image_size(i) for i in images.tolist()]
    # 1 pixel where the file does not tell
    pixels = np.array([(h or 1) * (w or 1) for h, w in sizes], float)
    share = judged.truth.area[missed] / pixels[place]
    order = np.argsort(-share, kind="stable")
    return [_example(judged, -1, int(missed[i])) for i in order[:count]]


def false_positives(judged: Judged, count: int) -> list[dict[str, Any]]:
    """Return wrong detections, those of the highest score first."""
    wrong = np.flatnonzero((judged.matches.box < 0) & judged.confident)
    order = wrong[np.argsort(-judged.rows[wrong, 5], kind="stable")]
    chosen = order[:count]
    across = dict(judged.pairs[np.isin(judged.pairs[:, 0], chosen)].tolist())
    return [_example(judged, i, across.get(i, -1)) for i in chosen.tolist()]


def _example(judged: Judged, detection: int, box: int) -> dict[str, Any]:
    """Return an image with a detection, a ground-truth box, or both; -1 stands for none."""
    position = int(judged.rows[detection, 0] if detection >= 0 else judged.truth.image[box])
    example: dict[str, Any] = {
        "image_id": judged.truth.image_ids[position],
        "file_name": judged.files[position],
        "detection": None,
        "ground_truth": None,
    }
    if detection >= 0:
        own = judged.detections[detection]
        example["detection"] = {
            "index": detection,
            "class": judged.classes[int(own[5])],
            "score": round(float(own[4]), 5),
            "box": np.round(own[:4], 2).tolist(),
        }
    if box >= 0:
        mine = judged.objects[box]
        annotation = judged.truth.dataset["annotations"][box]
        example["ground_truth"] = {
            "index": box,
            "id": annotation.get("id"),
            "class": judged.classes[int(mine[4])],
            "box": np.round(mine[:4], 2).tolist(),
        }
    return example
