"""The boxes of a dataset at the size at which a model sees them."""

# N images, M ground-truth boxes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lucidet.data.detection_utils import annotations_to_xyxy
from lucidet.data.fields import is_crowd
from lucidet.engine.recipe.facts import resize_scale

__all__ = ["Objects", "read_objects"]


@dataclass(frozen=True)
class Objects:
    """Ground-truth boxes, image after image, without crowd regions.

    Attributes:
        boxes: (M, 4) XYXY, pixels of the resized image.
        category: (M,) classes, 0..K-1.
        image: (M,) positions of their images, ascending.
        sizes: (N, 2) width and height of the resized images.
        records: positions of the images in the dataset's records.
        classes: K names.
    """

    boxes: np.ndarray
    category: np.ndarray
    image: np.ndarray
    sizes: np.ndarray
    records: np.ndarray
    classes: list[str]

    @property
    def areas(self) -> np.ndarray:
        """(M,) square pixels of the resized image."""
        return (self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1)


def read_objects(
    records: Sequence[dict[str, Any]], classes: Sequence[str], shortest: int, longest: int
) -> Objects:
    """Return the boxes of records, resized as ResizeShortestEdge does.

    Args:
        records: with ``width`` and ``height``; those without boxes are left out.
        classes: K names.
        shortest: length of the shorter side, pixels; 0 does not resize.
        longest: bound of the longer side, pixels.

    Raises:
        ValueError: there is no box.
    """
    boxes, category, counts, sizes, kept = [], [], [], [], []
    for position, record in enumerate(records):
        entries = [a for a in record.get("annotations", ()) if not is_crowd(a)]
        if not entries:
            continue
        boxes.append(annotations_to_xyxy(entries))
        category += [entry["category_id"] for entry in entries]
        counts.append(len(entries))
        sizes.append((record["width"], record["height"]))
        kept.append(position)
    if not boxes:
        raise ValueError(f"none of {len(records)} images has a box: nothing to cover")
    original = np.array(sizes, np.float64)
    # whole pixels, as the images have after resizing
    resized = np.floor(original * resize_scale(original, shortest, longest)[:, None] + 0.5)
    image = np.repeat(np.arange(len(counts)), counts)
    factor = np.tile((resized / original)[image], 2)
    scaled = (np.concatenate(boxes) * factor).clip(0, np.tile(resized[image], 2))
    return Objects(
        scaled.astype(np.float32),
        np.array(category, np.int64),
        image,
        resized.astype(np.int64),
        np.array(kept, np.int64),
        list(classes),
    )
