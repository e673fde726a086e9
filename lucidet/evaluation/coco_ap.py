"""The COCO numbers from arrays: ground truth and detections in, AP and AR out.

Symbols: D detections, G objects, T IoU thresholds, R recall points, K categories, M limits.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

SIZES = ("all", "small", "medium", "large")
DEFAULT_LIMITS = (1, 10, 100)


@dataclass(frozen=True)
class Curves:
    """What COCO's protocol measures, before it is averaged.

    Attributes:
        precision: (T, R, K, 4, M) in 0..1; -1 where a category has no object.
        recall: (T, K, 4, M) in 0..1; -1 where a category has no object.
        limits: M numbers: how many detections an image may use.
    """

    precision: np.ndarray
    recall: np.ndarray
    limits: tuple[int, ...]

    def ap(self, size: str = "all", iou: float | None = None, category: int | None = None) -> float:
        """Return the mean precision in percent, NaN where there is nothing to find.

        Args:
            size: of the objects: ``all``, ``small`` (< 32^2), ``medium``, ``large`` (>= 96^2).
            iou: one threshold, 0.50 ... 0.95; the mean over all ten without it.
            category: index of one category; the mean over all without it.
        """
        values = self.precision[..., SIZES.index(size), -1]  # (T, R, K)
        if iou is not None:
            values = values[[round((iou - 0.5) / 0.05)]]
        return _mean_percent(values if category is None else values[..., category])

    def ar(self, size: str = "all", limit: int = -1) -> float:
        """Return the mean recall in percent; `limit` is an index into `limits`."""
        return _mean_percent(self.recall[:, :, SIZES.index(size), limit])

    def twelve(self) -> dict[str, float]:
        """Return COCO's twelve numbers in percent, in COCO's order.

        The recalls have a dash in their names, as per-category APs do: detectron2's one-line
        summary leaves such names out.
        """
        numbers = {
            "AP": self.ap(),
            "AP50": self.ap(iou=0.5),
            "AP75": self.ap(iou=0.75),
            "APs": self.ap("small"),
            "APm": self.ap("medium"),
            "APl": self.ap("large"),
        }
        numbers |= {f"AR-{limit}": self.ar(limit=i) for i, limit in enumerate(self.limits)}
        return numbers | {f"AR-{size}": self.ar(size) for size in SIZES[1:]}

    # the names of pycocotools' COCOeval, for evaluators that look into it

    @property
    def stats(self) -> np.ndarray:
        """The twelve numbers in 0..1; -1 where there is nothing to find."""
        numbers = np.array(list(self.twelve().values()))
        return np.where(np.isnan(numbers), -1.0, numbers / 100.0)

    @property
    def eval(self) -> dict[str, np.ndarray]:
        """`precision` and `recall` by name."""
        return {"precision": self.precision, "recall": self.recall}

    @property
    def params(self) -> SimpleNamespace:
        """The axes of `precision`: ``iouThrs``, ``recThrs``, ``areaRngLbl``, ``maxDets``."""
        return SimpleNamespace(
            iouThrs=np.linspace(0.5, 0.95, 10),
            recThrs=np.linspace(0.0, 1.0, self.precision.shape[1]),
            areaRngLbl=list(SIZES),
            maxDets=list(self.limits),
        )


def _mean_percent(values: np.ndarray) -> float:
    defined = values[values > -1]
    return 100.0 * float(defined.mean()) if defined.size else float("nan")


class CocoTruth:
    """Ground truth of a COCO JSON, ready to be compared with detections.

    Ids are replaced by positions in their sorted order, so that any id works (0, text, gaps):
    an annotation whose id is 0 counts as never found with pycocotools. ``area`` (default: of the
    box) and ``iscrowd`` (default: 0) may be absent.

    Args:
        dataset: a COCO JSON's content: ``images``, ``categories``, ``annotations``.
        source: named in messages.
    """

    def __init__(self, dataset: dict[str, Any], source: str | Path = "the COCO JSON") -> None:
        missing = [key for key in ("images", "categories") if key not in dataset]
        if missing:
            raise ValueError(f"{source}: no {missing[0]!r} list; is it a COCO annotation file?")
        self.source = source
        self.image_ids = _sorted_ids(image["id"] for image in dataset["images"])
        self.categories = sorted(dataset["categories"], key=lambda c: c["id"])
        self.has_annotations = "annotations" in dataset
        self.image_index = {image: i for i, image in enumerate(self.image_ids)}
        self._category_index = {c["id"]: k for k, c in enumerate(self.categories)}
        annotations = dataset.get("annotations", [])
        boxless = [a.get("id") for a in annotations if len(a.get("bbox", ())) != 4]
        if boxless:
            raise ValueError(
                f"{source}: annotation {boxless[0]} needs 'bbox': [x, y, width, height]"
            )
        self.boxes = np.array([a["bbox"] for a in annotations], float).reshape(-1, 4)  # (G, 4) XYWH
        box_area = self.boxes[:, 2] * self.boxes[:, 3]
        areas = [a.get("area", own) for a, own in zip(annotations, box_area, strict=True)]
        self.area = np.array(areas, float)
        self.crowd = np.array([bool(a.get("iscrowd", 0)) for a in annotations], bool)
        self.image = self._positions(annotations, "image_id", self.image_index)
        self.category = self._positions(annotations, "category_id", self._category_index)

    def _positions(
        self, annotations: Sequence[dict[str, Any]], key: str, table: dict[Any, int]
    ) -> np.ndarray:
        for a in annotations:
            if a[key] not in table:
                raise ValueError(
                    f"{self.source}: annotation {a.get('id')} has {key} {a[key]!r}, which is not "
                    f"among the file's {'images' if key == 'image_id' else 'categories'}"
                )
        return np.array([table[a[key]] for a in annotations], np.int64)

    def index_of_image(self, image_id: Any) -> int:
        """Return the position of `image_id`; an unknown id is an error that names it."""
        if image_id not in self.image_index:
            raise ValueError(
                f"prediction for image id {image_id!r}, which {self.source} does not have "
                f"({len(self.image_ids)} images, first ids {self.image_ids[:3]}); "
                "evaluate on the data set that the loader reads"
            )
        return self.image_index[image_id]

    def index_of_category(self, category_id: Any) -> int:
        """Return the position of `category_id`; an unknown id is an error that names it."""
        if category_id not in self._category_index:
            raise ValueError(
                f"prediction of category id {category_id!r}, which {self.source} does not have "
                f"(it has {[c['id'] for c in self.categories][:10]}); MODEL.*.NUM_CLASSES may be "
                "larger than the data set's number of classes, or MODEL.CLASS_MAP is missing"
            )
        return self._category_index[category_id]

    def curves(
        self,
        detections: np.ndarray,
        limits: Sequence[int] = DEFAULT_LIMITS,
        images: Sequence[int] | None = None,
        fast: bool = True,
    ) -> Curves:
        """Match detections to objects by COCO's protocol.

        Args:
            detections: (D, 7) image position, x, y, width, height, score, category position.
            limits: rising numbers of detections an image may use; APs use the last.
            images: positions of the images that count; all without it.
            fast: through hotcoco; else through pycocotools (about 300 times slower, same numbers).
        """
        rows = np.asarray(detections, np.float64).reshape(-1, 7)
        chosen = sorted(images) if images is not None else list(range(len(self.image_ids)))
        found = (_hotcoco if fast else _pycocotools)(self, rows, list(limits), chosen)
        return Curves(np.asarray(found["precision"]), np.asarray(found["recall"]), tuple(limits))

    @property
    def image_records(self) -> list[dict[str, Any]]:
        """One record an image with its position as id: what the two libraries want to see."""
        blank = {"width": 0, "height": 0, "file_name": ""}
        return [{"id": i, **blank} for i in range(len(self.image_ids))]

    @property
    def category_records(self) -> list[dict[str, Any]]:
        """One record a category with its position as id."""
        return [{"id": k, "name": str(c.get("name", k))} for k, c in enumerate(self.categories)]


def _sorted_ids(ids: Any) -> list[Any]:
    found = set(ids)
    try:
        return sorted(found)
    except TypeError:  # numbers and texts mixed
        return sorted(found, key=str)


def _hotcoco(
    truth: CocoTruth, rows: np.ndarray, limits: list[int], images: list[int]
) -> dict[str, Any]:
    import hotcoco

    ground_truth = hotcoco.COCO.from_arrays(
        truth.image_records,
        truth.category_records,
        truth.image,
        truth.category,
        truth.boxes,
        area=truth.area,
        iscrowd=truth.crowd,
    )
    judge = hotcoco.COCOeval(ground_truth, ground_truth.load_res(rows), "bbox")
    judge.params.max_dets = limits
    judge.params.img_ids = images
    judge.evaluate()
    judge.accumulate()
    return judge.eval or {}


def _pycocotools(
    truth: CocoTruth, rows: np.ndarray, limits: list[int], images: list[int]
) -> dict[str, Any]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ImportError(
            "use_fast_impl=False computes with pycocotools: pip install pycocotools"
        ) from error
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth, found = COCO(), COCO()
        shared = {"images": truth.image_records, "categories": truth.category_records}
        columns = (truth.image, truth.category, truth.boxes, truth.area, truth.crowd)
        ground_truth.dataset = shared | {
            "annotations": [
                _record(n, image, category, box, area, iscrowd=int(crowd))
                for n, (image, category, box, area, crowd) in enumerate(
                    zip(*columns, strict=True), 1
                )
            ]
        }
        found.dataset = shared | {
            "annotations": [
                _record(n, row[0], row[6], row[1:5], row[3] * row[4], iscrowd=0, score=row[5])
                for n, row in enumerate(rows, 1)
            ]
        }
        for side in (ground_truth, found):
            side.createIndex()
        judge = COCOeval(ground_truth, found, "bbox")
        judge.params.maxDets = limits
        judge.params.imgIds = images
        judge.evaluate()
        judge.accumulate()
    return judge.eval or {}


def _record(
    number: int, image: Any, category: Any, box: np.ndarray, area: float, **rest: Any
) -> dict[str, Any]:
    ids = {"id": number, "image_id": int(image), "category_id": int(category)}
    return ids | {"bbox": box.tolist(), "area": float(area)} | rest
