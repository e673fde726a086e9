"""What evaluators written for detectron2 take from COCOEvaluator's inside."""

# D detections of an image, P proposals of an image

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lucidet.evaluation.coco_ap import Curves
from lucidet.evaluation.detection_rows import DetectionRows

__all__ = ["_evaluate_predictions_on_coco", "as_curves", "rows_of_records", "read_coco_api"]


def read_coco_api(path: str | Path) -> Any:
    """Return pycocotools' COCO of an annotation file.

    Raises:
        ImportError: pycocotools is not installed.
    """
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def rows_of_records(records: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return records of `instances_to_coco_json` as (D, 6): x, y, width, height, score, class.

    >>> rows_of_records([{"bbox": [1, 2, 3, 4], "score": 0.5, "category_id": 7}]).tolist()
    [[1.0, 2.0, 3.0, 4.0, 0.5, 7.0]]
    """
    return DetectionRows.of_records(records, None).array


def as_curves(coco_eval: Any) -> Curves:
    """Return what a COCOeval of pycocotools has accumulated; None has found nothing."""
    if isinstance(coco_eval, Curves):
        return coco_eval
    if coco_eval is None:
        nothing = np.full((10, 101, 1, 4, 1), -1.0)
        return Curves(nothing, nothing[:, 0], (100,))
    found = coco_eval.eval
    limits = tuple(coco_eval.params.maxDets)
    return Curves(
        np.asarray(found["precision"]),
        np.asarray(found["recall"]),
        limits,
        iou_type=coco_eval.params.iouType,
    )


def _evaluate_predictions_on_coco(
    coco_gt: Any,
    coco_results: Sequence[dict[str, Any]],
    iou_type: str,
    kpt_oks_sigmas: Sequence[float] | None = None,
    cocoeval_fn: Any = None,
    img_ids: Sequence[Any] | None = None,
    max_dets_per_image: Sequence[int] | None = None,
) -> Any:
    """Return pycocotools' COCOeval of results in COCO's format, with its `stats`.

    Args:
        coco_gt: pycocotools' COCO of the annotations.
        coco_results: at least one record with image_id, category_id, bbox and score, and for "segm"
            segmentation, for "keypoints" keypoints.
        iou_type: "bbox", "segm" or "keypoints".
        kpt_oks_sigmas: K, of keypoints; those of COCO's persons without it.
        cocoeval_fn: a class to take instead of COCOeval (older callers: True or False, without
            effect).
        img_ids: only these images count.
        max_dets_per_image: three rising numbers of detections, of which AP uses the last.
    """
    if iou_type not in ("bbox", "segm", "keypoints"):
        raise ValueError(f"iou_type must be 'bbox', 'segm' or 'keypoints', got {iou_type!r}")
    if not coco_results:
        raise ValueError("there are no results to evaluate")
    from pycocotools.cocoeval import COCOeval

    judge_class = cocoeval_fn if isinstance(cocoeval_fn, type) else COCOeval
    with contextlib.redirect_stdout(io.StringIO()):
        results = copy.deepcopy(list(coco_results))
        if iou_type == "segm":
            for result in results:  # without a box, the area is the mask's
                result.pop("bbox", None)
        found = coco_gt.loadRes(results)
        judge = judge_class(coco_gt, found, iou_type)
        if iou_type == "keypoints" and kpt_oks_sigmas is not None and len(kpt_oks_sigmas):
            judge.params.kpt_oks_sigmas = np.asarray(kpt_oks_sigmas, float)
        if max_dets_per_image is not None and iou_type != "keypoints":
            judge.params.maxDets = list(max_dets_per_image)
        if img_ids is not None:
            judge.params.imgIds = list(img_ids)
        judge.evaluate()
        judge.accumulate()
    # not summarize(): it knows no other limit than 100
    judge.stats = as_curves(judge).stats
    return judge
