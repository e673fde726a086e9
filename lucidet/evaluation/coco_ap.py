"""The COCO numbers from arrays: ground truth and detections in, AP and AR out.

Symbols: D detections, G objects, T IoU thresholds, R recall points, K categories, M limits.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lucidet.data.fields import IdTable, as_size, id_order
from lucidet.evaluation.coco_curves import Curves
from lucidet.evaluation.coco_judges import judge_by_hotcoco, judge_by_pycocotools
from lucidet.evaluation.coco_shapes import truth_keypoints, truth_masks

__all__ = ["DEFAULT_LIMITS", "CocoTruth", "Curves"]

logger = logging.getLogger(__name__)

DEFAULT_LIMITS = (1, 10, 100)


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
        self.dataset = dataset
        self.image_ids = sorted({image["id"] for image in dataset["images"]}, key=id_order)
        self.categories = sorted(dataset["categories"], key=lambda c: id_order(c["id"]))
        self.has_annotations = "annotations" in dataset
        self.image_index = {image: i for i, image in enumerate(self.image_ids)}
        self._category_index = {c["id"]: k for k, c in enumerate(self.categories)}
        self._image_table = IdTable(self.image_ids)
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
        """Return the position of `image_id`, also where it is text for a number or the reverse.

        Raises:
            ValueError: there is no such image; names the id and the first known ones.
        """
        known = self._image_table.find(image_id)
        if known is None:
            raise ValueError(
                f"prediction for image id {image_id!r}, which {self.source} does not have "
                f"({len(self.image_ids)} images, first ids {self.image_ids[:3]}); "
                "evaluate on the data set that the loader reads"
            )
        return self.image_index[known]

    def find_category(self, category_id: Any) -> int | None:
        """Return the position of `category_id`; None if the JSON does not have it."""
        return self._category_index.get(category_id)

    def index_of_category(self, category_id: Any) -> int:
        """Return the position of `category_id`; an unknown id is an error that names it."""
        found = self.find_category(category_id)
        if found is None:
            raise ValueError(
                f"prediction of category id {category_id!r}, which {self.source} does not have "
                f"(it has {[c['id'] for c in self.categories][:10]}); MODEL.*.NUM_CLASSES may be "
                "larger than the data set's number of classes, or MODEL.CLASS_MAP is missing"
            )
        return found

    @cached_property
    def masks(self) -> list[Any]:
        """G masks, polygons or RLE; a ValueError names the annotation that has none."""
        annotations = self.dataset.get("annotations", [])
        return truth_masks(annotations, self.dataset["images"], self.source)

    @cached_property
    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        return truth_keypoints(self.dataset.get("annotations", []), self.source)

    @property
    def keypoints(self) -> np.ndarray:
        """(G, 3 K) x, y, visibility; a ValueError names the annotation that has none."""
        return self._points[0]

    @property
    def keypoint_counts(self) -> np.ndarray:
        """(G,) labelled keypoints; those of an annotation with 0 are not evaluated."""
        return self._points[1]

    def image_size(self, position: int) -> list[Any]:
        """Return [height, width] of an image, None where the file does not tell."""
        image = self._images[self.image_ids[position]]
        return [as_size(image.get(key)) for key in ("height", "width")]

    @cached_property
    def _images(self) -> dict[Any, dict[str, Any]]:
        return {image["id"]: image for image in self.dataset["images"]}

    def curves(
        self,
        detections: np.ndarray,
        limits: Sequence[int] = DEFAULT_LIMITS,
        images: Sequence[int] | None = None,
        fast: bool = True,
        *,
        iou_type: str = "bbox",
        shapes: Sequence[Any] = (),
        sigmas: Sequence[float] = (),
    ) -> Curves:
        """Match detections to objects by COCO's protocol.

        Args:
            detections: (D, 7) image position, x, y, width, height, score, category position.
            limits: rising numbers of detections an image may use; APs use the last.
            images: positions of the images that count; all without it.
            fast: through hotcoco; else through pycocotools (about 300 times slower, same numbers).
            iou_type: "bbox"; "segm" compares masks; "keypoints" compares keypoints, with OKS.
            shapes: for "segm" D masks as RLE; for "keypoints" D times 3 K numbers x, y, score.
            sigmas: K, how exact each keypoint can be told; those of COCO's persons without it.
        """
        rows = np.asarray(detections, np.float64).reshape(-1, 7)
        chosen = sorted(images) if images is not None else list(range(len(self.image_ids)))
        judge_by = judge_by_hotcoco if fast else judge_by_pycocotools
        judge = judge_by(self, rows, shapes, iou_type, list(limits), chosen, sigmas)
        numbers = judge.eval or {}
        return Curves(
            np.asarray(numbers["precision"]),
            np.asarray(numbers["recall"]),
            tuple(limits),
            scores=np.asarray(numbers["scores"]) if "scores" in numbers else None,
            judge=judge,
            truth=self,
            images=tuple(chosen),
            rows=rows,
            iou_type=iou_type,
            shapes=shapes,
        )

    def as_coco_api(self) -> Any:
        """Return pycocotools' COCO of these annotations.

        Raises:
            ImportError: pycocotools is not installed.
        """
        from pycocotools.coco import COCO

        annotations = [
            {
                "area": float(area),
                **{k: v for k, v in a.items() if v is not None},
                "id": a.get("id", n),
                "iscrowd": int(crowd),
            }
            for n, (a, area, crowd) in enumerate(
                zip(self.dataset.get("annotations", []), self.area, self.crowd, strict=True), 1
            )
        ]
        found = COCO()
        found.dataset = {**self.dataset, "annotations": annotations}
        with contextlib.redirect_stdout(io.StringIO()):
            found.createIndex()
        return found

    @property
    def image_records(self) -> list[dict[str, Any]]:
        """One record an image with its position as id: what the two libraries want to see."""
        sizes = [self.image_size(i) for i in range(len(self.image_ids))]
        return [
            {"id": i, "height": height or 0, "width": width or 0, "file_name": ""}
            for i, (height, width) in enumerate(sizes)
        ]

    @property
    def category_records(self) -> list[dict[str, Any]]:
        """One record a category with its position as id."""
        return [{"id": k, "name": str(c.get("name", k))} for k, c in enumerate(self.categories)]
