"""Pascal VOC evaluation of detections against the data set's XML files."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lucidet.data import MetadataCatalog
from lucidet.data.box_report import BoxReport
from lucidet.data.datasets.voc_xml import (
    find_voc_image,
    image_stem,
    names_of_split,
    read_voc_xml,
    size_of,
    usable_objects,
)
from lucidet.evaluation.classes import refuse_unknown_classes
from lucidet.evaluation.coco_evaluation import RESULTS_FILE, COCOEvaluator
from lucidet.evaluation.evaluator import DatasetEvaluator, image_id_of, partial_name
from lucidet.utils import comm
from lucidet.utils.logger import create_small_table, create_table

logger = logging.getLogger(__name__)

IOU_THRESHOLDS = range(50, 100, 5)


@dataclass(frozen=True)
class _Objects:
    """One class's objects in one image.

    Boxes are (M, 4) XYXY half-open pixels: VOC's inclusive corners, counted from 1, cover
    [xmin - 1, xmax). Objects marked difficult (M,) are neither wanted nor held against anybody.
    """

    boxes: np.ndarray
    difficult: np.ndarray


class PascalVOCDetectionEvaluator(DatasetEvaluator):
    """AP by Pascal VOC's protocol, at IoU 0.5, 0.75 and averaged over 0.5 ... 0.95.

    Args:
        dataset_name: its metadata has ``dirname`` (with Annotations and ImageSets/Main),
            ``split``, ``thing_classes`` and ``year`` (2007: the 11-point form of AP).
        output_dir: where the detections go as COCO JSON, ``coco_instances_results.json``, beside
            the dataset's ground truth in that form; nothing is written without it.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None) -> None:
        self._dataset_name = dataset_name
        self._output_dir = output_dir
        meta = MetadataCatalog.get(dataset_name)
        root = Path(meta.dirname)
        self._annotations, self._images = root / "Annotations", root / "JPEGImages"
        self._image_list = root / "ImageSets" / "Main" / f"{meta.split}.txt"
        self._class_names = list(meta.thing_classes)
        self._is_2007 = meta.get("year", 2012) == 2007
        self._predictions: list[tuple[Any, np.ndarray]] = []

    def reset(self) -> None:
        self._predictions = []

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Keep a batch's ``instances``, (D, 6) an image: XYXY, score, class.

        Raises:
            ValueError: a detection of a class that the data set does not have.
        """
        for given, output in zip(inputs, outputs, strict=True):
            found = output["instances"]
            boxes = found.pred_boxes.tensor.detach().cpu().double().numpy()
            scores = found.scores.detach().cpu().double().numpy()
            classes = found.pred_classes.detach().cpu().double().numpy()
            known = range(len(self._class_names))
            image_id = image_id_of(given)
            refuse_unknown_classes(classes, known, image_id, self._dataset_name)
            rows = np.concatenate([boxes, scores[:, None], classes[:, None]], axis=1)
            self._predictions.append((image_id, rows))

    def save_partial(self) -> list[Path]:
        if not self._output_dir:
            return []
        name = partial_name(RESULTS_FILE)
        self._save(self._predictions, name)
        return [Path(self._output_dir, name)]

    def _save(self, detections: Sequence[tuple[Any, np.ndarray]], name: str) -> None:
        writer = COCOEvaluator(self._dataset_name, distributed=False, output_dir=self._output_dir)
        writer.save_detections(detections, name)

    def evaluate(self) -> dict[str, Any]:
        """Return ``{"bbox": {"AP", "AP50", "AP75", "AP-<class>" ...}}`` in percent, on rank 0.

        A class without objects has NaN and is left out of the means.
        """
        gathered = comm.gather(self._predictions, dst=0)
        if not comm.is_main_process():
            return {}
        truth = self._read_truth()
        detections = [entry for rank in gathered for entry in rank]
        predictions = self._by_name(detections, truth.keys())
        if self._output_dir:
            self._save(detections, RESULTS_FILE)
        ap = np.array(  # (K, T)
            [
                self._class_ap(k, predictions, {image: own[k] for image, own in truth.items()})
                for k in range(len(self._class_names))
            ]
        ).reshape(-1, len(IOU_THRESHOLDS))
        means = [_mean(column) for column in ap.T]
        main = {"AP": _mean(ap), "AP50": means[0], "AP75": means[list(IOU_THRESHOLDS).index(75)]}
        per_class = {
            f"AP-{name}": _mean(row) for name, row in zip(self._class_names, ap, strict=True)
        }
        logger.info(f"Evaluation results for bbox:\n{create_small_table(main)}")
        logger.info(f"Per-category AP:\n{create_table(['category', 'AP'], [*per_class.items()])}")
        return OrderedDict(bbox=main | per_class)

    def _read_truth(self) -> dict[str, list[_Objects]]:
        """Return for each image of the split its objects by class: those that training uses."""
        report = BoxReport(str(self._annotations), form="VOC", level=logging.INFO)
        return {
            name: _read_objects(
                self._annotations / f"{name}.xml", self._images, self._class_names, report
            )
            for name in names_of_split(self._image_list, self._annotations)
        }

    def _by_name(
        self, gathered: Sequence[tuple[Any, np.ndarray]], names: Collection[str]
    ) -> dict[str, np.ndarray]:
        """Return the detections by the name of their image in the split's list.

        Raises:
            ValueError: no image_id is such a name, or one was predicted twice.
        """
        found: dict[str, np.ndarray] = {}
        others: list[Any] = []
        for image_id, rows in gathered:
            name = str(image_id)
            if name not in names:
                name = image_stem(name.replace("\\", "/").split("/")[-1])
            if name not in names:
                others.append(image_id)
                continue
            if name in found:
                raise ValueError(
                    f"image {name!r} of {self._dataset_name!r} was predicted more than once (last "
                    f"as image_id {image_id!r}); give each image once"
                )
            found[name] = rows
        if others:
            problem = (
                f"{len(others)} of {len(gathered)} predicted images are not among the "
                f"{len(names)} names in {self._image_list}, such as {sorted(names)[:3]}, for "
                f"example image_id {others[0]!r}: the image_id of each record must be its name "
                "there, as load_voc_instances gives it"
            )
            if not found:
                raise ValueError(problem)
            logger.warning(f"{problem}; they do not count")
        missing = [name for name in names if name not in found]
        if missing:
            logger.warning(
                f"{len(missing)} of {len(names)} images of {self._dataset_name!r} were not "
                f"predicted, for example {missing[0]!r}: their objects count as missed"
            )
        return found

    def _class_ap(
        self, k: int, predictions: dict[str, np.ndarray], truth: dict[str, _Objects]
    ) -> list[float]:
        """Return the AP in percent at each IoU threshold of class `k`."""
        entries = [
            (row[4], image, row[:4])
            for image, rows in sorted(predictions.items())
            if image in truth
            for row in rows[rows[:, 5] == k]
        ]
        entries.sort(key=lambda entry: -entry[0])
        wanted = sum(int((~own.difficult).sum()) for own in truth.values())
        if not wanted:
            return [float("nan")] * len(IOU_THRESHOLDS)
        # the object each detection overlaps most; the same for all thresholds
        best = [_best_object(box, truth[image].boxes) for _, image, box in entries]
        result = []
        for threshold in IOU_THRESHOLDS:
            taken: set[tuple[str, int]] = set()
            hits = []  # one entry per detection that counts: found an object or not
            for (_, image, _), (index, iou) in zip(entries, best, strict=True):
                inside = iou > threshold / 100.0
                if inside and truth[image].difficult[index]:
                    continue
                hits.append(inside and (image, index) not in taken)
                if inside:
                    taken.add((image, index))
            found = np.cumsum(hits)
            precision = found / np.arange(1, len(hits) + 1)
            result.append(100.0 * voc_ap(found / wanted, precision, self._is_2007))
        return result


def voc_ap(rec: np.ndarray, prec: np.ndarray, use_07_metric: bool = False) -> float:
    """Return the area under a precision-recall curve, as VOC defines it.

    Args:
        rec: (D,) recall after each detection, rising, 0..1.
        prec: (D,) precision after each detection.
        use_07_metric: mean of the best precision at the recalls 0, 0.1, ... 1 (VOC 2007);
            otherwise the area under the curve made monotonous.

    >>> round(voc_ap(np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.5, 2 / 3])), 4)
    0.8333
    """
    recall, precision = np.asarray(rec, float), np.asarray(prec, float)
    if use_07_metric:
        reached = [precision[recall >= point] for point in np.arange(11) / 10]
        return float(np.mean([values.max() if values.size else 0.0 for values in reached]))
    # best precision at this recall or a higher one, times the recall gained by each detection
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def _best_object(box: np.ndarray, objects: np.ndarray) -> tuple[int, float]:
    """Return the index of the object that `box` overlaps most and their IoU (0 if none)."""
    if not len(objects):
        return -1, 0.0
    sides = np.minimum(objects[:, 2:], box[2:]) - np.maximum(objects[:, :2], box[:2])
    shared = sides.clip(min=0).prod(axis=1)
    own = (box[2:] - box[:2]).prod()
    iou = shared / np.maximum((objects[:, 2:] - objects[:, :2]).prod(axis=1) + own - shared, 1e-9)
    return int(iou.argmax()), float(iou.max())


def _read_objects(
    path: Path, images: Path, class_names: Sequence[str], report: BoxReport
) -> list[_Objects]:
    image = read_voc_xml(path)
    size = size_of(image, find_voc_image(images, path.stem, image.file_name))
    boxes: list[list[Sequence[float]]] = [[] for _ in class_names]
    difficult: list[list[bool]] = [[] for _ in class_names]
    for found in usable_objects(image, size, path.stem, report):
        if found.name in class_names:
            boxes[class_names.index(found.name)].append(found.corners)
            difficult[class_names.index(found.name)].append(found.difficult)
    return [
        _Objects(np.array(b, float).reshape(-1, 4), np.array(d, bool))
        for b, d in zip(boxes, difficult, strict=True)
    ]


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
