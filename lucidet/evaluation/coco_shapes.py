"""Masks and keypoints of a COCO JSON's annotations, as an evaluation needs them.

Symbols: G annotations, K keypoints of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lucidet.data.fields import as_size
from lucidet.data.keypoint_annotations import as_keypoints
from lucidet.data.segmentation import are_plain_polygons, as_rle, has_segmentation

__all__ = ["truth_keypoints", "truth_masks"]


def truth_masks(
    annotations: Sequence[dict[str, Any]], images: Sequence[dict[str, Any]], source: str | Path
) -> list[Any]:
    """Return the masks of annotations, as the libraries take them.

    Args:
        annotations: of a COCO JSON.
        images: its images, with width and height.
        source: named in messages.

    Returns:
        G masks: polygons stay as they are where they are COCO's, all else is RLE.

    Raises:
        ValueError: an annotation has no segmentation, or one that does not fit its image; names
            the file, the image and the annotation.
    """
    missing = [a for a in annotations if not has_segmentation(a)]
    if missing:
        first = missing[0]
        raise ValueError(
            f"{source}: annotation {first.get('id')} of image {first['image_id']} has no "
            f"segmentation, as {len(missing)} of {len(annotations)} annotations: masks can't be "
            "evaluated on it. Add 'segmentation', or evaluate boxes only: tasks=('bbox',)"
        )
    by_id = {image["id"]: image for image in images}
    found = []
    for annotation in annotations:
        image = by_id[annotation["image_id"]]
        size = [as_size(image.get(key)) for key in ("height", "width")]
        try:
            if None in size:
                raise ValueError("its image has no width and height in the file")
            mask = annotation["segmentation"]
            # polygons are filled by the library that compares them, on all cores
            if not (isinstance(mask, list) and are_plain_polygons(mask)):
                mask = as_rle(mask, *size)  # type: ignore[arg-type]
            found.append(mask)
        except ValueError as error:
            raise ValueError(
                f"{source}: annotation {annotation.get('id')} of image "
                f"{annotation['image_id']}: {error}"
            ) from None
    return found


def truth_keypoints(
    annotations: Sequence[dict[str, Any]], source: str | Path
) -> tuple[np.ndarray, np.ndarray]:
    """Return the keypoints of annotations, and how many of each are labelled.

    Args:
        annotations: of a COCO JSON; without ``num_keypoints`` those with a visibility above 0
            count.
        source: named in messages.

    Returns:
        - (G, 3 K) x, y, visibility;
        - (G,) int64.

    Raises:
        ValueError: an annotation has no keypoints, or others than the first; names file, image and
            annotation.
    """
    rows: list[np.ndarray] = []
    for annotation in annotations:
        try:
            if not annotation.get("keypoints"):
                raise ValueError(
                    "has no keypoints: they can't be evaluated on this file. Take a "
                    "person_keypoints file, or evaluate boxes only: tasks=('bbox',)"
                )
            points = as_keypoints(annotation["keypoints"])
            if rows and points.size != rows[0].size:
                raise ValueError(f"has {len(points)} keypoints, others {rows[0].size // 3}")
        except ValueError as error:
            raise ValueError(
                f"{source}: annotation {annotation.get('id')} of image "
                f"{annotation['image_id']} {error}"
            ) from None
        rows.append(points.ravel())
    stacked = np.stack(rows) if rows else np.zeros((0, 0))
    labelled = (stacked[:, 2::3] > 0).sum(axis=1)
    given = [a.get("num_keypoints") for a in annotations]
    counts = [int(n) if own is None else int(own) for n, own in zip(labelled, given, strict=True)]
    return stacked, np.array(counts, dtype=np.int64)
