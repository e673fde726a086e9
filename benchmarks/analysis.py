"""Time of an analysis beside that of the AP evaluation alone.

    python benchmarks/analysis.py [--images 5000] [--detections 100] [--rounds 3]

Generated data: 80 classes, 7 ground-truth boxes an image, half of the detections near a box. The
ways take turns. Wall time, and in brackets processor time of all threads, medians. The analysis
starts from the detections as an array, as the AP does, and contains that AP evaluation.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lucidet.analysis.judged import judge
from lucidet.analysis.page.analysis_page import analysis_page
from lucidet.analysis.report import analysis
from lucidet.evaluation.coco_ap import CocoTruth

CLASSES, BOXES = 80, 7


def generate(images: int, detections: int, crowds: bool) -> tuple[CocoTruth, np.ndarray]:
    """Return annotations and detections (D, 7); with `crowds` each 100th box is one."""
    random = np.random.default_rng(0)
    count = images * BOXES
    image = np.repeat(np.arange(images), BOXES)
    boxes = np.concatenate(
        [random.uniform(0, 440, (count, 2)), random.uniform(8, 200, (count, 2))], axis=1
    )
    kinds = random.integers(0, CLASSES, count)
    content = {
        "images": [{"id": i, "width": 640, "height": 640} for i in range(images)],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(CLASSES)],
        "annotations": [
            {
                "id": i,
                "image_id": int(image[i]),
                "category_id": int(kinds[i]),
                "bbox": boxes[i].tolist(),
                "iscrowd": int(crowds and i % 100 == 0),
            }
            for i in range(count)
        ],
    }
    total = images * detections
    owner = np.repeat(np.arange(images), detections)
    near = owner * BOXES + random.integers(0, BOXES, total)
    spread = random.choice([0.03, 0.1, 0.3], total)[:, None]
    moved = boxes[near].copy()
    moved[:, :2] += random.normal(0, 1, (total, 2)) * spread * boxes[near, 2:]
    moved[:, 2:] *= np.exp(random.normal(0, 1, (total, 2)) * spread)
    far = np.concatenate(
        [random.uniform(0, 500, (total, 2)), random.uniform(8, 150, (total, 2))], axis=1
    )
    is_near = random.random(total) < 0.5
    found = np.where(is_near[:, None], moved, far)
    kind = np.where(
        is_near & (random.random(total) < 0.9), kinds[near], random.integers(0, CLASSES, total)
    )
    score = random.random(total) ** np.where(is_near, 1.0, 3.0)
    rows = np.concatenate([owner[:, None], found, score[:, None], kind[:, None]], axis=1)
    return CocoTruth(content), rows


def timed(job: Callable[[], Any]) -> tuple[float, float]:
    """Return wall and processor seconds."""
    wall, own = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - wall, time.process_time() - own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print("| crowds | AP, s | analysis, s | ratio | with the page, s |\n|---|---|---|---|---|")
    for crowds in (False, True):
        truth, rows = generate(args.images, args.detections, crowds)
        files = [""] * args.images

        def analyse(page: bool, truth: CocoTruth = truth, rows: np.ndarray = rows) -> None:
            judged = judge("generated", truth, files, rows)  # noqa: B023
            found = analysis(judged)
            if page:
                analysis_page(judged, found)

        times: dict[str, list[tuple[float, float]]] = {"AP": [], "analysis": [], "page": []}
        for _ in range(args.rounds):
            times["AP"].append(timed(lambda t=truth, r=rows: t.curves(r)))  # type: ignore[misc]
            times["analysis"].append(timed(lambda a=analyse: a(False)))  # type: ignore[misc]
            times["page"].append(timed(lambda a=analyse: a(True)))  # type: ignore[misc]
        wall, own = (
            {name: statistics.median(pair[i] for pair in found) for name, found in times.items()}
            for i in (0, 1)
        )
        cells = [f"{wall[name]:.1f} ({own[name]:.1f})" for name in times]
        ratio = f"{wall['analysis'] / wall['AP']:.1f} ({own['analysis'] / own['AP']:.1f})"
        print(f"| {'yes' if crowds else 'no'} | {cells[0]} | {cells[1]} | {ratio} | {cells[2]} |")


if __name__ == "__main__":
    main()
