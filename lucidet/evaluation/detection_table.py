"""The detections of all images in one table, as `CocoTruth.curves` takes them."""

# D detections

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lucidet.evaluation.coco_ap import CocoTruth
from lucidet.evaluation.detection_rows import DetectionRows

__all__ = ["DetectionTable", "table_of"]


@dataclass(frozen=True)
class DetectionTable:
    """Detections of all images.

    Attributes:
        rows: (D, 7) image position, x, y, width, height, score, class.
        masks: D masks as RLE; None where some detections have none.
        keypoints: D times 3 K numbers x, y, score; None where some detections have none.
    """

    rows: np.ndarray
    masks: list[dict[str, Any]] | None = None
    keypoints: list[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def chosen(self, kept: np.ndarray) -> DetectionTable:
        """Return the detections of a (D,) bool array."""
        if kept.all():
            return self
        where = np.flatnonzero(kept).tolist()
        masks, points = self.masks, self.keypoints
        return DetectionTable(
            self.rows[kept],
            None if masks is None else [masks[i] for i in where],
            None if points is None else [points[i] for i in where],
        )

    def shapes(self, iou_type: str) -> Sequence[Any]:
        """Return what is compared beside the boxes.

        Raises:
            ValueError: the detections do not have it.
        """
        if iou_type == "bbox":
            return ()
        found = self.masks if iou_type == "segm" else self.keypoints
        if found is None:
            field = "pred_masks" if iou_type == "segm" else "pred_keypoints"
            raise ValueError(
                f"COCOEvaluator: task {iou_type!r} needs {field} in each prediction, and some have "
                "none; leave tasks out to evaluate what the predictions have"
            )
        return found

    def check_mask_sizes(self, truth: CocoTruth) -> None:
        """Raise a ValueError that names the image where a mask has another size than its image."""
        for row, mask in zip(self.rows, self.masks or (), strict=True):
            size = truth.image_size(int(row[0]))
            if None not in size and list(mask["size"]) != size:
                raise ValueError(
                    f"image_id {truth.image_ids[int(row[0])]}: a predicted mask is "
                    f"{mask['size'][0]} x {mask['size'][1]} (height x width), {truth.source} says "
                    f"{size[0]} x {size[1]}: masks must be of the image as it is on disk"
                )


def table_of(predictions: Sequence[dict[str, Any]], truth: CocoTruth) -> DetectionTable:
    """Return the detections of predictions, each with ``image_id`` and maybe ``instances``.

    Args:
        predictions: ``instances`` is a `DetectionRows`, or what a subclass with its own process()
            has put there: records of COCO, or an array (D, 6).
        truth: knows the images.
    """
    parts: list[np.ndarray] = []
    masks: list[Any] = []
    points: list[Any] = []
    for prediction in predictions:
        own = prediction.get("instances")
        if own is None:
            continue
        if isinstance(own, np.ndarray):
            own = DetectionRows(own, prediction["image_id"])
        elif not isinstance(own, DetectionRows):
            own = DetectionRows.of_records(own, prediction["image_id"])
        image = float(truth.index_of_image(prediction["image_id"]))
        parts.append(np.concatenate([np.full((len(own), 1), image), own.array], axis=1))
        masks += own.masks if own.masks is not None else [None] * len(own)
        points += [*own.keypoints] if own.keypoints is not None else [None] * len(own)
    rows = np.concatenate(parts) if parts else np.zeros((0, 7))
    return DetectionTable(
        rows,
        None if any(mask is None for mask in masks) else masks,
        None if any(one is None for one in points) else points,
    )
