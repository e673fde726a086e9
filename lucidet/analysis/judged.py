"""An evaluated dataset: ground truth, detections, and what each of them turned out to be."""

# G ground-truth boxes, D detections, K classes

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lucidet.analysis.detections import read_detections
from lucidet.analysis.matching import Matches, best_of_each_image, judge_at_half, match
from lucidet.analysis.thresholds import Threshold, best_thresholds
from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.evaluation.coco_ap import CocoTruth, Curves
from lucidet.evaluation.coco_truth_file import json_path, read_truth
from lucidet.structures import BoxMode

__all__ = ["ImageVerdict", "Judged", "judge", "judge_dataset", "read_dataset"]

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
        truth: the annotations.
        files: file name of each image, in the order of `truth.image_ids`; "" where it is unknown.
        curves: COCO's precision and recall, of all detections.
        rows: (D, 7) as for `CocoTruth.curves`: of each image the 100 of the highest score.
        matches: of `rows`, by class.
        judge: hotcoco's COCOeval that has matched them.
        thresholds: K, the best of each class.
        threshold: the mean of those, 0..1; 0.5 where nothing is right.
        confusion: (K + 1, K + 1) counts at IoU 0.5 above `threshold`: rows are the ground truth's
            classes, columns the detections', the last of both is background. Crowd boxes and
            detections in them are not counted.
        pairs: index of a detection and of a ground-truth box for each of those counts, -1 for
            background.
    """

    name: str
    classes: list[str]
    truth: CocoTruth
    files: list[str]
    curves: Curves
    rows: np.ndarray
    matches: Matches
    thresholds: list[Threshold]
    threshold: float
    confusion: np.ndarray
    pairs: np.ndarray
    judge: Any = field(repr=False)

    @cached_property
    def detections(self) -> np.ndarray:
        """(D, 6): XYXY pixels of the image, score, class; in the order of `rows`."""
        corners = BoxMode.convert(self.rows[:, 1:5], *XYWH_TO_XYXY)
        return np.concatenate([corners, self.rows[:, 5:7]], axis=1)

    @cached_property
    def objects(self) -> np.ndarray:
        """(G, 5): XYXY pixels of the image, class; in the order of the annotations."""
        corners = BoxMode.convert(self.truth.boxes, *XYWH_TO_XYXY)
        return np.concatenate([corners, self.truth.category[:, None]], axis=1)

    @cached_property
    def confident(self) -> np.ndarray:
        """(D,) whether a detection reaches `threshold` and is not in a crowd."""
        return (self.rows[:, 5] >= self.threshold) & ~self.matches.ignored

    @cached_property
    def missed(self) -> np.ndarray:
        """(G,) whether no detection above `threshold` matches a box; False for crowds."""
        found = self.matches.found(self.rows[:, 5], self.threshold)
        return ~found & ~self.truth.crowd

    @cached_property
    def images(self) -> list[ImageVerdict]:
        """Verdicts of the images that have a file and ground truth or detections."""
        detections_of = _by_image(self.rows[:, 0], len(self.files))
        objects_of = _by_image(self.truth.image, len(self.files))
        right = self.matches.box >= 0
        verdicts = []
        for file_name, own, mine in zip(self.files, detections_of, objects_of, strict=True):
            own = own[self.confident[own]]
            tp, fp = own[right[own]], own[~right[own]]
            missed = mine[self.missed[mine]]
            total = 2 * len(tp) + len(fp) + len(missed)
            if file_name and total:
                boxes = self.detections[tp], self.detections[fp], self.objects[missed]
                verdicts.append(ImageVerdict(file_name, 2 * len(tp) / total, *boxes))
        return verdicts


def _by_image(images: np.ndarray, count: int) -> list[np.ndarray]:
    """Return for each of `count` images the indices of its entries."""
    order = np.argsort(images, kind="stable")
    return np.split(order, np.searchsorted(images[order], np.arange(1, count)))


def read_dataset(name: str, folder: Path) -> tuple[CocoTruth, list[str]] | None:
    """Return the annotations of a dataset, and the file name of each image.

    Args:
        name: registered, or a specification.
        folder: where a dataset that is not in COCO's format is written as a COCO JSON.

    Returns:
        None where the dataset has no annotations.
    """
    records = DatasetCatalog.get(name)
    metadata = MetadataCatalog.get(name)
    path = json_path(metadata.name, metadata, str(folder), True)
    truth = CocoTruth(read_truth(path, metadata.get("image_root")), path)
    if not truth.has_annotations:
        return None
    files = {record["image_id"]: str(record["file_name"]) for record in records}
    return truth, [files.get(image, "") for image in truth.image_ids]


def judge_dataset(name: str, results_file: Path) -> Judged | None:
    """Return the results of a dataset, or None where it has no annotations or no detections file.

    Args:
        name: registered, or a specification.
        results_file: the ``coco_instances_results.json`` that its evaluator wrote.
    """
    if not results_file.is_file():
        return None
    found = read_dataset(name, results_file.parent)
    if found is None:
        return None
    truth, files = found
    shown = str(MetadataCatalog.get(name).name)
    return judge(shown, truth, files, read_detections(truth, results_file))


def judge(name: str, truth: CocoTruth, files: list[str], rows: np.ndarray) -> Judged:
    """Return the results of detections.

    Args:
        name: of the dataset.
        truth: its annotations.
        files: file name of each image, in the order of `truth.image_ids`.
        rows: (D, 7) as for `CocoTruth.curves`.
    """
    with ThreadPoolExecutor(1) as pool:  # hotcoco computes without Python's lock
        waiting = pool.submit(truth.curves, rows)
        rows = best_of_each_image(rows)
        by_class = judge_at_half(truth, rows)
        matches = match(truth, rows, by_class)
        thresholds = best_thresholds(truth, rows, matches)
        known = [t.score for t in thresholds if t.f1 > 0]
        threshold = float(np.mean(known)) if known else 0.5
        confusion, pairs = _confusion(truth, rows, matches, threshold)
        curves = waiting.result()
    return Judged(
        name=name,
        classes=[str(c.get("name", c["id"])) for c in truth.categories],
        truth=truth,
        files=files,
        curves=curves,
        rows=rows,
        matches=matches,
        thresholds=thresholds,
        threshold=threshold,
        confusion=confusion,
        pairs=pairs,
        judge=by_class,
    )


def _confusion(
    truth: CocoTruth, rows: np.ndarray, matches: Matches, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts, and (P, 2) pairs of a detection and a ground-truth box behind them."""
    chosen = np.flatnonzero((rows[:, 5] >= threshold) & ~matches.ignored)
    own = rows[chosen]
    judge = judge_at_half(truth, own, crowds=False, by_class=False)
    confusion = np.array(judge.confusion_matrix(0.5)["matrix"], np.int64)
    across = match(truth, own, judge, crowds=False)
    pairs = np.stack([chosen, across.box], axis=1)  # (D, 2)
    missed = np.flatnonzero((across.detection < 0) & ~truth.crowd)
    return confusion, np.concatenate([pairs, np.stack([np.full_like(missed, -1), missed], axis=1)])
