"""The detections of one image: arrays that also read as a list of COCO records."""

# D detections of an image, K keypoints of one, P proposals

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from torch import Tensor

from lucidet.data.segmentation import bitmask_to_rle

__all__ = ["DetectionRows", "has", "instances_to_coco_json", "ranked_boxes", "rows_of_instances"]

#: COCO's keypoints are whole numbers, the pixel that holds the point; predictions mean its middle
HALF_PIXEL = 0.5


class DetectionRows(Sequence[dict[str, Any]]):
    """(D, 6) x, y, width, height, score, class of an image; ``rows[j]["score"]`` works too.

    Evaluators written for detectron2 look into ``self._predictions[i]["instances"]`` as into a list
    of records; the array stays what is computed with.

    Args:
        array: (D, 6).
        image_id: of the image.
        masks: D masks as RLE, where the detections have masks.
        keypoints: (D, 3 K) x, y, score, where they have keypoints.

    >>> found = DetectionRows(np.array([[1.0, 2, 3, 4, 0.5, 7]]), image_id=9)
    >>> found[0]
    {'image_id': 9, 'category_id': 7, 'bbox': [1.0, 2.0, 3.0, 4.0], 'score': 0.5}
    """

    def __init__(
        self,
        array: np.ndarray,
        image_id: Any,
        masks: list[dict[str, Any]] | None = None,
        keypoints: np.ndarray | None = None,
    ) -> None:
        self.array, self.image_id = array, image_id
        self.masks, self.keypoints = masks, keypoints

    @classmethod
    def of_records(cls, records: Sequence[dict[str, Any]], image_id: Any) -> DetectionRows:
        """Return records of `instances_to_coco_json`, which a subclass may have made, as rows."""
        rows = [[*record["bbox"], record["score"], record["category_id"]] for record in records]
        array = np.array(rows, np.float64).reshape(-1, 6)
        masks = [r["segmentation"] for r in records] if _all_have(records, "segmentation") else None
        points = None
        if _all_have(records, "keypoints"):
            points = np.array([r["keypoints"] for r in records], np.float64)
        return cls(array, image_id, masks, points)

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self.array[index].tolist()
        record = {
            "image_id": self.image_id,
            "category_id": int(row[5]),
            "bbox": row[:4],
            "score": row[4],
        }
        if self.masks is not None:
            record["segmentation"] = self.masks[index]
        if self.keypoints is not None:
            record["keypoints"] = self.keypoints[index].tolist()
        return record


def has(detections: Any, field: str) -> bool:
    """Return whether detections have a field, be there none or many.

    Args:
        detections: a `DetectionRows`, or records of COCO.
        field: "segmentation" or "keypoints".
    """
    if isinstance(detections, DetectionRows):
        own = detections.masks if field == "segmentation" else detections.keypoints
        return own is not None
    return len(detections) > 0 and isinstance(detections[0], dict) and field in detections[0]


def _all_have(records: Sequence[dict[str, Any]], key: str) -> bool:
    return len(records) > 0 and all(key in record for record in records)


def rows_of_instances(instances: Any, image_id: Any) -> DetectionRows:
    """Return an image's detections as rows, masks as RLE.

    Args:
        instances: with pred_boxes (D, 4) XYXY pixels of the image, scores (D,), pred_classes (D,);
            may have pred_masks (D, H, W) and pred_keypoints (D, K, 3) x, y, score.
        image_id: of the image.
    """
    masks = _masks(instances) if instances.has("pred_masks") else None
    points = _keypoints(instances) if instances.has("pred_keypoints") else None
    if not len(instances):
        return DetectionRows(np.zeros((0, 6)), image_id, masks, points)
    boxes = _array(instances.pred_boxes.tensor)
    columns = [_array(instances.scores)[:, None], _array(instances.pred_classes)[:, None]]
    sides = boxes[:, 2:4] - boxes[:, :2]
    array = np.concatenate([boxes[:, :2], sides, *columns], axis=1)
    return DetectionRows(array, image_id, masks, points)


def _masks(instances: Any) -> list[dict[str, Any]]:
    masks = instances.pred_masks
    bits = masks if isinstance(masks, Tensor) else masks.tensor
    if bits.dim() != 3:
        raise ValueError(
            f"pred_masks must be (D, height, width) of the whole image, got {tuple(bits.shape)}; "
            "paste masks of boxes first (detector_postprocess)"
        )
    return [bitmask_to_rle(mask) for mask in bits.bool().cpu().numpy()]


def _keypoints(instances: Any) -> np.ndarray:
    points = instances.pred_keypoints
    points = _array(points if isinstance(points, Tensor) else points.tensor).copy()
    points[..., :2] -= HALF_PIXEL
    return points.reshape(len(points), points.shape[1] * points.shape[2])


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def instances_to_coco_json(instances: Any, img_id: Any) -> list[dict[str, Any]]:
    """Return an image's detections as records of a COCO results file.

    Args:
        instances: with pred_boxes (D, 4) XYXY pixels, scores (D,), pred_classes (D,); may have
            pred_masks (D, H, W) and pred_keypoints (D, K, 3) x, y, score.
        img_id: copied into every record.

    Returns:
        D dicts with image_id, category_id (the class index, not yet the data set's id),
        bbox ([x, y, width, height]) and score; with masks also segmentation (RLE, counts as text),
        with keypoints also keypoints (3 K numbers, pixels as COCO counts them: - 0.5).
    """
    return rows_of_instances(instances, img_id)[:]


def ranked_boxes(proposals: Any) -> np.ndarray:
    """Return (P, 4) XYXY boxes, highest objectness first."""
    boxes = _array(proposals.proposal_boxes.tensor)
    logits = proposals.objectness_logits.detach().cpu().double()
    return boxes[logits.argsort(descending=True, stable=True).numpy()]
