"""The two libraries that match detections with annotations by COCO's protocol.

hotcoco computes; pycocotools gives the same numbers and is slower. Both see ids that are positions.

Symbols: D detections, G annotations, K keypoints of one.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["judge_by_hotcoco", "judge_by_pycocotools"]

#: a detection's mask (RLE), or its 3 K numbers x, y, score
Shapes = Sequence[Any]


def judge_by_hotcoco(
    truth: Any,
    rows: np.ndarray,
    shapes: Shapes,
    iou_type: str,
    limits: list[int],
    images: list[int],
    sigmas: Sequence[float] = (),
) -> Any:
    """Return hotcoco's COCOeval after it has matched and accumulated.

    Args:
        truth: a `CocoTruth`, the annotations.
        rows: (D, 7) as for `CocoTruth.curves`.
        shapes: D masks or keypoints for "segm" or "keypoints".
        iou_type: "bbox", "segm" or "keypoints".
        limits: rising numbers of detections an image may use.
        images: positions of the images that count.
        sigmas: K, of the keypoints; those of COCO's persons without it.
    """
    import hotcoco

    if iou_type == "keypoints":
        ground_truth = hotcoco.COCO(_truth_dataset(truth, iou_type))
        found = ground_truth.load_res(_found_records(rows, shapes, iou_type))
    else:
        masks: Any = truth.masks if iou_type == "segm" else None
        ground_truth = hotcoco.COCO.from_arrays(
            truth.image_records,
            truth.category_records,
            truth.image,
            truth.category,
            truth.boxes,
            area=truth.area,
            iscrowd=truth.crowd,
            segmentation=masks,
        )
        found = ground_truth.load_res(
            rows, segmentation=list(shapes) if masks is not None else None
        )
        if masks is not None and len(rows):
            # the size of a mask is the number of its pixels, not its box
            found.update_anns(ids=np.arange(1, len(rows) + 1), area=_areas(shapes))
    judge = hotcoco.COCOeval(ground_truth, found, iou_type)
    judge.params.max_dets = limits
    judge.params.img_ids = images
    if len(sigmas):
        judge.params.kpt_oks_sigmas = [float(s) for s in sigmas]
    with warnings.catch_warnings():
        # that sigmas are not COCO's is what was asked for
        warnings.filterwarnings("ignore", message="hotcoco: kpt_oks_sigmas differ")
        judge.evaluate()
        judge.accumulate()
    return judge


def judge_by_pycocotools(
    truth: Any,
    rows: np.ndarray,
    shapes: Shapes,
    iou_type: str,
    limits: list[int],
    images: list[int],
    sigmas: Sequence[float] = (),
) -> Any:
    """Return pycocotools' COCOeval after it has matched and accumulated; see `judge_by_hotcoco`.

    Raises:
        ImportError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ImportError(
            "use_fast_impl=False computes with pycocotools: pip install pycocotools"
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth, found = COCO(), COCO()
        ground_truth.dataset = _truth_dataset(truth, iou_type)
        found.dataset = {
            **ground_truth.dataset,
            "annotations": _found_records(rows, shapes, iou_type),
        }
        for side in (ground_truth, found):
            side.createIndex()
        judge = COCOeval(ground_truth, found, iou_type)
        judge.params.maxDets = limits
        judge.params.imgIds = images
        if len(sigmas):
            judge.params.kpt_oks_sigmas = np.asarray(sigmas, float)
        judge.evaluate()
        judge.accumulate()
    return judge


def _truth_dataset(truth: Any, iou_type: str) -> dict[str, Any]:
    """Return the annotations as a COCO dict whose ids are positions."""
    columns = zip(truth.image, truth.category, truth.boxes, truth.area, truth.crowd, strict=True)
    annotations = [
        _record(n, image, category, box, area, iscrowd=int(crowd))
        for n, (image, category, box, area, crowd) in enumerate(columns, 1)
    ]
    if iou_type == "segm":
        for annotation, mask in zip(annotations, truth.masks, strict=True):
            annotation["segmentation"] = mask
    if iou_type == "keypoints":
        for annotation, points in zip(annotations, truth.keypoints, strict=True):
            annotation["keypoints"] = points.tolist()
        for annotation, count in zip(annotations, truth.keypoint_counts.tolist(), strict=True):
            annotation["num_keypoints"] = count
    return {
        "images": truth.image_records,
        "categories": truth.category_records,
        "annotations": annotations,
    }


def _found_records(rows: np.ndarray, shapes: Shapes, iou_type: str) -> list[dict[str, Any]]:
    """Return the detections as COCO annotations, with the area that COCO's loadRes gives them."""
    areas = _areas(shapes) if iou_type == "segm" and len(rows) else rows[:, 3] * rows[:, 4]
    records = [
        _record(n, row[0], row[6], row[1:5], area, iscrowd=0, score=float(row[5]))
        for n, (row, area) in enumerate(zip(rows, areas, strict=True), 1)
    ]
    for record, shape in zip(records, shapes, strict=iou_type != "bbox"):
        if iou_type == "segm":
            record["segmentation"] = shape
        else:
            record["keypoints"] = [float(value) for value in shape]
    return records


def _areas(masks: Shapes) -> np.ndarray:
    from hotcoco import mask

    return np.asarray(mask.area(list(masks)), float)


def _record(
    number: int, image: Any, category: Any, box: np.ndarray, area: float, **rest: Any
) -> dict[str, Any]:
    ids = {"id": number, "image_id": int(image), "category_id": int(category)}
    return ids | {"bbox": box.tolist(), "area": float(area)} | rest
