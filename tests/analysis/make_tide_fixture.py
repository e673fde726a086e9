"""Generate detections with crowds and more than 100 an image, and what tidecv says about them.

Writes ``tide_fixture.json``. Run it where tidecv is installed (it is not needed for the tests):

    python -m venv tide && tide/bin/pip install tidecv && tide/bin/python make_tide_fixture.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

FIXTURE = Path(__file__).with_name("tide_fixture.json")
#: name -> seed, images, classes, detections of every third image, crowds in every second image
CASES = {
    "plain": (0, 8, 4, 50, False),
    "crowds": (1, 8, 3, 60, True),
    "many": (2, 6, 3, 140, False),
    "crowds and many": (3, 8, 4, 135, True),
}


def generate(
    seed: int, images: int, classes: int, most: int, crowds: bool
) -> tuple[list[list[float]], list[list[float]]]:
    """Return ground truth (image, class, x, y, w, h, crowd), detections (image, class, ..., score).

    Image 0 has no ground-truth box.
    """
    random = np.random.default_rng(seed)
    truth: list[list[float]] = []
    detections: list[list[float]] = []
    for image in range(images):
        own = [
            _box(random, 10, 120, classes) for _ in range(random.integers(3, 14) if image else 0)
        ]
        wide = [_box(random, 90, 250, classes) for _ in range(2 if crowds and image % 2 else 0)]
        for crowd, boxes in ((0, own), (1, wide)):
            truth += [[image, *box, crowd] for box in boxes]
        for _ in range(most if image % 3 == 0 else random.integers(5, 50)):
            near = [*own, *wide]
            box = near[random.integers(len(near))] if near and random.random() < 0.8 else None
            found = _box(random, 8, 100, classes) if box is None else _moved(random, box, classes)
            detections.append([image, *found, round(float(random.random()), 6)])
    return truth, detections


def _box(random: np.random.Generator, low: float, high: float, classes: int) -> list[float]:
    x, y, width, height = *random.uniform(0, 350, 2), *random.uniform(low, high, 2)
    return [int(random.integers(classes)), *(round(float(v), 1) for v in (x, y, width, height))]


def _moved(random: np.random.Generator, box: list[float], classes: int) -> list[float]:
    spread = random.choice([0.03, 0.1, 0.25, 0.5])
    size = np.array(box[3:])
    corner = np.array(box[1:3]) + random.normal(0, spread, 2) * size
    sides = size * np.exp(random.normal(0, spread, 2))
    kind = int(random.integers(classes)) if random.random() < 0.2 else box[0]
    return [kind, *(round(float(v), 1) for v in (*corner, *sides))]


def expected(truth: list[list[float]], detections: list[list[float]], images: int) -> Any:
    """Return tidecv's AP50, its six rises of it, counts, and two special rises."""
    from tidecv import TIDE, Data

    left, right = Data("truth"), Data("detections")
    for image in range(images):
        left.add_image(image, str(image))
        right.add_image(image, str(image))
    for image, kind, *box, crowd in truth:
        if crowd:
            left.add_ignore_region(image, kind, box, None)
        else:
            left.add_ground_truth(image, kind, box, None)
    for image, kind, *box, score in detections:
        right.add_detection(image, kind, score, box, None)
    tide = TIDE()
    tide.evaluate(left, right, mode=TIDE.BOX, name="run")
    run = tide.runs["run"]
    special = tide.get_special_errors()["run"]
    return {
        "AP50": run.ap,
        "delta_AP": tide.get_main_errors()["run"],
        "counts": {kind.short_name: count for kind, count in run.count_errors().items()},
        "special": {"FP": special["FalsePos"], "FN": special["FalseNeg"]},
    }


def main() -> None:
    cases = {}
    for name, (seed, images, classes, most, crowds) in CASES.items():
        truth, detections = generate(seed, images, classes, most, crowds)
        cases[name] = {
            "images": images,
            "classes": classes,
            "truth": truth,
            "detections": detections,
            "expected": expected(truth, detections, images),
        }
    FIXTURE.write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
