"""Generated detections with crowds and more than 100 an image, judged."""

from __future__ import annotations

from functools import cache

import numpy as np

from lucidet.analysis.judged import Judged, judge
from lucidet.evaluation.coco_ap import CocoTruth
from tests.analysis.make_tide_fixture import generate

IMAGES, CLASSES = 8, 4


@cache
def scene() -> tuple[CocoTruth, np.ndarray]:
    """Return annotations and detections (D, 7)."""
    truth, detections = generate(5, IMAGES, CLASSES, 130, crowds=True)
    annotations = [
        {"id": n, "image_id": image, "category_id": kind, "bbox": box, "iscrowd": crowd}
        for n, (image, kind, *box, crowd) in enumerate(truth)
    ]
    content = {
        "images": [{"id": i, "width": 640, "height": 640} for i in range(IMAGES)],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(CLASSES)],
        "annotations": annotations,
    }
    rows = [[image, *box, score, kind] for image, kind, *box, score in detections]
    return CocoTruth(content), np.array(rows, float)


@cache
def judged_scene() -> Judged:
    """Return the scene judged."""
    truth, rows = scene()
    return judge("scene", truth, [f"{i}.jpg" for i in range(IMAGES)], rows)
