"""The detections of one image: an array that also reads as a list of COCO records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

__all__ = ["DetectionRows"]


class DetectionRows(Sequence[dict[str, Any]]):
    """(D, 6) x, y, width, height, score, class of an image; ``rows[j]["score"]`` works too.

    Evaluators written for detectron2 look into ``self._predictions[i]["instances"]`` as into a list
    of records; the array stays what is computed with.

    >>> found = DetectionRows(np.array([[1.0, 2, 3, 4, 0.5, 7]]), image_id=9)
    >>> found[0]
    {'image_id': 9, 'category_id': 7, 'bbox': [1.0, 2.0, 3.0, 4.0], 'score': 0.5}
    """

    def __init__(self, array: np.ndarray, image_id: Any) -> None:
        self.array, self.image_id = array, image_id

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
        return {
            "image_id": self.image_id,
            "category_id": int(row[5]),
            "bbox": row[:4],
            "score": row[4],
        }
