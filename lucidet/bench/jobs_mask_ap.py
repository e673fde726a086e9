"""The job of mask AP: from run lengths to the twelve numbers."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from lucidet.bench.measure import Job, Sides
from lucidet.data.segmentation import as_rle
from lucidet.evaluation.coco_ap import CocoTruth

__all__ = ["JOBS"]

HEIGHT, WIDTH = 480, 640


def _mask_ap(quick: bool) -> Sides:
    """Mask AP of detections as a model's outputs become them: boxes, scores and RLE."""
    num_images, per_image, num_classes = (4, 10, 5) if quick else (1000, 100, 80)
    rng = np.random.default_rng(0)
    truth = _truth(rng, num_images, num_classes)
    rows, masks = _detections(rng, truth, num_images, per_image, num_classes)

    def ours() -> list[float]:
        curves = CocoTruth(truth).curves(rows, iou_type="segm", shapes=masks)
        return list(curves.twelve().values())

    def theirs() -> list[float]:
        return _pycocotools(truth, rows, masks)

    def check() -> str:
        mine, expected = np.array(ours()) / 100, np.array(theirs())
        difference = float(np.abs(mine - expected).max())
        assert difference < 1e-12, f"the twelve numbers differ by {difference}"
        return f"twelve numbers within {difference:.0e}, AP {100 * expected[0]:.1f}"

    return Sides(ours, theirs, check)


def _blob(rng: np.random.Generator, center: Any, radius: float) -> list[float]:
    """Return an irregular polygon of 24 corners, as annotators draw them."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    reach = radius * rng.uniform(0.6, 1.0, len(angles))
    corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach[:, None] + center
    return corners.clip(0, [WIDTH, HEIGHT]).round(2).ravel().tolist()


def _box(polygon: list[float]) -> list[float]:
    corners = np.reshape(polygon, (-1, 2))
    return [*corners.min(0).tolist(), *np.ptp(corners, axis=0).tolist()]


def _truth(rng: np.random.Generator, num_images: int, num_classes: int) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for image in range(num_images):
        for _ in range(int(rng.integers(1, 15))):
            radius = rng.uniform(6, 120)
            polygon = _blob(rng, rng.uniform(0.1, 0.9, 2) * [WIDTH, HEIGHT], radius)
            crowd = bool(rng.random() < 0.01)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image + 1,
                    "category_id": int(rng.integers(num_classes)) + 1,
                    "bbox": _box(polygon),
                    "area": radius * radius,
                    "iscrowd": int(crowd),
                    "segmentation": as_rle([polygon], HEIGHT, WIDTH) if crowd else [polygon],
                }
            )
    return {
        "images": [{"id": i + 1, "width": WIDTH, "height": HEIGHT} for i in range(num_images)],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(num_classes)],
        "annotations": annotations,
    }


def _detections(
    rng: np.random.Generator,
    truth: dict[str, Any],
    num_images: int,
    per_image: int,
    num_classes: int,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return (D, 7) rows and D masks; half of them near objects."""
    objects: dict[int, list[Any]] = {}
    for a in truth["annotations"]:
        objects.setdefault(a["image_id"] - 1, []).append(a)
    rows, masks = [], []
    for image in range(num_images):
        for n in range(per_image):
            near = objects[image][n % len(objects[image])]
            if n < per_image // 2 and isinstance(near["segmentation"], list):
                corners = np.reshape(near["segmentation"][0], (-1, 2)) + rng.normal(0, 3, (24, 2))
                polygon = corners.clip(0, [WIDTH, HEIGHT]).ravel().tolist()
                category = near["category_id"] - 1
            else:
                center = rng.uniform(0.1, 0.9, 2) * [WIDTH, HEIGHT]
                polygon = _blob(rng, center, rng.uniform(6, 120))
                category = int(rng.integers(num_classes))
            rows.append([image, *_box(polygon), rng.random(), category])
            masks.append(as_rle([polygon], HEIGHT, WIDTH))
    return np.array(rows), masks


def _pycocotools(
    truth: dict[str, Any], rows: np.ndarray, masks: list[dict[str, Any]]
) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        # it writes into annotations and results: a second call would find them prepared
        annotations = [dict(a) for a in truth["annotations"]]
        ground_truth.dataset = {**truth, "annotations": annotations}
        ground_truth.createIndex()
        results = [
            {
                "image_id": int(row[0]) + 1,
                "category_id": int(row[6]) + 1,
                "score": row[5],
                "segmentation": mask,
            }
            for row, mask in zip(rows.tolist(), masks, strict=True)
        ]
        judge = COCOeval(ground_truth, ground_truth.loadRes(results), "segm")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats.tolist()


JOBS = [
    Job(
        "mask-ap",
        "mask AP of 1000 images x 100 masks, from run lengths to the twelve numbers",
        "pycocotools",
        20,
        _mask_ap,
    ),
]
