"""An evaluated dataset: ground truth, detections, and what each of them turned out to be."""

# G ground-truth boxes, D detections, K classes

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.evaluation.coco_ap import CocoTruth, Curves
from lucidet.evaluation.coco_api import rows_of_records
from lucidet.evaluation.coco_truth_file import json_path, read_truth
from lucidet.structures import BoxMode

__all__ = ["ImageVerdict", "Judged", "judge_dataset"]

XYWH_TO_XYXY = (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)


@dataclass(frozen=True)
class ImageVerdict:
    """One image's detections above the score threshold against its ground truth, at IoU 0.5.

    Attributes:
        file_name: of the image.
        f1: 2 TP / (2 TP + FP + FN), 0..1.
        right, wrong: (D, 6) detections: XYXY pixels of the image, score, class.
        missed: (G, 5) ground-truth boxes: XYXY, class.
    """

    file_name: str
    f1: float
    right: np.ndarray
    wrong: np.ndarray
    missed: np.ndarray


@dataclass(frozen=True)
class Judged:
    """A dataset's results.

    Attributes:
        name: of the dataset.
        classes: K names, in the order of the ground truth's categories.
        curves: COCO's precision and recall.
        threshold: the score, 0..1, with the best mean F1 over the classes.
        confusion: (K + 1, K + 1) counts at IoU 0.5 above `threshold`: rows are the ground truth's
            classes, columns the detections', the last of both is background.
        images: verdicts of the images that have ground truth or detections.
    """

    name: str
    classes: list[str]
    curves: Curves
    threshold: float
    confusion: np.ndarray
    images: list[ImageVerdict]


def judge_dataset(name: str, results_file: Path) -> Judged | None:
    """Return the results of a dataset, or None where it has no annotations or no detections file.

    Args:
        name: registered, or a specification.
        results_file: the ``coco_instances_results.json`` that its evaluator wrote.
    """
    if not results_file.is_file():
        return None
    records = DatasetCatalog.get(name)
    metadata = MetadataCatalog.get(name)
    path = json_path(metadata.name, metadata, str(results_file.parent), True)
    truth = CocoTruth(read_truth(path, metadata.get("image_root")), path)
    if not truth.has_annotations:
        return None
    rows = _rows(truth, json.loads(results_file.read_text(encoding="utf-8")))
    curves = truth.curves(rows)
    threshold = _best_threshold(curves)
    confident = rows[rows[:, 5] >= threshold]
    judge = truth.curves(confident).judge
    return Judged(
        name=str(metadata.name),
        classes=[str(c.get("name", c["id"])) for c in truth.categories],
        curves=curves,
        threshold=threshold,
        confusion=np.array(judge.confusion_matrix(0.5)["matrix"], np.int64),
        images=_verdicts(truth, confident, judge, {r["image_id"]: r for r in records}),
    )


def _rows(truth: CocoTruth, records: list[dict[str, Any]]) -> np.ndarray:
    """Return (D, 7): image, x, y, width, height, score, category, ids as positions."""
    rows = rows_of_records(
        [{**r, "category_id": truth.index_of_category(r["category_id"])} for r in records]
    )
    images = np.array([truth.index_of_image(r["image_id"]) for r in records], np.float64)
    return np.concatenate([images[:, None], rows], axis=1)


def _best_threshold(curves: Curves) -> float:
    """Return the mean over classes of the score at which F1 is highest, at IoU 0.5."""
    if curves.scores is None:
        return 0.5
    precision, scores = curves.precision[0, :, :, 0, -1], curves.scores[0, :, :, 0, -1]  # (R, K)
    recall = np.linspace(0.0, 1.0, len(precision))[:, None]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    f1[precision < 0] = -1
    best = f1.argmax(axis=0)
    columns = np.arange(f1.shape[1])
    known = f1[best, columns] > 0
    return float(scores[best, columns][known].mean()) if known.any() else 0.5


def _verdicts(
    truth: CocoTruth, rows: np.ndarray, judge: Any, records: dict[Any, dict[str, Any]]
) -> list[ImageVerdict]:
    found = judge.image_diagnostics(0.5, 0.0)
    # ids count from 1, in the order of the rows and of the annotations
    verdict_of = np.array([found["dt_status"].get(i + 1, "") for i in range(len(rows))])
    fate_of = np.array([found["gt_status"].get(i + 1, "") for i in range(len(truth.boxes))])
    detections = np.concatenate(
        [BoxMode.convert(rows[:, 1:5], *XYWH_TO_XYXY), rows[:, 5:7]], axis=1
    )
    objects = np.concatenate(
        [BoxMode.convert(truth.boxes, *XYWH_TO_XYXY), truth.category[:, None]], axis=1
    )
    verdicts = []
    for position, summary in sorted(found["img_summary"].items()):
        record = records.get(truth.image_ids[position])
        if record is None or not summary["tp"] + summary["fp"] + summary["fn"]:
            continue
        own, mine = rows[:, 0] == position, truth.image == position
        verdicts.append(
            ImageVerdict(
                file_name=str(record["file_name"]),
                f1=float(summary["f1"]),
                right=detections[own & (verdict_of == "tp")],
                wrong=detections[own & (verdict_of == "fp")],
                missed=objects[mine & (fate_of == "fn")],
            )
        )
    return verdicts
